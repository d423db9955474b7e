/**
 * The job log on Postgres. An append is one statement, hence one commit: it updates the job's row where the head, the
 * fence and the lease are as expected, and inserts the events from what it updated: all of it or nothing.
 *
 * When a connection breaks during an append, nobody knows whether it took effect. It is then tried again: the row's
 * lock waits for an attempt still under way, and where the head has moved the event in our place tells whose it was.
 */
import type { Clock } from '../../schema/clock.ts'
import { PlatformError } from '../../schema/error.ts'
import type { JobEvent } from '../../schema/event.ts'
import { sha256, type Sha256 } from '../../schema/hash.ts'
import type { ApplicationId, JobId } from '../../schema/id.ts'
import { storedEvent, upgradeEvent, UPGRADES, type StoredEvent, type Upgrade } from '../../schema/upgrade.ts'
import type { Beginning, Idempotency, JobDemand, JobFilter, JobLog, LogHead, Rider, StoredJob } from '../job/job-log.ts'
import { nextDueAt } from '../job/job-fold.ts'
import type { Job } from '../job/job.ts'
import type { Lease } from '../job/lease.ts'
import { begunJob } from './begun-job.ts'
import { ClaimRider } from './claim-rider.ts'
import { EVENT_COLUMNS } from './event-rows.ts'
import { plainAppend } from './plain-append.ts'
import { write, type Statement } from './ridden.ts'
import { brokenConstraint, retrying, type Sql } from './sql.ts'
import { waitingJobs } from './waiting-jobs.ts'
import type { WakeUps } from './wake-ups.ts'

/** The events as columns: arrays that `unnest` turns into rows. */
const UNNEST = (first: number) => {
  const types = ['int[]', 'int[]', 'text[]', 'text[]', 'text[]', 'int[]', 'bigint[]', 'text[]', 'text[]', 'text[]']
  return `unnest(${types.map((type, i) => `$${first + i}::${type}`).join(', ')})
    as e (seq, v, type, run_id, expert_key, step_number, at, data, prev_hash, hash)`
}
const UNNESTED = `seq, v, type, run_id, expert_key, step_number, at, data::json,
    decode(prev_hash, 'hex'), decode(hash, 'hex')`

const CREATE_BEFORE = `
  with idempotency as (
    insert into idempotency_keys (application_id, key_hash, request_hash, job_id)
    select $2, decode($9, 'hex'), decode($10, 'hex'), $1 where $9::text is not null
    on conflict do nothing returning 1
  ), job as (
    insert into jobs (id, application_id, user_id, status, expert_name, state, revision, head_hash, lock_hash, due_at)
    select $1, $2, $3, $4, $5, $6::json, $7, decode($8, 'hex'), decode($11, 'hex'), $22::bigint
    where $9::text is null or exists (select from idempotency) returning id
  )`
const insertUnnested = (first: number): string => `
  insert into job_events (${EVENT_COLUMNS})
  select job.id, ${UNNESTED} from job, ${UNNEST(first)} returning seq`
const NO_LEASE = 'select from job where false'
const CREATE = { before: CREATE_BEFORE, insert: insertUnnested(12), leased: NO_LEASE, count: 22 }

const APPEND_BEFORE = `
  with job as (
    update jobs set status = $4, state = $5::json, revision = $6, head_hash = decode($7, 'hex'), due_at = $26::bigint,
      lease_holder = case when $8::boolean then $9 else lease_holder end,
      lease_fence = case when $8::boolean then $10 else lease_fence end,
      lease_until = case when $8::boolean then $11 else lease_until end
    where id = $1 and revision = $2 and head_hash = decode($3, 'hex')
      and ($12::int is null or lease_fence = $12::int)
      and ($9::text is null or lease_until is null or lease_until <= $13::bigint)
    returning id, application_id
  ), idempotency as (
    insert into idempotency_keys (application_id, key_hash, request_hash, job_id)
    select application_id, decode($14, 'hex'), decode($15, 'hex'), id from job where $14::text is not null
  )`
const APPEND_LEASED = 'select from job where $9::text is not null'
const APPEND = { before: APPEND_BEFORE, insert: insertUnnested(16), leased: APPEND_LEASED, count: 26 }

const JOB_COLUMNS = `state, revision, encode(head_hash, 'hex') as head_hash, encode(lock_hash, 'hex') as lock_hash,
  lease_holder, lease_fence, lease_until::float8 as lease_until`
const FIND = `select ${JOB_COLUMNS} from jobs where id = $1`
const LIST = `
  select ${JOB_COLUMNS} from jobs
  where application_id = $1 and id < coalesce($2::text, '~') and ($3::text is null or status = $3)
    and ($4::text is null or expert_name = $4) and ($5::text is null or user_id = $5)
  order by id desc limit $6`
const WAITING = waitingJobs(1, 2, 3)
/**
 * To take the one with the fewest running, again and again, is to take them by the place that each would have (G1, G2).
 * Each row is found by its id, whatever the planner thought when the table was small: a plan is kept for long.
 */
const CLAIMABLE = `${WAITING}, next as (
    select id, place from ranked where $3::int is null or place < $3::int order by place, id limit $2::int
  )
  select ${JOB_COLUMNS} from next cross join lateral (select * from jobs where jobs.id = next.id limit 1) as jobs
  order by place, next.id`
const DEMAND = `${WAITING}
  select
    (select count(*)::int from (select from ranked where $3::int is null or place < $3::int limit $2::int) as few) as queued,
    (select count(*)::int from running where not ended) as running`
const DEMAND_MAX = 10_000
const DUE = `select ${JOB_COLUMNS} from jobs where due_at <= $1 order by due_at limit $2`
const RENEW = 'update jobs set lease_until = $3 where id = $1 and lease_fence = $2 returning id'
const READ = `
  select job_id, seq, v, type, run_id, expert_key, step_number, at::float8 as at, data,
    encode(prev_hash, 'hex') as prev_hash, encode(hash, 'hex') as hash
  from job_events where job_id = $1 and seq > $2 order by seq limit $3`
const FIND_REQUEST = `
  select job_id, encode(request_hash, 'hex') as request_hash from idempotency_keys
  where application_id = $1 and key_hash = decode($2, 'hex')`

interface JobRow {
  readonly state: Job
  readonly revision: number
  readonly head_hash: Sha256
  readonly lock_hash: Sha256
  readonly lease_holder: string | null
  readonly lease_fence: number | null
  readonly lease_until: number | null
}

interface EventRow {
  readonly job_id: JobId
  readonly seq: number
  readonly v: number
  readonly type: string
  readonly run_id: string | null
  readonly expert_key: string | null
  readonly step_number: number | null
  readonly at: number
  readonly data: unknown
  readonly prev_hash: Sha256
  readonly hash: Sha256
}

function storedOf(row: JobRow): StoredJob {
  const { lease_holder: holder, lease_fence: fence, lease_until: until } = row
  const lease = holder === null || fence === null || until === null ? null : { holder, fence, until }
  return { job: row.state, head: { revision: row.revision, hash: row.head_hash }, lockHash: row.lock_hash, lease }
}

function eventOf(row: EventRow): StoredEvent {
  const { v, seq, type, at, data, hash } = row
  const place = { runId: row.run_id, expertKey: row.expert_key, stepNumber: row.step_number }
  // What `append` was given: the hash chain proves it, not this cast.
  return { v, jobId: row.job_id, seq, type, ...place, at, data, prevHash: row.prev_hash, hash } as StoredEvent
}

function columnsOf(events: readonly JobEvent[]): readonly unknown[] {
  // What a fork copies from an older log stays as it was written.
  const stored = events.map(storedEvent)
  const column = <Value>(value: (event: StoredEvent) => Value) => stored.map(value)
  return [
    column(({ seq }) => seq),
    column(({ v }) => v),
    column(({ type }) => type),
    column(({ runId }) => runId),
    column(({ expertKey }) => expertKey),
    column(({ stepNumber }) => stepNumber),
    column(({ at }) => at),
    column(({ data }) => JSON.stringify(data)),
    column(({ prevHash }) => prevHash),
    column(({ hash }) => hash),
  ]
}

function lastOf(jobId: JobId, events: readonly JobEvent[]): JobEvent {
  const last = events.at(-1)
  if (last === undefined) throw new TypeError(`an append to ${jobId} has no event`)
  return last
}

function headOf(jobId: JobId, events: readonly JobEvent[]): LogHead {
  const { seq: revision, hash } = lastOf(jobId, events)
  return { revision, hash }
}

type Written = readonly [statement: Statement, values: readonly unknown[]]

/** A job that is being created. */
interface Made {
  readonly job: Job
  readonly events: readonly JobEvent[]
  readonly lockHash: Sha256
  readonly idempotency: Idempotency | null
}

/** The statement of a creation, and its values. */
function creationOf({ job, events, lockHash, idempotency }: Made): Written {
  const { id, applicationId, userId, status, expertKey } = job
  const { revision, hash } = headOf(id, events)
  const request = idempotency === null ? [null, null] : [sha256(idempotency.key), idempotency.requestHash]
  const facts = [id, applicationId, textOf(userId), status, nameOf(expertKey), JSON.stringify(job), revision, hash]
  return [CREATE, [...facts, ...request, lockHash, ...columnsOf(events), nextDueAt(job)]]
}

/** The same of one that may begin with it. */
function beginningOf({ job, events, lockHash, idempotency }: Made, beginning: Beginning): Written {
  const { id: jobId, applicationId, userId, expertKey } = job
  const stateOf = (one: Job, written: readonly JobEvent[]) => {
    const { revision, hash } = headOf(jobId, written)
    return { status: one.status, state: JSON.stringify(one), revision, hash }
  }
  const row = {
    jobId,
    applicationId,
    userId: textOf(userId),
    expertName: nameOf(expertKey),
    lockHash,
    request: idempotency === null ? null : { keyHash: sha256(idempotency.key), requestHash: idempotency.requestHash },
    begun: { ...stateOf(beginning.job, beginning.events), lease: beginning.lease },
    queued: stateOf(job, events),
    now: lastOf(jobId, beginning.events).at,
    quota: beginning.quota,
    dueAt: nextDueAt(job),
  }
  return begunJob(row, [...events, ...beginning.events].map(storedEvent))
}

interface AppendChange {
  readonly lease?: Lease | null
  readonly rider?: Rider | undefined
  readonly idempotency?: Idempotency | null
}

/** The statement of an append, and its values. */
function statementOf(
  expected: LogHead,
  job: Job,
  events: readonly JobEvent[],
  fence: number | null,
  { lease, idempotency }: AppendChange,
): Written {
  const { seq: revision, hash, at } = lastOf(job.id, events)
  const state = JSON.stringify(job)
  if (!idempotency) {
    const { id: jobId, status } = job
    const row = { jobId, expected, status, state, revision, hash, fence, dueAt: nextDueAt(job), lease }
    const plain = plainAppend(row, events.map(storedEvent))
    if (plain !== undefined) return plain
  }
  const leased = [lease !== undefined, lease?.holder ?? null, lease?.fence ?? null, lease?.until ?? null, fence, at]
  const request = idempotency ? [sha256(idempotency.key), idempotency.requestHash] : [null, null]
  const facts = [job.id, expected.revision, expected.hash, job.status, state, revision, hash]
  return [APPEND, [...facts, ...leased, ...request, ...columnsOf(events), nextDueAt(job)]]
}

/** Riders are made by the store of pools on the same database. */
function riderOf(rider: Rider | undefined): ClaimRider | undefined {
  if (rider === undefined || rider instanceof ClaimRider) return rider
  throw new TypeError('a claim of another database cannot go in a commit of this one')
}

/** A text column holds no NUL. */
function textOf(value: string | null): string | null {
  return value?.replaceAll('\0', '\uFFFD') ?? null
}

/** An exact key's name: what stands before the last @. */
function nameOf(expertKey: string): string {
  return expertKey.slice(0, expertKey.lastIndexOf('@'))
}

function reused(idempotency: Idempotency, cause?: unknown): PlatformError {
  const message = `The idempotency key ${idempotency.key} was used for another request.`
  return new PlatformError('idempotency_key_reused', message, { cause })
}

export class PostgresJobLog implements JobLog {
  readonly #sql: Sql
  readonly #wakeUps: WakeUps
  readonly #clock: Clock
  readonly #upgrades: readonly Upgrade[]

  constructor(
    { sql, wakeUps }: { readonly sql: Sql; readonly wakeUps: WakeUps },
    clock: Clock,
    upgrades: readonly Upgrade[] = UPGRADES,
  ) {
    this.#sql = sql
    this.#wakeUps = wakeUps
    this.#clock = clock
    this.#upgrades = upgrades
  }

  async create(
    job: Job,
    events: readonly JobEvent[],
    lockHash: Sha256,
    idempotency: Idempotency | null,
    beginning: Beginning | null = null,
  ) {
    const { id, applicationId } = job
    const made: Made = { job, events, lockHash, idempotency }
    const statement = beginning === null ? creationOf(made) : beginningOf(made, beginning)
    const rider = riderOf(beginning?.rider)
    const written = await retrying(this.#clock, async (attempt) => {
      try {
        return await this.#write(statement, rider)
      } catch (cause) {
        // Only an attempt of ours whose answer was lost can have used this id: nobody knows which of two rows it wrote.
        if (attempt > 0 && brokenConstraint(cause) === 'jobs_pkey') return 0
        throw cause
      }
    })
    if (written === 0 && idempotency !== null) {
      const known = await this.findRequest(applicationId, idempotency.key)
      if (known?.requestHash !== idempotency.requestHash) throw reused(idempotency)
      if (known.jobId !== id) return { job: await this.#get(known.jobId), isNew: false }
    }
    const begun = beginning === null ? null : { ...beginning, head: headOf(id, beginning.events) }
    const hasBegun =
      begun !== null && (written > events.length || (written === 0 && (await this.#began(id, begun.head))))
    const {
      events: more,
      job: after,
      head,
      lease,
    } = hasBegun ? begun : { job, head: headOf(id, events), lease: null, events: [] }
    this.#wakeUps.announce(id, hasBegun ? [...events, ...more] : events, after.status === 'queued')
    return { job: { job: after, head, lockHash, lease }, isNew: true }
  }

  async append(
    expected: LogHead,
    job: Job,
    events: readonly JobEvent[],
    fence: number | null,
    change: AppendChange = {},
  ): Promise<LogHead> {
    const { revision, hash } = headOf(job.id, events)
    const { idempotency } = change
    const statement = statementOf(expected, job, events, fence, change)
    const rider = riderOf(change.rider)
    await retrying(this.#clock, async (attempt) => {
      try {
        if ((await this.#write(statement, rider)) > 0) return
      } catch (cause) {
        if (idempotency && brokenConstraint(cause) === 'idempotency_keys_pkey') throw reused(idempotency, cause)
        throw cause
      }
      if (attempt === 0 || !(await this.#holds(job.id, revision, hash))) await this.#refuse(job.id, expected, fence)
    })
    this.#wakeUps.announce(job.id, events, job.status === 'queued')
    return { revision, hash }
  }

  /** How many events were written. What breaks the rules of the pool stays undone, and costs no lease. */
  async #write([statement, values]: Written, rider: ClaimRider | undefined): Promise<number> {
    try {
      return await write(this.#sql, statement, values, rider)
    } catch (cause) {
      if (cause instanceof PlatformError && cause.code === 'database_unavailable') rider?.doubt()
      if (rider === undefined || brokenConstraint(cause)?.startsWith('machines_') !== true) throw cause
      return await write(this.#sql, statement, values, undefined)
    }
  }

  /** Whether a job whose creation's answer was lost has begun with it. */
  async #began(jobId: JobId, { revision, hash }: LogHead): Promise<boolean> {
    return await retrying(this.#clock, async () => await this.#holds(jobId, revision, hash))
  }

  /** True when the log has this very event: an attempt of ours took effect though its answer was lost. */
  async #holds(jobId: JobId, seq: number, hash: Sha256): Promise<boolean> {
    const [event] = await this.#sql.query<EventRow>(READ, [jobId, seq - 1, 1])
    return event?.seq === seq && event.hash === hash
  }

  /** Says why an append wrote nothing. */
  async #refuse(jobId: JobId, expected: LogHead, fence: number | null): Promise<never> {
    const { head, lease } = await this.#get(jobId)
    if (fence !== null && lease?.fence !== fence)
      throw new PlatformError('fence_stale', `Fence ${fence} no longer holds job ${jobId}.`)
    if (head.revision === expected.revision && head.hash === expected.hash)
      throw new PlatformError('revision_conflict', `Job ${jobId} is held by ${lease?.holder}.`)
    throw new PlatformError('revision_conflict', `Job ${jobId} is at ${head.revision}, not at ${expected.revision}.`)
  }

  async #get(jobId: JobId): Promise<StoredJob> {
    const stored = await this.find(jobId)
    if (stored === undefined) throw new PlatformError('job_not_found', `There is no job ${jobId}.`)
    return stored
  }

  async #rows<Row>(text: string, values: readonly unknown[]): Promise<readonly Row[]> {
    return retrying(this.#clock, () => this.#sql.query<Row>(text, values))
  }

  async findRequest(applicationId: ApplicationId, key: string) {
    const [row] = await this.#rows<{ job_id: JobId; request_hash: Sha256 }>(FIND_REQUEST, [applicationId, sha256(key)])
    return row === undefined ? undefined : { jobId: row.job_id, requestHash: row.request_hash }
  }

  async find(jobId: JobId): Promise<StoredJob | undefined> {
    const [row] = await this.#rows<JobRow>(FIND, [jobId])
    return row === undefined ? undefined : storedOf(row)
  }

  async list(applicationId: ApplicationId, filter: JobFilter, first: number, after: JobId | null) {
    const { status = null, expertName = null, userId = null } = filter
    const values = [applicationId, after, textOf(status), textOf(expertName), textOf(userId), first]
    return (await this.#rows<JobRow>(LIST, values)).map(storedOf)
  }

  async read(jobId: JobId, after: number, limit: number): Promise<readonly JobEvent[]> {
    const rows = await this.#rows<EventRow>(READ, [jobId, after, limit])
    return rows.map((row) => upgradeEvent(eventOf(row), this.#upgrades))
  }

  async claimable(now: number, limit: number, quota: number | null): Promise<readonly StoredJob[]> {
    return (await this.#rows<JobRow>(CLAIMABLE, [now, limit, quota])).map(storedOf)
  }

  async demand(now: number, quota: number | null): Promise<JobDemand> {
    const [row] = await this.#rows<JobDemand>(DEMAND, [now, DEMAND_MAX, quota])
    return { queued: row?.queued ?? 0, running: row?.running ?? 0 }
  }

  async due(now: number, limit: number): Promise<readonly StoredJob[]> {
    return (await this.#rows<JobRow>(DUE, [now, limit])).map(storedOf)
  }

  async renew(jobId: JobId, fence: number, until: number): Promise<boolean> {
    return (await this.#rows(RENEW, [jobId, fence, until])).length > 0
  }

  onAppend(jobId: JobId, wake: (appended?: readonly JobEvent[]) => void): () => void {
    return this.#wakeUps.onAppend(jobId, wake)
  }

  onClaimable(wake: () => void): () => void {
    return this.#wakeUps.onClaimable(wake)
  }
}
