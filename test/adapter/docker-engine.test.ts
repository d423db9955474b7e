import { describe } from 'vitest'
import { dockerEngineContract } from '../contract/docker-engine.ts'
import { machineHostContract } from '../contract/machine-host.ts'
import { dockerMissing, openDockerHost, TEST_IMAGE, testEngine } from '../support/docker-hosts.ts'

const missing = await dockerMissing(testEngine())
const close = (): Promise<void> => Promise.resolve()

describe.skipIf(missing !== undefined)(`a real Docker engine${missing === undefined ? '' : ` (${missing})`}`, () => {
  dockerEngineContract(async () => ({ address: testEngine(), image: TEST_IMAGE, close }))
  machineHostContract('docker', () => openDockerHost(testEngine(), close))
})
