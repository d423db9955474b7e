import { expect, it } from 'vitest'
import { openLog } from '../../src/log.ts'
import { machineHostContract } from '../contract/machine-host.ts'
import { openHost, openPlainProcesses, realClock } from '../support/sandbox.ts'

machineHostContract('unsafe-process', () => openHost(openPlainProcesses))

it('warns in the log that nothing is isolated', async () => {
  const lines: string[] = []
  const log = openLog(
    (line) => lines.push(line),
    () => realClock.now(),
  )
  const { close } = await openHost(openPlainProcesses, { log })
  await close()
  expect(lines.filter((line) => line.includes('"warn"') && line.includes('without isolation'))).toHaveLength(1)
})
