/** A job's life: decide and evolve. */
import type { JobSummary } from './job-summary.ts'

/** The decider's state: what a list shows, and what decisions need besides. */
export interface Job extends Omit<JobSummary, 'revision'> {
  /** The fence of the last lease granted; 0 before the first. */
  readonly fence: number
  /** Leases in a row that ended without a single step. */
  readonly barrenAttempts: number
  readonly cancelRequested: boolean
}
