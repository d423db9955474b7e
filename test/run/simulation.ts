/** A world around the pure core: performs what is owed in any order, dies at any append, and goes on from the log. */
import { nothing } from '../../schema/budget.ts'
import { wantsCompaction } from '../../schema/context.ts'
import { Conversations, hashState, settled, type PlacedFact } from '../../schema/conversation.ts'
import { replay } from '../../schema/decider.ts'
import { elicitationQuestionOf, sameWords, type Elicited } from '../../schema/elicitation.ts'
import type { JobFact, SteerMode } from '../../schema/event.ts'
import type { QuestionId, RunId } from '../../schema/id.ts'
import type { Lock } from '../../schema/lock.ts'
import { callKeyOf } from '../../schema/effect.ts'
import { canonical, hashOf, sha256 } from '../../schema/hash.ts'
import { isJsonObject, type Json } from '../../schema/json.ts'
import { interrupts } from '../../schema/steering.ts'
import { noUsage } from '../../schema/usage.ts'
import { effectKey, jobRuns, standing, type Effect, type JobRuns } from '../../runner/run/run.ts'
import { hears } from '../../runner/run/steered.ts'
import { keptOf } from '../../src/attempt/compaction.ts'
import { Admission } from '../../src/attempt/admission.ts'
import { drawn, partsOf, type Turn } from '../fake/scripted-model.ts'
import { JOB, TOOLS } from './team.ts'

export interface Script {
  readonly lock: Lock
  readonly maxSteps: number | null
  /** What the model says to this run at this step; a run's id follows from its causes. */
  readonly turnOf: (runId: RunId, stepNumber: number, depth: number) => Turn
  readonly room?: Room
}

/** How full the model's window is, and what a compaction comes to. */
export interface Room {
  readonly window: number
  /** Tokens that a generation says it used, by the count of its messages. */
  readonly tokensOf: (messageCount: number) => number
  /** More messages than this are refused. */
  readonly messagesMax: number
  readonly summaryOf: (runId: RunId, stepNumber: number) => string | null
}

export interface World {
  /** The choice among `below` things that could happen next. */
  readonly choose: (below: number) => number
  /** The machine dies when the log has this many events; never, when null. */
  readonly killAt: number | null
  /** The job is ended over its runs' heads when the log has this many events, and continued with a query. */
  readonly endAt?: number
  /** Queries that are put once the log has this many events, if the job is still open then. */
  readonly steers?: readonly { readonly at: number; readonly mode: SteerMode }[]
  /** What is in the log already, jobCreated first: the world goes on from there. */
  readonly from?: readonly PlacedFact[]
}

export interface Outcome {
  readonly log: readonly PlacedFact[]
  readonly state: JobRuns
  /** Tool calls as they were performed, `run call`, with how often they had asked, in order. */
  readonly performed: readonly string[]
  /** Tool calls that were performed though their result was in the log. */
  readonly repeated: readonly string[]
  readonly refused: readonly string[]
  /** Tool calls that were performed though a rule names their tool and no human had approved these arguments. */
  readonly unapproved: readonly string[]
  /** The most generations that were ever under way beyond the steps that were left. */
  readonly overshoot: number
  /** Queries that were put while the job was open, in order. */
  readonly put: readonly string[]
  /** What was begun though a query that interrupts waited. */
  readonly begunInVain: readonly string[]
  /** Where the runner's count of messages and the log's differed. */
  readonly differing: readonly string[]
}

const NOWHERE = { runId: null, expertKey: null, stepNumber: null } as const

export function jobFact(fact: JobFact): PlacedFact {
  return { ...fact, ...NOWHERE }
}

/** Runs a job to its end, or to where nothing can happen any more. */
export function simulate(script: Script, { choose, killAt, endAt, from = [], steers = [] }: World): Outcome {
  const core = jobRuns(JOB, script.lock)
  const log: PlacedFact[] = []
  const performed: string[] = []
  const repeated: string[] = []
  const refused: string[] = []
  const differing: string[] = []
  const conversations = new Conversations()
  let admission = new Admission(JOB, script.lock)
  const unapproved: string[] = []
  let overshoot = 0
  let deaths = 0
  let state = core.initial
  let inFlight = new Map<string, { readonly effect: Exclude<Effect, { type: 'record' }> }>()
  const put: string[] = []
  const begunInVain: string[] = []
  /** What others recorded and the machine has not heard yet. */
  let untold: PlacedFact[] = []
  let givenUp = new Set<string>()

  /** Another machine goes on from the log. */
  const restart = (): void => {
    log.push(jobFact({ type: 'leaseGranted', data: { fence: 2, holder: 'the next one' } }))
    state = replay(core, log)
    inFlight = new Map()
    untold = []
    givenUp = new Set()
    admission = new Admission(JOB, script.lock)
    for (const one of log) admission.take(one)
  }
  const die = (): void => {
    deaths += 1
    restart()
  }
  const write = (fact: PlacedFact): void => {
    log.push(fact)
    conversations.add(fact)
  }
  const hear = (): void => {
    for (const fact of untold) state = core.evolve(state, fact)
    untold = []
  }
  const take = (fact: PlacedFact): void => {
    write(fact)
    state = core.evolve(state, fact)
    if (log.length === killAt) die()
  }
  const propose = (fact: PlacedFact): boolean => {
    const fault = admission.admit(fact as never)
    if (fault !== undefined) refused.push(`${fact.type}: ${fault}`)
    const lives = deaths
    take(fact)
    return deaths === lives
  }
  const record = (fact: PlacedFact): void => {
    // The machine hears of what is recorded in the order of the log.
    hear()
    admission.take(fact)
    take(fact)
  }
  const isOver = (): boolean => standing(replay(core, log)) === 'finished'
  const putQueries = (): void => {
    for (const { at, mode } of steers.slice(put.length)) {
      if (log.length < at || isOver()) return
      const query = `query ${put.length}`
      put.push(query)
      const fact = jobFact({ type: 'jobContinued', data: { query, maxSteps: null, mode } })
      admission.take(fact)
      write(fact)
      untold.push(fact)
      if (mode === 'interrupt') givenUp = new Set([...givenUp, ...inFlight.keys()])
      if (log.length === killAt) die()
    }
  }

  for (const fact of from) record(fact)
  const createdFact = () =>
    jobFact({
      type: 'jobCreated',
      data: {
        expertKey: script.lock.coordinator,
        query: 'the query',
        userId: null,
        model: null,
        maxSteps: script.maxSteps,
        lockHash: sha256(''),
        inputTreeHash: null,
      },
    })
  if (from.length === 0) record(createdFact())

  let isCut = false
  for (let moves = 0; moves < 5000; moves++) {
    if (endAt !== undefined && log.length >= endAt && !isCut) {
      isCut = true
      inFlight.clear()
      const data = { outcome: 'failed', reason: 'attempts_exhausted', message: null, result: null } as const
      record(jobFact({ type: 'jobFinished', data }))
      const query = [...state.steering.left, 'go on'].join('\n\n')
      record(jobFact({ type: 'jobContinued', data: { query, maxSteps: null } }))
    }
    putQueries()
    if (untold.length > 0 && choose(2) === 1) hear()
    const owed = core.pending(state)
    const facts = owed.filter((effect) => effect.type === 'record').filter(({ fact }) => hears(fact, inFlight))
    const [first] = facts
    if (first !== undefined) {
      // Several facts may follow at once; which is first is chance, as between machines.
      propose((facts[choose(facts.length)] ?? first).fact)
      continue
    }
    const lives = deaths
    for (const effect of owed) {
      if (deaths > lives) break
      const key = effectKey(effect)
      if (effect.type === 'record' || key === undefined || inFlight.has(key)) continue
      inFlight.set(key, { effect })
      if (interrupts(state.steering)) begunInVain.push(key)
      if (effect.type === 'callTool') {
        const { length } = effect.elicited
        performed.push(`${effect.runId} ${effect.call.callId}${length === 0 ? '' : ` asked ${length}`}`)
        if (log.some((fact) => isResult(fact, effect))) repeated.push(key)
        const { args, name } = effect.call
        const rules = script.lock.experts[effect.expertKey]?.approvals ?? []
        if (rules.some((rule) => rule.tool === name) && !isApproved(log, effect)) unapproved.push(key)
        const wanted = { expertKey: effect.expertKey, toolName: name, argsHash: hashOf(args as object) }
        const callKey = callKeyOf(JOB, effect.runId, effect.call.callId)
        const fault = admission.refuseCall({ ...wanted, callKey }, (fact) => take(fact))
        if (fault !== undefined) refused.push(fault)
      }
      if (effect.type === 'generate' || effect.type === 'compact') {
        if (admission.readsFirst(effect.runId)) givenUp.add(key)
        const fault = admission.refuseGenerate({ ...effect, promptHash: sha256('') })
        if (fault !== undefined) refused.push(fault)
        const conversation = conversations.of(effect.runId)
        const { length } = conversation.messages
        if (length !== effect.messageCount) differing.push(`${key}: ${length} ≠ ${effect.messageCount}`)
        const rule = script.lock.experts[effect.expertKey]?.compaction
        const wants = wantsCompaction(conversation.context, settled(conversation), rule)
        if (wants !== (effect.type === 'compact')) differing.push(`${key}: ${wants ? 'a' : 'no'} compaction is owed`)
      }
    }
    if (deaths > lives) continue
    const generating = [...inFlight.values()].filter(({ effect }) => isGeneration(effect)).length
    if (state.stepsMax !== null) overshoot = Math.max(overshoot, generating - (state.stepsMax - state.steps))
    if (inFlight.size === 0 && untold.length > 0) {
      // Nothing is owed as far as the machine knows: when it was over, another goes on.
      if (standing(state) === 'finished') restart()
      else hear()
      continue
    }
    if (inFlight.size === 0) {
      const open = openQuestions(log.slice(log.findLastIndex((fact) => fact.type === 'jobFinished') + 1))
      const question = open[choose(open.length)]
      if (standing(state) !== 'rested' || question === undefined) break
      const { id: questionId, value, expires } = question
      if (expires) record(jobFact({ type: 'questionExpired', data: { questionId } }))
      else record(jobFact({ type: 'answered', data: { questionId, value } }))
      continue
    }
    const keys = [...inFlight.keys()]
    const key = keys[choose(keys.length)] ?? ''
    const asked = inFlight.get(key)?.effect
    inFlight.delete(key)
    if (asked !== undefined && isGeneration(asked) && givenUp.has(key)) {
      const data = { model: 'm', usage: null, durationMs: 1 }
      const { runId, expertKey, stepNumber } = asked
      record({ type: 'generationInterrupted', data, runId, expertKey, stepNumber })
      continue
    }
    // A generation is recorded whether or not its run goes on to want it.
    const effect =
      asked !== undefined && isGeneration(asked) ? asked : core.pending(state).find((one) => effectKey(one) === key)
    if (effect !== undefined && effect.type !== 'record') perform(script, state, conversations, effect, propose, record)
  }
  return { log, state, performed, repeated, refused, overshoot, differing, unapproved, put, begunInVain }
}

function isGeneration(effect: Effect): effect is Extract<Effect, { type: 'generate' | 'compact' }> {
  return effect.type === 'generate' || effect.type === 'compact'
}

function isResult(fact: PlacedFact, effect: Extract<Effect, { type: 'callTool' }>): boolean {
  return fact.type === 'toolReturned' && fact.runId === effect.runId && fact.data.result.callId === effect.call.callId
}

/** Looks in the log alone: the last answer to the call's question lets these arguments through. */
function isApproved(log: readonly PlacedFact[], { runId, call }: Extract<Effect, { type: 'callTool' }>): boolean {
  const asked = log.flatMap((fact) => (fact.type === 'questionAsked' ? [fact.data.question] : []))
  const question = asked.find((one) => one.runId === runId && one.callId === call.callId)
  const answer = log.find((fact) => fact.type === 'answered' && fact.data.questionId === question?.id)
  if (question === undefined || answer?.type !== 'answered') return false
  const { value } = answer.data
  const approved = value === true ? question.args : isJsonObject(value) ? value['args'] : undefined
  return approved !== undefined && canonical(approved) === canonical(call.args)
}

function perform(
  script: Script,
  state: JobRuns,
  conversations: Conversations,
  effect: Exclude<Effect, { type: 'record' }>,
  /** False when the machine died of it. */
  propose: (fact: PlacedFact) => boolean,
  record: (fact: PlacedFact) => void,
): void {
  const { runId, expertKey } = effect
  const stepNumber = state.runs[runId]?.stepNumber ?? 0
  switch (effect.type) {
    case 'listTools':
      propose({
        type: 'toolsListed',
        data: { skill: effect.skill, tools: TOOLS },
        runId,
        expertKey,
        stepNumber,
      })
      return
    case 'callTool': {
      const { callId, name, args } = effect.call
      const asks = askedBy(effect)
      if (asks.length > 0) {
        const facts = asks.map((data) => ({ type: 'questionAsked', data, runId, expertKey, stepNumber }) as const)
        for (const fact of facts) if (state.asked[fact.data.question.id] === undefined && !propose(fact)) return
        return
      }
      const replies = effect.elicited.map(({ reply }) => reply)
      const content = [{ type: 'text', text: `${name} ${JSON.stringify([args, replies])}` }] as const
      const result = { type: 'toolResult', callId, name, content, isError: false } as const
      propose({ type: 'toolReturned', data: { result, durationMs: 1 }, runId, expertKey, stepNumber })
      return
    }
    case 'reserve': {
      const calls = state.runs[runId]?.calls.length ?? 0
      const data = { of: 'calls', amount: { ...nothing, toolCalls: calls } } as const
      return record({ type: 'budgetReserved', data, runId, expertKey, stepNumber })
    }
    case 'compact': {
      const place = { runId, expertKey, stepNumber: effect.stepNumber }
      const summary = script.room?.summaryOf(runId, effect.stepNumber) ?? null
      const failed = { code: 'model_error', message: 'the script says so', model: 'm', usage: null }
      if (summary === null) return record({ type: 'compactionFailed', data: failed, ...place })
      const { messages, context } = conversations.of(runId)
      const kept = keptOf(messages, context.exceeded === null ? script.lock.experts[expertKey]?.compaction : {})
      const data = { summary, kept, usage: noUsage, model: 'm', promptHash: sha256(''), durationMs: 1 }
      return record({ type: 'compacted', data, ...place })
    }
    case 'generate': {
      const place = { runId, expertKey, stepNumber: effect.stepNumber }
      const run = state.runs[runId]
      const { length } = conversations.of(runId).messages
      const { room } = script
      const isTooLong = room !== undefined && length > room.messagesMax
      const turn: Turn = isTooLong
        ? { code: 'context_exceeded' }
        : script.turnOf(runId, effect.stepNumber, run?.depth ?? 0)
      if ('code' in turn)
        return record({
          type: 'generationFailed',
          data: { code: turn.code, message: 'the script says so', model: 'm' },
          ...place,
        })
      return record({
        type: 'generated',
        data: {
          parts: partsOf(turn, effect.stepNumber),
          usage: { ...noUsage, inputTokens: room?.tokensOf(length) ?? 0 },
          model: 'm',
          finishReason: 'stop',
          promptHash: sha256(''),
          durationMs: 1,
          ...(room === undefined ? {} : { contextWindow: room.window }),
        },
        ...place,
      })
    }
  }
}

/**
 * The tool `ask` asks its human up to three times, now in the same words and now in others; that of some calls asks two
 * questions together, as servers of MCP's newer line do.
 */
function askedBy({
  runId,
  call,
  elicited,
}: Extract<Effect, { type: 'callTool' }>): readonly Extract<PlacedFact, { type: 'questionAsked' }>['data'][] {
  const { length } = elicited
  if (!call.name.endsWith('/ask') || length >= drawn(4, runId, call.callId)) return []
  const isNewer = drawn(2, runId, call.callId, 'newer') === 0
  const put: Pick<Elicited, 'question'>[] = [...elicited]
  return Array.from({ length: isNewer ? 2 : 1 }, (_, i) => {
    const requestedSchema = { type: 'object', properties: { ok: { type: 'boolean' } } }
    const asked = { message: `Shall I? ${drawn(2, runId, call.callId, length, i)}`, requestedSchema }
    const question = elicitationQuestionOf(JOB, runId, call, asked, sameWords(put, asked).length)
    put.push({ question })
    if (!isNewer) return { question }
    return { question, resumption: { key: `q${i}`, from: length, of: 2, state: `asked ${length}` } }
  })
}

interface OpenQuestion {
  readonly id: QuestionId
  readonly value: Json
  readonly expires: boolean
}

/** A question that may expire does so as often as not. */
function openQuestions(log: readonly PlacedFact[]): readonly OpenQuestion[] {
  const answered = new Set(
    log.flatMap((fact) => (fact.type === 'answered' || fact.type === 'questionExpired' ? [fact.data.questionId] : [])),
  )
  const isPast = (runId: RunId, callId: string): boolean =>
    log.some(
      (fact) =>
        fact.runId === runId &&
        (fact.type === 'runFinished' || (fact.type === 'toolReturned' && fact.data.result.callId === callId)),
    )
  return log.flatMap((fact): readonly OpenQuestion[] => {
    if (fact.type !== 'questionAsked' || answered.has(fact.data.question.id)) return []
    if (isPast(fact.data.question.runId, fact.data.question.callId)) return []
    const { id, kind, schema, timeoutSeconds } = fact.data.question
    const expires = timeoutSeconds !== undefined && drawn(2, id, 'late') === 0
    const options = schema['enum']
    if (kind === 'schema') return [{ id, value: drawn(3, id) === 0 ? false : { ok: true }, expires }]
    if ('anyOf' in schema && drawn(3, id) === 0)
      return [{ id, value: { approved: true, args: { path: 'edited' } }, expires }]
    const value = kind === 'confirm' ? drawn(2, id) === 0 : String(Array.isArray(options) ? options[0] : 'x')
    return [{ id, value, expires }]
  })
}

/** What must not depend on order or crashes: each run's messages, hashes and end. */
export function answersOf({ log }: Pick<Outcome, 'log'>): unknown {
  const conversations = new Conversations()
  const hashes = new Map<RunId, string[]>()
  const ends = new Map<RunId, unknown>()
  for (const fact of log) {
    conversations.add(fact)
    if (fact.runId === null) continue
    if (fact.type === 'stepFinished') hashes.set(fact.runId, [...(hashes.get(fact.runId) ?? []), fact.data.stateHash])
    if (fact.type === 'runFinished') ends.set(fact.runId, fact.data)
  }
  const runs = [...ends.keys()].toSorted()
  return runs.map((id) => ({ id, messages: conversations.of(id).messages, hashes: hashes.get(id), end: ends.get(id) }))
}

/** The state hashes as anybody can recompute them from the log. */
export function recomputedHashes(log: readonly PlacedFact[]): readonly (readonly [recorded: string, again: string])[] {
  const conversations = new Conversations()
  const last = new Map<RunId, ReturnType<typeof hashState>>()
  const pairs: (readonly [string, string])[] = []
  for (const fact of log) {
    const added = fact.runId === null ? [] : conversations.of(fact.runId).added
    conversations.add(fact)
    if (fact.runId === null) continue
    if (fact.type === 'runStarted' && fact.data.continues !== null) {
      const earlier = last.get(fact.data.continues)
      if (earlier !== undefined) last.set(fact.runId, earlier)
    }
    if (fact.type !== 'stepFinished') continue
    const again = hashState(last.get(fact.runId) ?? null, added)
    last.set(fact.runId, again)
    pairs.push([fact.data.stateHash, again])
  }
  return pairs
}
