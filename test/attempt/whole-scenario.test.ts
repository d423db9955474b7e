/** The crash test over everything at once: parallel delegates, a nested question, a call that is made once, a fork and a budget. */
import { expect, it } from 'vitest'
import { isRefusal } from '../../schema/error.ts'
import type { JobEvent } from '../../schema/event.ts'
import { fakeExpertSource, lockedExpert, lockOf } from '../fake/fake-expert-source.ts'
import { openForks } from '../../src/job/forks.ts'
import { fakeChance, type FakeClock } from '../fake/fake-clock.ts'
import { anApplication } from '../job/given.ts'
import { LIMITS } from '../job/jobs-world.ts'
import { files, human } from '../run/team.ts'
import { attemptWorld, ofType, type Process, type Scenario } from './attempt-world.ts'
import { survivesCrashAtEveryAppend } from './survives-crash.ts'

const skills = { files: { ...files, effects: { write: 'once' } }, human } as const

function lock() {
  // It may take one step, and asks for another.
  const deep = lockedExpert('deep', { skills, budget: { steps: 1 } })
  const middle = lockedExpert('middle', { skills, delegates: { deep: deep.key } })
  return lockOf(lockedExpert('top', { skills, delegates: { middle: middle.key } }), middle, deep)
}

const read = (path: string) => ({ name: 'files/read', args: { path } })
const write = (path: string) => ({ name: 'files/write', args: { path } })
const turnOf: Scenario['turnOf'] = ({ expert, stepNumber }) => {
  const turns = {
    'top 1': { text: 'on', calls: [1, 2, 3].map((n) => ({ name: 'delegate/middle', args: { query: `part ${n}` } })) },
    'top 2': { text: 'on', calls: [write('end'), read('a'), read('b')] },
    'middle 1': { text: 'on', calls: [{ name: 'delegate/deep', args: { query: 'deeper' } }, read('c')] },
    'deep 1': { text: 'on', calls: [write('deep'), { name: 'human/approve', args: { change: 'this' } }] },
  }
  const key = `${expert.name} ${stepNumber}`
  return Object.hasOwn(turns, key) ? turns[key as keyof typeof turns] : { text: `${expert.name} is done` }
}

let budgetsRaised = 0

/** Says yes to what is asked, and has made again what was lost. */
async function people({ jobs }: Process, events: readonly JobEvent[]): Promise<void> {
  const answered = new Set(ofType(events, 'answered').map(({ data }) => data.questionId))
  for (const { jobId, data } of ofType(events, 'questionAsked')) {
    const { id: questionId, purpose, argsHash } = data.question
    if (answered.has(questionId)) continue
    const value = purpose === 'outcome' ? 'retry' : purpose === 'budget' ? { raise: { steps: 5 } } : true
    if (purpose === 'budget') budgetsRaised += 1
    const answer = { questionId, value, argsHash }
    await jobs.continue(anApplication, { jobId, query: null, answer, maxSteps: null, idempotencyKey: null })
  }
}

it('a job with all of it comes to the same end, whichever append its server dies at', async () => {
  const survived = await survivesCrashAtEveryAppend({
    lock: lock(),
    turnOf,
    people,
    tool: (tool, args) => `${tool} ${args}`,
    once: new Set(['write']),
  })
  expect(budgetsRaised).toBeGreaterThan(survived)
  expect(survived).toBeGreaterThanOrEqual(40)
}, 240_000)

it('a fork of it, from a checkpoint in the middle, comes to the same end whichever append its server dies at', async () => {
  const survived = await survivesCrashAtEveryAppend({
    lock: lock(),
    turnOf,
    people,
    tool: (tool, args) => `${tool} ${args}`,
    once: new Set(['write']),
    begin: async (world, maker) => {
      const parent = await world.create(maker)
      const driver = world.start()
      const events = await world.until(
        parent,
        (job) => job.status === 'finished',
        async () => people(maker, await world.events(parent)),
      )
      await driver.attempts.close()
      const { store: log, content, clock } = world
      const limits = LIMITS
      const forks = openForks({
        log,
        content,
        experts: fakeExpertSource(lock()),
        models: driver.model,
        clock,
        chance: fakeChance('fork'),
        limits,
      })
      const [, second] = ofType(events, 'stepFinished')
      const asItWas = {
        query: null,
        model: null,
        maxSteps: null,
        instruction: null,
        expertKey: null,
        idempotencyKey: null,
      }
      const fork = await forks.fork(anApplication, { ...asItWas, jobId: parent, seq: second?.seq ?? 0 })
      if (isRefusal(fork)) throw new Error(fork.message)
      return fork.id
    },
  })
  expect(survived).toBeGreaterThanOrEqual(30)
}, 240_000)

it('a job whose skill asks, whose human says no and says nothing, and whose result is rejected, comes to the same end', async () => {
  const asking = { ...files, questionTimeoutSeconds: 60 }
  const rule = { tool: 'files/write', args: {}, edits: false }
  const schema = { type: 'object', required: ['n'], properties: { n: { type: 'integer' } } } as const
  const clerk = lockedExpert('clerk', {
    skills: { files: asking, human },
    approvals: [rule],
    output: { schema, retries: 1 },
  })
  const top = lockedExpert('top', { delegates: { clerk: clerk.key } })
  let clock: FakeClock | undefined
  let expired = 0
  const survived = await survivesCrashAtEveryAppend({
    lock: lockOf(top, clerk),
    turnOf: ({ expert, stepNumber }) => {
      if (expert.name === 'top') {
        const calls = [{ name: 'delegate/clerk', args: { query: 'go' } }]
        return stepNumber === 1 ? { text: 'on', calls } : { text: 'the end' }
      }
      const choose = { name: 'human/choose', args: { options: ['a', 'b'] } }
      const asks = ['answered', 'never'].map((path) => ({ name: 'files/ask', args: { path } }))
      if (stepNumber === 1) return { text: 'on', calls: [...asks, choose, write('a')] }
      return { text: stepNumber === 2 ? 'no JSON' : '{"n":1}' }
    },
    asks: (tool, args) =>
      tool === 'ask'
        ? { message: `Who? ${JSON.stringify(args)}`, requestedSchema: { type: 'object', properties: {} } }
        : undefined,
    tool: (tool, args) => `${tool} ${args}`,
    begin: async (world, maker) => {
      ;({ clock } = world)
      return world.create(maker)
    },
    people: async ({ jobs }, events) => {
      const closed = new Set(
        events.flatMap(({ type, data }) =>
          type === 'answered' || type === 'questionExpired' ? [data.questionId] : [],
        ),
      )
      const open = ofType(events, 'questionAsked').filter(({ data }) => !closed.has(data.question.id))
      for (const { jobId, data } of open) {
        const { id: questionId, purpose, argsHash, title, toolName } = data.question
        const isAnswered = purpose === 'elicitation' && title.includes('answered')
        if (!isAnswered && toolName !== 'files/write') continue
        const answer = { questionId, argsHash, value: isAnswered ? { name: 'Ann' } : false }
        await jobs.continue(anApplication, { jobId, query: null, answer, maxSteps: null, idempotencyKey: null })
      }
      // Two are left, and nobody ever answers them.
      if (open.length !== 2 || events.at(-1)?.type !== 'jobRested') return
      await clock?.advance(61_000)
      expired += await jobs.expireQuestions()
    },
  })
  expect(expired).toBeGreaterThanOrEqual(survived)
  expect(survived).toBeGreaterThanOrEqual(30)
}, 240_000)

it('of three parallel delegates and three parallel calls, those that have finished are never made again', async () => {
  for (const name of ['delegate/middle', 'files/read'] as const) {
    const done: string[] = []
    const hang = new Promise<string>(() => {})
    let isDead = false
    const three = [1, 2, 3].map((n) => ({ name, args: { query: `${n}`, path: `${n}` } }))
    const world = attemptWorld({
      lock: lock(),
      turnOf: ({ expert, stepNumber, messages }) => {
        if (expert.name === 'top') return stepNumber === 1 ? { text: 'on', calls: three } : { text: 'done' }
        const [first] = messages[0]?.content ?? []
        const query = first?.type === 'text' ? first.text : ''
        return stepNumber === 1 ? { text: 'on', calls: [read(query)] } : { text: `did ${query}` }
      },
      // One finishes; the others hang until the server has died.
      call: async (_tool, args) => {
        const { path } = args as { path: string }
        if (path !== '1' && !isDead) return hang
        done.push(path)
        return `read ${path}`
      },
    })
    const first = world.start()
    const jobId = await world.create(first)
    await world.until(jobId, (_job, events) =>
      ofType(events, 'toolReturned').some(({ data }) => data.result.name === name),
    )
    isDead = true
    first.die()
    const second = world.start()
    const events = await world.until(jobId, (job) => job.status === 'finished')
    await second.attempts.close()
    expect(events.at(-1)?.data).toMatchObject({ outcome: 'completed', result: 'done' })
    expect(done.toSorted(), name).toEqual(['1', '2', '3'])
    const started = ofType(events, 'runStarted').map(({ runId }) => runId)
    expect(new Set(started).size).toBe(started.length)
  }
})

it('a job that is killed in its first step resumes, and nobody needs to ask for it', async () => {
  const world = attemptWorld({ lock: lock(), turnOf: () => ({ text: 'done' }) })
  const first = world.start({ append: 3, written: true })
  const jobId = await world.create(first)
  await world.until(jobId, () => first.isDead())
  const second = world.start()
  const events = await world.until(jobId, (job) => job.status === 'finished')
  await second.attempts.close()
  expect(events.at(-1)?.data).toMatchObject({ outcome: 'completed', result: 'done' })
  expect(isRefusal(await second.jobs.cancel(anApplication, jobId))).toBe(true)
})
