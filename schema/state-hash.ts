/** The state hashes of a log, computed again: each step's end says one, and anybody can check it. */
import { Conversations, hashState, type PlacedFact } from './conversation.ts'
import type { Sha256 } from './hash.ts'
import type { RunId } from './id.ts'

export interface StateCheck {
  readonly recorded: Sha256
  readonly computed: Sha256
}

/** A fold over one job's facts from its first. */
export class StateHashes {
  readonly #conversations = new Conversations()
  /** How much of each run's conversation its last hash covers. */
  readonly #covered = new Map<RunId, { readonly count: number; readonly hash: Sha256 | null }>()

  /** What a step's end says and what it must say; undefined for any other fact. */
  add(fact: PlacedFact): StateCheck | undefined {
    this.#conversations.add(fact)
    if (fact.runId === null) return undefined
    if (fact.type === 'runStarted' && fact.data.continues !== null) {
      const earlier = this.#covered.get(fact.data.continues)
      if (earlier !== undefined) this.#covered.set(fact.runId, earlier)
    }
    if (fact.type !== 'stepFinished') return undefined
    const { count, hash } = this.#covered.get(fact.runId) ?? { count: 0, hash: null }
    const { messages } = this.#conversations.of(fact.runId)
    const computed = hashState(hash, messages.slice(count))
    this.#covered.set(fact.runId, { count: messages.length, hash: computed })
    return { recorded: fact.data.stateHash, computed }
  }
}
