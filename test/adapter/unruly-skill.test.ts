/** Each way in which a skill may misbehave, in real compartments: a typed error of its own, and the job goes on. */
import { readdirSync, readFileSync } from 'node:fs'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { JOB_ID, lockOf, MachineDrive } from '../support/machine-drive.ts'
import { openHost, openSandboxes, sandboxMissing, type OpenHost } from '../support/sandbox.ts'
import { driveSkills } from '../support/skill-drive.ts'

const missing = await sandboxMissing()

const went = { isError: false, content: [{ type: 'text', text: 'went' }] }
const fine = { isError: false, content: [{ type: 'text', text: 'fine' }] }
const changed = { code: 'skill_tools_changed' }
const saying = (code: string, text: string) => ({ code, message: expect.stringContaining(text) as string })

/** What it does; what the call of `go` gives; what the next call gives. */
const TABLE = [
  ['hangs at start', saying('skill_hung', 'did not start within 3000 ms'), saying('skill_hung', 'did not start')],
  ['hangs in a call', saying('skill_hung', 'said nothing for 2500 ms'), fine],
  ['exits in a call', saying('skill_died', 'I fall'), fine],
  ['writes no MCP', saying('skill_garbage', 'wrote no MCP message'), fine],
  ['floods stdout', saying('limit_exceeded', 'more than 1000 messages a second'), fine],
  ['floods stderr', went, fine],
  ['answers twice', went, fine],
  ['answers late', saying('skill_hung', 'said nothing for 2500 ms'), fine],
  ['changes its tools', saying('skill_died', 'I fall'), changed],
  ['leaves a daemon', saying('skill_died', 'I fall'), fine],
  ['eats memory', saying('limit_exceeded', 'uses more than 671088640 bytes of memory'), fine],
  ['forks a bomb', saying('limit_exceeded', 'runs more than 8 processes'), fine],
] as const

const lock = lockOf({
  good: { package: 'unruly', args: ['floods stderr'] },
  ...Object.fromEntries(TABLE.map(([deed]) => [deed, { package: 'unruly', args: [deed] }])),
})

describe.skipIf(missing !== undefined)(`a skill that misbehaves${missing === undefined ? '' : ` (${missing})`}`, () => {
  let opened: OpenHost
  const drives: MachineDrive[] = []
  beforeAll(async () => {
    const skillLimits = { memoryBytes: 640 * 1024 * 1024, processes: 8 }
    opened = await openHost(openSandboxes, { skillLimits })
  })
  afterEach(async () => {
    await Promise.all(drives.splice(0).map((drive) => drive.destroy()))
  })
  afterAll(() => opened.close())

  it.each(TABLE)(
    'that %s ends in an error of its own, and the others go on (S1, S2, SK7, P7.5, P7.6, P7.13)',
    async (...row) => {
      const [deed, first, next] = row
      const drive = new MachineDrive(await opened.host.open({ jobId: JOB_ID, fence: 1 }, lock))
      drives.push(drive)
      const { call } = driveSkills(drive, lock, { initializeMs: 3000, callMs: 2500 })
      expect(await call('good', 'ok')).toMatchObject(fine)
      const mark = `daemon-of-${process.pid}`
      expect(await call(deed, 'go', { mark })).toMatchObject(first)
      expect(await call('good', 'ok')).toMatchObject(fine)
      expect(await call(deed, 'ok')).toMatchObject(next)
      expect(commandLines().filter((line) => line.includes(mark))).toEqual([])
    },
  )
})

function commandLines(): readonly string[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, 'utf8')
      } catch {
        return '' // it has gone meanwhile
      }
    })
}
