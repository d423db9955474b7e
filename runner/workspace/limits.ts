/** How much a workspace may hold. */
import { PlatformError } from '../../schema/error.ts'
import { TREE_LIMITS } from '../../schema/tree.ts'

export interface WorkspaceLimits {
  readonly files: number
  readonly bytes: number
  readonly fileBytes: number
  readonly depth: number
}

export const WORKSPACE_LIMITS: WorkspaceLimits = TREE_LIMITS

/** What a walk has met so far; each count throws `limit_exceeded` when it goes above. */
export class Allowance {
  readonly #limits: WorkspaceLimits
  #entries = 0
  #bytes = 0

  constructor(limits: WorkspaceLimits) {
    this.#limits = limits
  }

  file(path: string, sizeBytes: number): void {
    const { bytes, fileBytes } = this.#limits
    this.#entry()
    if (sizeBytes > fileBytes) throw exceeded(`${path} has ${sizeBytes} bytes, and a file may have ${fileBytes}`)
    this.#bytes += sizeBytes
    if (this.#bytes > bytes) throw exceeded(`its files have more than ${bytes} bytes together`)
  }

  directory(path: string, depth: number): void {
    this.#entry()
    if (depth > this.#limits.depth) throw exceeded(`${path} lies deeper than ${this.#limits.depth} directories`)
  }

  #entry(): void {
    this.#entries += 1
    if (this.#entries > this.#limits.files)
      throw exceeded(`it holds more than ${this.#limits.files} files and directories`)
  }
}

function exceeded(why: string): PlatformError {
  return new PlatformError('limit_exceeded', `The workspace is too large: ${why}.`)
}
