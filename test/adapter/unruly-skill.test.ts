/** Each way in which a skill may misbehave, in real compartments: a typed error of its own, and the job goes on. */
import { readdirSync, readFileSync } from 'node:fs'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import type { RunnerLine } from '../../schema/control.ts'
import { isJsonObject } from '../../schema/json.ts'
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
  ['hangs at start', saying('skill_hung', 'did not start within'), saying('skill_hung', 'did not start')],
  ['hangs in a call', saying('skill_hung', 'said nothing for'), fine],
  ['exits in a call', saying('skill_died', 'I fall'), fine],
  ['writes no MCP', saying('skill_garbage', 'wrote no MCP message'), fine],
  ['floods stdout', saying('limit_exceeded', 'more than 1000 messages a second'), fine],
  ['floods stderr', went, fine],
  ['answers twice', went, fine],
  ['answers late', saying('skill_hung', 'said nothing for'), fine],
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
    'that %s ends in an error of its own, and the others go on (SC1, SC2, SK7, P7.5, P7.6, P7.13)',
    async (...row) => {
      const [deed, first, next] = row
      const drive = new MachineDrive(await opened.host.open({ jobId: JOB_ID, fence: 1 }, lock))
      drives.push(drive)
      const { call, pass, untilSent } = driveSkills(drive, lock)
      expect(await call('good', 'ok')).toMatchObject(fine)
      const mark = `daemon-of-${process.pid}`
      const going = call(deed, 'go', { mark })
      if (isHung(first)) await untilSent((line) => isCallOf(line, deed)).then(() => pass())
      expect(await going).toMatchObject(first)
      expect(await call('good', 'ok')).toMatchObject(fine)
      const again = call(deed, 'ok')
      if (isHung(next)) await untilSent((line) => isCallOf(line, deed), 2).then(() => pass())
      expect(await again).toMatchObject(next)
      expect(commandLines().filter((line) => line.includes(mark))).toEqual([])
    },
  )
})

const isHung = (outcome: object): boolean => 'code' in outcome && outcome.code === 'skill_hung'

/** What hangs is sent, at a start or for a call. */
function isCallOf(line: RunnerLine, skill: string): boolean {
  if (line.type !== 'frame' || line.skill !== skill) return false
  const method = isJsonObject(line.frame) ? line.frame['method'] : undefined
  return method === (skill === 'hangs at start' ? 'initialize' : 'tools/call')
}

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
