/** What is asked of a pool: averages that forget, folded from one look to the next. Pure. */
import type { Arrivals, Wanted } from './sizing.ts'

/** One look at the pool and at the queue before it. */
export interface Look {
  /** Epoch ms. */
  readonly now: number
  /** Jobs that were given a machine since the look before. */
  readonly started: number
  /** Jobs that wait for one. */
  readonly queued: number
  /** Machines that have a job, or are on their way to one. */
  readonly busy: number
}

export interface Demand extends Arrivals, Wanted {
  readonly at: number
  /** Machines that have a job, on the average of five minutes. */
  readonly busy: number
  /** Of how many arrivals came between two looks; both of the same five minutes. */
  readonly mean: number
  readonly variance: number
  readonly queued: number
}

/** Time constants, in ms: what is older than one of them counts for a third. */
const FAST_MS = 10_000
const SLOW_MS = 300_000
const STABLE_MS = 60_000
const SUDDEN_MS = 6_000

/** Nothing is known: nothing was asked for. */
export function noDemand(now: number): Demand {
  return {
    at: now,
    fast: 0,
    slow: 0,
    dispersion: 1,
    forecast: 0,
    stable: 0,
    sudden: 0,
    busy: 0,
    mean: 0,
    variance: 0,
    queued: 0,
  }
}

/** A look at a clock that went back, or did not move, changes nothing but what is counted. */
export function observeDemand(before: Demand, { now, started, queued, busy }: Look): Demand {
  const passedMs = Math.max(0, now - before.at)
  if (passedMs === 0) return before
  const toward = (old: number, seen: number, constantMs: number): number =>
    old + (seen - old) * (1 - Math.exp(-passedMs / constantMs))
  const came = cameSince(before, { started, queued })
  const rate = (came * 1000) / passedMs
  const expected = (before.slow * passedMs) / 1000
  const mean = toward(before.mean, came, SLOW_MS)
  const variance = toward(before.variance, (came - expected) ** 2, SLOW_MS)
  return {
    at: now,
    fast: toward(before.fast, rate, FAST_MS),
    slow: toward(before.slow, rate, SLOW_MS),
    dispersion: mean > 0 ? Math.max(1, variance / mean) : 1,
    forecast: before.forecast,
    stable: toward(before.stable, busy + queued, STABLE_MS),
    sudden: toward(before.sudden, busy + queued, SUDDEN_MS),
    busy: toward(before.busy, busy, SLOW_MS),
    mean,
    variance,
    queued,
  }
}

/** Whoever came is either at a machine or in the queue. */
export function cameSince(
  before: Pick<Demand, 'queued'>,
  { started, queued }: Pick<Look, 'started' | 'queued'>,
): number {
  return Math.max(0, started + queued - before.queued)
}

/** How long a job keeps its machine, in ms, by Little's law; `otherwise` while nobody knows. */
export function busyMs({ busy, slow }: Demand, otherwise: number): number {
  return slow > 0.0001 && busy > 0 ? (busy / slow) * 1000 : otherwise
}
