/**
 * Port: the log of every job and the row that summarises it. One append is one commit.
 *
 * L1 Events of a job are numbered 1..n without gap or duplicate.
 * L2 An append whose expected head is not the log's head writes nothing.
 * L3 An append under a fence writes nothing once that lease has ended or a later fence was granted.
 * L4 The row and its events change together or not at all.
 * L5 What any number of watches delivered, resumed with `after`, equals the log.
 * L6 A lease replaces another only when that one had ended by the moment of the new events, renewals counted.
 * L7 A job begins with its creation only where no other could be claimed and its application is below the quota.
 */
import type { JobEvent } from '../../schema/event.ts'
import type { Sha256 } from '../../schema/hash.ts'
import type { ApplicationId, JobId } from '../../schema/id.ts'
import type { Job } from './job.ts'
import type { Lease } from './lease.ts'

/** Where a log ends: what an append must expect. */
export interface LogHead {
  readonly revision: number
  readonly hash: Sha256
}

/** A caller's own name for a request, unique within its application, and what the request was. */
export interface Idempotency {
  readonly key: string
  readonly requestHash: Sha256
}

/** A job as its row keeps it: the decider's state, the log's head, and the lease, which lives only here. */
export interface StoredJob {
  readonly job: Job
  readonly head: LogHead
  readonly lockHash: Sha256
  readonly lease: Lease | null
}

/** What an append changes besides the log. */
export interface AppendChange {
  /** The lease that the row holds from now on, null for none; left out, it stays as it is. */
  readonly lease?: Lease | null
  /** Goes with a lease that is given. */
  readonly rider?: Rider | undefined
  /** Kept with the events, so that the request is known when it comes again. */
  readonly idempotency?: Idempotency | null
}

/**
 * A write of another store in the same database that goes in the commit of a lease, made by that store and handed on. It is
 * made where the lease is, and only there; what it cannot do it leaves undone, and no lease fails for its sake.
 */
export interface Rider {
  /** Nobody has come for what it did: there is no attempt. */
  leave(): void
}

/** How a new job goes on in the commit that creates it: its lease, granted to whoever creates it. */
export interface Beginning {
  readonly job: Job
  /** After those of the creation. */
  readonly events: readonly JobEvent[]
  readonly lease: Lease
  /** As for `claimable`. */
  readonly quota: number | null
  readonly rider?: Rider | undefined
}

/** What is asked of whoever has machines. */
export interface JobDemand {
  readonly queued: number
  readonly running: number
}

export interface JobFilter {
  readonly status?: string
  readonly expertName?: string
  readonly userId?: string
}

export interface JobLog {
  /**
   * Writes a new job and its first events. When `idempotency` was used before with the same request hash, writes
   * nothing and gives the job of then; with another hash it throws `idempotency_key_reused`.
   *
   * With a `beginning` the job has its lease in the same commit where, at the moment of its events, `claimable` would give
   * no other, and fewer of its application run than `quota` (L7); else it is queued. It is looked at, not locked, as there.
   * The lease of the job that this gives says which of the two it was.
   */
  create(
    job: Job,
    events: readonly JobEvent[],
    lockHash: Sha256,
    idempotency: Idempotency | null,
    beginning?: Beginning | null,
  ): Promise<{ readonly job: StoredJob; readonly isNew: boolean }>

  /**
   * Appends chained events after `expected`, and the job's new state with them. `fence` is given by whoever acts
   * under a lease: the row's lease must have that very fence.
   * Throws, in this order of looking: `job_not_found`, `fence_stale` (L3), `revision_conflict` (L2, L6),
   * `idempotency_key_reused` when the application used the key before, for whatever request.
   */
  append(
    expected: LogHead,
    job: Job,
    events: readonly JobEvent[],
    fence: number | null,
    change?: AppendChange,
  ): Promise<LogHead>

  /** What the application used an idempotency key for. */
  findRequest(
    applicationId: ApplicationId,
    key: string,
  ): Promise<{ readonly jobId: JobId; readonly requestHash: Sha256 } | undefined>

  find(jobId: JobId): Promise<StoredJob | undefined>
  /** Newest first; `after` is the id of the last one seen. */
  list(
    applicationId: ApplicationId,
    filter: JobFilter,
    first: number,
    after: JobId | null,
  ): Promise<readonly StoredJob[]>
  /** Events with seq > after, in order, at most `limit`. */
  read(jobId: JobId, after: number, limit: number): Promise<readonly JobEvent[]>

  /**
   * Jobs that want a machine, in the order in which they are to have one: queued, or running under a lease that has
   * ended by `now` (until <= now). First those of the application that has the fewest running, each one counted as
   * running for those after it; the oldest job first within an application, and between equals. `quota`: jobs of an
   * application that may run at once, null for any number. It is looked at, not locked: processes that claim at the same
   * moment may together go beyond it by as many jobs as became claimable between their looks.
   */
  claimable(now: number, limit: number, quota: number | null): Promise<readonly StoredJob[]>
  /** How many jobs want a machine and may have one under the quota, 10,000 at most, and how many run. */
  demand(now: number, quota: number | null): Promise<JobDemand>
  /** Jobs with an open question whose time is over at `now`, the longest over first. */
  due(now: number, limit: number): Promise<readonly StoredJob[]>
  /** Extends a lease; false when the row's lease has another fence or is gone. Not an event: heartbeats would flood the log. */
  renew(jobId: JobId, fence: number, until: number): Promise<boolean>

  /**
   * Calls `wake` after any append to the job by any process, and once in a while for no reason; holds no event.
   * The caller reads after its own cursor, or takes what it is given: the events of one append of this process, the
   * very array that `append` or `create` was called with. Returns the way to stop.
   */
  onAppend(jobId: JobId, wake: (appended?: readonly JobEvent[]) => void): () => void
  /** The same for jobs that became claimable. */
  onClaimable(wake: () => void): () => void
}
