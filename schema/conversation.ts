/**
 * The messages of a run as a fold of its events: what a model reads next. One fold for the gateway, the runner
 * and the checkpoints that a person sees, so that none of them can differ.
 */
import { canonical, sha256, type Sha256 } from './hash.ts'
import {
  contextAfterCompaction,
  contextAfterFailure,
  contextAfterGeneration,
  contextAfterMessage,
  contextWithoutSummary,
  noContext,
  type Context,
} from './context.ts'
import type { RunId } from './id.ts'
import type { Fact, Place } from './event.ts'
import type { Message, ToolCallPart, ToolResultPart } from './message.ts'

/** A fact in its place: what a fold needs of an event. */
export type PlacedFact = Fact & Place

export interface Conversation {
  readonly messages: readonly Message[]
  /** What was added since the end of the last step, in the order of adding: what the next state hash covers. */
  readonly added: readonly Message[]
  /** Calls of the last generation, in order; their results become one tool message when all are in. */
  readonly calls: readonly ToolCallPart[]
  readonly results: readonly ToolResultPart[]
  readonly context: Context
}

export const noConversation: Conversation = { messages: [], added: [], calls: [], results: [], context: noContext }

/**
 * The conversation after `fact`, which must belong to the run. A run that continues another starts from that
 * run's conversation: pass it as `before` for its `runStarted`.
 */
export function converse(conversation: Conversation, fact: PlacedFact, before?: Conversation): Conversation {
  switch (fact.type) {
    case 'runStarted':
      return say(before === undefined ? noConversation : settle(before), queryMessage(fact.data.query))
    case 'generated': {
      const calls = fact.data.parts.filter((part) => part.type === 'toolCall')
      const said = say(conversation, { role: 'expert', content: fact.data.parts })
      return { ...said, calls, results: [], context: contextAfterGeneration(conversation.context, fact.data) }
    }
    case 'generationFailed': {
      const context = contextAfterFailure(conversation.context, fact.data, settled(conversation))
      return context === undefined ? conversation : { ...conversation, context }
    }
    case 'toolReturned': {
      const { callId } = fact.data.result
      if (!conversation.calls.some((call) => call.callId === callId)) return conversation
      if (conversation.results.some((result) => result.callId === callId)) return conversation
      const results = [...conversation.results, fact.data.result]
      if (results.length < conversation.calls.length) return { ...conversation, results }
      return settle({ ...conversation, results })
    }
    case 'outputRejected':
      return say(conversation, queryMessage(fact.data.message))
    case 'steered':
      return fact.data.queries.reduce((said, query) => say(said, queryMessage(query)), conversation)
    case 'compacted':
      return compact(conversation, fact.data)
    case 'compactionFailed':
      return { ...conversation, context: contextWithoutSummary(conversation.context) }
    case 'stepFinished':
      return { ...conversation, added: [] }
    default:
      return conversation
  }
}

function say(conversation: Conversation, message: Message): Conversation {
  const { messages, added, context } = conversation
  return {
    ...conversation,
    messages: [...messages, message],
    added: [...added, message],
    context: contextAfterMessage(context, message),
  }
}

/** How many messages the end of the last step covers. */
export function settled({ messages, added }: Pick<Conversation, 'messages' | 'added'>): number {
  return messages.length - added.length
}

function compact(conversation: Conversation, data: { readonly summary: string; readonly kept: number }): Conversation {
  const { messages, added, context } = conversation
  const summary = summaryMessage(data)
  return {
    ...conversation,
    messages: [...messages.slice(0, 1), summary, ...messages.slice(messages.length - data.kept)],
    added: [...added, summary],
    context: contextAfterCompaction(context, summary),
  }
}

/** What a model reads in place of the messages that a compaction replaced. */
export function summaryMessage({ summary, kept }: { readonly summary: string; readonly kept: number }): Message {
  return queryMessage(
    `[To save room, what came between the first query and the last ${kept} messages was replaced by this summary.]\n\n${summary}`,
  )
}

export function queryMessage(query: string): Message {
  return { role: 'user', content: [{ type: 'text', text: query }] }
}

/** The results of a step as one message, in the order of its calls, whatever order they came in. */
export function resultsMessage(calls: readonly ToolCallPart[], results: readonly ToolResultPart[]): Message {
  const byCall = new Map(results.map((result) => [result.callId, result]))
  return { role: 'tool', content: calls.map((call) => byCall.get(call.callId) ?? unfinished(call)) }
}

/**
 * The conversation as it can be gone on with: a run that was ended in the middle of a step leaves calls open,
 * and providers refuse a call without a result.
 */
export function settle(conversation: Conversation): Conversation {
  if (conversation.calls.length === 0) return conversation
  const message = resultsMessage(conversation.calls, conversation.results)
  return { ...say(conversation, message), calls: [], results: [] }
}

function unfinished(call: ToolCallPart): ToolResultPart {
  const text = 'The call had not finished when the run ended; whether it took effect is unknown.'
  return { type: 'toolResult', callId: call.callId, name: call.name, content: [{ type: 'text', text }], isError: true }
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
