/** Time that moves only when a test moves it, and chance that repeats. */
import { sha256 } from '../../schema/hash.ts'
import type { Chance, Clock } from '../../schema/clock.ts'

export interface FakeClock extends Clock {
  /** Moves time on, and wakes in order whoever slept until then. */
  advance(ms: number): Promise<void>
  sleepers(): number
}

export function fakeClock(startMs = 1_700_000_000_000): FakeClock {
  let now = startMs
  const sleepers = new Set<{ readonly until: number; readonly wake: () => void }>()
  return {
    now: () => now,
    sleepers: () => sleepers.size,
    sleep: async (ms, signal) =>
      new Promise((resolve, reject) => {
        if (signal?.aborted) return reject(signal.reason)
        const leave = (): void => {
          sleepers.delete(sleeper)
          signal?.removeEventListener('abort', abort)
        }
        const abort = (): void => {
          leave()
          reject(signal?.reason)
        }
        const wake = (): void => {
          leave()
          resolve()
        }
        const sleeper = { until: now + ms, wake }
        sleepers.add(sleeper)
        signal?.addEventListener('abort', abort)
      }),
    async advance(ms) {
      const end = now + ms
      for (;;) {
        const [next] = [...sleepers].filter(({ until }) => until <= end).toSorted((a, b) => a.until - b.until)
        if (next === undefined) break
        now = Math.max(now, next.until)
        next.wake()
        // Whoever woke may sleep again before `end`: let it come that far.
        await new Promise((resolve) => setImmediate(resolve))
      }
      now = end
    },
  }
}

/** Bytes that differ from call to call and repeat from test to test. */
export function fakeChance(seed = 'chance'): Chance {
  let calls = 0
  return {
    bytes(count) {
      const bytes: number[] = []
      for (calls++; bytes.length < count;) bytes.push(...Buffer.from(sha256(`${seed} ${calls} ${bytes.length}`), 'hex'))
      return Uint8Array.from(bytes.slice(0, count))
    },
  }
}
