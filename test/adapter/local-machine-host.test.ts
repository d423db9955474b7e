import { describe } from 'vitest'
import { openLocalMachineHost } from '../../src/local/local-machine-host.ts'
import { machineHostContract } from '../contract/machine-host.ts'
import { openHost, sandboxMissing } from '../support/sandbox.ts'

const missing = await sandboxMissing()

describe.skipIf(missing !== undefined)(`machines in bubblewrap${missing === undefined ? '' : ` (${missing})`}`, () => {
  machineHostContract('local', () => openHost(openLocalMachineHost))
})
