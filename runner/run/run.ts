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
 */
import { hashState, queryMessage, resultsMessage, type PlacedFact } from '../../schema/conversation.ts'
import { unreachable, type Process } from '../../schema/decider.ts'
import { isRefusal } from '../../schema/error.ts'
import type { Outcome, Question, RunFact } from '../../schema/event.ts'
import type { ExpertKey } from '../../schema/expert-key.ts'
import type { Sha256 } from '../../schema/hash.ts'
import type { JobId, QuestionId, RunId } from '../../schema/id.ts'
import type { Json } from '../../schema/json.ts'
import type { Lock, LockedExpert } from '../../schema/lock.ts'
import { textOf, type Message, type ToolCallPart, type ToolResultPart } from '../../schema/message.ts'
import { delegateRunId, questionOf, rootRunId } from '../../schema/question.ts'
import { aimOf, catalogOf, stdioSkills, type Listed } from './catalog.ts'

/** A chain of delegations longer than this is a mistake: each level multiplies what a job may cost. */
export const DEPTH_MAX = 8

/** Where a call of the current step leads, and how far it has come. */
export type Path =
  | { readonly to: 'skill'; readonly skill: string; readonly tool: string }
  | {
      readonly to: 'human'
      readonly question: Question
      readonly asked: boolean
      readonly answer: { readonly value: Json } | null
    }
  | { readonly to: 'delegate'; readonly runId: RunId; readonly expertKey: ExpertKey; readonly query: string }
  | { readonly to: 'nobody'; readonly text: string }

export interface Call {
  readonly part: ToolCallPart
  readonly path: Path
  readonly result: ToolResultPart | null
}

interface Ending {
  readonly outcome: Outcome
  readonly reason: string
  readonly message: string | null
  readonly result: string | null
}

export interface Run {
  readonly id: RunId
  readonly expertKey: ExpertKey
  readonly parent: { readonly runId: RunId; readonly callId: string } | null
  readonly depth: number
  readonly turn: 'generate' | 'calls' | 'stepEnd' | 'end'
  /** When it came to its turn, in events of the job: whoever has waited longest generates first. */
  readonly turnSince: number
  /** The step in hand; 0 before the first. */
  readonly stepNumber: number
  /** Generations of this run itself, and how many it may have; null for no limit of its own. */
  readonly steps: number
  readonly stepsMax: number | null
  readonly messageCount: number
  /** What no state hash covers yet, so that a step's end costs what is new and not the conversation. */
  readonly newMessages: readonly Message[]
  readonly stateHash: Sha256 | null
  readonly calls: readonly Call[]
  /** The text of the last generation: the result, when it called nothing. */
  readonly text: string
  readonly failure: { readonly code: string; readonly message: string } | null
  readonly finished: Ending | null
}

export interface JobRuns {
  readonly runs: Readonly<Record<RunId, Run>>
  /** Runs that have not finished, in the order of their start. */
  readonly active: readonly RunId[]
  /** The coordinator's runs. */
  readonly roots: readonly RunId[]
  /** Queries that no run has taken up. */
  readonly wanted: readonly string[]
  /** Tools as they were first listed, by expert and skill. */
  readonly listed: Readonly<Record<string, Listed>>
  readonly asked: Readonly<Record<QuestionId, { readonly runId: RunId; readonly callId: string }>>
  /** Generations of all runs. */
  readonly steps: number
  readonly stepsMax: number | null
  readonly events: number
  readonly canceled: boolean
}

export type PlacedRunFact = PlacedFact & RunFact

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
    }
  | {
      readonly type: 'callTool'
      readonly runId: RunId
      readonly expertKey: ExpertKey
      readonly stepNumber: number
      readonly skill: string
      readonly tool: string
      readonly call: ToolCallPart
    }

/** Why nothing is owed: humans have it (`rested`), or there is nothing left (`finished`, `canceled`). */
export function standing(state: JobRuns): 'rested' | 'finished' | 'canceled' {
  if (state.canceled) return 'canceled'
  return state.active.length > 0 || state.wanted.length > 0 ? 'rested' : 'finished'
}

const initial: JobRuns = {
  runs: {},
  active: [],
  roots: [],
  wanted: [],
  listed: {},
  asked: {},
  steps: 0,
  stepsMax: null,
  events: 0,
  canceled: false,
}

/** The process of one job's runs under its lock. */
export function jobRuns(jobId: JobId, lock: Lock): Process<JobRuns, PlacedFact, Effect> {
  return {
    initial,
    evolve: (state, fact) => evolve(jobId, lock, state, fact),
    pending: (state) => pending(jobId, lock, state),
  }
}

// ---- what happened

function evolve(jobId: JobId, lock: Lock, before: JobRuns, fact: PlacedFact): JobRuns {
  const state = { ...before, events: before.events + 1 }
  switch (fact.type) {
    case 'jobCreated':
      return { ...state, wanted: [fact.data.query ?? ''], stepsMax: fact.data.maxSteps }
    case 'jobContinued':
      return proceed(state, fact.data)
    case 'answered':
      return answered(state, fact.data)
    case 'cancelRequested':
      return { ...state, canceled: true }
    case 'jobFinished':
      return endAll(state, fact.data)
    case 'runStarted':
      return started(lock, state, fact)
    default: {
      const run = fact.runId === null ? undefined : state.runs[fact.runId]
      if (run === undefined || run.finished !== null) return state
      return evolveRun(jobId, lock, state, run, fact)
    }
  }
}

function evolveRun(jobId: JobId, lock: Lock, state: JobRuns, run: Run, fact: PlacedFact): JobRuns {
  switch (fact.type) {
    case 'toolsListed':
      return listed(state, run, fact.data)
    case 'skillFailed': {
      const { skill, code, message } = fact.data
      const isListed = state.listed[run.expertKey]?.[skill] !== undefined
      return isListed ? state : put(state, { ...run, failure: { code, message } })
    }
    case 'generated':
      return generated(jobId, lock, state, run, fact)
    case 'generationFailed': {
      if (run.turn !== 'generate') return state
      const { code, message } = fact.data
      return put(state, { ...run, failure: { code, message } })
    }
    case 'questionAsked': {
      const { question } = fact.data
      const asked = { ...state.asked, [question.id]: { runId: run.id, callId: question.callId } }
      return changeCall({ ...state, asked }, run.id, question.callId, (call) =>
        call.path.to === 'human' ? { ...call, path: { ...call.path, asked: true } } : call,
      )
    }
    case 'toolReturned':
      return returned(state, run, fact.data.result)
    case 'stepFinished': {
      if (run.turn !== 'stepEnd' || fact.stepNumber !== run.stepNumber) return state
      const turn = run.calls.length === 0 ? 'end' : 'generate'
      const { stateHash } = fact.data
      return put(state, { ...run, turn, turnSince: state.events, stateHash, newMessages: [], calls: [] })
    }
    case 'runFinished':
      return { ...put(state, { ...run, finished: fact.data }), active: state.active.filter((id) => id !== run.id) }
    default:
      return state
  }
}

function proceed(state: JobRuns, data: { readonly query: string | null; readonly maxSteps: number | null }): JobRuns {
  const stepsMax = data.maxSteps ?? state.stepsMax
  if (data.query !== null) return { ...state, stepsMax, wanted: [...state.wanted, data.query] }
  const last = state.roots.at(-1)
  const run = last === undefined ? undefined : state.runs[last]
  if (run?.finished?.reason !== 'step_limit') return { ...state, stepsMax }
  // Whoever raises the limit means this run: its expert's own limit, too, has had its say.
  const revived = { ...run, finished: null, stepsMax: null, turnSince: state.events }
  return { ...put(state, revived), stepsMax, active: [...state.active, run.id] }
}

function answered(state: JobRuns, data: { readonly questionId: QuestionId; readonly value: Json }): JobRuns {
  const place = state.asked[data.questionId]
  if (place === undefined) return state
  return changeCall(state, place.runId, place.callId, (call) =>
    call.path.to === 'human' && call.path.answer === null
      ? { ...call, path: { ...call.path, answer: { value: data.value } } }
      : call,
  )
}

/** The job ended over its runs' heads, or with them. */
function endAll(state: JobRuns, ending: Ending): JobRuns {
  const runs = { ...state.runs }
  for (const id of state.active) {
    const run = runs[id]
    if (run !== undefined) runs[id] = { ...run, finished: ending }
  }
  return { ...state, runs, active: [], wanted: [], canceled: ending.outcome === 'canceled' }
}

function started(lock: Lock, state: JobRuns, fact: Extract<PlacedFact, { type: 'runStarted' }>): JobRuns {
  const { runId: id, data } = fact
  if (id === null || state.runs[id] !== undefined) return state
  const expertKey = fact.expertKey as ExpertKey // the admission of the event checked it against the lock
  const continued = data.continues === null ? undefined : state.runs[data.continues]
  const earlier = continued === undefined ? [] : unsettled(continued)
  const run: Run = {
    id,
    expertKey,
    parent: data.parent,
    depth: data.depth,
    turn: 'generate',
    turnSince: state.events,
    stepNumber: continued?.stepNumber ?? 0,
    steps: 0,
    stepsMax: lock.experts[expertKey]?.maxSteps ?? null,
    messageCount: (continued?.messageCount ?? 0) + (continued?.turn === 'calls' ? 1 : 0) + 1,
    newMessages: [...earlier, queryMessage(data.query)],
    stateHash: continued?.stateHash ?? null,
    calls: [],
    text: '',
    failure: null,
    finished: null,
  }
  const isRoot = data.parent === null
  return {
    ...put(state, run),
    active: [...state.active, id],
    roots: isRoot ? [...state.roots, id] : state.roots,
    wanted: isRoot ? state.wanted.slice(1) : state.wanted,
  }
}

/** What a continued run leaves that no state hash covers, open calls closed as schema/conversation.ts closes them. */
function unsettled(run: Run): readonly Message[] {
  if (run.turn !== 'calls') return run.newMessages
  return [...run.newMessages, resultsOf(run.calls)]
}

function listed(state: JobRuns, run: Run, data: Extract<PlacedFact, { type: 'toolsListed' }>['data']): JobRuns {
  const ofExpert = state.listed[run.expertKey] ?? {}
  if (ofExpert[data.skill] !== undefined) return state
  return { ...state, listed: { ...state.listed, [run.expertKey]: { ...ofExpert, [data.skill]: data.tools } } }
}

function generated(
  jobId: JobId,
  lock: Lock,
  state: JobRuns,
  run: Run,
  fact: Extract<PlacedFact, { type: 'generated' }>,
): JobRuns {
  const { parts } = fact.data
  if (run.turn !== 'generate' || fact.stepNumber !== run.stepNumber + 1) return state
  const expert = lock.experts[run.expertKey]
  const calls = parts
    .filter((part) => part.type === 'toolCall')
    .map((part) => ({ part, path: pathOf(jobId, lock, expert, state, run, part), result: null }))
  const next: Run = {
    ...run,
    turn: calls.length === 0 ? 'stepEnd' : 'calls',
    stepNumber: run.stepNumber + 1,
    steps: run.steps + 1,
    messageCount: run.messageCount + 1,
    newMessages: [...run.newMessages, { role: 'expert', content: parts }],
    calls,
    text: textOf(parts),
  }
  return put({ ...state, steps: state.steps + 1 }, next)
}

function pathOf(
  jobId: JobId,
  lock: Lock,
  expert: LockedExpert | undefined,
  state: JobRuns,
  run: Run,
  part: ToolCallPart,
): Path {
  if (expert === undefined) return { to: 'nobody', text: `Expert ${run.expertKey} is not in the lock.` }
  const aim = aimOf(lock, expert, state.listed[run.expertKey] ?? {}, part)
  switch (aim.at) {
    case 'skill':
      return { to: 'skill', skill: aim.skill, tool: aim.tool }
    case 'nobody':
      return { to: 'nobody', text: aim.text }
    case 'delegate': {
      if (run.depth >= DEPTH_MAX)
        return { to: 'nobody', text: `Delegations nest at most ${DEPTH_MAX} deep; do this yourself.` }
      const { expertKey, query } = aim
      return { to: 'delegate', runId: delegateRunId(jobId, run.id, part.callId), expertKey, query }
    }
    case 'human': {
      const question = questionOf(jobId, run.id, part, aim.tool)
      return question === undefined
        ? { to: 'nobody', text: `${part.name} offers a choice: pass options, a list of at least one text.` }
        : { to: 'human', question, asked: false, answer: null }
    }
    default:
      return unreachable(aim)
  }
}

function returned(state: JobRuns, run: Run, result: ToolResultPart): JobRuns {
  if (run.turn !== 'calls') return state
  const calls = run.calls.map((call) =>
    call.part.callId === result.callId && call.result === null ? { ...call, result } : call,
  )
  if (calls.some((call) => call.result === null)) return put(state, { ...run, calls })
  const newMessages = [...run.newMessages, resultsOf(calls)]
  return put(state, { ...run, turn: 'stepEnd', calls, newMessages, messageCount: run.messageCount + 1 })
}

function resultsOf(calls: readonly Call[]): Message {
  return resultsMessage(
    calls.map((call) => call.part),
    calls.flatMap((call) => call.result ?? []),
  )
}

function put(state: JobRuns, run: Run): JobRuns {
  return { ...state, runs: { ...state.runs, [run.id]: run } }
}

function changeCall(state: JobRuns, runId: RunId, callId: string, alter: (call: Call) => Call): JobRuns {
  const run = state.runs[runId]
  if (run === undefined) return state
  const calls = run.calls.map((call) => (call.part.callId === callId ? alter(call) : call))
  return put(state, { ...run, calls })
}

// ---- what is owed

function pending(jobId: JobId, lock: Lock, state: JobRuns): readonly Effect[] {
  if (state.canceled) return []
  const [query] = state.wanted
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
    .filter((run) => run.turn === 'generate' && run.failure === null)
    .toSorted((a, b) => a.turnSince - b.turnSince)
    .slice(0, Math.max(0, state.stepsMax - state.steps))
  return (run) => first.includes(run)
}

function owedBy(lock: Lock, state: JobRuns, run: Run, generating: (run: Run) => boolean): readonly Effect[] {
  const { failure } = run
  if (failure !== null) return [finish(run, 'failed', failure.code, failure.message, null)]
  switch (run.turn) {
    case 'generate':
      return owedBeforeGeneration(lock, state, run, generating)
    case 'calls':
      return run.calls.flatMap((call) => (call.result === null ? owedForCall(state, run, call) : []))
    case 'stepEnd': {
      const stateHash = hashState(run.stateHash, run.newMessages)
      return [record(run, { type: 'stepFinished', data: { stateHash } })]
    }
    case 'end':
      return [finish(run, 'completed', 'completed', null, run.text)]
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
  const { id: runId, expertKey, messageCount } = run
  const expert = lock.experts[expertKey]
  if (expert === undefined)
    return [finish(run, 'failed', 'expert_not_found', `Expert ${expertKey} is not in the lock of the job.`, null)]
  if (run.stepsMax !== null && run.steps >= run.stepsMax)
    return [finish(run, 'failed', 'step_limit', `Expert ${expertKey} may take ${run.stepsMax} steps.`, null)]
  if (state.stepsMax !== null && state.steps >= state.stepsMax)
    return [finish(run, 'failed', 'step_limit', `The job may take ${state.stepsMax} steps.`, null)]
  const known = state.listed[expertKey] ?? {}
  const unlisted = stdioSkills(expert).filter(([skill]) => known[skill] === undefined)
  if (unlisted.length > 0) return unlisted.map(([skill]) => ({ type: 'listTools', runId, expertKey, skill }) as const)
  const tools = catalogOf(lock, expert, known)
  if (isRefusal(tools)) return [finish(run, 'failed', tools.refused, tools.message, null)]
  if (!generating(run)) return []
  return [{ type: 'generate', runId, expertKey, stepNumber: run.stepNumber + 1, messageCount }]
}

function owedForCall(state: JobRuns, run: Run, call: Call): readonly Effect[] {
  const { part, path } = call
  switch (path.to) {
    case 'nobody':
      return [returns(run, part, path.text, true)]
    case 'skill': {
      const { id: runId, expertKey, stepNumber } = run
      return [{ type: 'callTool', runId, expertKey, stepNumber, skill: path.skill, tool: path.tool, call: part }]
    }
    case 'human': {
      if (!path.asked) return [record(run, { type: 'questionAsked', data: { question: path.question } })]
      if (path.answer === null) return []
      const { value } = path.answer
      return [returns(run, part, typeof value === 'string' ? value : JSON.stringify(value), false, value)]
    }
    case 'delegate': {
      const delegate = state.runs[path.runId]
      if (delegate === undefined) return [startDelegate(run, part.callId, path)]
      if (delegate.finished === null) return []
      const { outcome, reason, message, result } = delegate.finished
      if (outcome === 'completed') return [returns(run, part, result ?? '', false)]
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

/** Names what is asked of the world, so that it is not asked twice at once; undefined for `record`. */
export function effectKey(effect: Effect): string | undefined {
  switch (effect.type) {
    case 'record':
      return undefined
    case 'listTools':
      return `listTools ${effect.expertKey} ${effect.skill}`
    case 'generate':
      return `generate ${effect.runId} ${effect.stepNumber}`
    case 'callTool':
      return `callTool ${effect.runId} ${effect.call.callId}`
    default:
      return unreachable(effect)
  }
}
