/** Queries to a job that is at work, on the whole platform: one that waits its turn and one that does not. */
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { act, findJob, finishJob, mutate, resultsOf, type SeenEvent } from '../support/platform-job.ts'
import { HELD_ENV, HOLD, startHeldCalls, type HeldCalls } from '../support/held-calls.ts'
import { expertPackage, npmPublish, skillPackage, startLightly, until, type Platform } from '../support/platform.ts'
import { runProgram } from '../support/program.ts'
import { sandboxMissing } from '../support/sandbox.ts'
import { ROOT } from '../support/source.ts'

const missing = await sandboxMissing()

const toml = `model = "rehearsal/steered"
[experts."steered"]
instruction = "Do as you are told."
delegates = ["thinker"]
[experts."steered".skills."probe"]
type = "mcpStdioSkill"
packageName = "steered-probe"
[experts."thinker"]
instruction = "Think for a long time."
`

/** A call that ends when a file appears in the workspace, or never. */
const wait = (file: string) =>
  `const { existsSync } = await load('node:fs'); while (!existsSync('${file}')) await new Promise((go) => setTimeout(go, 20)); return 'waited'`

const rehearsal = {
  turns: [
    { expert: 'thinker', text: 'Hm. '.repeat(400), pauseMs: 500 },
    { when: { userContains: 'in French' }, text: 'Bonjour.' },
    { when: { userContains: 'never mind' }, text: 'As you wish.' },
    {
      when: { userContains: 'think' },
      text: 'I have it thought about.',
      calls: [
        { tool: 'delegate/thinker', args: { query: 'Think.' } },
        { tool: 'probe/run', args: { code: wait('never') } },
      ],
    },
    { step: 1, text: 'I work.', calls: [HOLD] },
    { text: 'Hello.' },
  ],
}

const ofType = (events: readonly SeenEvent[], type: string) => events.filter((event) => event.type === type)

describe.skipIf(missing !== undefined)('a job at work', () => {
  let platform: Platform
  let held: HeldCalls
  beforeAll(async () => {
    held = await startHeldCalls()
    platform = await startLightly({ env: HELD_ENV })
    await npmPublish(platform, await skillPackage('steered-probe', 'probe'))
    await npmPublish(
      platform,
      await expertPackage('steered', `${toml}${held.skillOf('steered')}`, {
        'rehearsals/steered.json': JSON.stringify(rehearsal),
      }),
    )
  })
  afterAll(async () => {
    await platform.stop()
    await held.close()
    await rm(platform.dataDirectory, { recursive: true, force: true })
  })

  const working = async (query: string) => {
    const { id } = await act(platform, 'createJob', { expertKey: 'steered', query })
    await until(async () => ((await findJob(platform, id))?.status === 'running' ? true : undefined))
    return id
  }
  const runsOf = (id: string, count: number) =>
    until(async () => {
      const { job } = await platform.graphql<{ job: { runs: { id: string }[] } }>(
        'query ($id: ID!) { job(id: $id) { runs { id } } }',
        { id },
      )
      return job.runs.length === count ? true : undefined
    })

  it('reads a query before its next generation, when the call under way has returned', async () => {
    const isHeld = held.hold()
    const id = await working('Say hello.')
    await isHeld
    const put = await act(platform, 'continueJob', { jobId: id, query: 'Say it in French.' })
    expect(put.status).toBe('running')
    held.release()
    const { job, events, results } = await finishJob(platform, id)
    expect(job).toMatchObject({ outcome: 'completed', result: 'Bonjour.' })
    expect(results.every(({ isError }) => !isError)).toBe(true)
    expect(ofType(events, 'steered')).toMatchObject([{ data: { queries: ['Say it in French.'] } }])
    expect(ofType(events, 'leaseGranted')).toHaveLength(1)
  })

  it('gives up a call, a delegate and its generation for a query that interrupts, from the command line', async () => {
    const id = await working('Please think about it.')
    await runsOf(id, 2)
    const { code, stdout, stderr } = await runProgram(
      process.execPath,
      [join(ROOT, 'bin/senmon.js'), 'continue', id, 'Ah, never mind.', '--interrupt'],
      { cwd: ROOT, env: { SENMON_URL: platform.url, SENMON_KEY: platform.key } },
    )
    expect([code, stderr]).toEqual([0, expect.any(String)])
    expect(stdout).toContain('As you wish.')
    const { job, events } = await finishJob(platform, id)
    expect(job).toMatchObject({ outcome: 'completed', result: 'As you wish.' })
    expect(resultsOf(events).map(({ isError }) => isError)).toEqual([true, true])
    expect(ofType(events, 'runFinished').map(({ data }) => data['reason'])).toEqual(['interrupted', 'completed'])
    expect(ofType(events, 'leaseGranted')).toHaveLength(1)
  })

  it('goes on after its end with a query that says how an open job would take it', async () => {
    const { id } = await act(platform, 'createJob', { expertKey: 'steered', query: 'Say hello.' })
    await finishJob(platform, id)
    await act(platform, 'continueJob', { jobId: id, query: 'And in French?', mode: 'interrupt' })
    expect((await finishJob(platform, id)).job.result).toBe('Bonjour.')
  })

  it('refuses a mode without a query, and one that there is not', async () => {
    const isHeld = held.hold()
    const id = await working('Say hello.')
    await isHeld
    expect(await mutate(platform, 'continueJob', { jobId: id, mode: 'queue', maxSteps: 9 })).toMatchObject({
      code: 'input_invalid',
    })
    const answer = await platform.fetch(`/expert_jobs/${id}/continue`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ query: 'x', mode: 'shout' }),
    })
    expect(answer.status).toBe(400)
    held.release()
    await finishJob(platform, id)
  })
})
