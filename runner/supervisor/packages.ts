/** Packages of skills in a machine that has none of the host's files: restored by hash, each once, when one is opened. */
import { mkdirSync } from 'node:fs'
import { dirname } from 'node:path'
import type { BlobParams } from '../../schema/control.ts'
import { PlatformError } from '../../schema/error.ts'
import type { Json } from '../../schema/json.ts'
import type { PackageContent } from '../../schema/machine-plan.ts'
import { DEPTH_MAX } from '../../schema/tree.ts'
import { fetchContent } from '../workspace/fetch.ts'
import { restoreTree } from '../workspace/restore.ts'

/** Above what npm's largest packages have, binaries of compilers included. */
const PACKAGE_LIMITS = {
  files: 100_000,
  bytes: 768 * 1024 * 1024,
  fileBytes: 192 * 1024 * 1024,
  depth: DEPTH_MAX,
}

export class Packages {
  readonly #askBlob: (params: BlobParams) => Promise<Json>
  readonly #restored = new Map<string, Promise<void>>()

  constructor(askBlob: (params: BlobParams) => Promise<Json>) {
    this.#askBlob = askBlob
  }

  /** Resolves when they are there. Throws `skill_start_failed`; what a skill got once, it cannot get otherwise. */
  restore(content: PackageContent): Promise<void> {
    const restored = this.#restored.get(content.directory) ?? this.#write(content)
    this.#restored.set(content.directory, restored)
    return restored
  }

  async #write({ treeHash, directory }: PackageContent): Promise<void> {
    try {
      mkdirSync(dirname(directory), { recursive: true })
      mkdirSync(directory, { mode: 0o755 })
      await restoreTree(treeHash, {
        root: directory,
        reserved: new Set(),
        limits: PACKAGE_LIMITS,
        known: new Set(),
        fetch: (hash) => fetchContent(hash, this.#askBlob, PACKAGE_LIMITS.fileBytes),
      })
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error)
      throw new PlatformError('skill_start_failed', `The packages of a skill could not be restored: ${why}`, {
        cause: error,
      })
    }
  }
}
