/** Port: published experts, as whoever creates a job sees them. */
import type { Refusal } from '../../schema/error.ts'
import type { Lock } from '../../schema/lock.ts'

/** One published expert, at one version. */
export interface PublishedExpert {
  readonly key: string
  readonly name: string
  readonly version: string
  readonly description: string
  readonly packageName: string
  /** `sha512-<base64>` of the package. */
  readonly integrity: string
  readonly owner: string
  readonly model: string | null
  readonly delegates: readonly string[]
  readonly skills: readonly string[]
  readonly tags: readonly string[]
  /** All versions of the package, newest first. */
  readonly versions: readonly string[]
  readonly publishedAt: number
}

export interface ExpertSource {
  /** The lock of an expert key (`name`, `name@range`, `name@tag`); refuses with expert_not_found, version_not_found, expert_key_invalid. */
  resolve(expertKey: string): Promise<Lock | Refusal>
  find(expertKey: string): Promise<PublishedExpert | undefined>
  /** By name; `search` matches name and description. `after` is the last name seen. */
  list(search: string | null, first: number, after: string | null): Promise<readonly PublishedExpert[]>
  /** A file of a locked package, for the gateway (a rehearsal); undefined when there is none. */
  readFile(integrity: string, path: string): Promise<Uint8Array | undefined>
}
