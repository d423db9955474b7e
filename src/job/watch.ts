/**
 * Watching a job: a cursor and a wake-up. All that is queued per subscriber is a few deltas, which may be lost, and at
 * most one page of events that this process appended; whoever is behind by more reads the log.
 *
 * W1 What a watch delivers after `after` is the log after `after`, each event once, in order.
 * W2 A watch ends when the log ends with jobFinished or jobImported and all of it is delivered, or its signal aborts.
 * W3 A delta of a generation is never shown after that generation's own event.
 */
import { PlatformError } from '../../schema/error.ts'
import type { JobEvent } from '../../schema/event.ts'
import type { ApplicationId, JobId } from '../../schema/id.ts'
import type { JobLog } from './job-log.ts'

/** Events that a watch holds at a time. */
const PAGE_EVENTS = 100
/** Deltas that wait for a slow reader; further ones are dropped, since the event brings the whole text. */
const DELTAS_MAX = 64

/** A fragment of streamed output, or a tool's word of its progress: shown to whoever watches, never stored. */
export interface Delta {
  readonly type: 'delta'
  readonly jobId: JobId
  readonly runId: string
  readonly expertKey: string
  readonly stepNumber: number
  readonly kind: 'text' | 'reasoning' | 'progress'
  readonly text: string
}

/** Where the deltas of this process meet its watchers. */
export interface DeltaHub {
  show(delta: Delta): void
  listen(jobId: JobId, take: (delta: Delta) => void): () => void
}

export function openDeltaHub(): DeltaHub {
  const takers = new Map<JobId, Set<(delta: Delta) => void>>()
  return {
    show(delta) {
      for (const take of takers.get(delta.jobId) ?? []) take(delta)
    },
    listen(jobId, take) {
      const all = takers.get(jobId) ?? new Set()
      takers.set(jobId, all.add(take))
      return () => {
        all.delete(take)
        if (all.size === 0 && takers.get(jobId) === all) takers.delete(jobId)
      }
    },
  }
}

/** Throws `job_not_found` on the first read when the application has no such job. */
export async function* watchJob(
  { log, hub }: { readonly log: Pick<JobLog, 'find' | 'read' | 'onAppend'>; readonly hub: DeltaHub },
  applicationId: ApplicationId,
  jobId: JobId,
  after: number,
  signal: AbortSignal,
): AsyncGenerator<JobEvent | Delta, void, void> {
  let wake = (): void => {}
  let dirty = true
  let deltas: Delta[] = []
  /** What this process appended since the last look, when that is all there is. */
  let fresh: JobEvent[] = []
  const hasNews = (): boolean => dirty || fresh.length > 0
  const stir = (appended: readonly JobEvent[] = []): void => {
    if (appended.length === 0 || fresh.length + appended.length > PAGE_EVENTS) dirty = true
    if (dirty) fresh = []
    else fresh.push(...appended)
    wake()
  }
  const next = async (cursor: number): Promise<readonly JobEvent[]> => {
    const known = fresh.filter(({ seq }) => seq > cursor)
    fresh = []
    if (!dirty && known.every(({ seq }, i) => seq === cursor + 1 + i)) return known
    dirty = false
    const page = await log.read(jobId, cursor, PAGE_EVENTS)
    // What comes after a page that is not full wakes us.
    dirty ||= page.length === PAGE_EVENTS
    return page
  }
  // Subscribed before the first read: what is appended in between is then read, not lost.
  const stopListening = hub.listen(jobId, (delta) => {
    if (deltas.length < DELTAS_MAX) deltas.push(delta)
    wake()
  })
  const stopWaking = log.onAppend(jobId, stir)
  const stop = (): void => stir()
  signal.addEventListener('abort', stop, { once: true })
  try {
    const stored = await log.find(jobId)
    if (stored?.job.applicationId !== applicationId)
      throw new PlatformError('job_not_found', `There is no job ${jobId}.`)
    let cursor = after
    // A cursor at or beyond the end of a finished job has nothing left to read that would say so.
    let hasEnded = stored.job.status === 'finished' && after >= stored.head.revision
    while (!signal.aborted) {
      while (hasNews() && !signal.aborted) {
        for (const event of await next(cursor)) {
          if (signal.aborted) return
          cursor = event.seq
          hasEnded = event.type === 'jobFinished' || event.type === 'jobImported'
          if (event.type === 'generated' || event.type === 'generationFailed') deltas = later(deltas, event)
          yield event
        }
      }
      if (hasEnded) return
      const [delta, ...rest] = deltas
      deltas = rest
      if (delta !== undefined) {
        yield delta
        continue
      }
      if (signal.aborted || hasNews()) continue
      await new Promise<void>((resolve) => {
        wake = resolve
      })
    }
  } finally {
    stopListening()
    stopWaking()
    signal.removeEventListener('abort', stop)
  }
}

/** The deltas that do not belong to a generation which is over. */
function later(deltas: readonly Delta[], over: JobEvent): Delta[] {
  return deltas.filter(({ runId, stepNumber }) => runId !== over.runId || stepNumber > (over.stepNumber ?? 0))
}
