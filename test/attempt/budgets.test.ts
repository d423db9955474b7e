/** Budgets from end to end on fakes: a job that has used its budget waits, asks, and goes on or stops as it is told. */
import { afterEach, describe, expect, it } from 'vitest'
import type { Budget } from '../../schema/budget.ts'
import { isRefusal, type Refusal } from '../../schema/error.ts'
import { firstBroken, type EventOf } from '../../schema/event.ts'
import type { JobId } from '../../schema/id.ts'
import type { Json } from '../../schema/json.ts'
import { sha256 } from '../../schema/hash.ts'
import { rootRunId } from '../../schema/question.ts'
import { noUsage } from '../../schema/usage.ts'
import { budgetOf } from '../../src/job/job-budget.ts'
import { Admission } from '../../src/attempt/admission.ts'
import { Budgets } from '../../src/attempt/budgets.ts'
import type { Price } from '../../src/gateway/price.ts'
import { openForks } from '../../src/job/forks.ts'
import type { JobSummary } from '../../src/job/job-summary.ts'
import { fakeChance, fakeClock } from '../fake/fake-clock.ts'
import { fakeExpertSource, lockedExpert, lockOf } from '../fake/fake-expert-source.ts'
import { partsOf } from '../fake/scripted-model.ts'
import { anApplication } from '../job/given.ts'
import { LIMITS } from '../job/jobs-world.ts'
import { jobFact } from '../run/simulation.ts'
import { files, JOB } from '../run/team.ts'
import { keepUntilEnd, attemptWorld, endAll, ofType, type Process, type Scenario } from './attempt-world.ts'
import { survivesCrashAtEveryAppend } from './survives-crash.ts'

afterEach(endAll)

const price: Price = { input: 0, output: 1000, source: 'a test', date: '2026-01-01' }
/** Each generation costs a dollar, or less when it may write less. */
const usageOf = ({ outputTokensMax = 1000 }: { readonly outputTokensMax?: number } = {}) => {
  const outputTokens = Math.min(1000, outputTokensMax)
  return { ...noUsage, inputTokens: 10, outputTokens, costUsd: outputTokens / 1000 }
}

const read = { name: 'files/read', args: { path: 'a' } }
const lone = lockOf(lockedExpert('lone', { skills: { files } }))
/** Reads three times, then ends. */
const threeReads: Scenario['turnOf'] = ({ stepNumber }) =>
  stepNumber > 3 ? { text: 'the end' } : { text: 'on', calls: [read] }

async function begin(given: Partial<Scenario> = {}) {
  const world = attemptWorld({ lock: lone, turnOf: threeReads, price, usageOf, ...given })
  const process = world.start()
  keepUntilEnd(process)
  const jobId = await world.create(process)
  return { world, process, jobId }
}

async function goOn(
  { jobs }: Process,
  jobId: JobId,
  input: {
    readonly query?: string
    readonly budget?: Budget
    readonly answer?: { readonly question: EventOf<'questionAsked'>; readonly value: Json }
  },
) {
  const { query = null, budget, answer } = input
  const question = answer?.question.data.question
  return jobs.continue(anApplication, {
    jobId,
    query,
    answer:
      question === undefined
        ? null
        : { questionId: question.id, value: answer?.value ?? null, argsHash: question.argsHash },
    maxSteps: null,
    ...(budget === undefined ? {} : { budget }),
    idempotencyKey: null,
  })
}

const waits = (job: { readonly status: string }) => job.status === 'waiting'
const ends = (job: { readonly status: string }) => job.status === 'finished'

describe('a job with a budget', () => {
  it('waits with a question when there is no room for another generation, and goes on when the budget is raised', async () => {
    const { world, process, jobId } = await begin({ budget: { costUsd: 2.2 } })
    const events = await world.until(jobId, waits)
    expect(ofType(events, 'generated')).toHaveLength(2)
    const [asked] = ofType(events, 'questionAsked')
    expect(asked?.data.question).toMatchObject({ purpose: 'budget', kind: 'schema', callId: 'generation_3' })
    expect(asked?.data.question.title).toContain('The job has used $2 of $2.2')

    const raised = await goOn(process, jobId, { budget: { costUsd: 9 } })
    expect(isRefusal(raised)).toBe(false)
    const all = await world.until(jobId, ends)
    expect(ofType(all, 'generated')).toHaveLength(4)
    expect(ofType(all, 'jobFinished').at(-1)?.data).toMatchObject({ outcome: 'completed', result: 'the end' })
  })

  it('ends with budget_exhausted when it is told to stop, and goes on from there with a higher budget', async () => {
    const { world, process, jobId } = await begin({ budget: { costUsd: 2.2 } })
    const [question] = ofType(await world.until(jobId, waits), 'questionAsked')
    if (question === undefined) throw new Error('nothing was asked')
    await goOn(process, jobId, { answer: { question, value: 'stop' } })
    const stopped = await world.until(jobId, ends)
    expect(ofType(stopped, 'jobFinished').at(-1)?.data).toMatchObject({ outcome: 'failed', reason: 'budget_exhausted' })

    expect(await goOn(process, jobId, { budget: { costUsd: 1 } })).toMatchObject({ refused: 'input_invalid' })
    expect(await goOn(process, jobId, { budget: { costUsd: 9 } })).toMatchObject({ status: 'queued' })
    const all = await world.until(jobId, ends)
    expect(ofType(all, 'jobFinished').at(-1)?.data).toMatchObject({ outcome: 'completed', result: 'the end' })
    expect(ofType(all, 'generated')).toHaveLength(4)
  })
})

const clerk = lockedExpert('clerk', { skills: { files } })
const many = (count: number) =>
  Array.from({ length: count }, (_, i) => ({ name: 'delegate/clerk', args: { query: `part ${i}` } }))

describe('a team with a budget', () => {
  it('lets fifty delegates at once spend what there is and no more, asks once, and all go on when it is raised', async () => {
    const lead = lockedExpert('lead', { delegates: { clerk: clerk.key } })
    const { world, process, jobId } = await begin({
      lock: lockOf(lead, clerk),
      turnOf: ({ expert, stepNumber }) =>
        expert.name === 'lead' && stepNumber === 1 ? { text: 'on', calls: many(50) } : { text: 'done' },
      budget: { costUsd: 20.5 },
    })
    const events = await world.until(jobId, waits)
    // Twenty whole ones, and one that wrote half as much.
    expect(ofType(events, 'generated')).toHaveLength(21)
    expect(ofType(events, 'questionAsked')).toHaveLength(1)
    expect(new Set(ofType(events, 'budgetHeld').map((event) => event.runId)).size).toBe(30)
    const waiting = (await world.store.find(jobId))?.job
    expect(waiting?.usage.costUsd).toBe(20.5)
    expect(waiting?.runs.filter(({ status }) => status === 'waiting')).toHaveLength(30)

    await goOn(process, jobId, { budget: { costUsd: 60 } })
    const all = await world.until(jobId, ends)
    expect(ofType(all, 'jobFinished').at(-1)?.data).toMatchObject({ outcome: 'completed', result: 'done' })
    expect(ofType(all, 'generated')).toHaveLength(52)
  })

  it('bounds a run and its delegates by the budget of its expert, and asks about that one alone', async () => {
    const middle = lockedExpert('middle', { delegates: { clerk: clerk.key }, budget: { steps: 2 } })
    const lead = lockedExpert('lead', { delegates: { middle: middle.key } })
    const { world, process, jobId } = await begin({
      lock: lockOf(lead, middle, clerk),
      turnOf: ({ expert, stepNumber }) => {
        if (stepNumber > 1 || expert.name === 'clerk') return { text: `${expert.name} is done` }
        const next = expert.name === 'lead' ? 'middle' : 'clerk'
        return { text: 'on', calls: [{ name: `delegate/${next}`, args: { query: 'go' } }] }
      },
    })
    const events = await world.until(jobId, waits)
    const [asked] = ofType(events, 'questionAsked')
    expect(asked?.expertKey).toBe(middle.key)
    expect(asked?.data.question.title).toContain('This run of middle@1.0.0 has used 2 of 2 steps')
    await goOn(process, jobId, { budget: { steps: 3 } })
    const all = await world.until(jobId, ends)
    expect(ofType(all, 'jobFinished').at(-1)?.data).toMatchObject({ result: 'lead is done' })
  })

  it('makes no call of a step for which there is no room, and all of them when there is', async () => {
    const made: string[] = []
    const { world, process, jobId } = await begin({
      turnOf: ({ stepNumber }) =>
        stepNumber > 2 ? { text: 'the end' } : { text: 'on', calls: [read, { ...read, args: { path: 'b' } }] },
      call: async (tool, args) => {
        made.push(`${tool} ${JSON.stringify(args)}`)
        return 'done'
      },
      budget: { toolCalls: 3 },
    })
    const events = await world.until(jobId, waits)
    expect(made).toHaveLength(2)
    expect(ofType(events, 'questionAsked')[0]?.data.question).toMatchObject({ callId: 'calls_2' })
    await goOn(process, jobId, { budget: { toolCalls: 4 } })
    const all = await world.until(jobId, ends)
    expect(made).toHaveLength(4)
    expect(ofType(all, 'jobFinished').at(-1)?.data).toMatchObject({ outcome: 'completed' })
  })

  it('cuts a generation when the time is over, counts it as spent, and goes on with more time', async () => {
    let isStuck = true
    const { world, process, jobId } = await begin({
      turnOf: () => ({ text: 'the end' }),
      pause: async (_request, signal) => {
        if (!isStuck) return
        await new Promise((_resolve, reject) =>
          signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true }),
        )
      },
      budget: { wallSeconds: 10, outputTokens: 100_000 },
    })
    await world.until(jobId, () => process.model.requests.length === 1)
    await world.clock.advance(10_000)
    const events = await world.until(jobId, waits)
    expect(ofType(events, 'questionAsked')[0]?.data.question.title).toContain('The job has used 10 of 10 seconds')
    const job = (await world.store.find(jobId))?.job
    expect(job === undefined ? null : budgetOf(job)?.used).toMatchObject({ outputTokens: 32_000, wallSeconds: 10 })
    isStuck = false
    // An hour in which no machine has the job.
    await world.clock.advance(3_600_000)
    await goOn(process, jobId, { budget: { wallSeconds: 20 } })
    const all = await world.until(jobId, ends)
    expect(ofType(all, 'jobFinished').at(-1)?.data).toMatchObject({ outcome: 'completed' })
  })

  it('gives what an interrupting query leaves of a run that waits for room, and waits on', async () => {
    const { world, process, jobId } = await begin({ budget: { costUsd: 2.2 } })
    await world.until(jobId, waits)
    await process.jobs.continue(anApplication, {
      jobId,
      query: 'Hurry.',
      answer: null,
      maxSteps: null,
      mode: 'interrupt',
      idempotencyKey: null,
    })
    const events = await world.until(
      jobId,
      (job, all) => job.status === 'waiting' && ofType(all, 'steered').length === 1,
    )
    expect(ofType(events, 'generated')).toHaveLength(2)
    await goOn(process, jobId, { budget: { costUsd: 9 } })
    const all = await world.until(jobId, ends)
    expect(ofType(all, 'jobFinished').at(-1)?.data).toMatchObject({ outcome: 'completed' })
  })

  it('is neither overspent nor asked twice, whenever the process dies', async () => {
    const lead = lockedExpert('lead', { skills: { files }, delegates: { clerk: clerk.key } })
    const deaths = await survivesCrashAtEveryAppend({
      lock: lockOf(lead, clerk),
      turnOf: ({ expert, stepNumber }) => {
        if (expert.name === 'clerk') return { text: 'looked' }
        return stepNumber > 1 ? { text: 'the end' } : { text: 'on', calls: [read, ...many(2)] }
      },
      price,
      usageOf,
      budget: { costUsd: 2.5, toolCalls: 2 },
      tool: (tool, args) => `${tool} ${args}`,
      people: async ({ jobs }, events) => {
        const open = ofType(events, 'questionAsked').filter(
          ({ data }) => !ofType(events, 'answered').some((event) => event.data.questionId === data.question.id),
        )
        const [first] = open
        if (first === undefined || ofType(events, 'jobRested').length === 0) return
        await jobs.continue(anApplication, {
          jobId: first.jobId,
          query: null,
          answer: null,
          maxSteps: null,
          budget: { costUsd: 100, toolCalls: 10 },
          idempotencyKey: null,
        })
      },
    })
    expect(deaths).toBeGreaterThan(20)
  })
})

describe('a fork with a budget of its own', () => {
  type World = Awaited<ReturnType<typeof begin>>
  const forksOf = ({ world, process }: World, lock = lone) =>
    openForks({
      log: world.store,
      content: world.content,
      experts: fakeExpertSource(lock),
      models: process.model,
      clock: world.clock,
      chance: fakeChance('forks'),
      limits: LIMITS,
    })
  const asItWas = { query: null, model: null, maxSteps: null, instruction: null, expertKey: null, idempotencyKey: null }
  const made = (fork: JobSummary | Refusal): JobSummary => {
    if (isRefusal(fork)) throw new Error(fork.message)
    return fork
  }

  it('counts what was used before the checkpoint, and asks when that and its own use it up (FK7)', async () => {
    const parent = await begin({ budget: { costUsd: 2.2 } })
    const { world, jobId } = parent
    const [first, second] = ofType(await world.until(jobId, waits), 'stepFinished')
    const forks = forksOf(parent)
    const at = { ...asItWas, jobId, seq: second?.seq ?? 0 }
    const low = await forks.fork(anApplication, { ...at, budget: { costUsd: 2 } })
    expect(low).toMatchObject({ refused: 'input_invalid', message: expect.stringContaining('is not above the 2 that') })
    const fork = made(await forks.fork(anApplication, { ...at, seq: first?.seq ?? 0, budget: { costUsd: 1.5 } }))
    expect(budgetOf(fork)).toMatchObject({ limits: { costUsd: 1.5 }, used: { costUsd: 1, steps: 1 } })
    const events = await world.until(fork.id, waits)
    const job = (await world.store.find(fork.id))?.job
    expect(job?.usage.costUsd).toBe(1.5)
    expect(ofType(events, 'questionAsked').at(-1)?.data.question.title).toContain('The job has used $1.5 of $1.5')
    expect((await world.store.find(jobId))?.job.usage.costUsd).toBe(2)
  })

  it('is bounded though its parent was not, in calls as well', async () => {
    const parent = await begin()
    const { world, jobId } = parent
    const [first] = ofType(await world.until(jobId, ends), 'stepFinished')
    const budget = { toolCalls: 2, steps: 9 }
    const fork = made(
      await forksOf(parent).fork(anApplication, { ...asItWas, jobId, seq: first?.seq ?? 0, query: 'again', budget }),
    )
    expect(budgetOf(fork)?.limits).toEqual(budget)
    const events = await world.until(fork.id, (job) => waits(job) || ends(job))
    expect(ofType(events, 'questionAsked').at(-1)?.data.question).toMatchObject({
      callId: 'calls_3',
      purpose: 'budget',
    })
  })

  it('answers what its parent asked about its budget at the checkpoint, or is refused (FK7)', async () => {
    const lead = lockedExpert('lead', { delegates: { clerk: clerk.key } })
    const lock = lockOf(lead, clerk)
    const parent = await begin({
      lock,
      turnOf: ({ expert, stepNumber }) =>
        expert.name === 'lead' && stepNumber === 1 ? { text: 'on', calls: many(3) } : { text: 'done' },
      budget: { steps: 3 },
    })
    const { world, jobId } = parent
    const before = await world.until(jobId, waits)
    const asked = ofType(before, 'questionAsked')[0]?.seq ?? 0
    const at = ofType(before, 'stepFinished').find(({ seq }) => seq > asked)
    const forks = forksOf(parent, lock)
    const input = { ...asItWas, jobId, seq: at?.seq ?? 0 }
    expect(await forks.fork(anApplication, { ...input, budget: { costUsd: 100 } })).toMatchObject({
      refused: 'answer_invalid',
    })
    const fork = made(await forks.fork(anApplication, { ...input, budget: { steps: 20 } }))
    const all = await world.until(fork.id, ends)
    expect(ofType(all, 'jobFinished').at(-1)?.data).toMatchObject({ outcome: 'completed', result: 'done' })
    expect(ofType(all, 'answered')).toHaveLength(1)
    expect(firstBroken(fork.id, all)).toBeUndefined()
    expect((await world.events(jobId)).length).toBe(before.length)
  })
})

describe('what a machine says of a budget', () => {
  const lock = lockOf(lockedExpert('lone', { skills: { files } }))
  const place = { runId: rootRunId(JOB, 0), expertKey: lock.coordinator, stepNumber: 1 }
  const at = 1000
  const result = {
    type: 'toolResult',
    callId: 'call_1_0',
    name: 'files/read',
    content: [{ type: 'text', text: 'x' }],
    isError: false,
  } as const

  async function atCalls(budget: Budget) {
    const clock = fakeClock(at)
    const budgets = new Budgets(JOB, { lock, model: null }, () => price, clock)
    const created = {
      expertKey: lock.coordinator,
      query: 'q',
      userId: null,
      model: null,
      maxSteps: null,
      lockHash: sha256(''),
      inputTreeHash: null,
      budget,
    }
    budgets.take(jobFact({ type: 'jobCreated', data: created }), at)
    const began = { query: 'q', parent: null, continues: null, depth: 0 }
    budgets.take({ type: 'runStarted', data: began, ...place, stepNumber: 0 }, at)
    const decision = await budgets.toGenerate(place, 10, new AbortController().signal)
    return { budgets, decision }
  }

  it('cannot make a call of a step before it was counted, nor return one', async () => {
    const { budgets } = await atCalls({ toolCalls: 1 })
    const data = {
      parts: partsOf({ text: '', calls: [read] }, 1),
      usage: usageOf(),
      model: 'm',
      finishReason: 'stop',
      promptHash: sha256(''),
      durationMs: 1,
    }
    budgets.take({ type: 'generated', data, ...place }, at)
    const returned = { type: 'toolReturned', data: { result, durationMs: 1 }, ...place } as const
    expect(budgets.refuseFact(returned, false)).toContain('have not been counted')
    budgets.toCall(place, 1)
    expect(budgets.refuseFact(returned, false)).toBeUndefined()
  })

  it('cannot end a run as one that nobody stopped', async () => {
    const { budgets } = await atCalls({ steps: 1 })
    const data = { outcome: 'failed', reason: 'budget_exhausted', message: null, result: null } as const
    expect(budgets.refuseFact({ type: 'runFinished', data, ...place }, false)).toContain('nobody stopped')
  })

  it('cannot have a run generate twice at once, nor while it is held', async () => {
    const { budgets, decision } = await atCalls({ costUsd: 100 })
    expect(decision.outputTokensMax).toBe(32_000)
    expect(budgets.refuse(place.runId)).toContain('generates already')
    const held = await atCalls({ costUsd: 0.01 })
    expect(held.decision.isHeld).toBe(true)
    expect(held.budgets.refuse(place.runId)).toContain('is held by question')
  })

  it('cannot put a question of a budget', () => {
    const admission = new Admission(JOB, lock, JOB)
    const { facts } = new Budgets(JOB, { lock, model: null }, () => price, fakeClock(at)).cut(place)
    const [asked] = facts
    if (asked?.type !== 'questionAsked') throw new Error('nothing was asked')
    admission.take({
      type: 'runStarted',
      data: { query: 'q', parent: null, continues: null, depth: 0 },
      ...place,
      stepNumber: 0,
    })
    expect(admission.admit({ ...asked, ...place, stepNumber: 0 })).toContain('asks nobody')
  })
})
