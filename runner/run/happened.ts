/** How each fact changes the runs of a job. */
import { approvalFor, approvedArgs } from '../../schema/approval.ts'
import { baseTurn } from '../../schema/base-tool.ts'
import {
  contextAfterCompaction,
  contextAfterFailure,
  contextAfterGeneration,
  contextAfterMessage,
  contextWithoutSummary,
  CONTEXT_EXCEEDED,
  noContext,
} from '../../schema/context.ts'
import { queryMessage, resultsMessage, summaryMessage, type PlacedFact } from '../../schema/conversation.ts'
import { unreachable } from '../../schema/decider.ts'
import type { ExpertKey } from '../../schema/expert-key.ts'
import type { JobId, QuestionId, RunId } from '../../schema/id.ts'
import type { Json } from '../../schema/json.ts'
import type { Lock, LockedExpert } from '../../schema/lock.ts'
import { textOf, type Message, type ToolCallPart, type ToolResultPart } from '../../schema/message.ts'
import { approvalQuestionOf, delegateRunId, questionOf } from '../../schema/question.ts'
import { hold, settleHolds } from './budget.ts'
import { servedSkillOf } from '../../schema/tool-pin.ts'
import { isNext, noSteering, steer, type Steering } from '../../schema/steering.ts'
import { hearsReply, putsQuestion } from './elicited.ts'
import { aimOf, skillsToList } from './catalog.ts'
import { revokesApprovals } from './regrant.ts'
import { DEPTH_MAX, isLast, type Call, type Ending, type JobRuns, type Path, type Run } from './run-state.ts'
import { begins, hearsOutcome, isDoubted, leavesDoubt, losesMachine, onceOf } from './once.ts'

type Asked = Extract<PlacedFact, { type: 'questionAsked' }>['data']

/** Before a job's first event. */
export const initial: JobRuns = {
  runs: {},
  active: [],
  roots: [],
  steering: noSteering,
  listed: {},
  asked: {},
  steps: 0,
  stepsMax: null,
  countsCalls: false,
  verdicts: {},
  events: 0,
  forks: 0,
  canceled: false,
}

/** The state after `fact`. Total: a fact that fits nothing changes nothing but the count of events. */
export function evolve(jobId: JobId, lock: Lock, before: JobRuns, fact: PlacedFact): JobRuns {
  const state = { ...before, events: before.events + 1, steering: steered(before, fact) }
  switch (fact.type) {
    case 'jobCreated':
      return { ...state, stepsMax: fact.data.maxSteps, countsCalls: fact.data.budget?.toolCalls !== undefined }
    case 'jobContinued':
      return proceed(state, fact.data)
    case 'answered':
      return answered(state, fact.data)
    case 'questionExpired':
      return changeAsked(state, fact.data.questionId, (call, id) => hearsReply(call, id, null) ?? expires(call))
    case 'cancelRequested':
      return { ...state, canceled: true }
    case 'leaseGranted':
      return losesMachine(jobId, state)
    case 'jobFinished':
      return endAll(state, fact.data)
    case 'jobForked':
      return forked(state, fact.data)
    case 'runStarted':
      return started(lock, state, fact)
    default: {
      const run = fact.runId === null ? undefined : state.runs[fact.runId]
      if (run === undefined || run.finished !== null) return state
      if (fact.type === 'steered' && !isNext(before.steering, fact.data.queries)) return state
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
      const isFatal = isNeeded(lock, state, run, skill) && !leavesDoubt(run, skill)
      return isFatal ? put(state, { ...run, failure: { code, message } }) : state
    }
    case 'generated':
      return generated(jobId, lock, state, run, fact)
    case 'budgetHeld':
      return put(state, hold(state, run, fact.data))
    case 'budgetReserved':
      return fact.data.of === 'calls' ? put(state, { ...run, countedStep: run.stepNumber }) : state
    case 'generationFailed': {
      if (run.turn !== 'generate') return state
      const context = contextAfterFailure(run.context, fact.data, settledCount(run))
      const { code, message } = fact.data
      return put(state, context === undefined ? { ...run, failure: { code, message } } : { ...run, context })
    }
    case 'compacted':
      return run.turn === 'generate' ? put(state, { ...run, ...compacted(run, fact.data) }) : state
    case 'compactionFailed':
      return run.turn === 'generate' ? put(state, { ...run, ...uncompacted(run, fact.data) }) : state
    case 'questionAsked': {
      const { question } = fact.data
      // It belongs to no call; whoever waits for it is told so besides.
      if (question.purpose === 'budget') return state
      const asked = { ...state.asked, [question.id]: { runId: run.id, callId: question.callId } }
      return changeCall({ ...state, asked }, run.id, question.callId, (call) => asks(call, fact.data))
    }
    case 'callStarted':
      return changeCall(state, run.id, fact.data.callId, begins)
    case 'toolReturned':
      return returned(state, run, fact.data.result)
    case 'outputRejected':
      return rejected(state, run, fact.data.message)
    case 'steered':
      return reads(state, run, fact.data.queries)
    case 'stepFinished': {
      if (run.turn !== 'stepEnd' || fact.stepNumber !== run.stepNumber) return state
      const turn = isLast(run) && !run.isRejected ? 'end' : 'generate'
      const { stateHash } = fact.data
      const next = { turn, turnSince: state.events, stateHash, newMessages: [], calls: [], isRejected: false } as const
      return put(state, { ...run, ...next })
    }
    case 'runFinished':
      return { ...put(state, { ...run, finished: fact.data }), active: state.active.filter((id) => id !== run.id) }
    default:
      return state
  }
}

function proceed(before: JobRuns, data: Extract<PlacedFact, { type: 'jobContinued' }>['data']): JobRuns {
  const stepsMax = data.maxSteps ?? before.stepsMax
  const state = { ...before, stepsMax, countsCalls: before.countsCalls || data.budget?.toolCalls !== undefined }
  if (data.query !== null) return state
  const last = state.roots.at(-1)
  const run = last === undefined ? undefined : state.runs[last]
  const reason = run?.finished?.reason
  if (run === undefined || (reason !== 'step_limit' && reason !== 'budget_exhausted')) return state
  // Whoever raises the limit means this run: its expert's own limit, too, has had its say.
  const free = reason === 'step_limit' ? { stepsMax: null } : {}
  const revived = { ...run, ...free, finished: null, hold: null, turnSince: state.events }
  return { ...put(state, revived), active: [...state.active, run.id] }
}

function answered(state: JobRuns, data: { readonly questionId: QuestionId; readonly value: Json }): JobRuns {
  const { questionId, value } = data
  if (state.asked[questionId] === undefined) return settleHolds(state, questionId, value)
  return changeAsked(state, questionId, (call, id) => hearsReply(call, id, data) ?? hears(call, value))
}

/** Alters the call that put the question. */
function changeAsked(
  state: JobRuns,
  questionId: QuestionId,
  alter: (call: Call, questionId: QuestionId) => Call,
): JobRuns {
  const place = state.asked[questionId]
  if (place === undefined) return state
  return changeCall(state, place.runId, place.callId, (call) => alter(call, questionId))
}

function expires(call: Call): Call {
  const { approval, path } = call
  if (approval !== null)
    return approval.answer === null ? { ...call, approval: { ...approval, isExpired: true } } : call
  return path.to === 'human' && path.answer === null ? { ...call, path: { ...path, isExpired: true } } : call
}

/** What waits after a fact, which changes nothing when it fits nothing (R2). */
function steered(before: JobRuns, fact: PlacedFact): Steering {
  const isKnown = fact.type === 'runStarted' && fact.runId !== null && before.runs[fact.runId] !== undefined
  return isKnown ? before.steering : steer(before.steering, fact)
}

/** The summary stands after the first message and before the last that were kept. */
function compacted(run: Run, data: { readonly summary: string; readonly kept: number }): Messages {
  const summary = summaryMessage(data)
  return {
    messageCount: 2 + data.kept,
    newMessages: [...run.newMessages, summary],
    context: contextAfterCompaction(run.context, summary),
  }
}

/** Without a summary the run goes on as it is, unless its model has refused that already. */
function uncompacted(
  { context }: Run,
  { code, message }: { readonly code: string; readonly message: string },
): Pick<Run, 'context'> & Partial<Pick<Run, 'failure'>> {
  const failed = contextWithoutSummary(context)
  if (context.exceeded === null) return { context: failed }
  const why = `${context.exceeded} The conversation could not be compacted: ${message} (${code})`
  return { context: failed, failure: { code: CONTEXT_EXCEEDED, message: why } }
}

/** Queries are read between generations; a run that had come to its end goes on with them. */
function reads(state: JobRuns, run: Run, queries: readonly string[]): JobRuns {
  if (run.turn !== 'generate' && run.turn !== 'end') return state
  return put(state, {
    ...run,
    turn: 'generate',
    turnSince: run.turn === 'end' ? state.events : run.turnSince,
    ...saying(run, ...queries.map(queryMessage)),
  })
}

function asks(call: Call, { question, resumption }: Asked): Call {
  if (question.purpose === 'outcome') return isDoubted(call, question)
  if (question.purpose === 'elicitation') return putsQuestion(call, question, resumption ?? null)
  if (call.approval !== null) return { ...call, approval: { ...call.approval, asked: true } }
  return call.path.to === 'human' ? { ...call, path: { ...call.path, asked: true } } : call
}

function hears(call: Call, value: Json): Call {
  const { approval, path, part } = call
  if (call.once !== null && call.once.asking !== null) return hearsOutcome(call, value)
  if (approval !== null) {
    if (approval.answer !== null || approval.isExpired) return call
    const args = approvedArgs(approval, part.args, value)
    if (args === undefined) return { ...call, approval: { ...approval, answer: { value } } }
    return { ...call, approval: null, granted: approval, edited: args === part.args ? null : args }
  }
  const waits = path.to === 'human' && path.answer === null && !path.isExpired
  return waits ? { ...call, path: { ...path, answer: { value } } } : call
}

/** A fork goes on where its parent stood, or asks the coordinator anew over the heads of the runs that were open. */
function forked(state: JobRuns, data: Extract<PlacedFact, { type: 'jobForked' }>['data']): JobRuns {
  const stepsMax = data.maxSteps ?? state.stepsMax
  const countsCalls = state.countsCalls || data.budget?.toolCalls !== undefined
  if (data.query === null) return revokesApprovals({ ...state, stepsMax, countsCalls, canceled: false })
  const over = endAll(state, { outcome: 'canceled', reason: 'forked', message: null, result: null })
  return { ...over, stepsMax, countsCalls, canceled: false }
}

/** The job ended over its runs' heads, or with them. */
function endAll(state: JobRuns, ending: Ending): JobRuns {
  const runs = { ...state.runs }
  for (const id of state.active) {
    const run = runs[id]
    if (run !== undefined) runs[id] = { ...run, finished: ending }
  }
  return { ...state, runs, active: [], canceled: ending.outcome === 'canceled' }
}

function started(lock: Lock, state: JobRuns, fact: Extract<PlacedFact, { type: 'runStarted' }>): JobRuns {
  const { runId: id, data } = fact
  if (id === null || state.runs[id] !== undefined) return state
  const expertKey = fact.expertKey as ExpertKey // the admission of the event checked it against the lock
  const continued = data.continues === null ? undefined : state.runs[data.continues]
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
    ...saying(
      { messageCount: 0, newMessages: [], context: noContext, ...continued },
      ...(continued?.turn === 'calls' ? [resultsOf(continued.calls)] : []),
      queryMessage(data.query),
    ),
    stateHash: continued?.stateHash ?? null,
    calls: [],
    text: '',
    rejections: 0,
    isRejected: false,
    todos: continued?.todos ?? [],
    isComplete: false,
    failure: null,
    hold: null,
    asks: 0,
    countedStep: 0,
    finished: null,
  }
  const isRoot = data.parent === null
  return {
    ...put(state, run),
    active: [...state.active, id],
    roots: isRoot ? [...state.roots, id] : state.roots,
  }
}

type Messages = Pick<Run, 'messageCount' | 'newMessages' | 'context'>

/** What further messages change; schema/conversation.ts counts the same. */
function saying({ messageCount, newMessages, context }: Messages, ...messages: readonly Message[]): Messages {
  return {
    messageCount: messageCount + messages.length,
    newMessages: [...newMessages, ...messages],
    context: messages.reduce(contextAfterMessage, context),
  }
}

/** How many messages the end of the last step covers. */
export function settledCount({ messageCount, newMessages }: Messages): number {
  return messageCount - newMessages.length
}

/** Whether the run cannot go on without the skill: its expert says so, or nobody knows what it offers. */
function isNeeded(lock: Lock, state: JobRuns, run: Run, skill: string): boolean {
  const expert = lock.experts[run.expertKey]
  if (expert === undefined) return false
  if (servedSkillOf(expert, skill)?.required === true) return true
  return skillsToList(expert, state.listed[run.expertKey] ?? {}).includes(skill)
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
  const stepNumber = run.stepNumber + 1
  const base = expert && baseTurn({ expert, runId: run.id, stepNumber }, run.todos, parts)
  const calls = parts
    .filter((part) => part.type === 'toolCall')
    .map((part): Call => {
      const answer = base?.answers.get(part.callId)
      if (answer === undefined) return callOf(jobId, lock, expert, state, run, part)
      return {
        part,
        path: { to: 'base', answer },
        approval: null,
        granted: null,
        once: null,
        elicited: [],
        edited: null,
        result: null,
      }
    })
  const next: Run = {
    ...run,
    turn: calls.length === 0 ? 'stepEnd' : 'calls',
    stepNumber,
    steps: run.steps + 1,
    ...saying(run, { role: 'expert', content: parts }),
    context: contextAfterGeneration(run.context, fact.data),
    calls,
    text: base?.completion ?? textOf(parts),
    todos: base?.todos ?? run.todos,
    isComplete: (base?.completion ?? null) !== null,
  }
  return put({ ...state, steps: state.steps + 1 }, next)
}

function callOf(
  jobId: JobId,
  lock: Lock,
  expert: LockedExpert | undefined,
  state: JobRuns,
  run: Run,
  part: ToolCallPart,
): Call {
  const path = pathOf(jobId, lock, expert, state, run, part)
  const acts = path.to === 'skill' || path.to === 'delegate'
  const rule = acts ? approvalFor(expert?.approvals, part.name, part.args) : undefined
  const once = onceOf(expert, path)
  const rest = { once, elicited: [], edited: null, result: null } as const
  if (rule === undefined) return { part, path, approval: null, granted: null, ...rest }
  // A delegate's query is its caller's word: it is approved as it is, or not at all.
  const edits = rule.edits && path.to === 'skill'
  const question = approvalQuestionOf(jobId, run.id, part, { ...rule, edits })
  const approval = { question, edits, asked: false, answer: null, isExpired: false }
  return { part, path, approval, granted: null, ...rest }
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
        : { to: 'human', question, asked: false, answer: null, isExpired: false }
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
  return put(state, { ...run, ...saying(run, resultsOf(calls)), turn: 'stepEnd', calls })
}

function rejected(state: JobRuns, run: Run, message: string): JobRuns {
  if (run.turn !== 'stepEnd' || !isLast(run) || run.isRejected) return state
  const said = saying(run, queryMessage(message))
  return put(state, { ...run, ...said, rejections: run.rejections + 1, isRejected: true })
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
