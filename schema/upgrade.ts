/**
 * Old logs for ever: an event of an older version is made into one of this version where it is read, by one pure step
 * for each version between. The log keeps what it holds, and hashes are over that.
 *
 * UP1 An upgraded event keeps its place, its moment and its hashes, and what the log holds goes along with it.
 * UP2 An event of this version is what it is; one of a later version is refused, never guessed at.
 */
import { PlatformError } from './error.ts'
import type { JobEvent, StoredForm } from './event.ts'

/** An event as a log holds it: of any version, and of whatever shape that version had. */
export type StoredEvent = Omit<JobEvent, 'v' | 'type' | 'data' | 'stored'> & StoredForm

/** From the version that stands at its place in the list (1 first) to the next. Pure; it never reads `v`. */
export type Upgrade = (event: Pick<StoredEvent, 'type' | 'data' | 'runId' | 'at'>) => Pick<StoredForm, 'type' | 'data'>

/** What led from version 1 to this one. Never changed once a log may have been read with it, only added to. */
export const UPGRADES: readonly Upgrade[] = []

/** The event in this version. Throws `log_too_new`. */
export function upgradeEvent(event: StoredEvent, upgrades: readonly Upgrade[] = UPGRADES): JobEvent {
  const { v } = event
  const current = upgrades.length + 1
  if (!Number.isInteger(v) || v < 1 || v > current)
    throw new PlatformError(
      'log_too_new',
      `Event ${event.seq} of job ${event.jobId} is of version ${v}; this Senmon reads versions 1 to ${current}.`,
    )
  // What the current version writes: whoever wrote it was of these types.
  if (v === current) return event as JobEvent
  const { type, data } = event
  let form: Pick<StoredForm, 'type' | 'data'> = { type, data }
  for (const upgrade of upgrades.slice(v - 1)) form = upgrade({ ...event, ...form })
  return { ...event, ...form, v: current, stored: { v, type, data } } as JobEvent
}

/** The event as the log holds it. */
export function storedEvent(event: JobEvent): StoredEvent {
  const { stored, ...rest } = event
  return stored === undefined ? rest : { ...rest, ...stored }
}
