/** One effect → the facts of its result, through the two ports that reach out of the runner. */
import type { PlacedFact } from '../../schema/conversation.ts'
import type { GenerateParams, ReserveParams } from '../../schema/control.ts'
import type { Clock } from '../../schema/clock.ts'
import { unreachable } from '../../schema/decider.ts'
import { elicitationQuestionOf, sameWords, type Elicitation, type Elicited } from '../../schema/elicitation.ts'
import type { Resumption } from '../../schema/event.ts'
import { isRefusal, refusalError, PlatformError } from '../../schema/error.ts'
import type { ExpertKey } from '../../schema/expert-key.ts'
import { hashOf, type Sha256 } from '../../schema/hash.ts'
import type { JobId, RunId } from '../../schema/id.ts'
import type { Lock } from '../../schema/lock.ts'
import type { Prompt, TextPart, ToolCallPart, ToolDefinition, ToolResultPart } from '../../schema/message.ts'
import { servedSkill } from '../../schema/tool-pin.ts'
import { catalogOf } from './catalog.ts'
import { instructionOf } from './instruction.ts'
import type { LoopPorts, Owed, Performed } from './loop.ts'
import { doubtOf } from './once.ts'
import type { JobRuns, PlacedRunFact } from './run.ts'

/** Why a skill could not list or call; `isNews` for whoever hears it first, so that it is said once. */
export interface SkillFault {
  readonly code: string
  readonly message: string
  readonly isNews: boolean
}

/** What a skill must know from a human before it can go on; the call was given up for it. Never empty. */
export interface SkillQuestion {
  readonly asks: readonly Asked[]
  /** The server waits in the middle of the call; else it has answered, and nothing is under way. */
  readonly waits: boolean
}

export interface Asked {
  readonly asked: Elicitation
  /** What its server wants back with the answer; null for one that asks again. */
  readonly handle: Pick<Resumption, 'key' | 'state'> | null
}

/** The port to the skills' compartments. Neither verb rejects unless aborted: what goes wrong is a fault. */
export interface Skills {
  list(expertKey: ExpertKey, skill: string, signal: AbortSignal): Promise<readonly ToolDefinition[] | SkillFault>
  call(
    expertKey: ExpertKey,
    skill: string,
    tool: string,
    call: ToolCallPart & { readonly runId: RunId },
    signal: AbortSignal,
    /** What the call asked a human before, answered; left out for nothing. */
    elicited?: readonly Elicited[],
  ): Promise<ToolResultPart | SkillFault | SkillQuestion>
}

/** The port to the control plane: gives what was recorded of the generation; throws when that is nothing. */
export type Generate = (params: GenerateParams, signal: AbortSignal) => Promise<PlacedFact>
/** The same for the calls of a step: the recorded `budgetReserved` or `budgetHeld`. */
export type Reserve = (params: ReserveParams, signal: AbortSignal) => Promise<PlacedFact>

export interface PerformPorts {
  /** What ids in this job derive from. */
  readonly originJobId: JobId
  readonly lock: Lock
  readonly generate: Generate
  readonly reserve: Reserve
  readonly skills: Skills
  readonly clock: Clock
}

/** What an expert is told and offered. Throws when the lock does not have it, or its tools collide. */
export function makePrompt(lock: Lock, expertKey: ExpertKey, { listed }: Pick<JobRuns, 'listed'>): Prompt {
  const expert = lock.experts[expertKey]
  if (expert === undefined) throw new PlatformError('expert_not_found', `Expert ${expertKey} is not in the lock.`)
  const tools = catalogOf(lock, expert, listed[expertKey] ?? {})
  if (isRefusal(tools)) throw refusalError(tools)
  return { instruction: instructionOf(lock, expert), tools }
}

/** Performs effects of one machine; a prompt that was sent once is only named afterwards. */
export function performer(ports: PerformPorts): LoopPorts['perform'] {
  const prompts = new Map<ExpertKey, { readonly prompt: Prompt; readonly hash: Sha256 }>()
  const sent = new Set<Sha256>()

  /** An expert's tools are listed once in a job, so its prompt stays what it is. */
  const promptOf = (expertKey: ExpertKey, state: JobRuns): { readonly prompt: Prompt; readonly hash: Sha256 } => {
    const known = prompts.get(expertKey)
    if (known !== undefined) return known
    const prompt = makePrompt(ports.lock, expertKey, state)
    const made = { prompt, hash: hashOf(prompt) }
    prompts.set(expertKey, made)
    return made
  }

  const generate = async (
    effect: Extract<Owed, { type: 'generate' | 'compact' }>,
    state: JobRuns,
    signal: AbortSignal,
  ) => {
    const { runId, expertKey, stepNumber, messageCount } = effect
    const { prompt, hash: promptHash } = promptOf(expertKey, state)
    const purpose = effect.type === 'compact' ? ({ purpose: 'compaction' } as const) : {}
    const params = { runId, expertKey, stepNumber, messageCount, promptHash, ...purpose }
    const isNew = !sent.has(promptHash)
    sent.add(promptHash)
    return { proposed: [], recorded: [await ports.generate(isNew ? { ...params, prompt } : params, signal)] }
  }

  return async (effect, state, signal): Promise<Performed> => {
    switch (effect.type) {
      case 'generate':
      case 'compact':
        return generate(effect, state, signal)
      case 'listTools': {
        const { runId, expertKey, skill } = effect
        const place = { runId, expertKey, stepNumber: state.runs[runId]?.stepNumber ?? 0 }
        const tools = await ports.skills.list(expertKey, skill, signal)
        if ('code' in tools) {
          const { code, message } = tools
          return { proposed: [{ type: 'skillFailed', data: { skill, code, message }, ...place }], recorded: [] }
        }
        return { proposed: [{ type: 'toolsListed', data: { skill, tools }, ...place }], recorded: [] }
      }
      case 'reserve': {
        const { runId, expertKey, stepNumber } = effect
        return { proposed: [], recorded: [await ports.reserve({ runId, expertKey, stepNumber }, signal)] }
      }
      case 'callTool':
        return callTool(ports, effect, signal)
      default:
        return unreachable(effect)
    }
  }
}

async function callTool(
  { lock, skills, clock, originJobId }: PerformPorts,
  effect: Extract<Owed, { type: 'callTool' }>,
  signal: AbortSignal,
): Promise<Performed> {
  const { runId, expertKey, stepNumber, skill, tool, call, isEdited, elicited } = effect
  const place = { runId, expertKey, stepNumber }
  const startedAt = clock.now()
  const answer = await skills.call(expertKey, skill, tool, { ...call, runId }, signal, elicited)
  const durationMs = Math.max(0, clock.now() - startedAt)
  if ('asks' in answer) {
    const timeout = servedSkill(lock, expertKey, skill)?.questionTimeoutSeconds
    const put: Pick<Elicited, 'question'>[] = [...elicited]
    const of = answer.asks.length
    const facts = answer.asks.map(({ asked, handle }): PlacedRunFact => {
      const nth = sameWords(put, asked).length
      const question = elicitationQuestionOf(originJobId, runId, call, asked, nth, timeout)
      put.push({ question })
      const resumption = handle === null ? {} : { resumption: { ...handle, from: elicited.length, of } }
      return { type: 'questionAsked', data: { question, ...resumption }, ...place }
    })
    // Some of those that come together may have been asked before a machine died.
    const isNew = ({ asked }: JobRuns, fact: PlacedRunFact): boolean =>
      fact.type !== 'questionAsked' || asked[fact.data.question.id] === undefined
    return { proposed: (state) => facts.filter((fact) => isNew(state, fact)), recorded: [] }
  }
  if (!('code' in answer)) {
    const result = isEdited ? { ...answer, content: [editedNote(call), ...answer.content] } : answer
    return { proposed: [{ type: 'toolReturned', data: { result, durationMs }, ...place }], recorded: [] }
  }
  const { code, message, isNews } = answer
  const { callId, name } = call
  const content = [{ type: 'text', text: `[${code}] ${message}` }] as const
  const result = { type: 'toolResult', callId, name, content, isError: true } as const
  const failed = { type: 'skillFailed', data: { skill, code, message }, ...place } as const
  const returned = { type: 'toolReturned', data: { result, durationMs }, ...place } as const
  // Of a required skill it is news to every run, since each fails by it.
  const isRequired = servedSkill(lock, expertKey, skill)?.required === true
  const proposed = (state: JobRuns): readonly PlacedRunFact[] => {
    // Whoever should have answered is gone: a call that was started may have taken effect all the same.
    const made = state.runs[runId]?.calls.find(({ part }) => part.callId === callId)
    const question = made === undefined ? undefined : doubtOf(originJobId, runId, made)
    const end = question === undefined ? returned : ({ type: 'questionAsked', data: { question }, ...place } as const)
    return isNews || isRequired ? [failed, end] : [end]
  }
  return { proposed, recorded: [] }
}

/** The model wrote other arguments than the tool was called with: it is told. */
function editedNote({ args }: ToolCallPart): TextPart {
  return { type: 'text', text: `[The human approved the call with other arguments: ${JSON.stringify(args)}]` }
}
