/** Questions that have a time for their answer: around the moment when it is over, in whatever state the job is. */
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { isRefusal } from '../../schema/error.ts'
import { nextDueAt } from '../../src/job/job-fold.ts'
import { decide, type Job } from '../../src/job/job.ts'
import { openDeadlines } from '../../src/job/deadlines.ts'
import { openLog } from '../../src/log.ts'
import { fakeClock } from '../fake/fake-clock.ts'
import { aQuestion, created, jobIdOf, questionAsked, runIdOf, runStarted, tell, type Told } from './given.ts'

const jobId = jobIdOf(1)
const root = runIdOf(jobId)
const START = 1_000
const GRANT = { type: 'grant', holder: 'h', lease: null, barrenAttemptsMax: 5 } as const

/** A job under a lease that asked at START, each question with its time in seconds; null for none. */
function asking(...timeouts: readonly (number | null)[]): Told {
  const questions = timeouts.map((timeoutSeconds, i) =>
    aQuestion(jobId, root, `q${i}`, timeoutSeconds === null ? {} : { timeoutSeconds }),
  )
  const held = tell(created(jobId, { now: 0 }), { ...GRANT, now: 0 })
  const events = [runStarted(root), ...questions.map(questionAsked)]
  return tell(held, { type: 'record', now: START, fence: 1, events })
}
const rested = (told: Told) => tell(told, { type: 'rest', now: START, fence: 1, barrenAttemptsMax: 5 })
const expire = (told: Told, now: number) => tell(told, { type: 'expireQuestions', now })
const answer = (job: Job, now: number, i = 0) => {
  const questionId = job.questions[i]?.id ?? aQuestion(jobId, root, 'none').id
  return decide(job, { type: 'answer', now, questionId, value: true, argsHash: null })
}

describe('a question with a time for its answer', () => {
  it('expires when that is over and not before, once, and leaves the others as they are (J12)', () => {
    const told = rested(asking(10, null, 20))
    expect(decide(told.job, { type: 'expireQuestions', now: START + 9_999 })).toEqual([])
    const after = expire(told, START + 10_000)
    expect(after.job.questions.map(({ expired, answeredAt }) => [expired, answeredAt])).toEqual([
      [true, START + 10_000],
      [undefined, null],
      [undefined, null],
    ])
    expect(after.job.status).toBe('queued')
    expect(decide(after.job, { type: 'expireQuestions', now: START + 19_999 })).toEqual([])
    expect(nextDueAt(after.job)).toBe(START + 20_000)
  })

  it('takes no answer from then on, whether it was said to be over or not (J12)', () => {
    const told = rested(asking(10))
    expect(isRefusal(answer(told.job, START + 9_999))).toBe(false)
    expect(answer(told.job, START + 10_000)).toMatchObject({ refused: 'question_expired' })
    expect(answer(expire(told, START + 10_000).job, START + 10_001)).toMatchObject({ refused: 'question_expired' })
  })

  it('that was answered does not expire (J12)', () => {
    const told = rested(asking(10))
    const questionId = told.job.questions[0]?.id ?? aQuestion(jobId, root, 'none').id
    const after = tell(told, { type: 'answer', now: START + 1, questionId, value: true, argsHash: null })
    expect(nextDueAt(after.job)).toBeNull()
    expect(decide(after.job, { type: 'expireQuestions', now: START + 99_999 })).toEqual([])
  })

  it('expires while the machine still runs, and the rest that follows queues the job', () => {
    const after = expire(asking(10), START + 10_000)
    expect(after.job.status).toBe('running')
    expect(rested(after).job.status).toBe('queued')
  })

  it('is over with its job: neither a finished nor a canceled one is due', () => {
    const canceled = tell(rested(asking(10)), { type: 'cancel', now: START })
    expect(nextDueAt(canceled.job)).toBeNull()
    expect(decide(canceled.job, { type: 'expireQuestions', now: START + 99_999 })).toEqual([])
    const canceling = tell(asking(10), { type: 'cancel', now: START })
    expect(nextDueAt(canceling.job)).toBeNull()
    expect(decide(canceling.job, { type: 'expireQuestions', now: START + 99_999 })).toEqual([])
  })

  it('is closed once and by the clock, over histories drawn around its time (J12)', () => {
    const times = fc.array(fc.option(fc.integer({ min: 1, max: 3 })), { minLength: 1, maxLength: 4 })
    const moves = fc.array(
      fc.record({
        kind: fc.constantFrom('answer' as const, 'expire' as const),
        pick: fc.nat(3),
        at: fc.integer({ min: 0, max: 3 }),
        offset: fc.constantFrom(-1, 0, 1),
      }),
      { minLength: 1, maxLength: 12 },
    )
    fc.assert(
      fc.property(times, fc.boolean(), moves, (timeouts, isResting, history) => {
        let told = isResting ? rested(asking(...timeouts)) : asking(...timeouts)
        const closed = new Map<number, string>()
        const inTime = history
          .map((move) => ({ ...move, now: START + move.at * 1000 + move.offset }))
          .toSorted((a, b) => a.now - b.now)
        for (const { kind, pick, now } of inTime) {
          const open = (i: number) => i < timeouts.length && !closed.has(i)
          const isOver = (i: number) => (timeouts[i] ?? null) !== null && START + (timeouts[i] ?? 0) * 1000 <= now
          if (kind === 'answer') {
            const given = answer(told.job, now, pick)
            expect(isRefusal(given)).toBe(!open(pick) || isOver(pick))
            const questionId = told.job.questions[pick]?.id
            if (isRefusal(given) || questionId === undefined) continue
            told = tell(told, { type: 'answer', now, questionId, value: true, argsHash: null })
            closed.set(pick, 'answered')
          } else {
            told = expire(told, now)
            for (const i of timeouts.keys()) if (open(i) && isOver(i)) closed.set(i, 'expired')
          }
          const states = told.job.questions.map((question) =>
            question.expired === true ? 'expired' : question.answeredAt === null ? 'open' : 'answered',
          )
          expect(states).toEqual(timeouts.map((_, i) => closed.get(i) ?? 'open'))
        }
      }),
      { numRuns: 300 },
    )
  })
})

describe('deadlines', () => {
  it('look at once and then every two seconds, until nothing more is due, and outlive a store that fails', async () => {
    const clock = fakeClock()
    const looks: string[] = []
    const answers = [2, 1, 0, 'broken', 0] as const
    const jobs = {
      async expireQuestions() {
        const given = answers[looks.length] ?? 0
        looks.push(String(given))
        if (given === 'broken') throw new Error('the store is away')
        return given
      },
    }
    const log = openLog(
      () => {},
      () => 0,
    )
    const deadlines = openDeadlines({ jobs, clock, log })
    const settle = () => new Promise((next) => setImmediate(next))
    await settle()
    expect(looks).toEqual(['2', '1', '0'])
    await clock.advance(2_000)
    await settle()
    await clock.advance(2_000)
    await settle()
    expect(looks).toEqual(['2', '1', '0', 'broken', '0'])
    await deadlines.close()
    expect(clock.sleepers()).toBe(0)
  })
})
