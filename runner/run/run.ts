/**
 * A job's runs: what happened → what is owed. A run takes turns:
 *
 *   generate → calls → stepEnd → generate … → stepEnd → end → (finished)
 *
 * Its state follows from the log alone, so resuming is replay, then performing what is pending.
 *
 * R1 What is recorded is never owed again.
 * R2 An event taken twice, or one that fits nothing, changes nothing.
 * R3 The order in which a step's results come changes neither messages nor state hash.
 * R4 A delegate begins with its query alone, and its caller learns its result alone.
 * R5 No more generations are owed than the steps that are left, however many runs want one.
 * R6 A canceled job owes nothing.
 * R7 While anything but a human can move, something is owed.
 * R8 A query that was put while a run was open is read once, in order, between two generations or as the next run.
 * R9 A query that interrupts leaves nothing under way: calls return, delegates end, and the coordinator goes on with it.
 */
import type { PlacedFact } from '../../schema/conversation.ts'
import type { Process } from '../../schema/decider.ts'
import type { JobId } from '../../schema/id.ts'
import type { Lock } from '../../schema/lock.ts'
import { nextQuery } from '../../schema/steering.ts'
import { evolve, initial } from './happened.ts'
import { effectKey, pending, type Effect, type PlacedRunFact } from './owed.ts'
import type { JobRuns } from './run-state.ts'

export { effectKey }
export type { Effect, JobRuns, PlacedRunFact }

/** Why nothing is owed: humans have it (`rested`), or there is nothing left (`finished`, `canceled`). */
export function standing(state: JobRuns): 'rested' | 'finished' | 'canceled' {
  if (state.canceled) return 'canceled'
  return state.active.length > 0 || nextQuery(state.steering) !== undefined ? 'rested' : 'finished'
}

/** The process of one job's runs under its lock. */
export function jobRuns(jobId: JobId, lock: Lock): Process<JobRuns, PlacedFact, Effect> {
  return {
    initial,
    evolve: (state, fact) => evolve(jobId, lock, state, fact),
    pending: (state) => pending(jobId, lock, state),
  }
}
