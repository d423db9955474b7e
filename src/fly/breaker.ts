/**
 * Whether an app is worth asking: closed while it answers, open after failures that say that it is down, half open when
 * one call may try again. Pure.
 */

export interface Breaker {
  /** Failures without an answer between them. */
  readonly failures: number
  /** Epoch ms until which nothing is asked; null while closed. */
  readonly openUntil: number | null
  /** A call is trying whether it works again. */
  readonly isTrying: boolean
}

export const CLOSED: Breaker = { failures: 0, openUntil: null, isTrying: false }
const FAILURES_MAX = 5
export const OPEN_MS = 5_000

/** The breaker with this call let through; undefined when it may not be made now. */
export function admit(breaker: Breaker, now: number): Breaker | undefined {
  if (breaker.openUntil === null) return breaker
  if (now < breaker.openUntil || breaker.isTrying) return undefined
  return { ...breaker, isTrying: true }
}

/** A call that it let through was not made after all, which says nothing of the app. `isTrial`: it was to try it again. */
export function withdraw(breaker: Breaker, isTrial: boolean): Breaker {
  return isTrial ? { ...breaker, isTrying: false } : breaker
}

/** After a call that it let through: `isDown` when it got no answer, or one of 5xx. */
export function settle(breaker: Breaker, isDown: boolean, now: number): Breaker {
  if (!isDown) return CLOSED
  const failures = breaker.failures + 1
  return failures >= FAILURES_MAX ? { failures, openUntil: now + OPEN_MS, isTrying: false } : { ...breaker, failures }
}

/** Regions that have no room, each with a time that doubles while it has none. */
export interface Region {
  readonly fullUntil: number
  readonly coolMs: number
}
const COOL_MS = 60_000
const COOL_MS_MAX = 900_000

export function regionIsFull(region: Region | undefined, now: number): Region {
  const coolMs = region === undefined ? COOL_MS : Math.min(COOL_MS_MAX, region.coolMs * 2)
  return { fullUntil: now + coolMs, coolMs }
}

/** The regions to try, in their order: those with room; all of them when none has, since a guess is better than none. */
export function regionsWithRoom(
  regions: readonly string[],
  full: ReadonlyMap<string, Region>,
  now: number,
): readonly string[] {
  const open = regions.filter((region) => (full.get(region)?.fullUntil ?? 0) <= now)
  return open.length > 0 ? open : regions
}
