/**
 * Every table. Migrations make them; a test holds both together. What came from outside is `json`, not `jsonb`: it
 * keeps a text to the letter, NUL escapes included, which a hash over it needs. Hashes rest as bytes: half the size.
 */
import { defineEntity, p } from '@mikro-orm/core'

const id = () => p.text().collation('C')
const moment = () => p.bigint('number')

/** Written once by `ensure`; read on every request; never deleted. */
export const ApplicationEntity = defineEntity({
  name: 'ApplicationEntity',
  tableName: 'applications',
  properties: { id: id().primary(), name: p.text().unique('applications_name_unique'), createdAt: moment() },
})

/** Written when a key is made, updated when it is revoked; read on every request; never deleted. */
export const ApiKeyEntity = defineEntity({
  name: 'ApiKeyEntity',
  tableName: 'api_keys',
  properties: {
    id: id().primary(),
    applicationId: id(),
    secretHash: p.text(),
    scopes: p.json<string[]>(),
    revokedAt: moment().nullable(),
  },
})

/**
 * A job's row: the fold of its log, the log's head, the lease. Inserted by `create`, updated by `append` and `renew`,
 * read by everyone who acts on a job; never deleted. The columns beside `state` are what filters and conditions need.
 */
export const JobEntity = defineEntity({
  name: 'JobEntity',
  tableName: 'jobs',
  properties: {
    id: id().primary(),
    applicationId: id(),
    userId: p.text().nullable(),
    status: p.text(),
    expertName: p.text(),
    state: p.json<object>().columnType('json'),
    revision: p.integer(),
    headHash: p.blob(),
    lockHash: p.blob(),
    leaseHolder: p.text().nullable(),
    leaseFence: p.integer().nullable(),
    leaseUntil: moment().nullable(),
    dueAt: moment().nullable(),
  },
  indexes: [
    {
      name: 'jobs_due',
      expression: `create index "jobs_due" on "jobs" ("due_at") where due_at is not null`,
    },
    { name: 'jobs_newest', properties: ['applicationId', 'id'] },
    {
      name: 'jobs_queued',
      expression: `create index "jobs_queued" on "jobs" ("application_id", "id") where status = 'queued'`,
    },
    {
      name: 'jobs_running',
      expression: `create index "jobs_running" on "jobs" ("application_id", "id") where status = 'running'`,
    },
  ],
})

/** The log. Inserted by `create` and `append` together with the job's row; read in order; never updated or deleted. */
export const JobEventEntity = defineEntity({
  name: 'JobEventEntity',
  tableName: 'job_events',
  properties: {
    jobId: id().primary(),
    seq: p.integer().primary(),
    v: p.smallint(),
    type: p.text(),
    runId: p.text().nullable(),
    expertKey: p.text().nullable(),
    stepNumber: p.integer().nullable(),
    at: moment(),
    data: p.json<object>().columnType('json'),
    prevHash: p.blob(),
    hash: p.blob(),
  },
})

/** Inserted by `create` and `append` with what the request did; read when the key comes again; never deleted. */
export const IdempotencyKeyEntity = defineEntity({
  name: 'IdempotencyKeyEntity',
  tableName: 'idempotency_keys',
  properties: { applicationId: id().primary(), keyHash: p.blob().primary(), requestHash: p.blob(), jobId: id() },
})

/** Sealed values only. Written by `put`, read when a skill or provider needs one, deleted by `delete`. */
export const SecretEntity = defineEntity({
  name: 'SecretEntity',
  tableName: 'secrets',
  properties: { applicationId: id().primary(), name: id().primary(), sealed: p.blob(), updatedAt: moment() },
})

/** An application's data key under the master key. Inserted by its first secret; never changed or deleted. */
export const DataKeyEntity = defineEntity({
  name: 'DataKeyEntity',
  tableName: 'data_keys',
  properties: { applicationId: id().primary(), sealed: p.blob() },
})

/** A name and its owner. Inserted by the first publication; `modifiedAt` moves with every change; never deleted. */
export const PackageEntity = defineEntity({
  name: 'PackageEntity',
  tableName: 'packages',
  properties: { name: id().primary(), owner: id(), modifiedAt: moment() },
})

/** Inserted by a publication; afterwards only `deprecated` may change; never deleted. `seq` is the order of publication. */
export const PackageVersionEntity = defineEntity({
  name: 'PackageVersionEntity',
  tableName: 'package_versions',
  properties: {
    packageName: id().primary(),
    version: id().primary(),
    seq: p.integer(),
    integrity: p.text(),
    shasum: p.text(),
    contentHash: p.text(),
    sizeBytes: p.bigint('number'),
    unpackedBytes: p.bigint('number'),
    fileCount: p.integer(),
    manifest: p.json<object>().columnType('json'),
    experts: p.json<object[]>().columnType('json'),
    deprecated: p.text().nullable(),
    publishedAt: moment(),
  },
  indexes: [{ name: 'package_versions_integrity', properties: ['integrity'] }],
})

/** The lock of each expert of a version. Inserted by its publication; read when a job is created; never changed. */
export const PackageLockEntity = defineEntity({
  name: 'PackageLockEntity',
  tableName: 'package_locks',
  properties: {
    packageName: id().primary(),
    version: id().primary(),
    expertName: id().primary(),
    lock: p.json<object>().columnType('json'),
  },
})

/** dist-tags. Written by publications and `setTag`, deleted by `deleteTag`, never `latest`. */
export const PackageTagEntity = defineEntity({
  name: 'PackageTagEntity',
  tableName: 'package_tags',
  properties: { packageName: id().primary(), tag: id().primary(), version: id() },
})

/**
 * A machine of a pool, and what is to be asked of its provider (`verb`, `not_before`, `tries`). Inserted when it is
 * ordered, updated with every state, deleted a while after it is gone. Its checks and its trigger keep D2, D3 and D4
 * of src/pool/pool-store.ts whatever is written here.
 */
export const MachineEntity = defineEntity({
  name: 'MachineEntity',
  tableName: 'machines',
  properties: {
    id: id().primary(),
    pool: id(),
    place: id(),
    generation: id(),
    state: id(),
    version: p.integer(),
    providerId: p.text().nullable(),
    bootId: p.text().nullable(),
    boots: p.integer(),
    tainted: p.integer(),
    jobId: id().nullable(),
    fence: p.integer().nullable(),
    linesUrl: p.text().nullable(),
    since: moment(),
    deadline: moment().nullable(),
    idleSince: moment().nullable(),
    uses: p.integer(),
    fault: p.text().nullable(),
    verb: p.text().nullable(),
    notBefore: moment().nullable(),
    tries: p.integer(),
    heldAt: moment().nullable(),
  },
  checks: [
    {
      name: 'machines_owned',
      expression: `("job_id" is not null and "fence" is not null) = ("state" in ('waking', 'busy'))`,
    },
    {
      name: 'machines_clean',
      expression: `"boots" > "tainted" or "state" in ('busy', 'stopping', 'quarantined', 'retiring', 'gone')`,
    },
    { name: 'machines_used', expression: `"state" <> 'busy' or "boots" = "tainted"` },
  ],
  triggers: [
    {
      name: 'stay_tainted',
      timing: 'before',
      events: ['update'],
      body: `if new.tainted < old.tainted or new.boots < old.boots or (new.boots > old.boots and not (old.state = 'stopping' and new.state = 'reserve')) or (old.state = 'gone' and new.state <> 'gone') then raise exception 'machine % cannot become clean by going from % to %', old.id, old.state, new.state using errcode = 'check_violation'; end if; return new`,
    },
  ],
  indexes: [
    {
      name: 'machines_one_owner',
      expression: `create unique index "machines_one_owner" on "machines" ("job_id", "fence") where job_id is not null`,
    },
    {
      name: 'machines_one_active',
      expression: `create unique index "machines_one_active" on "machines" ("job_id") where state in ('waking', 'busy')`,
    },
    {
      name: 'machines_claimable',
      expression: `create index "machines_claimable" on "machines" ("pool", "generation", "state", "idle_since" desc nulls last, "id") where state in ('creating', 'booting', 'hot', 'suspending', 'ready', 'reserve') and boots > tainted`,
    },
    {
      name: 'machines_due',
      expression: `create index "machines_due" on "machines" ("pool", "not_before") where verb is not null`,
    },
    {
      name: 'machines_held',
      expression: `create index "machines_held" on "machines" ("pool", "held_at") where held_at is not null`,
    },
  ],
})

/** Who leads a pool, and since which epoch. Inserted by the first leader, updated by each renewal; never deleted. */
export const PoolLeadEntity = defineEntity({
  name: 'PoolLeadEntity',
  tableName: 'pool_leads',
  properties: { pool: id().primary(), holder: p.text(), epoch: p.integer(), until: moment() },
})

/** What each process says of a pool. Replaced every few seconds by that process, read by operators, forgotten in an hour. */
export const PoolReportEntity = defineEntity({
  name: 'PoolReportEntity',
  tableName: 'pool_reports',
  properties: {
    pool: id().primary(),
    holder: id().primary(),
    at: moment(),
    report: p.json<object>().columnType('json'),
  },
})

/** What who leads a pool expects of it. Replaced now and then by who leads; never deleted. */
export const PoolExpectationEntity = defineEntity({
  name: 'PoolExpectationEntity',
  tableName: 'pool_expectations',
  properties: { pool: id().primary(), kept: p.json<object>().columnType('json') },
})

/** Until when turns are taken at what all processes ask together, epoch ms of the database's clock. One row for each thing; never deleted. */
export const TurnEntity = defineEntity({
  name: 'TurnEntity',
  tableName: 'turns',
  properties: { subject: id().primary(), freeAt: p.double() },
})

export const ENTITIES = [
  ApplicationEntity,
  ApiKeyEntity,
  JobEntity,
  JobEventEntity,
  IdempotencyKeyEntity,
  SecretEntity,
  DataKeyEntity,
  PackageEntity,
  PackageVersionEntity,
  PackageLockEntity,
  PackageTagEntity,
  MachineEntity,
  PoolLeadEntity,
  PoolReportEntity,
  PoolExpectationEntity,
  TurnEntity,
]
