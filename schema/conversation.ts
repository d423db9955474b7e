/**
 * The messages of a run as a fold of its events: what a model reads next. One fold for the gateway, the runner
 * and the checkpoints that a person sees, so that none of them can differ.
 */
import { canonical, sha256, type Sha256 } from './hash.ts'
import type { RunId } from './id.ts'
import type { Fact, Place } from './event.ts'
import type { Message, ToolCallPart, ToolResultPart } from './message.ts'

/** A fact in its place: what a fold needs of an event. */
export type PlacedFact = Fact & Place

export interface Conversation {
  readonly messages: readonly Message[]
  /** Calls of the last generation, in order; their results become one tool message when all are in. */
  readonly calls: readonly ToolCallPart[]
  readonly results: readonly ToolResultPart[]
}

export const noConversation: Conversation = { messages: [], calls: [], results: [] }

/**
 * The conversation after `fact`, which must belong to the run. A run that continues another starts from that
 * run's conversation: pass it as `before` for its `runStarted`.
 */
export function converse(conversation: Conversation, fact: PlacedFact, before?: Conversation): Conversation {
  switch (fact.type) {
    case 'runStarted': {
      const query = { role: 'user', content: [{ type: 'text', text: fact.data.query }] } as const
      return { ...noConversation, messages: [...(before?.messages ?? []), query] }
    }
    case 'generated': {
      const calls = fact.data.parts.filter((part) => part.type === 'toolCall')
      const message = { role: 'expert', content: fact.data.parts } as const
      return { messages: [...conversation.messages, message], calls, results: [] }
    }
    case 'toolReturned': {
      if (conversation.results.some((result) => result.callId === fact.data.result.callId)) return conversation
      const results = [...conversation.results, fact.data.result]
      if (results.length < conversation.calls.length) return { ...conversation, results }
      const inOrder = conversation.calls.flatMap((call) => results.filter((result) => result.callId === call.callId))
      return { messages: [...conversation.messages, { role: 'tool', content: inOrder }], calls: [], results: [] }
    }
    default:
      return conversation
  }
}

/**
 * The hash that a step's end carries: it chains over the messages that the step added, so that equal hashes
 * mean equal states and each costs only what is new.
 */
export function hashState(previous: Sha256 | null, newMessages: readonly Message[]): Sha256 {
  return sha256(canonical([previous, newMessages]))
}

/** Every run's conversation, by one pass over a job's events. */
export class Conversations {
  readonly #byRun = new Map<RunId, Conversation>()

  add(fact: PlacedFact): void {
    if (fact.runId === null) return
    const before =
      fact.type === 'runStarted' && fact.data.continues !== null ? this.#byRun.get(fact.data.continues) : undefined
    this.#byRun.set(fact.runId, converse(this.#byRun.get(fact.runId) ?? noConversation, fact, before))
  }

  of(runId: RunId): Conversation {
    return this.#byRun.get(runId) ?? noConversation
  }
}
