/**
 * How long Fly takes: what its documentation states and its users report; nothing here was measured by us. Every figure
 * can be replaced for a world of one's own.
 */
import type { Spread } from './draws.ts'

export interface Timing {
  /** From a request to its answer. */
  readonly apiMs: Spread
  readonly resumeMs: Spread
  readonly coldBootMs: Spread
  readonly suspendBaseMs: number
  /** Times the memory in MiB, times 0.5 to 1.5. */
  readonly suspendPerMibMs: number
  /** After the main process has ended. */
  readonly stopMs: Spread
  /** For so long after `stopped` a start is refused as "still active". */
  readonly activeMs: Spread
  /** The state `created` of a machine that is launched: its image is being pulled. */
  readonly pullMs: Spread
  /** The same where the region has pulled that image before. */
  readonly cachedPullMs: Spread
  /** One create in a hundred is as slow as this. */
  readonly slowPullMs: Spread
  readonly slowPulls: number
  /** The part of creates that stay `created` for ever. */
  readonly stuckPulls: number
  readonly replaceMs: Spread
  readonly destroyMs: Spread
  /** How long a destroyed machine is still shown. */
  readonly shownDestroyedMs: Spread
  /** How far what is read lags behind what was written. */
  readonly readLagMs: Spread
  /** For so long after a change a wait without `from_event_id` may still see the state before it. */
  readonly waitRaceMs: number
  /** How long a guest's clock is behind after a resume, before somebody sets it. */
  readonly clockLagMs: Spread
}

export const NORMAL: Timing = {
  apiMs: { median: 40, p99: 250 },
  resumeMs: { median: 250, p95: 600 },
  coldBootMs: { median: 1_200, p95: 3_000 },
  suspendBaseMs: 500,
  suspendPerMibMs: 4,
  stopMs: { fixed: 300 },
  activeMs: { from: 300, to: 1_000 },
  pullMs: { median: 6_000, p95: 20_000 },
  cachedPullMs: { median: 1_500, p95: 4_000 },
  slowPullMs: { from: 70_000, to: 100_000 },
  slowPulls: 0.01,
  stuckPulls: 0.0005,
  replaceMs: { from: 1_500, to: 6_000 },
  destroyMs: { from: 300, to: 2_000 },
  shownDestroyedMs: { from: 1_000, to: 30_000 },
  readLagMs: { mean: 150, cap: 5_000 },
  waitRaceMs: 100,
  clockLagMs: { from: 1_000, to: 8_000 },
}

/** Everything `factor` times as fast. */
export function faster(timing: Timing, factor: number): Timing {
  const scaled = Object.entries(timing).map(([name, value]: [string, Spread | number]) => {
    if (name === 'slowPulls' || name === 'stuckPulls') return [name, value]
    if (typeof value === 'number') return [name, value / factor]
    return [name, Object.fromEntries(Object.entries(value).map(([part, ms]: [string, number]) => [part, ms / factor]))]
  })
  // The names and kinds are those of `timing`.
  return Object.fromEntries(scaled) as Timing
}

const AT_ONCE: Spread = { fixed: 0 }

/** Nothing takes time, and what is read is what was written: for logic alone. */
export const ZERO: Timing = {
  apiMs: AT_ONCE,
  resumeMs: AT_ONCE,
  coldBootMs: AT_ONCE,
  suspendBaseMs: 0,
  suspendPerMibMs: 0,
  stopMs: AT_ONCE,
  activeMs: AT_ONCE,
  pullMs: AT_ONCE,
  cachedPullMs: AT_ONCE,
  slowPullMs: AT_ONCE,
  slowPulls: 0,
  stuckPulls: 0,
  replaceMs: AT_ONCE,
  destroyMs: AT_ONCE,
  shownDestroyedMs: AT_ONCE,
  readLagMs: AT_ONCE,
  waitRaceMs: 0,
  clockLagMs: AT_ONCE,
}

export const TIMINGS = { normal: NORMAL, fast: { ...faster(NORMAL, 50), stuckPulls: 0 }, zero: ZERO, cruel: NORMAL }
export type Profile = keyof typeof TIMINGS
