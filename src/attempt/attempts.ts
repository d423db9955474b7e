/** Claims jobs and keeps a machine for each, up to a number at once. */
import type { JobLog } from '../job/job-log.ts'
import type { Attempt } from '../job/jobs.ts'
import { keep, type KeeperDependencies } from './keeper.ts'
import { openPlaces, type PlacesDependencies } from './places.ts'

export interface AttemptsDependencies extends KeeperDependencies {
  /** Names this process in leases, for whoever finds one of them after its death. */
  readonly holder: string
  /** Where leases of dead predecessors are ended. */
  readonly jobLog: Pick<JobLog, 'claimable' | 'renew'>
  /** True only when the process that a lease names can act no more: a dead one of this very host. */
  readonly predecessorIsDead: (holder: string) => Promise<boolean>
  readonly limits: KeeperDependencies['limits'] & PlacesDependencies['limits']
}

export interface Attempts {
  /** Machines that run now. */
  count(): number
  /** Claims no more, gives every job back, and resolves when no machine is left. */
  close(): Promise<void>
}

export const attemptLimits: AttemptsDependencies['limits'] = {
  concurrent: 4,
  renewMs: 5_000,
  graceMs: 800,
  silentMs: 90_000,
  retryMs: 500,
  pollMs: 2_000,
  breachesMax: 10,
  logLinesMax: 1_000,
}

/** Starts claiming at once, after the leases of dead predecessors have been ended. */
export function openAttempts(dependencies: AttemptsDependencies): Attempts {
  const { host, log } = dependencies
  const ended = endDeadLeases(dependencies).catch((error: unknown) => log.error('Dead leases stay.', { error }))
  return openPlaces(
    {
      ...dependencies,
      ride: (owner) => host.ahead?.(owner),
      drive: (attempt, closing) => keep(dependencies, attempt, grantedAt(attempt), closing),
    },
    ended,
  )
}

/** When its lease was granted, epoch ms: what its history ends with. */
function grantedAt({ history, jobId }: Attempt): number {
  const granted = history.at(-1)
  if (granted === undefined) throw new TypeError(`an attempt on ${jobId} has no history`)
  return granted.at
}

const LEASES_MAX = 10_000

/** Ends the leases of processes of this host that are dead, so that their jobs need not wait for time to pass. */
async function endDeadLeases({ jobLog, clock, predecessorIsDead, log }: AttemptsDependencies): Promise<void> {
  // Asked of a moment far away, every leased job is claimable.
  for (const { job, lease } of await jobLog.claimable(Number.MAX_SAFE_INTEGER, LEASES_MAX, null)) {
    if (lease === null || !(await predecessorIsDead(lease.holder))) continue
    const ended = await jobLog.renew(job.id, lease.fence, clock.now())
    if (ended) log.info('The lease of a dead process has ended.', { jobId: job.id, holder: lease.holder })
  }
}
