/** How full a window is: the row of a job says what its checkpoints say, without having their messages. */
import * as fc from 'fast-check'
import { expect, it } from 'vitest'
import { shareOf } from '../../schema/context.ts'
import { Conversations } from '../../schema/conversation.ts'
import type { JobFact } from '../../schema/event.ts'
import { blankJob, evolve, type JobChange } from '../../src/job/job.ts'
import { contextOf } from '../../src/job/run-context.ts'
import { orders, scriptOf, scripts } from '../run/scripts.ts'
import { simulate, type Room } from '../run/simulation.ts'
import { JOB } from '../run/team.ts'
import { anApplication } from './given.ts'

const room: Room = { window: 1000, tokensOf: (count) => count * 90, messagesMax: 1000, summaryOf: () => 'short' }

it('is at each checkpoint what the checkpoint says, to a token for each result', () => {
  let compared = 0
  fc.assert(
    fc.property(scripts, orders, fc.option(fc.integer({ min: 2, max: 60 })), (given, order, killAt) => {
      const steers = [{ at: 9, mode: 'queue' as const }]
      const { log } = simulate({ ...scriptOf(given), room }, { choose: order(), killAt, steers })
      const conversations = new Conversations()
      let job = blankJob(JOB, anApplication)
      for (const fact of log) {
        conversations.add(fact)
        job = evolve(job, { ...fact, v: 1, at: 1 } as JobChange)
        if (fact.type !== 'stepFinished' || fact.runId === null) continue
        const { context, messages } = conversations.of(fact.runId)
        const kept = job.runs.find(({ id }) => id === fact.runId)?.context
        expect(kept?.window).toBe(context.window)
        const results = messages.findLast(({ role }) => role === 'tool')?.content.length ?? 0
        expect(Math.abs((kept?.tokens ?? 0) - context.tokens)).toBeLessThanOrEqual(results)
        compared += 1
      }
      const last = job.runs.findLast(({ parentRunId }) => parentRunId === null)
      expect(contextOf(job)).toEqual(last?.context ?? null)
    }),
    { numRuns: 60 },
  )
  expect(compared).toBeGreaterThan(100)
})

it('is not known before a run has begun, and its share not without a window', () => {
  const created = { type: 'jobCreated', data: { expertKey: 'x@1.0.0', query: 'q' } } as JobFact
  const job = evolve(blankJob(JOB, anApplication), { ...created, v: 1, at: 1 } as JobChange)
  expect(contextOf(job)).toBeNull()
  expect(shareOf({ tokens: 10, window: null })).toBeNull()
  expect(shareOf({ tokens: 1, window: 3 })).toBe(0.3333)
})
