/** A package store in memory, which passes the contract that the one on Postgres passes. */
import { saysSkill } from '../../schema/expert-package.ts'
import { refuse, type Refusal } from '../../schema/error.ts'
import type { ApplicationId } from '../../schema/id.ts'
import type { Integrity, Lock } from '../../schema/lock.ts'
import type {
  PackageRecord,
  PackageStore,
  PackageVersion,
  Publication,
  PublishedTarball,
} from '../../schema/package-store.ts'

interface Kept {
  record: PackageRecord
  readonly locks: Map<string, Lock>
}

const byCodeUnit = (a: string, b: string) => (a < b ? -1 : a > b ? 1 : 0)

export class MemoryPackageStore implements PackageStore {
  readonly #packages = new Map<string, Kept>()

  async find(name: string): Promise<PackageRecord | undefined> {
    return structuredClone(this.#packages.get(name)?.record)
  }

  async publish(publication: Publication): Promise<'published' | 'same' | Refusal> {
    const { name, owner, version, locks, tags } = structuredClone(publication)
    const kept = this.#packages.get(name)
    if (kept !== undefined && kept.record.owner !== owner) return this.#taken(name)
    const before = kept?.record.versions.find((known) => known.version === version.version)
    if (before !== undefined) {
      if (before.integrity === version.integrity) return 'same'
      return refuse('version_frozen', `${name}@${version.version} is published with other bytes.`)
    }
    const moved = Object.fromEntries(tags.map((tag) => [tag, version.version]))
    const record: PackageRecord = {
      name,
      owner,
      tags: { latest: version.version, ...kept?.record.tags, ...moved },
      versions: [...(kept?.record.versions ?? []), { ...version, deprecated: null }],
      modifiedAt: version.publishedAt,
    }
    const all = kept?.locks ?? new Map<string, Lock>()
    for (const [expert, lock] of Object.entries(locks)) all.set(`${expert}@${version.version}`, lock)
    this.#packages.set(name, { record, locks: all })
    return 'published'
  }

  async setTag(name: string, owner: ApplicationId, tag: string, version: string, at: number) {
    const kept = this.#owned(name, owner)
    if ('refused' in kept) return kept
    if (!kept.record.versions.some((known) => known.version === version)) return this.#unknown(name, version)
    kept.record = { ...kept.record, tags: { ...kept.record.tags, [tag]: version }, modifiedAt: at }
    return 'tagged' as const
  }

  async deleteTag(name: string, owner: ApplicationId, tag: string, at: number) {
    const kept = this.#owned(name, owner)
    if ('refused' in kept) return kept
    if (tag === 'latest') return refuse('package_invalid', `${name} always has a latest version.`)
    const tags = Object.fromEntries(Object.entries(kept.record.tags).filter(([known]) => known !== tag))
    kept.record = { ...kept.record, tags, modifiedAt: at }
    return 'deleted' as const
  }

  async deprecate(name: string, owner: ApplicationId, version: string, message: string | null, at: number) {
    const kept = this.#owned(name, owner)
    if ('refused' in kept) return kept
    if (!kept.record.versions.some((known) => known.version === version)) return this.#unknown(name, version)
    const versions = kept.record.versions.map((known): PackageVersion =>
      known.version === version ? { ...known, deprecated: message } : known,
    )
    kept.record = { ...kept.record, versions, modifiedAt: at }
    return 'deprecated' as const
  }

  async findLock(packageName: string, version: string, expertName: string): Promise<Lock | undefined> {
    return structuredClone(this.#packages.get(packageName)?.locks.get(`${expertName}@${version}`))
  }

  async findTarball(integrity: Integrity): Promise<PublishedTarball | undefined> {
    for (const { record } of this.#packages.values()) {
      const found = record.versions.find((version) => version.integrity === integrity)
      if (found === undefined) continue
      const { version, contentHash, sizeBytes } = found
      return { name: record.name, version, contentHash, sizeBytes }
    }
    return undefined
  }

  async listPackages(search: string | null, first: number, after: string | null): Promise<readonly string[]> {
    return [...this.#packages.keys()]
      .filter((name) => (search === null || name.includes(search)) && (after === null || name > after))
      .toSorted(byCodeUnit)
      .slice(0, first)
  }

  async listExperts(search: string | null, first: number, after: string | null) {
    const wanted = search?.toLowerCase() ?? ''
    return [...this.#packages.values()]
      .flatMap(({ record }) => {
        const latest = record.versions.find((version) => version.version === record.tags['latest'])
        return (latest?.experts ?? []).map((card) => ({ card, packageName: record.name }))
      })
      .filter(({ card }) => after === null || card.name > after)
      .filter(({ card }) => `${card.name}\n${card.description}`.toLowerCase().includes(wanted))
      .toSorted((a, b) => byCodeUnit(a.card.name, b.card.name))
      .slice(0, first)
      .map(({ card, packageName }) => ({ name: card.name, packageName }))
  }

  async listSkills(search: string | null, first: number, after: string | null): Promise<readonly string[]> {
    const wanted = search?.toLowerCase() ?? ''
    return [...this.#packages.values()]
      .filter(({ record: { name, tags, versions } }) => {
        const manifest = versions.find(({ version }) => version === tags['latest'])?.manifest ?? {}
        const { description } = manifest
        const said = `${name}\n${typeof description === 'string' ? description : ''}`.toLowerCase()
        return saysSkill(manifest) && said.includes(wanted) && (after === null || name > after)
      })
      .map(({ record }) => record.name)
      .toSorted(byCodeUnit)
      .slice(0, first)
  }

  #owned(name: string, owner: ApplicationId): Kept | Refusal {
    const kept = this.#packages.get(name)
    if (kept === undefined) return refuse('package_not_found', `No package is named ${name}.`)
    return kept.record.owner === owner ? kept : this.#taken(name)
  }

  #taken(name: string): Refusal {
    return refuse('name_taken', `${name} belongs to another application.`)
  }

  #unknown(name: string, version: string): Refusal {
    return refuse('version_not_found', `${name} has no version ${version}.`)
  }
}
