/**
 * A job played again by the core that machines run on: recorded generations and tool results stand in for models and
 * skills, by run, step and call, and every fact that a machine proposed is held against what the core owes at that
 * place. Nothing is asked of the world, and it costs nothing.
 *
 * MR1 A log that a runner of this version wrote never diverges from its own lock.
 * MR2 The first fact that the core would not have proposed there, or a prompt that it would not have sent, is named.
 */
import type { PlacedFact } from '../../schema/conversation.ts'
import { unreachable } from '../../schema/decider.ts'
import { elicitationQuestionOf, readElicitation, sameWords, type Elicited } from '../../schema/elicitation.ts'
import { PlatformError } from '../../schema/error.ts'
import { originOf, RUN_FACT_TYPES, type JobEvent } from '../../schema/event.ts'
import type { ExpertKey } from '../../schema/expert-key.ts'
import { canonical, hashOf, type Sha256 } from '../../schema/hash.ts'
import type { JobId, RunId } from '../../schema/id.ts'
import type { Lock } from '../../schema/lock.ts'
import type { Prompt, ToolCallPart } from '../../schema/message.ts'
import { noSteering } from '../../schema/steering.ts'
import { servedSkill } from '../../schema/tool-pin.ts'
import { doubtOf } from '../run/once.ts'
import { makePrompt } from '../run/perform.ts'
import { jobRuns, type Effect, type JobRuns } from '../run/run.ts'

export interface Divergence {
  readonly seq: number
  readonly runId: string | null
  readonly expertKey: string | null
  readonly stepNumber: number | null
  /** `prompt`: another instruction or other tools would be sent. `fact`: something else would be proposed. */
  readonly kind: 'prompt' | 'fact'
  /** What the log says. */
  readonly recorded: string
  /** What would be there now. */
  readonly now: string
}

export interface ModelReplay {
  readonly generations: number
  readonly toolResults: number
  /** Null when there is none; what comes after the first is not judged. */
  readonly divergence: Divergence | null
}

/** `lockAt` gives the lock to play an event with; `promptOf` the prompts that were sent. */
export function replayModel(
  events: readonly JobEvent[],
  lockAt: (seq: number) => Lock,
  promptOf: (hash: Sha256) => Prompt | undefined,
): ModelReplay {
  const [first] = events
  if (first === undefined) return { generations: 0, toolResults: 0, divergence: null }
  const origin = originOf(first.jobId, events)
  let state = jobRuns(origin, lockAt(1)).initial
  let generations = 0
  let toolResults = 0
  for (const event of events) {
    const lock = lockAt(event.seq)
    const divergence = divergenceAt(origin, lock, state, event, promptOf)
    if (divergence !== undefined) return { generations, toolResults, divergence }
    if (event.type === 'generated') generations += 1
    if (event.type === 'toolReturned') toolResults += 1
    state = jobRuns(origin, lock).evolve(state, event)
  }
  return { generations, toolResults, divergence: null }
}

const GENERATIONS: ReadonlySet<string> = new Set<JobEvent['type']>(['generated', 'generationFailed'])
const COMPACTIONS: ReadonlySet<string> = new Set<JobEvent['type']>(['compacted', 'compactionFailed'])

function divergenceAt(
  origin: JobId,
  lock: Lock,
  state: JobRuns,
  event: JobEvent,
  promptOf: (hash: Sha256) => Prompt | undefined,
): Divergence | undefined {
  // What others say, people and the control plane, is given; so is the end of a generation whose run was ended.
  if (event.type === 'questionAsked' && event.data.question.purpose === 'budget') return undefined
  const isEnd = GENERATIONS.has(event.type) || COMPACTIONS.has(event.type)
  const isAsked = isEnd && event.runId !== null && state.runs[event.runId]?.finished === null
  if (!isAsked && !RUN_FACT_TYPES.has(event.type)) return undefined
  const { seq, runId, expertKey, stepNumber } = event
  const place = { seq, runId, expertKey, stepNumber }
  const owed = owedAround(origin, lock, state)
  if (owed.some((effect) => leadsTo(origin, lock, state, effect, event)))
    return event.type === 'generated' || event.type === 'compacted'
      ? otherPrompt(lock, state, event, place, promptOf)
      : undefined
  const now = [...new Set(owed.filter((effect) => placeOf(effect).runId === runId).map(describeEffect))]
  return { ...place, kind: 'fact', recorded: describeFact(event), now: now.length === 0 ? 'nothing' : now.join('; ') }
}

/**
 * What is owed in a state, and what was when a machine had not heard of the newest yet: of a cancel, of a query that
 * came meanwhile, of who had the last steps of a limit. What it proposed then is in the log after those.
 */
function owedAround(origin: JobId, lock: Lock, state: JobRuns): readonly Effect[] {
  const core = jobRuns(origin, lock)
  const open = { ...state, canceled: false }
  const unheard = { ...open, steering: noSteering }
  return [open, unheard, { ...unheard, stepsMax: null }].flatMap((one) => core.pending(one))
}

type Asks = Extract<JobEvent, { type: 'questionAsked' }>

function isElicitation(
  origin: JobId,
  lock: Lock,
  { runId, expertKey }: { readonly runId: RunId; readonly expertKey: ExpertKey },
  call: ToolCallPart,
  elicited: readonly Elicited[],
  { data: { question } }: Asks,
): boolean {
  const asked = readElicitation(question.args)
  if (typeof asked === 'string') return false
  const timeout = servedSkill(lock, expertKey, call.name.split('/')[0] ?? '')?.questionTimeoutSeconds
  const nth = sameWords(elicited, asked).length
  return canonical(elicitationQuestionOf(origin, runId, call, asked, nth, timeout)) === canonical(question)
}

/** True when performing an effect may bring this very fact. */
function leadsTo(origin: JobId, lock: Lock, state: JobRuns, effect: Effect, event: JobEvent): boolean {
  switch (effect.type) {
    case 'record':
      return isSame(effect.fact, event) || isBeginning(effect.fact, event)
    case 'generate':
      return GENERATIONS.has(event.type) && effect.runId === event.runId && effect.stepNumber === event.stepNumber
    case 'compact':
      return COMPACTIONS.has(event.type) && effect.runId === event.runId && effect.stepNumber === event.stepNumber
    case 'listTools':
      if (event.type !== 'toolsListed' && event.type !== 'skillFailed') return false
      return effect.expertKey === event.expertKey && effect.skill === event.data.skill
    case 'callTool': {
      if (effect.runId !== event.runId) return false
      const { callId, name } = effect.call
      if (event.type === 'skillFailed') return effect.skill === event.data.skill
      if (event.type === 'toolReturned') return event.data.result.callId === callId && event.data.result.name === name
      if (event.type !== 'questionAsked') return false
      // What a skill asks is its server's word, as a result is.
      const call = state.runs[effect.runId]?.calls.find(({ part }) => part.callId === callId)
      if (event.data.question.purpose === 'elicitation')
        return isElicitation(origin, lock, effect, effect.call, call?.elicited ?? [], event)
      // Whoever was to answer a call that may be made once is gone: the human is asked what came of it.
      const question = call === undefined ? undefined : doubtOf(origin, effect.runId, call)
      return question !== undefined && canonical(question) === canonical(event.data.question)
    }
    case 'reserve':
      // Its answer is the control plane's, and given.
      return false
    default:
      return unreachable(effect)
  }
}

function isSame(fact: PlacedFact, event: JobEvent): boolean {
  const form = ({ type, runId, expertKey, stepNumber, data }: PlacedFact): string =>
    canonical({ type, runId, expertKey, stepNumber, data })
  return form(fact) === form(event)
}

/** A machine reads the queries that it has heard of; further ones may have come meanwhile. */
function isBeginning(fact: PlacedFact, event: JobEvent): boolean {
  if (fact.type !== 'steered' || event.type !== 'steered' || event.data.queries.length === 0) return false
  const queries = fact.data.queries.slice(0, event.data.queries.length)
  return isSame({ ...fact, data: { queries } }, event)
}

function otherPrompt(
  lock: Lock,
  state: JobRuns,
  event: Extract<JobEvent, { type: 'generated' | 'compacted' }>,
  place: Pick<Divergence, 'seq' | 'runId' | 'expertKey' | 'stepNumber'>,
  promptOf: (hash: Sha256) => Prompt | undefined,
): Divergence | undefined {
  const prompt = promptNow(lock, state, event.expertKey as ExpertKey) // looked up, and found or not
  if (typeof prompt !== 'string' && hashOf(prompt) === event.data.promptHash) return undefined
  if (typeof prompt === 'string')
    return { ...place, kind: 'prompt', recorded: `prompt ${event.data.promptHash}`, now: prompt }
  return {
    ...place,
    kind: 'prompt',
    ...firstDifference(promptOf(event.data.promptHash), prompt, event.data.promptHash),
  }
}

/** The prompt, or why there is none. */
function promptNow(lock: Lock, state: JobRuns, expertKey: ExpertKey): Prompt | string {
  try {
    return makePrompt(lock, expertKey, state)
  } catch (error) {
    if (error instanceof PlatformError) return error.message
    throw error
  }
}

/** The first line of the instruction, else the first tool, that is not the same. */
function firstDifference(
  was: Prompt | undefined,
  now: Prompt,
  promptHash: Sha256,
): { readonly recorded: string; readonly now: string } {
  if (was === undefined) return { recorded: `prompt ${promptHash}`, now: `prompt ${hashOf(now)}` }
  const [before, after] = [was.instruction.split('\n'), now.instruction.split('\n')]
  for (let i = 0; i < Math.max(before.length, after.length); i++)
    if (before[i] !== after[i]) {
      const line = (text: string | undefined): string =>
        text === undefined ? 'the instruction ends' : `line ${i + 1} of the instruction: ${text}`
      return { recorded: line(before[i]), now: line(after[i]) }
    }
  for (let i = 0; i < Math.max(was.tools.length, now.tools.length); i++) {
    const [one, other] = [was.tools[i], now.tools[i]]
    if (canonical(one ?? null) === canonical(other ?? null)) continue
    const tool = (definition: typeof one): string =>
      definition === undefined ? 'no further tool' : `tool ${definition.name}: ${canonical(definition)}`
    return { recorded: tool(one), now: tool(other) }
  }
  return { recorded: `prompt ${promptHash}`, now: `prompt ${hashOf(now)}` }
}

function placeOf(effect: Effect): { readonly runId: string | null } {
  return effect.type === 'record' ? effect.fact : effect
}

function describeEffect(effect: Effect): string {
  switch (effect.type) {
    case 'record':
      return describeFact(effect.fact)
    case 'generate':
      return `a generation of step ${effect.stepNumber}`
    case 'compact':
      return `a compaction before step ${effect.stepNumber}`
    case 'listTools':
      return `the tools of ${effect.skill}`
    case 'callTool':
      return `the result of ${effect.call.callId}, ${effect.call.name}`
    case 'reserve':
      return `leave for the calls of step ${effect.stepNumber}`
    default:
      return unreachable(effect)
  }
}

function describeFact({ type, data }: PlacedFact): string {
  return `${type} ${canonical(data)}`
}
