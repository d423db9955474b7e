/** What a job's runs owe to the world. */
import { baseResult } from '../../schema/base-tool.ts'
import { hashState, type PlacedFact } from '../../schema/conversation.ts'
import { unreachable } from '../../schema/decider.ts'
import { isRefusal } from '../../schema/error.ts'
import { wholeRounds, type Elicited } from '../../schema/elicitation.ts'
import type { Outcome, RunFact } from '../../schema/event.ts'
import type { ExpertKey } from '../../schema/expert-key.ts'
import type { JobId, RunId } from '../../schema/id.ts'
import type { Json } from '../../schema/json.ts'
import type { Lock } from '../../schema/lock.ts'
import type { ToolCallPart } from '../../schema/message.ts'
import { isOutputFault, readOutput, rejectionOwed } from '../../schema/output.ts'
import { rootRunId } from '../../schema/question.ts'
import { interrupts, nextQuery } from '../../schema/steering.ts'
import { wantsCompaction } from '../../schema/context.ts'
import { owesCount, stoppedMessage } from './budget.ts'
import { settledCount } from './happened.ts'
import { catalogOf, skillsToList } from './catalog.ts'
import { isLast, type Call, type JobRuns, type Path, type Run } from './run-state.ts'
import { waitsForHuman } from './elicited.ts'
import { owedInDoubt } from './once.ts'
import { ENDED, interruption, mustEnd, queriesToRead } from './steered.ts'

export type PlacedRunFact = PlacedFact & RunFact

/** What a model reads of a call that its human did not approve. */
export const DENIED = 'The human did not approve this call, so it was not made. Do not make it again; find another way.'

/** What a model reads of a call whose approval did not come in time, and of a question whose answer did not. */
export const EXPIRED_APPROVAL =
  'No human approved this call in time, so it was not made. Do not make it again; find another way.'
export const EXPIRED_QUESTION = 'No answer came in time. Go on without it, or say what is missing.'

/** `record` is a fact that follows from what is known; the others are asked of the world. */
export type Effect =
  | { readonly type: 'record'; readonly fact: PlacedRunFact }
  | { readonly type: 'listTools'; readonly runId: RunId; readonly expertKey: ExpertKey; readonly skill: string }
  | {
      readonly type: 'generate'
      readonly runId: RunId
      readonly expertKey: ExpertKey
      readonly stepNumber: number
      readonly messageCount: number
      /** How often the run was held before: what is asked again is asked anew. */
      readonly asks: number
      /** Of the conversation that is asked with, which a compaction may make as short as it was before. */
      readonly compactions: number
    }
  /** Leave to make the calls of the step. */
  | {
      readonly type: 'reserve'
      readonly runId: RunId
      readonly expertKey: ExpertKey
      readonly stepNumber: number
      readonly asks: number
    }
  /** A summary in place of the middle of the conversation, before the next generation. */
  | {
      readonly type: 'compact'
      readonly runId: RunId
      readonly expertKey: ExpertKey
      readonly stepNumber: number
      readonly messageCount: number
      readonly asks: number
      readonly compactions: number
    }
  | {
      readonly type: 'callTool'
      readonly runId: RunId
      readonly expertKey: ExpertKey
      readonly stepNumber: number
      readonly skill: string
      readonly tool: string
      /** With the arguments to call it with. */
      readonly call: ToolCallPart
      /** The arguments are a human's, not the model's. */
      readonly isEdited: boolean
      /** How often a human had it made again. */
      readonly retries: number
      /** What its skill asked a human before, answered. */
      readonly elicited: readonly Elicited[]
    }

/** Names what is asked of the world, so that it is not asked twice at once; undefined for `record`. */
export function effectKey(effect: Effect): string | undefined {
  switch (effect.type) {
    case 'record':
      return undefined
    case 'listTools':
      return `listTools ${effect.expertKey} ${effect.skill}`
    case 'generate':
      // A query that interrupted a generation is one more message of the next.
      return `generate ${effect.runId} ${effect.stepNumber} ${effect.messageCount} ${effect.asks} ${effect.compactions}`
    case 'compact':
      return `compact ${effect.runId} ${effect.stepNumber} ${effect.messageCount} ${effect.asks} ${effect.compactions}`
    case 'reserve':
      return `reserve ${effect.runId} ${effect.stepNumber} ${effect.asks}`
    case 'callTool': {
      const again = effect.retries + effect.elicited.length
      return `callTool ${effect.runId} ${effect.call.callId}${again === 0 ? '' : ` again ${again}`}`
    }
    default:
      return unreachable(effect)
  }
}

/** What is owed in this state; [] is at rest. */
export function pending(jobId: JobId, lock: Lock, state: JobRuns): readonly Effect[] {
  if (state.canceled) return []
  const query = nextQuery(state.steering)
  if (query !== undefined && state.active.length === 0) return [startRoot(jobId, lock, state, query)]
  const runs = state.active.flatMap((id) => state.runs[id] ?? [])
  const generating = mayGenerate(state, runs)
  const effects = runs.flatMap((run) => owedBy(lock, state, run, generating))
  return distinct(effects)
}

function startRoot(jobId: JobId, lock: Lock, state: JobRuns, query: string): Effect {
  const fact = {
    type: 'runStarted',
    data: { query, parent: null, continues: state.roots.at(-1) ?? null, depth: 0 },
  } as const
  const runId = rootRunId(jobId, state.roots.length)
  return { type: 'record', fact: { ...fact, runId, expertKey: lock.coordinator, stepNumber: 0 } }
}

/** Under a limit, the steps that are left go to the runs that have wanted one longest (R5). */
function mayGenerate(state: JobRuns, runs: readonly Run[]): (run: Run) => boolean {
  if (state.stepsMax === null) return () => true
  const first = runs
    .filter((run) => run.turn === 'generate' && run.failure === null && run.hold === null)
    .toSorted((a, b) => a.turnSince - b.turnSince)
    .slice(0, Math.max(0, state.stepsMax - state.steps))
  return (run) => first.includes(run)
}

function owedBy(lock: Lock, state: JobRuns, run: Run, generating: (run: Run) => boolean): readonly Effect[] {
  const { failure } = run
  if (failure !== null) return [finish(run, 'failed', failure.code, failure.message, null)]
  if (mustEnd(state, run)) return [finish(run, 'canceled', 'interrupted', ENDED, null)]
  const queries = queriesToRead(state, run)
  if (queries !== undefined) return queries.length === 0 ? [] : [record(run, { type: 'steered', data: { queries } })]
  const givesUp = run.turn === 'calls' && interrupts(state.steering)
  if (run.hold !== null && !givesUp)
    return run.hold.stopped ? [finish(run, 'failed', 'budget_exhausted', stoppedMessage(run), null)] : []
  switch (run.turn) {
    case 'generate':
      return owedBeforeGeneration(lock, state, run, generating)
    case 'calls':
      if (!givesUp && owesCount(lock, state, run)) {
        const { id: runId, expertKey, stepNumber, asks } = run
        return [{ type: 'reserve', runId, expertKey, stepNumber, asks }]
      }
      return run.calls.flatMap((call) => (call.result === null ? owedForCall(state, run, call) : []))
    case 'stepEnd': {
      const rejection = rejectionOf(lock, run)
      if (rejection !== undefined) return [record(run, { type: 'outputRejected', data: { message: rejection } })]
      const stateHash = hashState(run.stateHash, run.newMessages)
      return [record(run, { type: 'stepFinished', data: { stateHash } })]
    }
    case 'end':
      return [complete(lock, run)]
    default:
      return unreachable(run.turn)
  }
}

function owedBeforeGeneration(
  lock: Lock,
  state: JobRuns,
  run: Run,
  generating: (run: Run) => boolean,
): readonly Effect[] {
  const { id: runId, expertKey, messageCount, asks } = run
  const expert = lock.experts[expertKey]
  if (expert === undefined)
    return [finish(run, 'failed', 'expert_not_found', `Expert ${expertKey} is not in the lock of the job.`, null)]
  if (run.stepsMax !== null && run.steps >= run.stepsMax)
    return [finish(run, 'failed', 'step_limit', `Expert ${expertKey} may take ${run.stepsMax} steps.`, null)]
  if (state.stepsMax !== null && state.steps >= state.stepsMax)
    return [finish(run, 'failed', 'step_limit', `The job may take ${state.stepsMax} steps.`, null)]
  const known = state.listed[expertKey] ?? {}
  const unlisted = skillsToList(expert, known)
  if (unlisted.length > 0) return unlisted.map((skill) => ({ type: 'listTools', runId, expertKey, skill }) as const)
  const tools = catalogOf(lock, expert, known)
  if (isRefusal(tools)) return [finish(run, 'failed', tools.refused, tools.message, null)]
  if (!generating(run)) return []
  const type = wantsCompaction(run.context, settledCount(run), expert.compaction) ? 'compact' : 'generate'
  const { compactions } = run.context
  return [{ type, runId, expertKey, stepNumber: run.stepNumber + 1, messageCount, asks, compactions }]
}

function owedForCall(state: JobRuns, run: Run, call: Call): readonly Effect[] {
  const { part, path, approval } = call
  const interrupted = interruption(state, run, call)
  if (interrupted !== undefined) return [returns(run, part, interrupted, true)]
  const inDoubt = owedInDoubt(call)
  if (inDoubt === 'nothing') return []
  if (inDoubt !== undefined && 'question' in inDoubt) return [record(run, { type: 'questionAsked', data: inDoubt })]
  if (inDoubt !== undefined) return [record(run, { type: 'toolReturned', data: { ...inDoubt, durationMs: 0 } })]
  if (approval !== null) {
    if (!approval.asked) return [record(run, { type: 'questionAsked', data: { question: approval.question } })]
    if (approval.isExpired) return [returns(run, part, EXPIRED_APPROVAL, true)]
    return approval.answer === null ? [] : [returns(run, part, DENIED, true)]
  }
  switch (path.to) {
    case 'nobody':
      return [returns(run, part, path.text, true)]
    case 'base':
      return [record(run, { type: 'toolReturned', data: { result: baseResult(part, path.answer), durationMs: 0 } })]
    case 'skill': {
      if (waitsForHuman(call)) return []
      const { id: runId, expertKey, stepNumber } = run
      const elicited = wholeRounds(call.elicited)
      const { skill, tool } = path
      const args = call.edited ?? part.args
      const isEdited = call.edited !== null
      const made = { ...part, args }
      const retries = call.once?.retries ?? 0
      return [{ type: 'callTool', runId, expertKey, stepNumber, skill, tool, call: made, isEdited, retries, elicited }]
    }
    case 'human': {
      if (!path.asked) return [record(run, { type: 'questionAsked', data: { question: path.question } })]
      if (path.isExpired) return [returns(run, part, EXPIRED_QUESTION, true)]
      if (path.answer === null) return []
      const { value } = path.answer
      return [returns(run, part, typeof value === 'string' ? value : JSON.stringify(value), false, value)]
    }
    case 'delegate': {
      const delegate = state.runs[path.runId]
      if (delegate === undefined) return [startDelegate(run, part.callId, path)]
      if (delegate.finished === null) return []
      const { outcome, reason, message, result, structured } = delegate.finished
      if (outcome === 'completed') return [returns(run, part, result ?? '', false, structured)]
      return [returns(run, part, `Expert ${path.expertKey} failed: ${message ?? reason} (${reason})`, true)]
    }
    default:
      return unreachable(path)
  }
}

function startDelegate(run: Run, callId: string, path: Extract<Path, { to: 'delegate' }>): Effect {
  const parent = { runId: run.id, callId }
  const data = { query: path.query, parent, continues: null, depth: run.depth + 1 }
  const place = { runId: path.runId, expertKey: path.expertKey, stepNumber: 0 }
  return { type: 'record', fact: { type: 'runStarted', data, ...place } }
}

function returns(run: Run, call: ToolCallPart, text: string, isError: boolean, structured?: Json): Effect {
  const { callId, name } = call
  const content = [{ type: 'text', text }] as const
  const result = { type: 'toolResult', callId, name, content, isError } as const
  const data = { result: structured === undefined ? result : { ...result, structured }, durationMs: 0 }
  return record(run, { type: 'toolReturned', data })
}

/** What the model reads about a last text that is not what its expert owes; undefined when it is, or tries no more. */
function rejectionOf(lock: Lock, run: Run): string | undefined {
  if (!isLast(run) || run.isRejected) return undefined
  return rejectionOwed(lock.experts[run.expertKey]?.output, run.text, run.rejections)
}

function complete(lock: Lock, run: Run): Effect {
  const rule = lock.experts[run.expertKey]?.output
  const { text: result } = run
  const completed = { outcome: 'completed', reason: 'completed', message: null, result } as const
  if (rule === undefined) return record(run, { type: 'runFinished', data: completed })
  const output = readOutput(rule, result)
  if (!isOutputFault(output))
    return record(run, { type: 'runFinished', data: { ...completed, structured: output.value } })
  const message = `Expert ${run.expertKey} owes JSON, and its last of ${run.rejections + 1} answers is none: ${output.fault}.`
  return finish(run, 'failed', 'output_invalid', message, null)
}

function finish(run: Run, outcome: Outcome, reason: string, message: string | null, result: string | null): Effect {
  return record(run, { type: 'runFinished', data: { outcome, reason, message, result } })
}

function record(run: Run, fact: RunFact): Effect {
  return { type: 'record', fact: { ...fact, runId: run.id, expertKey: run.expertKey, stepNumber: run.stepNumber } }
}

/** Two runs of one expert want the same listing: it is owed once. */
function distinct(effects: readonly Effect[]): readonly Effect[] {
  const keys = new Set<string>()
  return effects.filter((effect) => {
    const key = effectKey(effect)
    if (key === undefined || !keys.has(key)) {
      if (key !== undefined) keys.add(key)
      return true
    }
    return false
  })
}
