/** Places of a process for jobs that run: what `create` needs to let a job begin with its creation. */
import type { Attempt } from './attempt.ts'

/** A place that is kept free for one job. Exactly one of the two is called, once. */
export interface Place {
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
