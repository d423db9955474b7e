/**
 * Port: published packages. It stands in the language because both sides meet in it: the registry writes it, and
 * the control plane reads from it what a job pins. It has no verb that removes a version or changes its bytes.
 *
 * PK1 A name belongs to the application that published it first; nobody else publishes, tags or deprecates there.
 * PK2 (name, version) names one integrity for ever; the same bytes again are `same`, other bytes are refused.
 * PK3 A publication is whole or not at all: name, version, locks and tags become visible together.
 * PK4 Each package has a `latest`, which is one of its versions, from its first version on.
 */
import type { Refusal } from './error.ts'
import type { Sha256 } from './hash.ts'
import type { ApplicationId } from './id.ts'
import type { JsonObject } from './json.ts'
import type { Integrity, Lock } from './lock.ts'

/** What a listing shows of an expert, without opening its lock. */
export interface ExpertCard {
  /** The whole name, member included. */
  readonly name: string
  readonly description: string
  readonly model: string | null
  /** Exact keys, sorted. */
  readonly delegates: readonly string[]
  /** Skill names as the file writes them, sorted. */
  readonly skills: readonly string[]
  readonly tags: readonly string[]
}

export interface PackageVersion {
  readonly version: string
  readonly integrity: Integrity
  /** Lower-case hex SHA-1 of the tarball, which npm still asks for. */
  readonly shasum: string
  /** The tarball's name in the content store. */
  readonly contentHash: Sha256
  /** Of the tarball, packed. */
  readonly sizeBytes: number
  readonly unpackedBytes: number
  readonly fileCount: number
  /** The version's manifest as served, without `dist`; it holds no NUL and no lone surrogate. */
  readonly manifest: JsonObject
  readonly experts: readonly ExpertCard[]
  /** The owner's word why not to use it; null for none. */
  readonly deprecated: string | null
  readonly publishedAt: number
}

export interface PackageRecord {
  readonly name: string
  readonly owner: ApplicationId
  /** dist-tag to version. */
  readonly tags: Readonly<Record<string, string>>
  /** In order of publication. */
  readonly versions: readonly PackageVersion[]
  /** When the last publication, tag or deprecation was. */
  readonly modifiedAt: number
}

export interface Publication {
  readonly name: string
  readonly owner: ApplicationId
  readonly version: Omit<PackageVersion, 'deprecated'>
  /** By the expert's whole name: one for each card. */
  readonly locks: Readonly<Record<string, Lock>>
  /** dist-tags that move to this version. */
  readonly tags: readonly string[]
}

/** A tarball that some version is. */
export interface PublishedTarball {
  readonly name: string
  readonly version: string
  readonly contentHash: Sha256
  readonly sizeBytes: number
}

export interface PackageStore {
  find(name: string): Promise<PackageRecord | undefined>
  /**
   * `same` when the version is there with these very bytes: then nothing changes, tags neither.
   * Refuses with name_taken (PK1) and version_frozen (PK2).
   */
  publish(publication: Publication): Promise<'published' | 'same' | Refusal>
  /** Refuses with package_not_found, name_taken, version_not_found. */
  setTag(name: string, owner: ApplicationId, tag: string, version: string, at: number): Promise<'tagged' | Refusal>
  /** Refuses with package_not_found, name_taken, and for `latest` with package_invalid (PK4). An absent tag is fine. */
  deleteTag(name: string, owner: ApplicationId, tag: string, at: number): Promise<'deleted' | Refusal>
  /** null takes the word back. Refuses with package_not_found, name_taken, version_not_found. */
  deprecate(
    name: string,
    owner: ApplicationId,
    version: string,
    message: string | null,
    at: number,
  ): Promise<'deprecated' | Refusal>
  /** The lock that was made when the version was published. */
  findLock(packageName: string, version: string, expertName: string): Promise<Lock | undefined>
  findTarball(integrity: Integrity): Promise<PublishedTarball | undefined>
  /** Package names in code unit order that contain `search` (null for all), after `after`. */
  listPackages(search: string | null, first: number, after: string | null): Promise<readonly string[]>
  /**
   * The experts of each package's `latest` version, in code unit order of their names; `search` is a plain text,
   * matched without regard to case in name or description.
   */
  listExperts(
    search: string | null,
    first: number,
    after: string | null,
  ): Promise<readonly { readonly name: string; readonly packageName: string }[]>
  /** Names of packages whose `latest` version says that it is a skill; order and `search` as for experts. */
  listSkills(search: string | null, first: number, after: string | null): Promise<readonly string[]>
}
