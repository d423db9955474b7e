/**
 * Streams of a job for one subscriber. Nothing is queued: each is a cursor over the log that reads when it is asked.
 *
 * SB1 A stream ends when its signal aborts or its reader returns, also while it waits for an event.
 * SB2 Nothing is delivered on a key that is known to be revoked (AP4), and an idle stream notices within LIVE_CHECK_MS.
 * SB3 A job of another application is as unknown as one that never was.
 */
import type { Clock } from '../../schema/clock.ts'
import { PlatformError } from '../../schema/error.ts'
import type { EventType } from '../../schema/event.ts'
import { parseId, type JobId } from '../../schema/id.ts'
import type { Applications, Caller } from '../application/applications.ts'
import { openCheckpoints, type Checkpoint } from './checkpoint.ts'
import type { Jobs } from './jobs.ts'

/** How long a stream without events may live on a revoked key. */
export const LIVE_CHECK_MS = 1000

export interface Subscriber {
  readonly jobs: Jobs
  readonly applications: Applications
  readonly clock: Clock
  readonly caller: Caller
  readonly signal: AbortSignal
}

/** The job that an id names for this caller. Throws `job_not_found`, the same for foreign, missing and malformed. */
export async function getJobId({ jobs, caller }: Pick<Subscriber, 'jobs' | 'caller'>, id: string): Promise<JobId> {
  const jobId = parseId('job', id)
  const job = jobId === undefined ? undefined : await jobs.find(caller.application.id, jobId)
  if (job === undefined) throw jobNotFound(id)
  return job.id
}

export function jobNotFound(id: string): PlatformError {
  return new PlatformError('job_not_found', `There is no job ${id.slice(0, 64)}.`)
}

/** An event as subscribers see it. */
export interface ShownEvent {
  readonly seq: number
  readonly type: EventType | 'delta'
  readonly runId: string | null
  readonly expertKey: string | null
  readonly stepNumber: number | null
  readonly at: number
  readonly data: unknown
  readonly hash: string
}

/**
 * Every event after `after`, until the job has finished. Deltas are mixed in while live: each carries the seq and
 * hash of the event before it, so that it never moves the cursor.
 */
export function watchEvents(subscriber: Subscriber, jobId: JobId, after: number): AsyncIterableIterator<ShownEvent> {
  return whileLive(subscriber, async function* (signal) {
    let last = { seq: after, hash: '' }
    for await (const event of subscriber.jobs.watch(subscriber.caller.application.id, jobId, after, signal)) {
      if (event.type === 'delta') {
        const { type, runId, expertKey, stepNumber, kind, text } = event
        yield { ...last, type, runId, expertKey, stepNumber, at: subscriber.clock.now(), data: { kind, text } }
      } else {
        last = { seq: event.seq, hash: event.hash }
        yield event
      }
    }
  })
}

/** Every checkpoint after `after`, until the job has finished. It reads the log from its start: a checkpoint holds all messages. */
export function watchCheckpoints(
  subscriber: Subscriber,
  jobId: JobId,
  after: number,
): AsyncIterableIterator<Checkpoint> {
  return whileLive(subscriber, async function* (signal) {
    const checkpoints = openCheckpoints(jobId)
    for await (const event of subscriber.jobs.watch(subscriber.caller.application.id, jobId, 0, signal)) {
      if (event.type === 'delta') continue
      const checkpoint = checkpoints.add(event)
      if (checkpoint !== undefined && checkpoint.seq > after) yield checkpoint
    }
  })
}

function whileLive<Item>(
  { applications, caller, clock, signal }: Subscriber,
  open: (signal: AbortSignal) => AsyncIterable<Item>,
): AsyncIterableIterator<Item> {
  // A generator's own return() waits for its pending await; aborting first is what wakes that await up.
  const left = new AbortController()
  const either = AbortSignal.any([signal, left.signal])
  const refuseRevoked = async () => {
    if (await applications.isLive(caller.keyId)) return
    throw new PlatformError('unauthenticated', 'The key of this stream has been revoked.')
  }
  async function watchKey(): Promise<void> {
    try {
      for (;;) {
        await clock.sleep(LIVE_CHECK_MS, either)
        await refuseRevoked()
      }
    } catch (error) {
      left.abort(error)
    }
  }
  async function* items(): AsyncGenerator<Item> {
    void watchKey()
    try {
      for await (const item of open(either)) {
        await refuseRevoked()
        yield item
      }
    } catch (error) {
      if (!either.aborted) throw error
    } finally {
      left.abort()
    }
    if (left.signal.reason instanceof PlatformError) throw left.signal.reason
  }
  const inner = items()
  return {
    next: () => inner.next(),
    async return() {
      left.abort()
      await inner.return(undefined)
      return { done: true, value: undefined }
    },
    [Symbol.asyncIterator]() {
      return this
    },
  }
}
