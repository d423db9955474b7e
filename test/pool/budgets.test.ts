/** Budgets from end to end on fakes: a job that has used its budget waits, asks, and goes on or stops as it is told. */
import { afterEach, describe, expect, it } from 'vitest'
import type { Budget } from '../../schema/budget.ts'
import { isRefusal } from '../../schema/error.ts'
import type { EventOf, JobEvent } from '../../schema/event.ts'
import type { JobId } from '../../schema/id.ts'
import type { Json } from '../../schema/json.ts'
import { noUsage } from '../../schema/usage.ts'
import type { Price } from '../../src/gateway/price.ts'
import { lockedExpert, lockOf } from '../fake/fake-expert-source.ts'
import { anApplication } from '../job/given.ts'
import { files } from '../run/team.ts'
import { poolWorld, type Process, type Scenario } from './pool-world.ts'

const open: Process[] = []
afterEach(async () => {
  for (const process of open.splice(0)) await process.attempts.close()
})

const price: Price = { input: 0, output: 1000, source: 'a test', date: '2026-01-01' }
/** Each generation costs a dollar. */
const usageOf = () => ({ ...noUsage, inputTokens: 10, outputTokens: 1000, costUsd: 1 })

const ofType = <Type extends JobEvent['type']>(events: readonly JobEvent[], type: Type): readonly EventOf<Type>[] =>
  events.filter((event): event is EventOf<Type> => event.type === type)

const read = { name: 'files/read', args: { path: 'a' } }
const lone = lockOf(lockedExpert('lone', { skills: { files } }))
/** Reads three times, then ends. */
const threeReads: Scenario['turnOf'] = ({ stepNumber }) =>
  stepNumber > 3 ? { text: 'the end' } : { text: 'on', calls: [read] }

async function begin(given: Partial<Scenario> = {}) {
  const world = poolWorld({ lock: lone, turnOf: threeReads, price, usageOf, ...given })
  const process = world.start()
  open.push(process)
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
