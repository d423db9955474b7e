/** Published experts, read from the records that the registry keeps and from the tarballs in the content store. */
import { Parser, type ReadEntry } from 'tar'
import { refuse, type Refusal } from '../../schema/error.ts'
import { parseExpertKey, printExpertKey, type ParsedExpertKey } from '../../schema/expert-key.ts'
import type { Integrity, Lock } from '../../schema/lock.ts'
import type { PackageRecord, PackageStore } from '../../schema/package-store.ts'
import { newestFirst, pickVersion } from '../../schema/version-spec.ts'
import type { ExpertSource, PublishedExpert } from '../expert/expert-source.ts'
import type { ContentStore } from '../workspace/content-store.ts'

export interface NpmExpertSourceOptions {
  readonly packages: PackageStore
  readonly content: Pick<ContentStore, 'get'>
}

/** Unpacked bytes of recently read packages that are kept in memory. */
const CACHE_BYTES_MAX = 32 * 1024 * 1024

type Files = ReadonlyMap<string, Uint8Array>

export function openNpmExpertSource({ packages, content }: NpmExpertSourceOptions): ExpertSource {
  const cache = new TarballCache(async (integrity) => {
    const found = await packages.findTarball(integrity)
    return found === undefined ? undefined : readTarball(await content.get(found.contentHash))
  })

  async function locate(expertKey: string): Promise<Located | Refusal> {
    const key = parseExpertKey(expertKey)
    if (key === undefined) return refuse('expert_key_invalid', `${shown(expertKey)} is not an expert key.`)
    const record = await packages.find(key.packageName)
    if (record === undefined) return refuse('expert_not_found', `No expert named ${key.name} is published here.`)
    const version = pickVersion(record, key.spec)
    if (version !== undefined) return { key, record, version }
    const there = newestFirst(record.versions.map((known) => known.version)).slice(0, 10)
    return refuse('version_not_found', `${key.name} has no version ${key.spec}; there are ${there.join(', ')}.`)
  }

  async function find(expertKey: string): Promise<PublishedExpert | undefined> {
    const located = await locate(expertKey)
    return 'refused' in located ? undefined : describe(located)
  }

  return {
    async resolve(expertKey): Promise<Lock | Refusal> {
      const located = await locate(expertKey)
      if ('refused' in located) return located
      const { key, version } = located
      const lock = await packages.findLock(key.packageName, version, key.name)
      return lock ?? refuse('expert_not_found', `${key.packageName}@${version} publishes no expert named ${key.name}.`)
    },
    find,
    async list(search, first, after) {
      const names = await packages.listExperts(search, first, after)
      const experts = await Promise.all(names.map(({ name }) => find(name)))
      return experts.filter((expert) => expert !== undefined)
    },
    async readFile(integrity, path) {
      if (!integrity.startsWith('sha512-')) return undefined
      // The check above is what makes it one.
      return (await cache.get(integrity as Integrity))?.get(path)
    },
  }
}

interface Located {
  readonly key: ParsedExpertKey
  readonly record: PackageRecord
  readonly version: string
}

function shown(text: string): string {
  return JSON.stringify(text.length > 80 ? `${text.slice(0, 77)}...` : text)
}

function describe({ key, record, version }: Located): PublishedExpert | undefined {
  const published = record.versions.find((known) => known.version === version)
  const card = published?.experts.find((known) => known.name === key.name)
  if (published === undefined || card === undefined) return undefined
  return {
    key: printExpertKey(card.name, version),
    name: card.name,
    version,
    description: card.description,
    packageName: record.name,
    integrity: published.integrity,
    owner: record.owner,
    model: card.model,
    delegates: card.delegates,
    skills: card.skills,
    tags: card.tags,
    versions: newestFirst(record.versions.map((known) => known.version)),
    publishedAt: published.publishedAt,
  }
}

/** The files of a tarball that the gate has let in, by path without `package/`. */
async function readTarball(bytes: Uint8Array): Promise<Files> {
  const files = new Map<string, Uint8Array>()
  return new Promise((resolve, reject) => {
    const parser = new Parser({ strict: true })
    parser.on('entry', (entry: ReadEntry) => {
      const chunks: Buffer[] = []
      entry.on('data', (chunk: Buffer) => chunks.push(chunk))
      entry.on('end', () => {
        if (entry.type === 'File') files.set(entry.path.replace(/^package\//, ''), Buffer.concat(chunks))
      })
    })
    parser.on('error', reject)
    parser.on('end', () => resolve(files))
    parser.end(Buffer.from(bytes))
  })
}

/** Recently read tarballs, the oldest forgotten first; content under an integrity never changes. */
class TarballCache {
  readonly #read: (integrity: Integrity) => Promise<Files | undefined>
  readonly #kept = new Map<Integrity, { readonly files: Files; readonly bytes: number }>()
  #bytes = 0

  constructor(read: (integrity: Integrity) => Promise<Files | undefined>) {
    this.#read = read
  }

  async get(integrity: Integrity): Promise<Files | undefined> {
    const before = this.#kept.get(integrity)
    if (before !== undefined) {
      this.#kept.delete(integrity)
      this.#kept.set(integrity, before)
      return before.files
    }
    const files = await this.#read(integrity)
    if (files !== undefined && !this.#kept.has(integrity)) this.#keep(integrity, files)
    return files
  }

  #keep(integrity: Integrity, files: Files): void {
    const bytes = [...files.values()].reduce((sum, file) => sum + file.length, 0)
    if (bytes > CACHE_BYTES_MAX) return
    this.#kept.set(integrity, { files, bytes })
    this.#bytes += bytes
    for (const [oldest, kept] of this.#kept) {
      if (this.#bytes <= CACHE_BYTES_MAX) return
      this.#kept.delete(oldest)
      this.#bytes -= kept.bytes
    }
  }
}
