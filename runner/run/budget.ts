/**
 * What a run knows of budgets: whether it waits for room, and whether its calls are counted before they are made. Who
 * has spent what is the control plane's to know; a run asks it, and is given leave or held.
 */
import { verdictOf } from '../../schema/budget.ts'
import type { PlacedFact } from '../../schema/conversation.ts'
import type { QuestionId, RunId } from '../../schema/id.ts'
import type { Json } from '../../schema/json.ts'
import type { Lock } from '../../schema/lock.ts'
import type { JobRuns, Run } from './run-state.ts'

type Held = Extract<PlacedFact, { type: 'budgetHeld' }>

/** The run waits, unless its question has its answer already: then it asks again, or is stopped. */
export function hold(state: JobRuns, run: Run, { questionId }: Held['data']): Run {
  const verdict = state.verdicts[questionId]
  const asks = run.asks + 1
  if (verdict === 'raised') return { ...run, asks, hold: null }
  return { ...run, asks, hold: { questionId, stopped: verdict === 'stopped' } }
}

/** An answer to a question of a budget: whoever waits for it goes on, or is stopped. */
export function settleHolds(state: JobRuns, questionId: QuestionId, value: Json): JobRuns {
  const verdict = verdictOf(value)
  // A machine does not see who else was held by which question: it keeps what may be asked for yet.
  if (verdict === undefined) return state
  const stopped = verdict === 'stop'
  const runs = { ...state.runs }
  for (const id of state.active) {
    const run = runs[id]
    if (run?.hold?.questionId === questionId)
      runs[id] = { ...run, hold: stopped ? { questionId, stopped } : null, turnSince: state.events }
  }
  return { ...state, runs, verdicts: { ...state.verdicts, [questionId]: stopped ? 'stopped' : 'raised' } }
}

/** Whether the calls of the run's step are to be counted before any is made. */
export function owesCount(lock: Lock, state: JobRuns, run: Run): boolean {
  if (run.turn !== 'calls' || run.countedStep === run.stepNumber) return false
  if (state.countsCalls) return true
  const seen = new Set<RunId>()
  for (let at: Run | undefined = run; at !== undefined && !seen.has(at.id);) {
    if (lock.experts[at.expertKey]?.budget?.toolCalls !== undefined) return true
    seen.add(at.id)
    at = at.parent === null ? undefined : state.runs[at.parent.runId]
  }
  return false
}

/** The sentence of a run that was stopped, as its caller or its job reads it. */
export function stoppedMessage(run: Run): string {
  return `Expert ${run.expertKey} was stopped: its budget had no room for ${run.turn === 'calls' ? 'its calls' : 'another generation'}.`
}
