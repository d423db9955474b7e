/**
 * The appends that most jobs are made of: a few events, perhaps a lease given or ended, and nothing of a repeated request.
 * The same rows as by the append for every case, for less work on both ends.
 */
import type { Sha256 } from '../../schema/hash.ts'
import type { StoredEvent } from '../../schema/upgrade.ts'
import type { Lease } from '../job/lease.ts'
import { bytesOf, EVENT_COLUMNS, EVENT_VALUES, eventRows, eventValues } from './event-rows.ts'
import type { Statement } from './ridden.ts'

/** More events than this go by the other statement: each number has a statement of its own, prepared once. */
const EVENTS_MAX = 4

/** Values before those of the events, and with a lease. */
const ROW_VALUES = 9
const LEASED_VALUES = 13

const LEASE = ', lease_holder = $10::text, lease_fence = $11::int, lease_until = $12::bigint'
/** A lease is given only where none is live at the moment of the new events. */
const UNHELD = 'and ($10::text is null or lease_until is null or lease_until <= $13::bigint)'

function statementOf(count: number, isLeased: boolean): Statement {
  const first = 1 + (isLeased ? LEASED_VALUES : ROW_VALUES)
  const before = `
  with job as (
    update jobs set status = $4, state = $5::json, revision = $6, head_hash = $7::bytea, due_at = $9::bigint${isLeased ? LEASE : ''}
    where id = $1 and revision = $2 and head_hash = $3::bytea and ($8::int is null or lease_fence = $8::int)
      ${isLeased ? UNHELD : ''}
    returning id
  )`
  const insert = `
  insert into job_events (${EVENT_COLUMNS})
  select job.id, e.* from job, ${eventRows(first, count)} as e returning seq`
  return { before, insert, leased: 'select from job', count: first - 1 + count * EVENT_VALUES }
}

const counts = Array.from({ length: EVENTS_MAX + 1 }, (_, count) => count)
const plain = counts.map((count) => statementOf(count, false))
const leased = counts.map((count) => statementOf(count, true))

/** What changes in the job's row. */
export interface PlainAppend {
  readonly jobId: string
  readonly expected: { readonly revision: number; readonly hash: Sha256 }
  readonly status: string
  /** The job as JSON text. */
  readonly state: string
  readonly revision: number
  readonly hash: Sha256
  /** null for an append that asks for no lease. */
  readonly fence: number | null
  readonly dueAt: number | null
  /** The lease that the row holds from now on, null for none; left out, it stays as it is. */
  readonly lease?: Lease | null | undefined
}

/** A statement and its values, which gives a row for each event when the head and the fence were as expected. */
export function plainAppend(
  { jobId, expected, status, state, revision, hash, fence, dueAt, lease }: PlainAppend,
  events: readonly StoredEvent[],
): readonly [statement: Statement, values: readonly unknown[]] | undefined {
  const last = events.at(-1)
  const statement = (lease === undefined ? plain : leased)[events.length]
  if (statement === undefined || last === undefined) return undefined
  const values: unknown[] = [jobId, expected.revision, bytesOf(expected.hash), status, state]
  values.push(revision, bytesOf(hash), fence, dueAt)
  if (lease !== undefined) values.push(lease?.holder ?? null, lease?.fence ?? null, lease?.until ?? null, last.at)
  values.push(...eventValues(events))
  return [statement, values]
}
