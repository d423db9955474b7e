/**
 * Calls that are made once: started, then returned, or in doubt until a human says what came of them.
 *
 * O1 A call that was started is never made again unless a human says so.
 * O2 A call whose machine or skill is gone is in doubt, and returns only what its human says.
 * O3 A run does not fail by a skill that leaves a call of it in doubt, whatever it needs the skill for.
 */
import { effectOf } from '../../schema/effect.ts'
import type { Question } from '../../schema/event.ts'
import type { JobId, RunId } from '../../schema/id.ts'
import type { Json } from '../../schema/json.ts'
import type { LockedExpert } from '../../schema/lock.ts'
import type { ToolResultPart } from '../../schema/message.ts'
import { outcomeQuestionOf, outcomeResult } from '../../schema/outcome.ts'
import { servedSkillOf } from '../../schema/tool-pin.ts'
import type { Call, JobRuns, Once, Path, Run } from './run-state.ts'

/** Before the call is started; null for one that may be made again. */
export function onceOf(expert: LockedExpert | undefined, path: Path): Once | null {
  if (path.to !== 'skill' || expert === undefined) return null
  if (effectOf(servedSkillOf(expert, path.skill)?.effects, path.tool) !== 'once') return null
  return { isStarted: false, retries: 0, asking: null }
}

/** The control plane has recorded that the call is about to be made. */
export function begins(call: Call): Call {
  return call.once === null ? call : { ...call, once: { ...call.once, isStarted: true } }
}

/** Nobody is left who could know what came of the calls that were under way. */
export function losesMachine(jobId: JobId, state: JobRuns): JobRuns {
  const runs = { ...state.runs }
  for (const id of state.active) {
    const run = runs[id]
    if (run !== undefined) runs[id] = { ...run, calls: run.calls.map((call) => doubt(jobId, run, call)) }
  }
  return { ...state, runs }
}

function doubt(jobId: JobId, run: Run, call: Call): Call {
  const question = doubtOf(jobId, run.id, call)
  if (question === undefined || call.once === null) return call
  return { ...call, once: { ...call.once, asking: { question, asked: false, answer: null, isExpired: false } } }
}

/**
 * A skill that fell may have carried out a call of this run all the same: then its human decides how the run goes on,
 * whether it can go on without the skill or not.
 */
export function leavesDoubt({ calls }: Run, skill: string): boolean {
  return calls.some(
    ({ path, once, result }) =>
      path.to === 'skill' && path.skill === skill && once?.isStarted === true && result === null,
  )
}

/** What to ask about a call that was started and has not returned; undefined for any other, and once it is in doubt. */
export function doubtOf(jobId: JobId, runId: RunId, { once, result, part, edited }: Call): Question | undefined {
  if (once === null || !once.isStarted || once.asking !== null || result !== null) return undefined
  return outcomeQuestionOf(jobId, runId, { ...part, args: edited ?? part.args }, once.retries)
}

/** The question about the call's outcome has been put. */
export function isDoubted(call: Call, question: Question): Call {
  const { once } = call
  if (once === null) return call
  return {
    ...call,
    once: { ...once, asking: { answer: null, isExpired: false, ...once.asking, question, asked: true } },
  }
}

/** What a human said of the call's outcome. */
export function hearsOutcome(call: Call, value: Json): Call {
  const { once } = call
  if (once === null || once.asking === null || once.asking.answer !== null) return call
  // It is asked about again when it is lost again; and a human who wants it made has approved it.
  if (value === 'retry') return { ...call, once: { isStarted: false, retries: once.retries + 1, asking: null } }
  return { ...call, once: { ...once, asking: { ...once.asking, answer: { value } } } }
}

/** What is owed for a call in doubt: its question, its result, or nothing while a human has it. */
export function owedInDoubt(
  call: Call,
): { readonly question: Question } | { readonly result: ToolResultPart } | 'nothing' | undefined {
  const asking = call.once?.asking
  if (asking === undefined || asking === null) return undefined
  if (!asking.asked) return { question: asking.question }
  const result = asking.answer === null ? undefined : outcomeResult(call.part, asking.answer.value)
  return result === undefined ? 'nothing' : { result }
}
