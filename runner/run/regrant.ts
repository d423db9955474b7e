/**
 * Approvals in a fork. A human approved a call of the parent; the call that a fork makes is another one, and asks again.
 */
import { askedAgain } from '../../schema/question.ts'
import type { Call, JobRuns } from './run-state.ts'

/** The state of a fork: calls that were approved and have not been taken up ask anew. */
export function revokesApprovals(before: JobRuns): JobRuns {
  const state = { ...before, forks: before.forks + 1 }
  const runs = { ...state.runs }
  for (const id of state.active) {
    const run = runs[id]
    if (run !== undefined) runs[id] = { ...run, calls: run.calls.map((call) => revoke(state, call)) }
  }
  return { ...state, runs }
}

function revoke(state: JobRuns, call: Call): Call {
  const { granted, result, path, once } = call
  if (granted === null || result !== null) return call
  // The delegate is at work: what was approved has happened. A call that was started is asked about as such.
  if ((path.to === 'delegate' && state.runs[path.runId] !== undefined) || once?.isStarted === true) return call
  const question = askedAgain(granted.question, state.forks)
  const approval = { ...granted, question, asked: false, answer: null, isExpired: false }
  return { ...call, approval, granted: null, edited: null }
}
