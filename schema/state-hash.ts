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
  /** The last hash of each run. */
  readonly #last = new Map<RunId, Sha256>()

  /** What a step's end says and what it must say; undefined for any other fact. */
  add(fact: PlacedFact): StateCheck | undefined {
    const { runId } = fact
    const added = runId === null ? [] : this.#conversations.of(runId).added
    this.#conversations.add(fact)
    if (runId === null) return undefined
    if (fact.type === 'runStarted' && fact.data.continues !== null) {
      const earlier = this.#last.get(fact.data.continues)
      if (earlier !== undefined) this.#last.set(runId, earlier)
    }
    if (fact.type !== 'stepFinished') return undefined
    const computed = hashState(this.#last.get(runId) ?? null, added)
    this.#last.set(runId, computed)
    return { recorded: fact.data.stateHash, computed }
  }
}
