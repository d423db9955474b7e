/** What can be done with a job that a bundle brought: look at it. */
import { describe, expect, it } from 'vitest'
import type { NewEvent } from '../../schema/event.ts'
import { decide, evolve, type JobCommand } from '../../src/job/job.ts'
import { created, jobIdOf, tell } from './given.ts'

const id = jobIdOf(1)
const place = { runId: null, expertKey: null, stepNumber: null, v: 1 } as const

describe('an imported job', () => {
  it('has ended where it stood, and nobody answers, continues, cancels or runs it (J11)', () => {
    const queued = created(id)
    const grant = { type: 'grant', now: 2000, holder: 'here', lease: null, barrenAttemptsMax: 3 } as const
    const running = tell(queued, grant)
    const event: NewEvent = { type: 'jobImported', data: { headHash: queued.head.hash }, ...place }
    const commands: readonly JobCommand[] = [
      grant,
      { type: 'continue', now: 3000, query: 'more', maxSteps: null },
      { type: 'cancel', now: 3000 },
      { type: 'answer', now: 3000, questionId: 'que_0123456789abcdef' as never, value: true, argsHash: null },
      { type: 'record', now: 3000, fence: 1, events: [] },
    ]
    for (const { job } of [queued, running]) {
      const imported = evolve(job, { ...event, at: 3000 })
      expect(imported).toMatchObject({ status: 'finished', imported: true, machine: null, reason: 'imported' })
      for (const command of commands) expect(decide(imported, command)).toMatchObject({ refused: 'job_imported' })
    }
  })
})
