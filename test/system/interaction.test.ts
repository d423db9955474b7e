/** What passes between a job and the people and programs around it, on a real server, with real machines. */
import { rm } from 'node:fs/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { expertPackage, npmPublish, skillPackage, startLightly, until, type Platform } from '../support/platform.ts'
import { act, findJob, finishJob, mutate, runJob, type SeenJob } from '../support/platform-job.ts'
import { sandboxMissing } from '../support/sandbox.ts'

const missing = await sandboxMissing()

const schema = '{"type":"object","required":["found"],"properties":{"found":{"type":"integer"}}}'

describe.skipIf(missing !== undefined)('an expert that owes JSON', () => {
  let platform: Platform
  beforeAll(async () => {
    platform = await startLightly()
    const toml = `model = "rehearsal/count"
[experts."counter"]
instruction = "Have it counted."
delegates = ["clerk"]
outputJsonSchema = '${schema}'
[experts."clerk"]
instruction = "Count."
outputJsonSchema = '${schema}'
[experts."stubborn"]
instruction = "Talk."
outputJsonSchema = '${schema}'
outputRetries = 1
`
    const turns = [
      { expert: 'stubborn', text: 'I would rather talk.' },
      { expert: 'counter', step: 1, calls: [{ tool: 'delegate/clerk', args: { query: 'How many?' } }] },
      { expert: 'counter', step: 2, text: 'There are seven.' },
      { expert: 'counter', when: { userContains: 'it is not JSON' }, text: '```json\n{"found":7}\n```' },
      { expert: 'clerk', step: 1, text: '{"found":"seven"}' },
      { expert: 'clerk', when: { userContains: '/found must be integer' }, text: '{"found":7}' },
    ]
    const rehearsal = { 'rehearsals/count.json': JSON.stringify({ turns }) }
    await npmPublish(platform, await expertPackage('counter', toml, rehearsal))
  }, 120_000)
  afterAll(async () => {
    await platform.stop()
    await rm(platform.dataDirectory, { recursive: true, force: true })
  })

  it('is told what is wrong, tries again, and gives the value to its caller and to the application', async () => {
    const { job, events } = await runJob(platform, { expertKey: 'counter', query: 'Count.' })
    expect(job).toMatchObject({ outcome: 'completed', result: '```json\n{"found":7}\n```' })
    expect(events.filter(({ type }) => type === 'outputRejected')).toHaveLength(2)
    const returned = events.find(({ type }) => type === 'toolReturned')
    expect(returned?.data['result']).toMatchObject({ structured: { found: 7 }, isError: false })
    const query = 'query ($id: ID!) { job(id: $id) { resultJson runs { resultJson } } }'
    expect(await platform.graphql(query, { id: job.id })).toEqual({
      job: { resultJson: { found: 7 }, runs: [{ resultJson: { found: 7 } }, { resultJson: { found: 7 } }] },
    })
    const rest = (await (await platform.fetch(`/expert_jobs/${job.id}`)).json()) as {
      data: { expertJob: { resultJson: unknown } }
    }
    expect(rest.data.expertJob.resultJson).toEqual({ found: 7 })
  })

  it('fails with a typed reason when it has used its tries', async () => {
    const { job, events } = await runJob(platform, { expertKey: 'counter/stubborn', query: 'Count.' })
    expect(job).toMatchObject({ outcome: 'failed', reason: 'output_invalid', steps: 2, result: null })
    expect(events.filter(({ type }) => type === 'outputRejected')).toHaveLength(1)
  })
})

const MONTH_MS = 30 * 24 * 3600 * 1000
const WEEK_S = 7 * 24 * 3600

/** Three levels: the last one asks, makes a call that must be approved, or asks with a week to answer. */
const levels = `model = "rehearsal/levels"
[experts."top"]
instruction = "Have it done."
delegates = ["middle", "left", "right"]
[experts."middle"]
instruction = "Have it done by the one who knows."
delegates = ["deep"]
[experts."deep"]
instruction = "Ask, then write."
[experts."deep".skills."files"]
type = "mcpStdioSkill"
packageName = "@senmon/files"
[[experts."deep".approvals]]
tool = "files/write_file"
args.path = "guarded*"
[experts."deep".skills."human"]
type = "interactiveSkill"
[experts."deep".skills."human".tools."which"]
kind = "ask"
[experts."deep".skills."human".tools."soon"]
kind = "confirm"
timeout = ${WEEK_S}
[experts."left"]
instruction = "Ask for the left."
[experts."left".skills."human"]
type = "interactiveSkill"
[experts."left".skills."human".tools."which"]
kind = "ask"
[experts."right"]
instruction = "Ask for the right."
[experts."right".skills."human"]
type = "interactiveSkill"
[experts."right".skills."human".tools."which"]
kind = "ask"
`
const asks = (tool: string, question: string) => ({ tool: `human/${tool}`, args: { question } })
const levelTurns = [
  {
    expert: 'top',
    when: { userContains: 'both', noResult: true },
    calls: ['left', 'right'].map((side) => ({ tool: `delegate/${side}`, args: { query: side } })),
  },
  ...['question', 'approval', 'soon'].flatMap((kind) => [
    {
      expert: 'top',
      when: { userContains: kind, noResult: true },
      calls: [{ tool: 'delegate/middle', args: { query: kind } }],
    },
    {
      expert: 'middle',
      when: { userContains: kind, noResult: true },
      calls: [{ tool: 'delegate/deep', args: { query: kind } }],
    },
  ]),
  { expert: 'deep', when: { userContains: 'question', noResult: true }, calls: [asks('which', 'Which name?')] },
  {
    expert: 'deep',
    when: { userContains: 'approval', noResult: true },
    calls: [{ tool: 'files/write_file', args: { path: 'guarded.txt', content: 'written' } }],
  },
  { expert: 'deep', when: { userContains: 'soon', noResult: true }, calls: [asks('soon', 'Shall I?')] },
  { expert: 'deep', when: { resultContains: 'mango' }, text: 'It is mango.' },
  { expert: 'deep', when: { resultContains: 'No answer came in time' }, text: 'Nobody said.' },
  { expert: 'deep', when: { tool: 'files/write_file', resultIsError: false }, text: 'It is written.' },
  { expert: 'left', step: 1, calls: [asks('which', 'Left?')] },
  { expert: 'right', step: 1, calls: [asks('which', 'Right?')] },
  { expert: 'left', when: { resultEquals: 'L' }, text: 'left has L' },
  { expert: 'right', when: { resultEquals: 'R' }, text: 'right has R' },
  { expert: 'middle', step: 2, text: 'Done below.' },
  { expert: 'top', step: 2, text: 'Done.' },
]

describe.skipIf(missing !== undefined)('a question from three levels down', () => {
  let platform: Platform
  beforeAll(async () => {
    platform = await startLightly()
    const rehearsal = { 'rehearsals/levels.json': JSON.stringify({ turns: levelTurns }) }
    await npmPublish(platform, await expertPackage('top', levels, rehearsal))
  }, 120_000)
  afterAll(async () => {
    await platform.stop()
    await rm(platform.dataDirectory, { recursive: true, force: true })
  })

  async function untilWaiting(query: string, questions = 1): Promise<SeenJob> {
    const { id } = await act(platform, 'createJob', { expertKey: 'top', query })
    return until(async () => {
      const job = await findJob(platform, id)
      if (job?.status === 'finished') throw new Error(`it ended with ${job.reason}: ${job.explanation}`)
      return job?.status === 'waiting' && job.questions.length === questions ? job : undefined
    })
  }

  async function restartLater(ms: number): Promise<void> {
    const { dataDirectory: directory } = platform
    await platform.stop()
    const later = new URL(`../fixture/later.mjs?ms=${ms}`, import.meta.url).href
    platform = await startLightly({ directory, env: { NODE_OPTIONS: `--import=${later}` } })
  }

  const answer = (job: SeenJob, value: unknown, i = 0) => {
    const question = job.questions[i]
    return { jobId: job.id, answer: { questionId: question?.id, argsHash: question?.argsHash, value } }
  }

  it('is answered a month and a restart later, and the job finishes; one with a week to answer has expired', async () => {
    const question = await untilWaiting('question')
    const approval = await untilWaiting('approval')
    const soon = await untilWaiting('soon')
    await restartLater(MONTH_MS)

    await act(platform, 'continueJob', answer(question, 'mango'))
    await act(platform, 'continueJob', answer(approval, true))
    const answered = await finishJob(platform, question.id)
    expect(answered.job).toMatchObject({ outcome: 'completed', result: 'Done.' })
    expect(answered.results.map(({ text }) => text)).toEqual(['mango', 'It is mango.', 'Done below.'])
    const [first, last] = [answered.events[0], answered.events.at(-1)]
    expect(Date.parse(last?.at ?? '') - Date.parse(first?.at ?? '')).toBeGreaterThanOrEqual(MONTH_MS)

    const approved = await finishJob(platform, approval.id)
    expect(approved.job).toMatchObject({ outcome: 'completed', result: 'Done.' })
    expect(approved.results.map(({ name, isError }) => [name, isError])[0]).toEqual(['files/write_file', false])

    const expired = await finishJob(platform, soon.id)
    expect(expired.job).toMatchObject({ outcome: 'completed' })
    expect(expired.results.map(({ text }) => text)).toContain('Nobody said.')
    expect(expired.events.filter(({ type }) => type === 'questionExpired')).toHaveLength(1)
    expect(await mutate(platform, 'continueJob', answer(soon, true))).toMatchObject({ code: 'question_expired' })
  }, 120_000)

  it('goes to the call that asked, also when two ask at once and are answered in the other order', async () => {
    const job = await untilWaiting('both', 2)
    const side = (name: string) =>
      job.questions.findIndex(({ args }) => JSON.stringify(args).includes(name === 'left' ? 'Left' : 'Right'))
    await act(platform, 'continueJob', answer(job, 'R', side('right')))
    await act(platform, 'continueJob', answer(job, 'L', side('left')))
    const { results, job: ended } = await finishJob(platform, job.id)
    expect(ended.outcome).toBe('completed')
    expect(results.map(({ text }) => text).toSorted()).toEqual(['L', 'R', 'left has L', 'right has R'])
    expect(await mutate(platform, 'continueJob', answer(job, 'L', side('right')))).toMatchObject({
      code: 'question_answered',
    })
  })
})

/** A clerk below the coordinator: its call must be approved, and then its skill asks in whose name to sign. */
const office = `model = "rehearsal/office"
[experts."office"]
instruction = "Have it signed."
delegates = ["clerk"]
[experts."clerk"]
instruction = "Sign it."
[experts."clerk".skills."pen"]
type = "mcpStdioSkill"
packageName = "@acme/pen"
[[experts."clerk".approvals]]
tool = "pen/sign"
`
const officeTurns = [
  { expert: 'office', step: 1, calls: [{ tool: 'delegate/clerk', args: { query: 'Sign deed.txt.' } }] },
  { expert: 'office', step: 2, text: 'It went its way.' },
  { expert: 'clerk', step: 1, calls: [{ tool: 'pen/sign', args: { document: 'deed.txt' } }] },
  { expert: 'clerk', step: 2, text: 'I have read what came of it.' },
]

describe.skipIf(missing !== undefined)('a skill that asks in the middle of a call', () => {
  let platform: Platform
  beforeAll(async () => {
    platform = await startLightly()
    await npmPublish(platform, await skillPackage('@acme/pen', 'asking'))
    const rehearsal = { 'rehearsals/office.json': JSON.stringify({ turns: officeTurns }) }
    await npmPublish(platform, await expertPackage('office', office, rehearsal))
  }, 120_000)
  afterAll(async () => {
    await platform.stop()
    await rm(platform.dataDirectory, { recursive: true, force: true })
  })

  const openIn = async (id: string, count: number) =>
    until(async () => {
      const job = await findJob(platform, id)
      if (job?.status === 'finished') throw new Error(`it ended with ${job.reason}: ${job.explanation}`)
      return job?.status === 'waiting' && job.questions.length === count
        ? job.questions.find((question) => question.open)
        : undefined
    })
  /** Creates a job and approves its call; gives the question of the skill. */
  async function untilItAsks() {
    const { id: jobId } = await act(platform, 'createJob', { expertKey: 'office', query: 'Have deed.txt signed.' })
    const approval = await openIn(jobId, 1)
    await act(platform, 'continueJob', { jobId, answer: { questionId: approval?.id, value: true } })
    const question = await openIn(jobId, 2)
    return { jobId, question }
  }

  it('waits for its human without a machine, over a restart, and goes on with the answer', async () => {
    const { jobId, question } = await untilItAsks()
    expect(question?.args).toMatchObject({ message: 'In whose name shall deed.txt be signed?' })
    const { dataDirectory: directory } = platform
    await platform.stop()
    platform = await startLightly({ directory })
    const answer = (value: unknown) => ({
      jobId,
      answer: { questionId: question?.id, argsHash: question?.argsHash, value },
    })
    for (const value of [{ name: '' }, { other: 'x' }, 'Ann', true])
      expect(await mutate(platform, 'continueJob', answer(value))).toMatchObject({ code: 'answer_invalid' })
    await act(platform, 'continueJob', answer({ name: 'Ann' }))
    const { job, results, events } = await finishJob(platform, jobId)
    expect(job.outcome).toBe('completed')
    expect(results[0]).toEqual({ name: 'pen/sign', isError: false, text: 'Signed by Ann.' })
    expect(events.filter(({ type }) => type === 'questionAsked')).toHaveLength(2)
    const items = await platform.fetch(`/expert_jobs/${jobId}/workspace_instance/items?path=deed.txt`)
    expect(((await items.json()) as { data: { workspaceItems: unknown[] } }).data.workspaceItems).toHaveLength(1)
  }, 120_000)

  it('is told when its human declines', async () => {
    const { jobId, question } = await untilItAsks()
    await act(platform, 'continueJob', { jobId, answer: { questionId: question?.id, value: false } })
    const { results } = await finishJob(platform, jobId)
    expect(results[0]).toEqual({ name: 'pen/sign', isError: false, text: 'Not signed: decline.' })
  })
})
