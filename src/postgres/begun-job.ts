/**
 * The creation of a job that begins with it, where nothing else waits: one statement, hence one commit, which looks
 * whether it may and writes one of two rows, with as many of the events (L7).
 */
import type { Sha256 } from '../../schema/hash.ts'
import type { StoredEvent } from '../../schema/upgrade.ts'
import type { Lease } from '../job/lease.ts'
import { bytesOf, EVENT_COLUMNS, EVENT_VALUES, eventRows, eventValues } from './event-rows.ts'
import type { Statement } from './ridden.ts'
import { waitingJobs } from './waiting-jobs.ts'

/** Values before those of the events, and with a quota. */
const ROW_VALUES = 20
const QUOTA_VALUES = 22

/** Without a quota any job that waits could be claimed. */
const MAY_BEGIN = `
  with look as materialized (
    select not exists (select from jobs where status = 'queued') and not exists (
      select from jobs where status = 'running' and (lease_until is null or lease_until <= $19::bigint)
    ) as may
  )`
/** With one, those of applications that have theirs wait for none but their own. */
const MAY_BEGIN_UNDER_QUOTA = `${waitingJobs(19, 21, 22)}, look as materialized (
    select not exists (select from ranked where place < $22::int)
      and coalesce((select held from shares where application_id = $2::text), 0) < $22::int as may
  )`

const beforeOf = (hasQuota: boolean): string => `
  ${hasQuota ? MAY_BEGIN_UNDER_QUOTA : MAY_BEGIN}, idempotency as (
    insert into idempotency_keys (application_id, key_hash, request_hash, job_id)
    select $2::text, $6::bytea, $7::bytea, $1::text where $6::bytea is not null
    on conflict do nothing returning 1
  ), job as (
    insert into jobs (id, application_id, user_id, expert_name, lock_hash, status, state, revision, head_hash, due_at,
      lease_holder, lease_fence, lease_until)
    select $1::text, $2::text, $3::text, $4::text, $5::bytea, row.* from look cross join lateral (
      select $8::text, $9::json, $10::int, $11::bytea, $20::bigint, $16::text, $17::int, $18::bigint where may
      union all
      select $12::text, $13::json, $14::int, $15::bytea, $20::bigint, null, null, null where not may
    ) as row
    where $6::bytea is null or exists (select from idempotency)
    returning id, revision
  )`

function statementOf(count: number, hasQuota: boolean): Statement {
  const rowValues = hasQuota ? QUOTA_VALUES : ROW_VALUES
  const insert = `
  insert into job_events (${EVENT_COLUMNS})
  select job.id, e.* from job, ${eventRows(1 + rowValues, count)} as e (seq) where e.seq <= job.revision returning seq`
  const leased = 'select from job where revision = $10::int'
  return { before: beforeOf(hasQuota), insert, leased, count: rowValues + count * EVENT_VALUES }
}

/** By the number of events; each is prepared once. */
const statements = [new Map<number, Statement>(), new Map<number, Statement>()] as const

/** A row of the job: how it is. */
export interface JobState {
  readonly status: string
  /** The job as JSON text. */
  readonly state: string
  readonly revision: number
  readonly hash: Sha256
}

export interface BegunJob {
  readonly jobId: string
  readonly applicationId: string
  readonly userId: string | null
  readonly expertName: string
  readonly lockHash: Sha256
  readonly request: { readonly keyHash: Sha256; readonly requestHash: Sha256 } | null
  readonly begun: JobState & { readonly lease: Lease }
  readonly queued: JobState
  /** Epoch ms that other leases are held against. */
  readonly now: number
  readonly quota: number | null
  readonly dueAt: number | null
}

/** A statement and its values, which gives a row for each event that it wrote: all of them where the job has begun. */
export function begunJob(
  job: BegunJob,
  events: readonly StoredEvent[],
): readonly [statement: Statement, values: readonly unknown[]] {
  const { begun, queued, request } = job
  const hasQuota = job.quota !== null
  const known = statements[hasQuota ? 1 : 0]
  let statement = known.get(events.length)
  if (statement === undefined) known.set(events.length, (statement = statementOf(events.length, hasQuota)))
  const values = [
    job.jobId,
    job.applicationId,
    job.userId,
    job.expertName,
    bytesOf(job.lockHash),
    request === null ? null : bytesOf(request.keyHash),
    request === null ? null : bytesOf(request.requestHash),
    begun.status,
    begun.state,
    begun.revision,
    bytesOf(begun.hash),
    queued.status,
    queued.state,
    queued.revision,
    bytesOf(queued.hash),
    begun.lease.holder,
    begun.lease.fence,
    begun.lease.until,
    job.now,
    job.dueAt,
    ...(hasQuota ? [1, job.quota] : []),
    ...eventValues(events),
  ]
  return [statement, values]
}
