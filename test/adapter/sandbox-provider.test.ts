import { readFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { machineHostContract } from '../contract/machine-host.ts'
import { descendants, listProcesses } from '../../src/local/processes.ts'
import { JOB_ID, lockOf, MachineDrive } from '../support/machine-drive.ts'
import { openHost, openSandboxes, sandboxMissing, type OpenHost } from '../support/sandbox.ts'
import { setTimeout as sleep } from 'node:timers/promises'

const missing = await sandboxMissing()

describe.skipIf(missing !== undefined)(`machines in bubblewrap${missing === undefined ? '' : ` (${missing})`}`, () => {
  machineHostContract('local', () => openHost(openSandboxes))
})

/** Processes of ours that are stopped in their tracks. */
function stopped(): readonly number[] {
  return descendants(process.pid, listProcesses())
    .map(({ pid }) => pid)
    .filter((pid) => {
      try {
        return /^State:\s+T/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'))
      } catch {
        return false
      }
    })
}

async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await sleep(5)
}

describe.skipIf(missing !== undefined)('a sandbox that waits for a job', () => {
  let opened: OpenHost
  beforeAll(async () => {
    opened = await openHost((options) => openSandboxes(options, 1))
  })
  afterAll(() => opened.close())

  it('is stopped in its tracks, supervisor and runner, and goes on with the job that it is given (P2.7, P3.8)', async () => {
    const lock = lockOf({ probe: { package: 'probe' } })
    await until(() => stopped().length >= 2)
    const drive = new MachineDrive(await opened.host.open({ jobId: JOB_ID, fence: 1 }, lock))
    expect(drive.obtained).toMatchObject({ resume: 'resumed' })
    drive.start(lock)
    await drive.open('probe')
    expect(await drive.run('probe', 'return 7')).toBe(7)
    await drive.destroy()
    // The next waits already, or will.
    await until(() => stopped().length >= 2)
  })

  it('leaves nothing when it is ended while it is stopped', async () => {
    await until(() => stopped().length >= 2)
    await opened.host.close()
    expect(
      descendants(process.pid, listProcesses()).filter(({ pid, zombie }) => pid !== process.pid && !zombie),
    ).toEqual([])
  })
})
