/** A content store in memory. */
import { PlatformError } from '../../schema/error.ts'
import { sha256, type Sha256 } from '../../schema/hash.ts'
import type { ContentStore } from '../../src/workspace/content-store.ts'

export interface MemoryContentStore extends ContentStore {
  /** What is stored, to be looked through and lost. */
  readonly contents: Map<Sha256, Uint8Array>
}

export function memoryContentStore(): MemoryContentStore {
  const contents = new Map<Sha256, Uint8Array>()
  return {
    contents,
    async put(bytes) {
      const hash = sha256(bytes)
      contents.set(hash, Uint8Array.from(bytes))
      return hash
    },
    async get(hash) {
      const bytes = contents.get(hash)
      if (bytes === undefined || sha256(bytes) !== hash)
        throw new PlatformError('content_missing', `content ${hash} is missing`)
      return Uint8Array.from(bytes)
    },
    has: async (hash) => contents.has(hash),
  }
}
