/**
 * Published packages on Postgres. Every change takes the lock of its package's row first, so that two of them on one
 * package come one after the other: what a change has read still holds when it writes.
 */
import type { Clock } from '../../schema/clock.ts'
import { refuse, type Refusal } from '../../schema/error.ts'
import { SKILL_KEYWORD } from '../../schema/expert-package.ts'
import type { ApplicationId } from '../../schema/id.ts'
import type { Integrity, Lock } from '../../schema/lock.ts'
import type {
  PackageRecord,
  PackageStore,
  PackageVersion,
  Publication,
  PublishedTarball,
} from '../../schema/package-store.ts'
import { retrying, type Sql } from './sql.ts'

interface VersionRow {
  readonly version: string
  readonly integrity: Integrity
  readonly shasum: string
  readonly content_hash: PackageVersion['contentHash']
  readonly size_bytes: number
  readonly unpacked_bytes: number
  readonly file_count: number
  readonly manifest: PackageVersion['manifest']
  readonly experts: PackageVersion['experts']
  readonly deprecated: string | null
  readonly published_at: number
}

/** Everything of a package in one statement, so that it is of one moment; tags and versions come as JSON. */
const FIND = `
  select name, owner, modified_at::float8 as modified_at,
    (select json_object_agg(tag, version order by tag) from package_tags where package_name = name) as tags,
    (select json_agg(json_build_object('version', version, 'integrity', integrity, 'shasum', shasum,
      'content_hash', content_hash, 'size_bytes', size_bytes, 'unpacked_bytes', unpacked_bytes,
      'file_count', file_count, 'manifest', manifest, 'experts', experts, 'deprecated', deprecated,
      'published_at', published_at) order by seq)
      from package_versions where package_name = name) as versions
  from packages where name = $1`

interface PackageRow {
  readonly name: string
  readonly owner: ApplicationId
  readonly modified_at: number
  readonly tags: Readonly<Record<string, string>> | null
  readonly versions: readonly VersionRow[] | null
}

const INSERT_VERSION = `
  insert into package_versions (package_name, version, seq, integrity, shasum, content_hash, size_bytes,
    unpacked_bytes, file_count, manifest, experts, published_at)
  select $1, $2, 1 + count(*), $3, $4, $5, $6, $7, $8, $9::json, $10::json, $11
  from package_versions where package_name = $1`

const UPSERT_TAG = `
  insert into package_tags (package_name, tag, version) values ($1, $2, $3)
  on conflict (package_name, tag) do update set version = excluded.version`

function versionOf(row: VersionRow): PackageVersion {
  return {
    version: row.version,
    integrity: row.integrity,
    shasum: row.shasum,
    contentHash: row.content_hash,
    sizeBytes: row.size_bytes,
    unpackedBytes: row.unpacked_bytes,
    fileCount: row.file_count,
    manifest: row.manifest,
    experts: row.experts,
    deprecated: row.deprecated,
    publishedAt: row.published_at,
  }
}

function taken(name: string): Refusal {
  return refuse('name_taken', `${name} belongs to another application.`)
}

/** Locks the package's row for the transaction; the refusal that an owner's verb gives otherwise. */
async function refuseStranger(sql: Sql, name: string, owner: ApplicationId): Promise<Refusal | undefined> {
  const [row] = await sql.query<{ owner: string }>('select owner from packages where name = $1 for update', [name])
  if (row === undefined) return refuse('package_not_found', `No package is named ${name}.`)
  return row.owner === owner ? undefined : taken(name)
}

async function touch(sql: Sql, name: string, at: number): Promise<void> {
  await sql.query('update packages set modified_at = $2 where name = $1', [name, at])
}

async function integrityOf(sql: Sql, name: string, version: string): Promise<string | undefined> {
  const select = 'select integrity from package_versions where package_name = $1 and version = $2'
  return (await sql.query<{ integrity: string }>(select, [name, version]))[0]?.integrity
}

/** A text that SQL can look into: it knows no NUL, and one in one card would make every search fail. */
function searchable(_: string, value: unknown): unknown {
  return typeof value === 'string' ? value.replaceAll('\0', '\uFFFD').toWellFormed() : value
}

async function publish(sql: Sql, { name, owner, version, locks, tags }: Publication) {
  const at = version.publishedAt
  await sql.query('insert into packages (name, owner, modified_at) values ($1, $2, $3) on conflict do nothing', [
    name,
    owner,
    at,
  ])
  const refusal = await refuseStranger(sql, name, owner)
  if (refusal !== undefined) return refusal
  const known = await integrityOf(sql, name, version.version)
  if (known === version.integrity) return 'same'
  if (known !== undefined) return refuse('version_frozen', `${name}@${version.version} is published with other bytes.`)
  const { integrity, shasum, contentHash, sizeBytes, unpackedBytes, fileCount, manifest, experts } = version
  const sizes = [sizeBytes, unpackedBytes, fileCount]
  const texts = [JSON.stringify(manifest), JSON.stringify(experts, searchable)]
  await sql.query(INSERT_VERSION, [name, version.version, integrity, shasum, contentHash, ...sizes, ...texts, at])
  for (const [expert, lock] of Object.entries(locks)) {
    const insert = 'insert into package_locks (package_name, version, expert_name, lock) values ($1, $2, $3, $4::json)'
    await sql.query(insert, [name, version.version, expert, JSON.stringify(lock)])
  }
  for (const tag of tags) await sql.query(UPSERT_TAG, [name, tag, version.version])
  const insert =
    "insert into package_tags (package_name, tag, version) values ($1, 'latest', $2) on conflict do nothing"
  await sql.query(insert, [name, version.version])
  await touch(sql, name, at)
  return 'published'
}

const LIST_PACKAGES = `
  select name from packages
  where ($1::text is null or strpos(name, $1) > 0) and name > coalesce($2::text, '')
  order by name limit $3`

const LIST_EXPERTS = `
  select card ->> 'name' as name, t.package_name
  from package_tags t join package_versions v on v.package_name = t.package_name and v.version = t.version,
    json_array_elements(v.experts) as card
  where t.tag = 'latest' and ($2::text is null or (card ->> 'name') collate "C" > $2)
    and ($1::text is null or strpos(lower((card ->> 'name') || E'\\n' || (card ->> 'description')), lower($1)) > 0)
  order by (card ->> 'name') collate "C" limit $3`

/**
 * Packages that say `saysSkill` of themselves. A manifest is as its author wrote it, and SQL cannot read what JSON may
 * hold: NUL and lone surrogates, which stand in it as escapes, are read as spaces.
 */
const LIST_SKILLS = `
  with said as materialized (
    select t.package_name as name,
      regexp_replace(v.manifest::text, '(?<!\\\\)((?:\\\\\\\\)*)\\\\u(?:0000|d[89a-f][0-9a-f]{2})', '\\1 ', 'g')::json as manifest
    from package_tags t join package_versions v on v.package_name = t.package_name and v.version = t.version
    where t.tag = 'latest' and t.package_name > coalesce($2::text, '')
      and (strpos(v.manifest::text, '"${SKILL_KEYWORD}"') > 0 or strpos(v.manifest::text, '"mcpName"') > 0)
  ), skills as (
    select name, case json_typeof(manifest -> 'description') when 'string' then manifest ->> 'description' else '' end as description
    from said
    where json_typeof(manifest -> 'mcpName') = 'string'
      or case json_typeof(manifest -> 'keywords') when 'array'
        then exists (select from json_array_elements(manifest -> 'keywords') as word where word::text = '"${SKILL_KEYWORD}"')
        else false end
  )
  select name from skills
  where $1::text is null or strpos(lower(name || E'\\n' || description), lower($1)) > 0
  order by name limit $3`

/**
 * A publication that lost its connection may have taken effect: it is tried again, and then it is the same bytes, so
 * the answer says `published` all the same. The other verbs may happen twice with the outcome of once.
 */
export function postgresPackageStore({ sql }: { readonly sql: Sql }, clock: Clock): PackageStore {
  const rows = async <Row>(text: string, values: readonly unknown[]) =>
    retrying(clock, () => sql.query<Row>(text, values))
  /** A verb of the owner's, under the package's lock. */
  const change = async <Done extends string>(
    name: string,
    owner: ApplicationId,
    at: number,
    work: (sql: Sql) => Promise<Done | Refusal>,
  ): Promise<Done | Refusal> =>
    retrying(clock, () =>
      sql.transaction(async (sql) => {
        const refusal = await refuseStranger(sql, name, owner)
        if (refusal !== undefined) return refusal
        const done = await work(sql)
        if (typeof done === 'string') await touch(sql, name, at)
        return done
      }),
    )
  const unknown = (name: string, version: string) => refuse('version_not_found', `${name} has no version ${version}.`)

  return {
    async find(name): Promise<PackageRecord | undefined> {
      const [row] = await rows<PackageRow>(FIND, [name])
      if (row?.versions == null) return undefined
      const { owner, modified_at: modifiedAt } = row
      return { name, owner, tags: row.tags ?? {}, versions: row.versions.map(versionOf), modifiedAt }
    },

    publish: async (publication) =>
      retrying(clock, async (attempt) => {
        const answer = await sql.transaction((sql) => publish(sql, publication))
        return answer === 'same' && attempt > 0 ? 'published' : answer
      }),

    setTag: async (name, owner, tag, version, at) =>
      change(name, owner, at, async (sql) => {
        if ((await integrityOf(sql, name, version)) === undefined) return unknown(name, version)
        await sql.query(UPSERT_TAG, [name, tag, version])
        return 'tagged'
      }),

    deleteTag: async (name, owner, tag, at) =>
      change(name, owner, at, async (sql) => {
        if (tag === 'latest') return refuse('package_invalid', `${name} always has a latest version.`)
        await sql.query('delete from package_tags where package_name = $1 and tag = $2', [name, tag])
        return 'deleted'
      }),

    deprecate: async (name, owner, version, message, at) =>
      change(name, owner, at, async (sql) => {
        const update = `
          update package_versions set deprecated = $3 where package_name = $1 and version = $2 returning version`
        const updated = await sql.query(update, [name, version, message])
        return updated.length === 0 ? unknown(name, version) : 'deprecated'
      }),

    async findLock(packageName, version, expertName): Promise<Lock | undefined> {
      const select = 'select lock from package_locks where package_name = $1 and version = $2 and expert_name = $3'
      return (await rows<{ lock: Lock }>(select, [packageName, version, expertName]))[0]?.lock
    },

    async findTarball(integrity): Promise<PublishedTarball | undefined> {
      const select = `
        select package_name as name, version, content_hash, size_bytes::float8 as size_bytes
        from package_versions where integrity = $1 order by package_name, seq limit 1`
      const [row] = await rows<Pick<VersionRow, 'version' | 'content_hash' | 'size_bytes'> & { name: string }>(select, [
        integrity,
      ])
      if (row === undefined) return undefined
      return { name: row.name, version: row.version, contentHash: row.content_hash, sizeBytes: row.size_bytes }
    },

    listPackages: async (search, first, after) =>
      (await rows<{ name: string }>(LIST_PACKAGES, [search, after, first])).map(({ name }) => name),

    async listExperts(search, first, after) {
      const found = await rows<{ name: string; package_name: string }>(LIST_EXPERTS, [search, after, first])
      return found.map(({ name, package_name: packageName }) => ({ name, packageName }))
    },

    listSkills: async (search, first, after) =>
      (await rows<{ name: string }>(LIST_SKILLS, [search, after, first])).map(({ name }) => name),
  }
}
