/** A few events as the rows of a VALUES list: no arrays to print, parse and unnest, hashes as bytes. */
import type { Sha256 } from '../../schema/hash.ts'
import type { StoredEvent } from '../../schema/upgrade.ts'

export const EVENT_COLUMNS = 'job_id, seq, v, type, run_id, expert_key, step_number, at, data, prev_hash, hash'
const TYPES = ['int', 'smallint', 'text', 'text', 'text', 'int', 'bigint', 'json', 'bytea', 'bytea']
/** Values of one event. */
export const EVENT_VALUES = TYPES.length

/** `(values …)` for as many events, whose first value is `$first`; columns as in EVENT_COLUMNS, without the job's id. */
export function eventRows(first: number, count: number): string {
  const rows = Array.from({ length: count }, (_, index) => {
    const columns = TYPES.map((type, i) => `$${first + index * TYPES.length + i}::${type}`)
    return `(${columns.join(', ')})`
  })
  return `(values ${rows.join(', ')})`
}

export function eventValues(events: readonly StoredEvent[]): readonly unknown[] {
  const values: unknown[] = []
  for (const event of events) {
    values.push(event.seq, event.v, event.type, event.runId, event.expertKey, event.stepNumber, event.at)
    values.push(JSON.stringify(event.data), bytesOf(event.prevHash), bytesOf(event.hash))
  }
  return values
}

export function bytesOf(hash: Sha256): Buffer {
  return Buffer.from(hash, 'hex')
}
