/** Queries to a job that is open, through the whole control plane: queued, interrupting, at its end, in crashes. */
import { afterEach, describe, expect, it } from 'vitest'
import { isRefusal } from '../../schema/error.ts'
import { firstBroken, type JobEvent, type SteerMode } from '../../schema/event.ts'
import type { JobId } from '../../schema/id.ts'
import { Conversations } from '../../schema/conversation.ts'
import { textOf } from '../../schema/message.ts'
import type { GenerateRequest } from '../../src/gateway/gateway.ts'
import type { JobSummary } from '../../src/job/job-summary.ts'
import { anApplication } from '../job/given.ts'
import { team } from '../run/team.ts'
import { attemptWorld, begin, endAll, ofType, type Process, type Scenario, turns } from './attempt-world.ts'
import { survivesCrashAtEveryAppend } from './survives-crash.ts'

afterEach(endAll)

async function put({ jobs }: Process, jobId: JobId, query: string, mode: SteerMode = 'queue'): Promise<JobSummary> {
  const job = await jobs.continue(anApplication, {
    jobId,
    query,
    answer: null,
    mode,
    maxSteps: null,
    idempotencyKey: null,
  })
  if (isRefusal(job)) throw new Error(job.message)
  return job
}

/** What the user said to the coordinator, in order. */
function queriesRead(events: readonly JobEvent[]): readonly string[] {
  const conversations = new Conversations()
  for (const event of events) conversations.add(event)
  const root = ofType(events, 'runStarted').findLast((event) => event.data.parent === null)?.runId
  if (root === null || root === undefined) return []
  const messages = conversations.of(root).messages.filter((message) => message.role === 'user')
  return messages.map((message) => textOf(message.content))
}

const read = { text: 'on', calls: [{ name: 'files/read', args: {} }] }

describe('a query to a job that runs', () => {
  it('is read before the next generation, and not before', async () => {
    const gate = Promise.withResolvers<void>()
    const requests: GenerateRequest[] = []
    const { world, process } = begin({
      lock: team(),
      turnOf: (request) => (requests.push(request), turns({ 'lead 1': read })(request)),
      call: async () => (await gate.promise, 'read'),
    })
    const jobId = await world.create(process)
    await world.until(jobId, (_, events) => ofType(events, 'generated').length === 1)
    const job = await put(process, jobId, 'and in French')
    expect(job).toMatchObject({ status: 'running', steering: { queued: [{ query: 'and in French', mode: 'queue' }] } })
    gate.resolve()
    const events = await world.until(jobId, (job) => job.status === 'finished')
    expect(requests.map(({ messages }) => messages.map(({ role }) => role).join(' '))).toEqual([
      'user',
      'user expert tool user',
    ])
    expect(queriesRead(events)).toEqual(['the query', 'and in French'])
    expect(ofType(events, 'toolReturned')[0]?.data.result.isError).toBe(false)
    expect(process.host.started()).toBe(1)
  })

  it('that interrupts gives up the generation under way', async () => {
    const requests: GenerateRequest[] = []
    const begun = Promise.withResolvers<void>()
    const { world, process } = begin({
      lock: team(),
      turnOf: (request) => (requests.push(request), { text: 'done' }),
      pause: async ({ messages }, signal) => {
        if (messages.length > 1) return
        begun.resolve()
        await new Promise((_, reject) => signal.addEventListener('abort', () => reject(new Error('aborted'))))
      },
    })
    const jobId = await world.create(process)
    await begun.promise
    await put(process, jobId, 'stop that, do this', 'interrupt')
    const events = await world.until(jobId, (job) => job.status === 'finished')
    expect(events.map((event) => event.type).slice(-7)).toEqual([
      'jobContinued',
      'generationInterrupted',
      'steered',
      'generated',
      'stepFinished',
      'runFinished',
      'jobFinished',
    ])
    expect(requests).toHaveLength(1)
    expect(process.host.started()).toBe(1)
  })

  it('that interrupts gives up calls, delegates and questions, and their answers come too late', async () => {
    const calls = [
      { name: 'files/read', args: {} },
      { name: 'delegate/reader', args: { query: 'look' } },
      { name: 'human/approve', args: { change: 'x' } },
    ]
    const never = new Promise<string>(() => {})
    const { world, process } = begin({
      lock: team(),
      turnOf: turns({ 'lead 1': { text: 'on', calls }, 'reader 1': read }),
      call: async () => never,
    })
    const jobId = await world.create(process)
    const asked = await world.until(
      jobId,
      (_, events) => ofType(events, 'questionAsked').length === 1 && ofType(events, 'generated').length === 2,
    )
    await put(process, jobId, 'stop that, do this', 'interrupt')
    const events = await world.until(jobId, (job) => job.status === 'finished')
    expect(events.at(-1)).toMatchObject({ data: { outcome: 'completed', result: 'lead is done' } })
    expect(ofType(events, 'runFinished')[0]?.data).toMatchObject({ outcome: 'canceled', reason: 'interrupted' })
    expect(ofType(events, 'toolReturned').map((event) => event.data.result.isError)).toEqual([true, true, true])
    const [question] = ofType(asked, 'questionAsked')
    const answer = { questionId: question?.data.question.id as never, value: true, argsHash: null }
    expect(
      await process.jobs.continue(anApplication, { jobId, query: null, answer, maxSteps: null, idempotencyKey: null }),
    ).toMatchObject({ refused: 'question_withdrawn' })
    expect((await process.jobs.find(anApplication, jobId))?.runs.map((run) => [run.status, run.reason])).toEqual([
      ['finished', 'completed'],
      ['finished', 'interrupted'],
    ])
  })
})

describe('a query to a job that waits for an answer', () => {
  const ask = { text: 'may I?', calls: [{ name: 'human/approve', args: { change: 'x' } }] }

  it('waits, too, and is read with the answer', async () => {
    const { world, process } = begin({ lock: team(), turnOf: turns({ 'lead 1': ask }) })
    const jobId = await world.create(process)
    const asked = await world.until(jobId, (job) => job.status === 'waiting')
    expect((await put(process, jobId, 'and be quick')).status).toBe('waiting')
    const [question] = ofType(asked, 'questionAsked')
    const answer = { questionId: question?.data.question.id as never, value: true, argsHash: null }
    await process.jobs.continue(anApplication, { jobId, query: null, answer, maxSteps: null, idempotencyKey: null })
    const events = await world.until(jobId, (job) => job.status === 'finished')
    expect(queriesRead(events)).toEqual(['the query', 'and be quick'])
    expect(ofType(events, 'toolReturned')[0]?.data.result).toMatchObject({ structured: true, isError: false })
  })

  it('wakes the job when it interrupts, and the question is withdrawn', async () => {
    const { world, process } = begin({ lock: team(), turnOf: turns({ 'lead 1': ask }) })
    const jobId = await world.create(process)
    await world.until(jobId, (job) => job.status === 'waiting')
    expect((await put(process, jobId, 'never mind', 'interrupt')).status).toBe('queued')
    const events = await world.until(jobId, (job) => job.status === 'finished')
    expect(queriesRead(events)).toEqual(['the query', 'never mind'])
    const job = await process.jobs.find(anApplication, jobId)
    expect(job?.questions).toMatchObject([{ answeredAt: null, withdrawnAt: expect.any(Number) }])
  })
})

const teamwork: Scenario = {
  lock: team(),
  turnOf: turns({
    'lead 1': {
      text: 'I look.',
      calls: [
        { name: 'files/read', args: { path: 'a' } },
        { name: 'delegate/reader', args: { query: 'read c' } },
      ],
    },
    'reader 1': { text: 'I read.', calls: [{ name: 'files/read', args: { path: 'c' } }] },
  }),
}

describe('a query that comes just before an append', () => {
  it.each(['queue', 'interrupt'] as const)(
    'is read once, whichever append it is, the last one included (J7, J13): %s',
    async (mode) => {
      let appends = Number.POSITIVE_INFINITY
      let rested = 0
      for (let at = 2; at <= appends; at++) {
        const world = attemptWorld(teamwork)
        const maker = world.start()
        await maker.attempts.close()
        const jobId = await world.create(maker)
        let accepted = false
        const process = world.start(null, async (append) => {
          if (append !== at) return
          accepted = await put(maker, jobId, 'one more thing', mode).then((job) => job.revision > 0)
        })
        const events = await world.until(jobId, (job) => job.status === 'finished')
        await process.attempts.close()
        if (appends === Number.POSITIVE_INFINITY) appends = process.appends()
        if (!accepted) continue
        expect(queriesRead(events), `before append ${at}`).toEqual(['the query', 'one more thing'])
        expect(firstBroken(jobId, events)).toBeUndefined()
        rested += ofType(events, 'jobRested').length
      }
      // Before the very last append it is too late for the run: the next one begins with it.
      expect(rested).toBe(1)
    },
    60_000,
  )

  it('survives a crash of the server at every append', async () => {
    for (const mode of ['queue', 'interrupt'] as const) {
      const survived = await survivesCrashAtEveryAppend({
        ...teamwork,
        tool: (tool, args) => `${tool} ${args}`,
        people: async (process, events) => {
          const isDue = events.some((event) => event.type === 'machineStarted')
          const isPut = events.some((event) => event.type === 'jobContinued')
          const jobId = events[0]?.jobId
          if (isDue && !isPut && jobId !== undefined) await put(process, jobId, 'one more thing', mode).catch(() => {})
        },
        answersOf: (events) => queriesRead(events),
      })
      expect(survived).toBeGreaterThan(10)
    }
  }, 60_000)
})
