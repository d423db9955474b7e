/** What people say to a job that exists: answers, further queries, cancels. */
import { describe, expect, it } from 'vitest'
import { approvalSchema } from '../../schema/approval.ts'
import { isRefusal } from '../../schema/error.ts'
import { firstBroken, type Question, type SteerMode } from '../../schema/event.ts'
import type { JobId } from '../../schema/id.ts'
import { sha256 } from '../../schema/hash.ts'
import type { JsonObject } from '../../schema/json.ts'
import type { LockedSkill } from '../../schema/lock.ts'
import { QUEUED_MAX } from '../../src/job/job.ts'
import type { Attempt, ContinueJob } from '../../src/job/jobs.ts'
import { fakeExpertSource, lockedExpert, lockOf } from '../fake/fake-expert-source.ts'
import {
  anApplication,
  anotherApplication,
  aQuestion,
  questionAsked,
  runFinished,
  runIdOf,
  runStarted,
  stepFinished,
} from './given.ts'
import { accepted, claimed, jobsWorld, newJob, thrownBy, type JobsWorld } from './jobs-world.ts'

function saying(jobId: JobId, given: Partial<ContinueJob>): ContinueJob {
  return { jobId, query: null, answer: null, maxSteps: null, idempotencyKey: null, ...given }
}

const yesTo = (question: Question): NonNullable<ContinueJob['answer']> => ({
  questionId: question.id,
  value: true,
  argsHash: question.argsHash,
})

/** A job whose machine has asked `names` and waits, or still runs. */
async function asking(world: JobsWorld, names: readonly string[], rests: boolean) {
  const { id } = await newJob(world)
  const attempt = await claimed(world)
  const runId = runIdOf(id)
  const questions = names.map((name) => aQuestion(id, runId, name))
  await world.jobs.record(attempt, [runStarted(runId), ...questions.map(questionAsked)])
  if (rests) await world.jobs.rest(attempt)
  return { id, attempt, runId, questions }
}

async function finishing(
  world: JobsWorld,
  ending: Record<string, unknown> = {},
): Promise<{ id: JobId; attempt: Attempt }> {
  const { id } = await newJob(world)
  const attempt = await claimed(world)
  const runId = runIdOf(id)
  await world.jobs.record(attempt, [runStarted(runId), stepFinished(runId, 1), runFinished(runId, ending)])
  return { id, attempt }
}

describe('an answer', () => {
  it('makes a waiting job queued again, and is there when a machine takes it', async () => {
    const world = jobsWorld()
    const { id, questions } = await asking(world, ['fix'], true)
    expect(await world.jobs.claim('keeper-2', 1)).toEqual([])
    const [question] = questions
    if (question === undefined) throw new Error('no question')
    const job = accepted(await world.jobs.continue(anApplication, saying(id, { answer: yesTo(question) })))
    expect(job).toMatchObject({ status: 'queued', questions: [{ answer: true, answeredAt: world.clock.now() }] })
    const next = await claimed(world, 'keeper-2')
    expect(next.history.map((event) => event.type)).toContain('answered')
    expect(next.fence).toBe(2)
    expect(firstBroken(id, next.history)).toBeUndefined()
  })

  it('is given once, by whoever comes first', async () => {
    const world = jobsWorld()
    const { id, questions } = await asking(world, ['fix'], true)
    const [question] = questions
    if (question === undefined) throw new Error('no question')
    const answers = await Promise.all(
      Array.from({ length: 10 }, (_, n) =>
        world.jobs.continue(anApplication, saying(id, { answer: { ...yesTo(question), value: n % 2 === 0 } })),
      ),
    )
    expect(answers.filter((answer) => !isRefusal(answer))).toHaveLength(1)
    expect(answers.filter((answer) => isRefusal(answer) && answer.refused === 'question_answered')).toHaveLength(9)
  })

  it('is repeated for the same idempotent request', async () => {
    const world = jobsWorld()
    const { id, questions } = await asking(world, ['fix'], true)
    const [question] = questions
    if (question === undefined) throw new Error('no question')
    const say = async (value: boolean) =>
      world.jobs.continue(anApplication, saying(id, { answer: { ...yesTo(question), value }, idempotencyKey: 'a-1' }))
    const first = accepted(await say(true))
    expect(await say(true)).toEqual(first)
    expect(await say(false)).toMatchObject({ refused: 'idempotency_key_reused' })
  })

  it('goes to its own question, in any order', async () => {
    const world = jobsWorld()
    const names = ['a', 'bb', 'ccc', 'dddd', 'eeeee']
    const { id, questions } = await asking(world, names, true)
    for (const n of [3, 0, 4, 2, 1]) {
      const question = questions[n]
      if (question === undefined) throw new Error('no question')
      const answer = { questionId: question.id, value: n % 2 === 0, argsHash: question.argsHash }
      accepted(await world.jobs.continue(anApplication, saying(id, { answer })))
    }
    const job = await world.jobs.find(anApplication, id)
    expect(job?.questions.map((question) => question.answer)).toEqual([true, false, true, false, true])
  })

  it('is refused when it answers nothing, wrongly, or elsewhere', async () => {
    const world = jobsWorld()
    const { id, questions } = await asking(world, ['fix'], true)
    const [question] = questions
    if (question === undefined) throw new Error('no question')
    const foreign = aQuestion(id, runIdOf(id, 'other'), 'fix')
    const cases: readonly [Partial<ContinueJob>, string][] = [
      [{ answer: yesTo(foreign) }, 'question_not_found'],
      [{ answer: { ...yesTo(question), value: 'yes' } }, 'answer_invalid'],
      [{ answer: { ...yesTo(question), argsHash: sha256('other arguments') } }, 'args_hash_mismatch'],
      [{ answer: yesTo(question), query: 'and go on' }, 'input_invalid'],
      [{}, 'nothing_to_continue'],
      [{ maxSteps: 9 }, 'job_waiting'],
      [{ maxSteps: 9, mode: 'queue' }, 'input_invalid'],
      [{ query: ' ' }, 'query_missing'],
    ]
    for (const [given, code] of cases)
      expect(await world.jobs.continue(anApplication, saying(id, given))).toMatchObject({ refused: code })
    const foreignCaller = await world.jobs.continue(anotherApplication, saying(id, { answer: yesTo(question) }))
    expect(foreignCaller).toMatchObject({ refused: 'job_not_found' })
    expect((await world.jobs.find(anApplication, id))?.status).toBe('waiting')
  })

  it('may edit the arguments of a call as the tool takes them, whichever run calls it; else its question stays open (J5)', async () => {
    const inputSchema = { type: 'object', properties: { path: { type: 'string' } } }
    const skill: LockedSkill = {
      type: 'mcpHttpSkill',
      endpoint: 'https://example.com/mcp',
      headers: {},
      pick: null,
      omit: [],
      rule: null,
      requiredEnv: [],
      lazyInit: true,
      tools: [{ name: 'put', description: '', inputSchema }],
    }
    const writer = lockedExpert('writer', { skills: { files: skill } })
    const lead = lockedExpert('hello-expert', { delegates: { writer: writer.key } })
    const world = jobsWorld({ experts: fakeExpertSource(lockOf(lead, writer)) })
    const { id } = await newJob(world)
    const attempt = await claimed(world)
    const [rootId, runId] = [runIdOf(id), runIdOf(id, 'below')]
    const below = { ...runStarted(runId, { runId: rootId, callId: 'call_1_0' }), expertKey: writer.key }
    const shape = { toolName: 'files/put', schema: approvalSchema({ edits: true }) }
    const [question, unpinned] = [
      aQuestion(id, runId, 'put', shape),
      aQuestion(id, runId, 'other', { ...shape, toolName: 'files/other' }),
    ]
    await world.jobs.record(attempt, [runStarted(rootId), below, ...[question, unpinned].map(questionAsked)])
    await world.jobs.rest(attempt)
    const edit = async (asked: Question, args: JsonObject) =>
      world.jobs.continue(anApplication, saying(id, { answer: { ...yesTo(asked), value: { approved: true, args } } }))
    expect(await edit(question, { path: 7 })).toMatchObject({
      refused: 'answer_invalid',
      message: expect.stringContaining('/path must be string'),
    })
    expect((await world.jobs.find(anApplication, id))?.questions[0]).toMatchObject({ answeredAt: null })
    accepted(await edit(unpinned, { path: 7 }))
    const job = accepted(await edit(question, { path: 'seven' }))
    expect(job.questions[0]).toMatchObject({ answer: { approved: true, args: { path: 'seven' } } })
  })

  it('that comes while the machine runs is recorded, and seen by its next record (T2)', async () => {
    const world = jobsWorld()
    const { id, attempt, runId, questions } = await asking(world, ['fix', 'more'], false)
    const [first, second] = questions
    if (first === undefined || second === undefined) throw new Error('no questions')
    const job = accepted(await world.jobs.continue(anApplication, saying(id, { answer: yesTo(first) })))
    expect(job.status).toBe('running')
    const seen = await world.jobs.record(attempt, [stepFinished(runId, 1)])
    expect(seen.map((event) => event.type)).toEqual(['answered', 'stepFinished'])
    accepted(await world.jobs.continue(anApplication, saying(id, { answer: yesTo(second) })))
    expect((await world.jobs.record(attempt, [])).map((event) => event.type)).toEqual(['answered'])
    expect(await world.jobs.record(attempt, [])).toEqual([])
  })

  it('that comes before the machine rests leaves the job queued', async () => {
    const world = jobsWorld()
    const { id, attempt, questions } = await asking(world, ['fix'], false)
    const [question] = questions
    if (question === undefined) throw new Error('no question')
    accepted(await world.jobs.continue(anApplication, saying(id, { answer: yesTo(question) })))
    const seen = await world.jobs.rest(attempt)
    expect(seen.map((event) => event.type)).toEqual(['answered', 'jobRested'])
    expect((await world.jobs.find(anApplication, id))?.status).toBe('queued')
    expect((await claimed(world)).fence).toBe(2)
  })
})

describe('a continuation', () => {
  it('queues a finished job again with a further query', async () => {
    const world = jobsWorld()
    const { id } = await finishing(world)
    const job = accepted(await world.jobs.continue(anApplication, saying(id, { query: 'And now?' })))
    expect(job).toMatchObject({ status: 'queued', outcome: null, result: null, query: 'Say hello' })
    expect((await claimed(world)).history.at(-2)).toMatchObject({ type: 'jobContinued', data: { query: 'And now?' } })
  })

  it('raises the limit of a job that ended at its step limit, and of no other', async () => {
    const world = jobsWorld()
    const { id } = await finishing(world, { outcome: 'failed', reason: 'step_limit', result: null })
    expect(await world.jobs.continue(anApplication, saying(id, { maxSteps: 1 }))).toMatchObject({
      refused: 'input_invalid',
    })
    const job = accepted(await world.jobs.continue(anApplication, saying(id, { maxSteps: 2 })))
    expect(job).toMatchObject({ status: 'queued', maxSteps: 2, outcome: null, reason: null })
    const other = await finishing(jobsWorldWith(world))
    expect(await world.jobs.continue(anApplication, saying(other.id, { maxSteps: 9 }))).toMatchObject({
      refused: 'job_finished',
    })
  })

  it('with a query waits to be read while the job is queued, runs or waits, and is refused after a cancel (J13)', async () => {
    const world = jobsWorld()
    const { id } = await asking(world, ['fix'], true)
    const put = async (query: string, mode?: SteerMode) =>
      world.jobs.continue(anApplication, saying(id, { query, ...(mode === undefined ? {} : { mode }) }))
    expect(accepted(await put('first'))).toMatchObject({ status: 'waiting' })
    expect(accepted(await put('second', 'interrupt'))).toMatchObject({ status: 'queued' })
    expect(accepted(await put('third'))).toMatchObject({ status: 'queued' })
    const attempt = await claimed(world)
    const job = accepted(await put('fourth'))
    expect(job.status).toBe('running')
    expect(job.steering?.queued.map(({ query }) => query)).toEqual(['first', 'second', 'third', 'fourth'])
    expect((await world.jobs.record(attempt, [])).at(-1)).toMatchObject({
      type: 'jobContinued',
      data: { query: 'fourth', maxSteps: null, mode: 'queue' },
    })
    accepted(await world.jobs.cancel(anApplication, id))
    expect(await put('too late')).toMatchObject({ refused: 'job_canceled' })
  })

  it('without a query is refused while the job is queued or runs', async () => {
    const world = jobsWorld()
    const { id } = await newJob(world)
    const more = async (): Promise<unknown> => world.jobs.continue(anApplication, saying(id, { maxSteps: 9 }))
    expect(await more()).toMatchObject({ refused: 'job_running' })
    await claimed(world)
    expect(await more()).toMatchObject({ refused: 'job_running' })
    const { id: canceled } = await newJob(world)
    accepted(await world.jobs.cancel(anApplication, canceled))
    expect(await world.jobs.continue(anApplication, saying(canceled, { query: 'Go on' }))).toMatchObject({
      refused: 'job_canceled',
    })
  })

  it('finds no more room when as many queries wait as may', async () => {
    const world = jobsWorld()
    const { id } = await newJob(world)
    for (let i = 0; i < QUEUED_MAX; i++)
      accepted(await world.jobs.continue(anApplication, saying(id, { query: `query ${i}` })))
    expect(await world.jobs.continue(anApplication, saying(id, { query: 'one more' }))).toMatchObject({
      refused: 'limit_exceeded',
    })
  })
})

/** The same world with its first job out of the way. */
function jobsWorldWith(world: JobsWorld): JobsWorld {
  return {
    ...world,
    jobs: {
      ...world.jobs,
      async claim(holder, places) {
        await world.jobs.claim('keeper-of-the-first', 1)
        return world.jobs.claim(holder, places)
      },
    },
  }
}

describe('a cancel', () => {
  it('ends a queued and a waiting job at once', async () => {
    const world = jobsWorld()
    const waiting = await asking(world, ['fix'], true)
    const queued = await newJob(world)
    for (const id of [waiting.id, queued.id]) {
      const job = accepted(await world.jobs.cancel(anApplication, id))
      expect(job).toMatchObject({ status: 'finished', outcome: 'canceled', reason: 'canceled_by_user' })
      expect(await world.jobs.cancel(anApplication, id)).toMatchObject({ refused: 'job_finished' })
    }
    expect(await world.jobs.claim('keeper-2', 1)).toEqual([])
    const [question] = waiting.questions
    if (question === undefined) throw new Error('no question')
    expect(await world.jobs.continue(anApplication, saying(waiting.id, { answer: yesTo(question) }))).toMatchObject({
      refused: 'job_finished',
    })
  })

  it('of a running job reaches its keeper, who ends it', async () => {
    const world = jobsWorld()
    const { id } = await newJob(world)
    const attempt = await claimed(world)
    const first = accepted(await world.jobs.cancel(anApplication, id))
    expect(first.status).toBe('running')
    expect(await world.jobs.cancel(anApplication, id)).toEqual(first)
    expect((await world.jobs.record(attempt, [])).map((event) => event.type)).toEqual(['cancelRequested'])
    expect(attempt.job.cancelRequested).toBe(true)
    await world.jobs.abandon(attempt, 'canceled_by_user')
    expect(await world.jobs.find(anApplication, id)).toMatchObject({ outcome: 'canceled', reason: 'canceled_by_user' })
  })

  it('of a job whose machine died ends it instead of another claim', async () => {
    const world = jobsWorld()
    const { id } = await newJob(world)
    await claimed(world)
    accepted(await world.jobs.cancel(anApplication, id))
    await world.clock.advance(10_000)
    expect(await world.jobs.claim('keeper-2', 1)).toEqual([])
    expect(await world.jobs.find(anApplication, id)).toMatchObject({ status: 'finished', outcome: 'canceled' })
  })

  it("finds no other application's job", async () => {
    const world = jobsWorld()
    const { id } = await newJob(world)
    const missing = await world.jobs.cancel(anotherApplication, id)
    expect(missing).toEqual({ refused: 'job_not_found', message: `There is no job ${id}.` })
    expect(await world.jobs.find(anotherApplication, id)).toBeUndefined()
    expect(await world.jobs.lock(anotherApplication, id)).toBeUndefined()
    expect(await thrownBy(world.jobs.events(anotherApplication, id, 0, 10))).toBe('job_not_found')
    expect(await world.jobs.list(anotherApplication, {}, 10, null)).toEqual([])
  })

  it('and an answer at once: one wins, the other is told, whichever comes first', async () => {
    for (const first of ['cancel', 'answer'] as const) {
      const world = jobsWorld()
      const { id, questions } = await asking(world, ['fix'], true)
      const [question] = questions
      if (question === undefined) throw new Error('no question')
      const cancel = async () => world.jobs.cancel(anApplication, id)
      const answer = async () => world.jobs.continue(anApplication, saying(id, { answer: yesTo(question) }))
      await Promise.all(first === 'cancel' ? [cancel(), answer()] : [answer(), cancel()])
      const job = await world.jobs.find(anApplication, id)
      expect(job?.outcome).toBe('canceled')
      const types = (await world.jobs.events(anApplication, id, 0, 100)).map((event) => event.type)
      expect(types.at(-1)).toBe('jobFinished')
      expect(types.filter((type) => type === 'jobFinished')).toHaveLength(1)
    }
  })
})
