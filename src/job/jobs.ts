/** The verbs of jobs: read, decide, append; bounded retries on a conflict. */
import type { JobEvent, NewEvent } from '../../schema/event.ts'
import type { Refusal } from '../../schema/error.ts'
import type { Sha256 } from '../../schema/hash.ts'
import type { ApplicationId, JobId, QuestionId } from '../../schema/id.ts'
import type { Json } from '../../schema/json.ts'
import type { Lock } from '../../schema/lock.ts'
import type { JobFilter, LogHead } from './job-log.ts'
import type { JobSummary } from './job-summary.ts'

export interface InputFile {
  readonly path: string
  readonly bytes: Uint8Array
}

export interface CreateJob {
  readonly expertKey: string
  readonly query: string | null
  readonly files: readonly InputFile[]
  readonly userId: string | null
  readonly model: string | null
  readonly maxSteps: number | null
  readonly idempotencyKey: string | null
}

export interface ContinueJob {
  readonly jobId: JobId
  readonly query: string | null
  readonly answer: { readonly questionId: QuestionId; readonly value: Json; readonly argsHash: Sha256 | null } | null
  readonly maxSteps: number | null
  readonly idempotencyKey: string | null
}

/** A fragment of streamed output: shown to whoever watches, never stored. */
export interface Delta {
  readonly type: 'delta'
  readonly jobId: JobId
  readonly runId: string
  readonly expertKey: string
  readonly stepNumber: number
  readonly kind: 'text' | 'reasoning'
  readonly text: string
}

/** What a machine's keeper holds while it drives a job: the right to append until the lease ends. */
export interface Attempt {
  readonly jobId: JobId
  readonly applicationId: ApplicationId
  readonly fence: number
  readonly lock: Lock
  readonly model: string | null
  readonly inputTreeHash: Sha256 | null
  readonly treeHash: Sha256 | null
  readonly history: readonly JobEvent[]
  readonly head: LogHead
}

export interface Jobs {
  create(applicationId: ApplicationId, input: CreateJob): Promise<JobSummary | Refusal>
  continue(applicationId: ApplicationId, input: ContinueJob): Promise<JobSummary | Refusal>
  cancel(applicationId: ApplicationId, jobId: JobId): Promise<JobSummary | Refusal>
  find(applicationId: ApplicationId, jobId: JobId): Promise<JobSummary | undefined>
  list(
    applicationId: ApplicationId,
    filter: JobFilter,
    first: number,
    after: JobId | null,
  ): Promise<readonly JobSummary[]>
  /** The lock that the job pins. */
  lock(applicationId: ApplicationId, jobId: JobId): Promise<Lock | undefined>
  events(applicationId: ApplicationId, jobId: JobId, after: number, limit: number): Promise<readonly JobEvent[]>
  /**
   * Every event after `after`, as it comes, until the job has finished and all is delivered, or the signal aborts.
   * Deltas are mixed in while live. Keeps nothing per subscriber but a cursor.
   */
  watch(applicationId: ApplicationId, jobId: JobId, after: number, signal: AbortSignal): AsyncIterable<JobEvent | Delta>

  // -- for whoever drives machines
  /** Grants a lease on the oldest job that wants a machine; undefined when there is none. */
  claim(holder: string): Promise<Attempt | undefined>
  /**
   * Appends what happened under the lease, in one commit, after whatever others appended meanwhile; gives all events
   * that are new since the attempt last looked, in order, its own included. Throws `fence_stale`.
   */
  record(attempt: Attempt, events: readonly NewEvent[]): Promise<readonly JobEvent[]>
  /** False when the lease is lost: stop at once. */
  renew(attempt: Attempt): Promise<boolean>
  /** The machine died: the job is claimable again, or failed when its attempts are used up. */
  abandon(attempt: Attempt, reason: string): Promise<void>
  /** Shows a delta to live watchers of this process. */
  show(delta: Delta): void
}
