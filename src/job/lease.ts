/** The right of one holder to advance a job until a moment; it lives in the job's row, not in its log. */

export interface Lease {
  readonly holder: string
  readonly fence: number
  /** Epoch ms: at this moment it has ended. */
  readonly until: number
}

/** True while nobody else may take the job. */
export function isLive(lease: Lease | null, now: number): lease is Lease {
  return lease !== null && lease.until > now
}
