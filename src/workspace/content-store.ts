/** Port: bytes by their hash. What is in it never changes; writing the same bytes twice is nothing. */
import type { Sha256 } from '../../schema/hash.ts'

export interface ContentStore {
  /** Durable when it resolves. */
  put(bytes: Uint8Array): Promise<Sha256>
  /** Throws `content_missing`, also when the stored bytes no longer hash to their name. */
  get(hash: Sha256): Promise<Uint8Array>
  has(hash: Sha256): Promise<boolean>
}
