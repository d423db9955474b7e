/** How many streams a key may hold open at once. */
import { PlatformError } from '../../schema/error.ts'
import type { ApiKeyId } from '../../schema/id.ts'

/** A person's screens need a few; a leak in a client is stopped here. */
export const STREAMS_PER_KEY_MAX = 20

export interface StreamSlots {
  /** The way to give the slot back, once. Throws `rate_limited` when none is free. */
  take(keyId: ApiKeyId): () => void
  /** How many are taken by all keys. */
  readonly count: () => number
}

export function openStreamSlots(): StreamSlots {
  const taken = new Map<ApiKeyId, number>()
  return {
    take(keyId) {
      const mine = taken.get(keyId) ?? 0
      if (mine >= STREAMS_PER_KEY_MAX)
        throw new PlatformError(
          'rate_limited',
          `This key has ${mine} streams open; ${STREAMS_PER_KEY_MAX} is the limit.`,
        )
      taken.set(keyId, mine + 1)
      let isTaken = true
      return () => {
        if (!isTaken) return
        isTaken = false
        const left = (taken.get(keyId) ?? 1) - 1
        if (left === 0) taken.delete(keyId)
        else taken.set(keyId, left)
      }
    },
    count: () => taken.values().reduce((sum, mine) => sum + mine, 0),
  }
}
