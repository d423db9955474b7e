/**
 * The real time, which a test may set ahead: for deadlines that are too far to come by themselves, however slow the
 * computer is, and come when the test says so.
 */
import type { Clock } from '../../schema/clock.ts'
import { realClock } from './sandbox.ts'

export interface LeapClock extends Clock {
  /** Sets the time ahead, and wakes whoever sleeps no longer than until then. */
  leap(ms: number): void
}

/** A deadline that nobody meets who does not leap. */
export const HOUR_MS = 3_600_000

export function leapClock(): LeapClock {
  let ahead = 0
  const sleepers = new Set<AbortController>()
  const now = (): number => realClock.now() + ahead
  return {
    now,
    async sleep(ms, signal) {
      for (const until = now() + ms; now() < until;) {
        const sleeper = new AbortController()
        sleepers.add(sleeper)
        const signals = [sleeper.signal, ...(signal === undefined ? [] : [signal])]
        await realClock.sleep(until - now(), AbortSignal.any(signals)).catch(() => signal?.throwIfAborted())
        sleepers.delete(sleeper)
      }
    },
    leap(ms) {
      ahead += ms
      for (const sleeper of sleepers) sleeper.abort()
    },
  }
}
