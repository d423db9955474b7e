/** Places of a process for jobs that run: what `create` needs to let a job begin with its creation. */
import type { JobId } from '../../schema/id.ts'
import type { Attempt } from './attempt.ts'
import type { Rider } from './job-log.ts'

/** An attempt whose lease is being written. */
export interface Owner {
  readonly jobId: JobId
  readonly fence: number
}

/** A place that is kept free for one job. Exactly one of `begin` and `leave` is called, once. */
export interface Place {
  /** What is to go in the commit of the lease. */
  ride(owner: Owner): Rider | undefined
  /** The job has its lease, and whoever offered the place drives it. */
  begin(attempt: Attempt): void
  /** It is not needed after all. */
  leave(): void
}

export interface Places {
  /** Named in the leases of the jobs that begin here. */
  readonly holder: string
  /** Keeps a place free; undefined while there is none. */
  take(): Place | undefined
}
