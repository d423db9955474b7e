/** A closed-loop load: `connections` callers, each sending the next request when the last was answered. */
import { performance } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'

export interface Measured {
  readonly perSecond: number
  readonly p50Ms: number
  readonly p99Ms: number
}

/** Runs `send` for `warmUpMs`, forgets that, then measures for `forMs`. A failed request fails the measurement. */
export async function measure(
  connections: number,
  warmUpMs: number,
  forMs: number,
  send: (caller: number) => Promise<void>,
): Promise<Measured> {
  const latencies: number[] = []
  const start = performance.now() + warmUpMs
  const end = start + forMs
  const caller = async (number: number) => {
    for (let at = performance.now(); at < end;) {
      await send(number)
      const now = performance.now()
      if (at >= start) latencies.push(now - at)
      at = now
    }
  }
  await Promise.all(Array.from({ length: connections }, (_, number) => caller(number)))
  const sorted = latencies.toSorted((a, b) => a - b)
  return { perSecond: (sorted.length * 1000) / forMs, p50Ms: percentile(sorted, 0.5), p99Ms: percentile(sorted, 0.99) }
}

export function percentile(sorted: readonly number[], share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN
}

/**
 * An open loop: begins `perSecond` a second, `count` in all, whether or not those before have ended; how long each took
 * in ms, sorted, from when it was to begin: what keeps others waiting counts for them too.
 */
export async function measureAt(
  perSecond: number,
  count: number,
  work: (number: number) => Promise<void>,
): Promise<readonly number[]> {
  const start = performance.now()
  const latencies = await Promise.all(
    Array.from({ length: count }, async (_, number) => {
      const due = start + (number * 1000) / perSecond
      await sleep(Math.max(0, due - performance.now()))
      await work(number)
      return performance.now() - due
    }),
  )
  return latencies.toSorted((a, b) => a - b)
}
