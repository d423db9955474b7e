/** What queries that were put while a job is open change in what its runs owe. */
import type { Place } from '../../schema/event.ts'
import { interrupts } from '../../schema/steering.ts'
import type { Call, JobRuns, Run } from './run-state.ts'

const CUT_OFF = 'A new query of the user interrupted this call. If it had begun, whether it took effect is unknown.'
const NOT_MADE = 'A new query of the user came before this call was made, so it was not made.'
const NOT_ANSWERED = 'A new query of the user came in place of an answer.'

/** Why a delegate ended that a query interrupted, as its caller reads it. */
export const ENDED = 'a new query of the user ended it'

/**
 * What the run reads now: all that waits, between two generations of the coordinator or at its end; undefined when it
 * reads nothing, and none as long as a delegate has still to end for them.
 */
export function queriesToRead({ steering, active }: JobRuns, run: Run): readonly string[] | undefined {
  if (run.parent !== null || (run.turn !== 'generate' && run.turn !== 'end')) return undefined
  if (steering.queued.length === 0) return undefined
  return active.some((id) => id !== run.id) ? [] : steering.queued.map(({ query }) => query)
}

/** A delegate has to end for a query, unless it has its answer already and ends by itself. */
export function mustEnd({ steering }: JobRuns, run: Run): boolean {
  return run.parent !== null && interrupts(steering) && (run.turn === 'generate' || run.turn === 'calls')
}

/** What a call of the coordinator returns for a query that interrupts it; undefined when it goes its way. */
export function interruption(state: JobRuns, run: Run, { approval, path, once }: Call): string | undefined {
  if (run.parent !== null || !interrupts(state.steering)) return undefined
  // What a human said of a call in doubt is what it returns.
  if ((once?.asking?.answer ?? null) !== null) return undefined
  if (approval !== null) return approval.answer === null ? NOT_MADE : undefined
  switch (path.to) {
    case 'skill':
      return CUT_OFF
    case 'human':
      return path.answer === null ? NOT_ANSWERED : undefined
    case 'delegate':
      // One that runs is ended first; its end is then the result.
      return state.runs[path.runId] === undefined ? NOT_MADE : undefined
    default:
      return undefined
  }
}

/** A run reads nothing while it generates: the generation is for the messages that it was asked with. */
export function hears(
  fact: { readonly type: string } & Place,
  inFlight: ReadonlyMap<string, { readonly effect: { readonly type: string; readonly runId: string } }>,
): boolean {
  if (fact.type !== 'steered') return true
  const generates = (type: string): boolean => type === 'generate' || type === 'compact'
  return ![...inFlight.values()].some(({ effect }) => generates(effect.type) && effect.runId === fact.runId)
}
