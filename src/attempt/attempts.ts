/**
 * Claims jobs and keeps a machine for each, up to a number at once. Jobs that are created in this process begin at once
 * where a place is free and no other waits.
 */
import type { Clock } from '../../schema/clock.ts'
import type { JobLog } from '../job/job-log.ts'
import type { Attempt, Place } from '../job/jobs.ts'
import { keep, type KeeperDependencies } from './keeper.ts'

export interface AttemptsDependencies extends KeeperDependencies {
  /** Names this process in leases, for whoever finds one of them after its death. */
  readonly holder: string
  /** Where leases of dead predecessors are ended. */
  readonly jobLog: Pick<JobLog, 'claimable' | 'renew'>
  /** True only when the process that a lease names can act no more: a dead one of this very host. */
  readonly predecessorIsDead: (holder: string) => Promise<boolean>
  readonly limits: KeeperDependencies['limits'] & {
    /** Machines at once. */
    readonly concurrent: number
    /** How often to look for jobs though nobody called: what a lost wake-up costs. */
    readonly pollMs: number
  }
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
  const { jobs, clock, log, limits, holder } = dependencies
  const closing = new AbortController()
  const kept = new Set<Promise<void>>()
  let alarm = Promise.withResolvers<void>()
  /** Places that a look has asked for. */
  let asked = 0
  /** When this process last looked nothing waited that it could have had, and nobody has called since. */
  let isQuiet = false
  const ring = (): void => {
    isQuiet = false
    alarm.resolve()
  }
  const unsubscribe = jobs.onClaimable(ring)
  const free = (): number => limits.concurrent - kept.size - asked

  /** A place is taken until what happens in it is over; then whoever waits may have it. */
  function occupy(until: Promise<void>): void {
    const keeping = until.finally(() => {
      kept.delete(keeping)
      if (!isQuiet) ring()
    })
    kept.add(keeping)
  }

  /** Its machine comes with the lease where one is to be had. */
  const ride: Place['ride'] = (owner) => dependencies.host.ahead?.(owner)
  const drive = (attempt: Attempt): Promise<void> => keep(dependencies, attempt, grantedAt(attempt), closing.signal)

  const withdraw = jobs.offer({
    holder,
    take() {
      if (free() <= 0 || closing.signal.aborted) return undefined
      const over = Promise.withResolvers<void>()
      occupy(over.promise)
      return { ride, begin: (attempt) => over.resolve(drive(attempt)), leave: () => over.resolve() }
    },
  })

  async function fill(): Promise<void> {
    while (free() > 0 && !closing.signal.aborted) {
      isQuiet = true
      asked = free()
      try {
        const attempts = await jobs.claim(holder, asked, ride)
        if (attempts.length === 0) return
        for (const attempt of attempts) occupy(drive(attempt))
      } catch (error) {
        isQuiet = false
        throw error
      } finally {
        asked = 0
      }
    }
    isQuiet = false
  }

  async function run(): Promise<void> {
    await endDeadLeases(dependencies).catch((error: unknown) => log.error('Dead leases stay.', { error }))
    while (!closing.signal.aborted) {
      // Made before looking, so that a call during the look is not lost.
      alarm = Promise.withResolvers()
      try {
        await fill()
      } catch (error) {
        log.error('No job could be claimed.', { error })
      }
      await alarmOrPoll(alarm.promise, clock, limits.pollMs, closing.signal)
    }
  }

  const running = run()
  return {
    count: () => kept.size,
    async close() {
      closing.abort(new Error('the attempts are closing'))
      ring()
      unsubscribe()
      withdraw()
      await running
      await Promise.all(kept)
    },
  }
}

/** When its lease was granted, epoch ms: what its history ends with. */
function grantedAt({ history, jobId }: Attempt): number {
  const granted = history.at(-1)
  if (granted === undefined) throw new TypeError(`an attempt on ${jobId} has no history`)
  return granted.at
}

async function alarmOrPoll(alarm: Promise<void>, clock: Clock, ms: number, closing: AbortSignal): Promise<void> {
  const enough = new AbortController()
  const poll = clock.sleep(ms, AbortSignal.any([enough.signal, closing])).catch(() => {})
  await Promise.race([alarm, poll])
  enough.abort(new Error('woken'))
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
