/** Budgets on a real server, with real machines: what a job may cost bounds it, across a restart. */
import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { expertPackage, npmPublish, startLightly, until, writePackage, type Platform } from '../support/platform.ts'
import { readEvents } from '../support/platform-job.ts'
import { sandboxMissing } from '../support/sandbox.ts'

const missing = await sandboxMissing()

const prices = `[models."rehearsal/turns"]
input = 1.0
output = 100.0
source = "the test"
date = "2026-01-01"
`
const toml = `model = "rehearsal/turns"
[experts."spender"]
instruction = "Spend."
delegates = ["clerk"]
[experts."clerk"]
instruction = "Help."
[experts."clerk".budget]
steps = 1
`
// 10,000 output tokens at $100 a million: a dollar each.
const usage = { inputTokens: 1000, outputTokens: 10_000 }
const turns = [
  { expert: 'clerk', step: 1, calls: [{ tool: 'nobody/nothing', args: {} }], usage },
  { expert: 'clerk', text: 'helped', usage },
  { expert: 'spender', step: 1, calls: [{ tool: 'delegate/clerk', args: { query: 'Help.' } }], usage },
  { expert: 'spender', text: 'done', usage },
]

interface Shown {
  readonly job: {
    readonly status: string
    readonly outcome: string | null
    readonly usage: { readonly costUsd: number | null; readonly outputTokens: number }
    readonly budget: {
      readonly limits: { readonly costUsd: number | null; readonly steps: number | null }
      readonly used: { readonly costUsd: number | null; readonly steps: number | null }
      readonly reserved: { readonly costUsd: number | null }
    } | null
    readonly runs: readonly {
      readonly status: string
      readonly reason: string | null
      readonly usage: { readonly costUsd: number }
    }[]
    readonly questions: readonly {
      readonly id: string
      readonly purpose: string
      readonly title: string
      readonly open: boolean
    }[]
  } | null
}
const SHOW = `query ($id: ID!) { job(id: $id) { status outcome usage { costUsd outputTokens }
  budget { limits { costUsd steps } used { costUsd steps } reserved { costUsd } }
  runs { status reason usage { costUsd } } questions { id purpose title open } } }`
const CREATE =
  'mutation ($input: CreateJobInput!) { createJob(input: $input) { ... on Job { id } ... on Refusal { code sentence: message } } }'
const CONTINUE =
  'mutation ($input: ContinueJobInput!) { continueJob(input: $input) { ... on Job { status } ... on Refusal { code sentence: message } } }'

describe.skipIf(missing !== undefined)('a job with a budget', () => {
  let platform: Platform
  let env: Record<string, string>
  beforeAll(async () => {
    const directory = await writePackage({ 'prices.toml': prices })
    env = { SENMON_PRICES: join(directory, 'prices.toml') }
    platform = await startLightly({ env })
    const rehearsal = { 'rehearsals/turns.json': JSON.stringify({ turns }) }
    await npmPublish(platform, await expertPackage('spender', toml, rehearsal))
  }, 120_000)
  afterAll(async () => {
    await platform.stop()
    await rm(platform.dataDirectory, { recursive: true, force: true })
  })

  const create = async (input: object): Promise<string> => {
    const { createJob } = await platform.graphql<{ createJob: { id: string } }>(CREATE, {
      input: { expertKey: 'spender', query: 'Spend.', ...input },
    })
    return createJob.id
  }
  const show = async (id: string) => (await platform.graphql<Shown>(SHOW, { id })).job
  const when = (id: string, status: string) =>
    until(async () => {
      const job = await show(id)
      return job?.status === status ? job : undefined
    })

  it('waits when a budget is used up, of an expert or its own, also while the server restarts, and goes on when it is raised', async () => {
    const id = await create({ budget: { costUsd: 2.5, steps: 20 } })
    const first = await when(id, 'waiting')
    expect(first?.questions).toHaveLength(1)
    expect(first?.questions[0]?.title).toContain('This run of spender/clerk@1.0.0 has used 1 of 1 steps')
    expect(first?.budget).toEqual({
      limits: { costUsd: 2.5, steps: 20 },
      used: { costUsd: 2.002, steps: 2 },
      reserved: { costUsd: 0 },
    })

    await platform.stop()
    platform = await startLightly({ directory: platform.dataDirectory, env })
    expect((await show(id))?.status).toBe('waiting')
    expect(await platform.graphql(CONTINUE, { input: { jobId: id, budget: { steps: 1 } } })).toMatchObject({
      continueJob: { code: 'answer_invalid' },
    })
    expect(await platform.graphql(CONTINUE, { input: { jobId: id, budget: { steps: 3 } } })).toMatchObject({
      continueJob: { status: 'queued' },
    })
    const second = await until(async () => {
      const job = await show(id)
      return job?.status === 'waiting' && job.questions.length === 2 ? job : undefined
    })
    expect(second.questions[0]).toMatchObject({ purpose: 'budget', open: true })
    expect(second.questions[0]?.title).toContain('The job has used $3.003 of $2.5')

    const raised = await platform.fetch(`/expert_jobs/${id}/continue`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ budget: { costUsd: 10 } }),
    })
    expect(raised.status).toBe(200)
    const done = await when(id, 'finished')
    expect(done).toMatchObject({ outcome: 'completed', usage: { costUsd: 4.004, outputTokens: 40_000 } })
    expect(done?.runs.map(({ usage: { costUsd } }) => costUsd)).toEqual([2.002, 2.002])
    const { data } = (await (await platform.fetch(`/expert_jobs/${id}`)).json()) as { data: { expertJob: object } }
    expect(data.expertJob).toMatchObject({ budget: { limits: { costUsd: 10 }, used: { costUsd: 4.004 } } })
  }, 120_000)

  it('ends a delegate that is stopped with an error that its caller reads, and goes on without it', async () => {
    const id = await create({})
    const [question] = (await when(id, 'waiting'))?.questions ?? []
    await platform.graphql(CONTINUE, { input: { jobId: id, answer: { questionId: question?.id, value: 'stop' } } })
    const done = await when(id, 'finished')
    expect(done).toMatchObject({ outcome: 'completed', budget: null })
    expect(done?.runs.map(({ reason }) => reason)).toEqual(['completed', 'budget_exhausted'])
    const events = await readEvents(platform, id)
    const returned = events.filter(({ type }) => type === 'toolReturned').at(-1)
    expect(JSON.stringify(returned?.data)).toContain('(budget_exhausted)')
  }, 120_000)

  it('asks before anything is spent on a model whose price nobody knows', async () => {
    await platform.stop()
    await writeFile(
      env['SENMON_PRICES'] ?? '',
      prices.replace('rehearsal/turns', 'rehearsal/others').replace('input = 1.0', 'input = 1.0\nextra = 1'),
    )
    await expect(startLightly({ directory: platform.dataDirectory, env })).rejects.toThrow(/extra in .* is not a key/)
    platform = await startLightly({
      directory: platform.dataDirectory,
      env: { OLLAMA_BASE_URL: 'http://127.0.0.1:9' },
    })
    const id = await create({ model: 'ollama/none', budget: { costUsd: 1 } })
    const job = await when(id, 'waiting')
    expect(job?.questions[0]?.title).toContain('The price of ollama/none is not known')
    expect(job?.budget?.used).toEqual({ costUsd: 0, steps: 0 })
  }, 120_000)
})
