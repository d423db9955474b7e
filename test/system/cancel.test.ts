/** A cancel on real parts: a hung server with a grandchild, delegates, a cut generation; all of it gone, waiting for none. */
import { rm } from 'node:fs/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  descendantsOf,
  expertPackage,
  npmPublish,
  skillPackage,
  startLightly,
  until,
  type Platform,
} from '../support/platform.ts'
import { act, finishJob, probe, turns, untilRecorded } from '../support/platform-job.ts'
import { sandboxMissing } from '../support/sandbox.ts'

const missing = await sandboxMissing()
/** What it would take to wait for the generation; a call that hangs never ends. */
const WAITED_MS = 30_000
const MARK = 'sleeps_in_the_test_of_cancel'

const expert = (name: string, rehearsal: string, more: string) => `[experts."${name}"]
description = "Does."
instruction = "Do."
model = "rehearsal/${rehearsal}"
${more}
[experts."${name}".skills."probe"]
type = "mcpStdioSkill"
packageName = "cancel-probe"
[experts."${name}".skills."probe".effects]
run = "once"
`
/** A grandchild in a session of its own that ignores what it can, and a call that never returns. */
const hang = probe(`const { spawn } = await load('node:child_process')
const code = "process.on('SIGTERM', () => {}); process.title = '${MARK}'; setInterval(() => {}, 1000) // ${MARK}"
spawn(process.execPath, ['-e', code], { detached: true, stdio: 'ignore' }).unref()
spawn(process.execPath, ['-e', code], { stdio: 'ignore' })
await new Promise(() => {})`)

const CANCELLATION = `query ($id: ID!) { job(id: $id) { cancellation { durationMs
  stopped { runs { expertKey } questions machine { host skills processes } }
  inFlight { generations { expertKey } calls { toolName effect outcome } }
  unknown { calls { toolName } } } } }`

describe.skipIf(missing !== undefined)('a canceled job', () => {
  let platform: Platform
  beforeAll(async () => {
    platform = await startLightly()
    await npmPublish(platform, await skillPackage('cancel-probe', 'probe'))
    const aide = expert('canceled-aide', 'aide', '')
    const lead = expert('canceled', 'lead', 'delegates = ["canceled-aide"]')
    const delegation = { tool: 'delegate/canceled-aide', args: { query: 'Help.' } }
    const files = {
      'rehearsals/lead.json': turns([[hang, delegation]]),
      'rehearsals/aide.json': JSON.stringify({ turns: [{ text: 'Never said.', pauseMs: 10_000 }] }),
    }
    await npmPublish(platform, await expertPackage('canceled', `${lead}${aide}`, files))
  })
  afterAll(async () => {
    await platform.stop()
    await rm(platform.dataDirectory, { recursive: true, force: true })
  })
  const marked = async () =>
    (await descendantsOf(platform.child.pid ?? 0)).filter(({ command }) => command.includes(MARK)).length

  it('is over with every process of it, waits for none of it, and says what was stopped and what is unknown', async () => {
    const { id } = await act(platform, 'createJob', { expertKey: 'canceled', query: 'Go.' })
    await untilRecorded(platform, id, 'callStarted')
    await until(async () => ((await marked()) >= 2 ? true : undefined))
    const before = await descendantsOf(platform.child.pid ?? 0)
    await act(platform, 'cancelJob', { jobId: id })
    const { job, events } = await finishJob(platform, id)
    expect(await marked()).toBe(0)
    const after = new Set((await descendantsOf(platform.child.pid ?? 0)).map(({ pid }) => pid))
    expect(before.filter(({ pid }) => !after.has(pid)).length).toBeGreaterThan(4)
    expect(job).toMatchObject({ status: 'finished', outcome: 'canceled' })
    const asked = events.find(({ type }) => type === 'cancelRequested')
    const ended = events.at(-1)
    expect(Date.parse(ended?.at ?? '') - Date.parse(asked?.at ?? '')).toBeLessThan(WAITED_MS)
    const answer = await platform.graphql<{ job: { cancellation: unknown } }>(CANCELLATION, { id })
    expect(answer.job.cancellation).toMatchObject({
      stopped: {
        runs: [{ expertKey: 'canceled@1.0.0' }, { expertKey: 'canceled/canceled-aide@1.0.0' }],
        questions: [],
        machine: { host: 'local', skills: ['canceled@1.0.0 probe'] },
      },
      inFlight: {
        generations: [{ expertKey: 'canceled/canceled-aide@1.0.0' }],
        calls: [{ toolName: 'probe/run', effect: 'once', outcome: 'unknown' }],
      },
      unknown: { calls: [{ toolName: 'probe/run' }] },
    })
    expect(answer.job.cancellation).toMatchObject({ stopped: { machine: { processes: expect.any(Number) } } })
    const rest = (await (await platform.fetch(`/expert_jobs/${id}`)).json()) as {
      data: { expertJob: { cancellation: { durationMs: number } } }
    }
    expect(rest.data.expertJob.cancellation.durationMs).toBeLessThan(WAITED_MS)
  })
})
