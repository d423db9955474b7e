/**
 * The lease of an attempt, for as long as its keeper needs it.
 *
 * HL1 It is renewed from the first moment on, also while the machine is still to come, until it is lost or let go.
 * HL2 Nobody hears that it lives while that is in doubt: this process may have stood still for longer than it lasts, and
 *    another may have the job.
 */
import type { Clock } from '../../schema/clock.ts'
import { PlatformError } from '../../schema/error.ts'
import type { Attempt, Jobs } from '../job/jobs.ts'
import type { Log } from '../log.ts'

export interface HeldLeaseDependencies {
  readonly jobs: Pick<Jobs, 'renew'>
  readonly clock: Clock
  readonly log: Log
  readonly limits: {
    /** Between two renewals: well below how long it lasts. */
    readonly renewMs: number
  }
}

/** Times of a renewal's that a lease certainly lives after one; it lasts three. */
const DOUBT = 2
const RETRY_MS = 500

export class HeldLease {
  readonly #dependencies: HeldLeaseDependencies
  readonly #attempt: Attempt
  readonly #lost = new AbortController()
  readonly #letGo = new AbortController()
  /** Epoch ms when its last renewal was asked for: it lives for a while from then on. */
  #renewedAt: number

  /** Begins to renew it. `grantedAt` in epoch ms. */
  constructor(dependencies: HeldLeaseDependencies, attempt: Attempt, grantedAt: number) {
    this.#dependencies = dependencies
    this.#attempt = attempt
    this.#renewedAt = grantedAt
    void this.#renewing().catch(() => {})
  }

  /** Aborts with `fence_stale` once it is lost. */
  get lost(): AbortSignal {
    return this.#lost.signal
  }

  /** Waits while nobody can say whether it lives. Throws `fence_stale`, or the reason of the signal. */
  async require(signal: AbortSignal): Promise<void> {
    const { clock, limits } = this.#dependencies
    while (clock.now() - this.#renewedAt >= DOUBT * limits.renewMs) {
      const askedAt = clock.now()
      if (!(await this.#renew())) throw new PlatformError('fence_stale', 'The lease of the attempt is lost.')
      if (this.#renewedAt < askedAt) await clock.sleep(RETRY_MS, signal)
    }
  }

  /** It is renewed no longer. */
  letGo(): void {
    this.#letGo.abort(new Error('the lease is let go'))
  }

  async #renewing(): Promise<void> {
    const { clock, limits } = this.#dependencies
    do await clock.sleep(limits.renewMs, this.#letGo.signal)
    while (await this.#renew())
  }

  /** False once it is lost; where the store does not answer, all stays as it was. */
  async #renew(): Promise<boolean> {
    const { jobs, clock, log } = this.#dependencies
    const askedAt = clock.now()
    try {
      if (await jobs.renew(this.#attempt)) {
        this.#renewedAt = Math.max(this.#renewedAt, askedAt)
        return true
      }
    } catch (error) {
      // The store may come back before it ends; when it does not, the next append finds a stale fence.
      log.warn('A lease could not be renewed.', { jobId: this.#attempt.jobId, error })
      return true
    }
    this.#lost.abort(new PlatformError('fence_stale', 'The lease of the attempt is lost.'))
    return false
  }
}
