/** What each generation of a log was asked with: the prompt by its hash, and the messages by the one fold of them. */
import { Conversations } from './conversation.ts'
import type { JobEvent } from './event.ts'
import type { Sha256 } from './hash.ts'
import type { Message } from './message.ts'

export interface SentPrompt {
  /** Names the instruction and the tools in the content store. */
  readonly hash: Sha256
  /** As they were handed to the gateway. */
  readonly messages: readonly Message[]
}

/** A fold over one job's events from its first. */
export class SentPrompts {
  readonly #conversations: Conversations

  /** Feeds this fold of the messages with every event, so that its owner need not. */
  constructor(conversations: Conversations = new Conversations()) {
    this.#conversations = conversations
  }

  /** What a `generated` was asked with; undefined for any other event. */
  add(event: JobEvent): SentPrompt | undefined {
    const before = event.runId === null ? [] : this.#conversations.of(event.runId).messages
    this.#conversations.add(event)
    return event.type === 'generated' ? { hash: event.data.promptHash, messages: before } : undefined
  }
}
