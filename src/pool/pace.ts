/**
 * How fast the pool may ask its provider, by what became of what it asked before. Pure.
 *
 * PA1 After a failure, machines are ordered 1, 2, 4 … at a time, doubling with each that was made.
 * PA2 Suspends under way at a place are at most its allowance: one more with each that was done, half with each that was late.
 * PA3 A place without room is left alone for a time that doubles while it has none.
 * PA4 When the provider says that an order never will be right, nothing more is ordered for a long time.
 * PA5 What was put off goes at the same pace when it is due again: no herd follows an outage.
 * PA6 A generation of which three machines in a row did not come up is made no more for a time that doubles while none does.
 */
import type { ProviderFault } from './machine-provider.ts'
import type { Verb } from './machine.ts'
import type { Errand } from './pool-store.ts'

export interface Pace {
  /** Orders that may be under way at once. */
  readonly orders: number
  /** Suspends that may be under way, by place; what is not named may have `SUSPENDS_AT_FIRST`. */
  readonly suspends: Readonly<Record<string, number>>
  /** Places that are left alone, and until when. */
  readonly resting: Readonly<Record<string, { readonly until: number; readonly ms: number }>>
  /** Epoch ms until which nothing is ordered at all, and why; null for nothing. */
  readonly refused: { readonly until: number; readonly why: string } | null
  /** Generations whose last machines did not come up: how many in a row, and until when none is made; `ms` for how long. */
  readonly unfit: Readonly<Record<string, Unfit>>
}

export interface Unfit {
  readonly failures: number
  readonly until: number
  readonly ms: number
  /** What the last of them said of itself; null when it said nothing. */
  readonly why: string | null
}

/** What became of one call. */
export interface Outcome {
  readonly verb: Verb
  readonly place: string
  /** Null when it did what it was to. */
  readonly fault: ProviderFault | null
  readonly why: string
  readonly now: number
}

export const ORDERS_MAX = 64
export const SUSPENDS_AT_FIRST = 5
const SUSPENDS_MAX = 64
const REST_MS = 5_000
const REST_MS_MAX = 300_000
const REFUSED_MS = 300_000
const FAILURES_MAX = 3
const UNFIT_MS = 60_000
const UNFIT_MS_MAX = 600_000

export const initialPace: Pace = { orders: ORDERS_MAX, suspends: {}, resting: {}, refused: null, unfit: {} }

export function suspendsAt({ suspends }: Pace, place: string): number {
  return suspends[place] ?? SUSPENDS_AT_FIRST
}

export function isResting({ resting }: Pace, place: string, now: number): boolean {
  return (resting[place]?.until ?? 0) > now
}

/** PA6 */
export function isUnfit({ unfit }: Pace, generation: string, now: number): boolean {
  return (unfit[generation]?.until ?? 0) > now
}

/** A machine that was being made, or started, has not come up in its time, or has said why it never will. */
export function neverCame(pace: Pace, generation: string, now: number, why: string | null = null): Pace {
  const before = pace.unfit[generation] ?? { failures: 0, until: 0, ms: UNFIT_MS / 2, why: null }
  const failures = before.failures + 1
  // Of several that fail at once, one counts against what comes after the rest.
  const isSetAside = failures >= FAILURES_MAX && before.until <= now
  const ms = isSetAside ? Math.min(UNFIT_MS_MAX, before.ms * 2) : before.ms
  const until = isSetAside ? now + ms : before.until
  return { ...pace, unfit: { ...pace.unfit, [generation]: { failures, until, ms, why: why ?? before.why } } }
}

/** One of the generation has come up: what failed before were the machines, not what they were made of. */
export function cameUp(pace: Pace, generation: string): Pace {
  if (pace.unfit[generation] === undefined) return pace
  const { [generation]: _, ...unfit } = pace.unfit
  return { ...pace, unfit }
}

/** Why less is asked for than is wanted, in sentences; none while nothing holds it back. */
export function restraintsOf({ orders, resting, refused, unfit }: Pace, now: number): readonly string[] {
  const inSeconds = (until: number): string => `for ${Math.ceil((until - now) / 1000)} s more`
  const said: string[] = []
  if (refused !== null && refused.until > now)
    said.push(`Nothing is ordered ${inSeconds(refused.until)}, since the provider refuses: ${refused.why}`)
  for (const [generation, { failures, until, why }] of Object.entries(unfit))
    if (until > now) {
      const last = why === null ? '' : ` The last of them: ${why}`
      said.push(
        `No machine of generation ${generation} is made ${inSeconds(until)}: ${failures} in a row did not come up.${last}`,
      )
    }
  for (const [place, { until }] of Object.entries(resting))
    if (until > now) said.push(`${place} had no room and is left alone ${inSeconds(until)}.`)
  if (orders < ORDERS_MAX)
    said.push(`After a failure, ${orders} may be ordered at once; twice as many with each that works.`)
  return said
}

/** What may be asked from now on. A machine that is gone says nothing of its provider. */
export function learn(pace: Pace, { verb, place, fault, why, now }: Outcome): Pace {
  if (verb === 'suspend') {
    if (fault === 'gone' || fault === 'state') return pace
    const before = suspendsAt(pace, place)
    const after = fault === null ? Math.min(SUSPENDS_MAX, before + 1) : Math.max(1, Math.floor(before / 2))
    return { ...pace, suspends: { ...pace.suspends, [place]: after } }
  }
  if (verb === 'create' && fault === null) {
    const { [place]: _, ...resting } = pace.resting
    return { ...pace, orders: Math.min(ORDERS_MAX, pace.orders * 2), resting, refused: null }
  }
  if (fault === null || fault === 'gone' || fault === 'state') return pace
  if (verb !== 'create' && fault !== 'capacity') return pace
  const slower = verb === 'create' ? { ...pace, orders: 1 } : pace
  if (fault === 'refused') return { ...slower, refused: { until: now + REFUSED_MS, why } }
  if (fault !== 'capacity') return slower
  const before = pace.resting[place]
  // Of several answers to what was asked at once, one counts.
  if (before !== undefined && before.until > now) return slower
  const ms = before === undefined ? REST_MS : Math.min(REST_MS_MAX, before.ms * 2)
  return { ...slower, resting: { ...pace.resting, [place]: { until: now + ms, ms } } }
}

/** A suspend that takes far too long: there are too many of them. */
export function suspendWasLate(pace: Pace, place: string): Pace {
  return { ...pace, suspends: { ...pace.suspends, [place]: Math.max(1, Math.floor(suspendsAt(pace, place) / 2)) } }
}

/** Machines that the rounds make or start in one second, however many are due. */
export const STARTS_PER_SECOND = 16

/** How many were made and started since `since`, epoch ms: of the last second. */
export interface Spent {
  readonly since: number
  readonly creates: number
  readonly starts: number
}

/** Those of the errands that may be tried now, at most `most`; the others stay due. */
export function ration(
  errands: readonly Errand[],
  { orders }: Pace,
  spent: Spent,
  most: number,
  now: number,
): { readonly errands: readonly Errand[]; readonly spent: Spent } {
  let { since, creates, starts } = now - spent.since < 1_000 ? spent : { since: now, creates: 0, starts: 0 }
  const chosen: Errand[] = []
  for (const errand of errands) {
    if (chosen.length >= most) break
    const { verb } = errand
    if (verb === 'create' || verb === 'start') {
      if (creates + starts >= STARTS_PER_SECOND || (verb === 'create' && creates >= orders)) continue
      if (verb === 'create') creates += 1
      else starts += 1
    }
    chosen.push(errand)
  }
  return { errands: chosen, spent: { since, creates, starts } }
}
