/**
 * The append that a step makes: a few events, and nothing said of the lease or of a repeated request. The same rows as
 * by the append for every case, for less work on both ends: no arrays to print, parse and unnest, hashes as bytes.
 */
import type { Sha256 } from '../../schema/hash.ts'
import type { StoredEvent } from '../../schema/upgrade.ts'

/** More events than this go by the other statement: each number has a statement of its own, prepared once. */
const EVENTS_MAX = 4

const TYPES = ['int', 'smallint', 'text', 'text', 'text', 'int', 'bigint', 'json', 'bytea', 'bytea']
const FIRST = 10

function rowAt(index: number): string {
  return `(${TYPES.map((type, i) => `$${FIRST + index * TYPES.length + i}::${type}`).join(', ')})`
}

const statements = Array.from({ length: EVENTS_MAX + 1 }, (_, count) => {
  const rows = Array.from({ length: count }, (_, index) => rowAt(index))
  return `
  with job as (
    update jobs set status = $4, state = $5::json, revision = $6, head_hash = $7::bytea, due_at = $9::bigint
    where id = $1 and revision = $2 and head_hash = $3::bytea and ($8::int is null or lease_fence = $8::int)
    returning id
  )
  insert into job_events (job_id, seq, v, type, run_id, expert_key, step_number, at, data, prev_hash, hash)
  select job.id, e.* from job, (values ${rows.join(', ')}) as e returning seq`
})

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
}

/** A statement and its values, which gives a row for each event when the head and the fence were as expected. */
export function plainAppend(
  { jobId, expected, status, state, revision, hash, fence, dueAt }: PlainAppend,
  events: readonly StoredEvent[],
): readonly [text: string, values: readonly unknown[]] | undefined {
  const text = events.length === 0 ? undefined : statements[events.length]
  if (text === undefined) return undefined
  const values: unknown[] = [jobId, expected.revision, bytesOf(expected.hash), status, state]
  values.push(revision, bytesOf(hash), fence, dueAt)
  for (const event of events) {
    values.push(event.seq, event.v, event.type, event.runId, event.expertKey, event.stepNumber, event.at)
    values.push(JSON.stringify(event.data), bytesOf(event.prevHash), bytesOf(event.hash))
  }
  return [text, values]
}

function bytesOf(hash: Sha256): Buffer {
  return Buffer.from(hash, 'hex')
}
