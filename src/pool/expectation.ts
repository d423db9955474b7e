/**
 * What a pool expects of its provider and of those who call it, from what it has seen of them. Pure.
 *
 * X1 Nothing is expected of fewer than `SEEN_MIN` times: until then what the provider says of itself holds.
 * X2 A machine is late when it takes longer than 19 of 20 did, and for one job in twenty at most another is roused.
 * X3 What was seen only lengthens a deadline, and never beyond what making a machine may take.
 * X4 An hour of the week is expected to be as nine of ten of the same hour before, by how the last week grew.
 * X5 Who begins to lead expects what the one before did; what cannot be read is as if nothing had been seen.
 */
import type { Resume } from '../../schema/event.ts'
import type { ProviderTraits } from './machine-provider.ts'
import type { MachineId } from '../../schema/id.ts'
import type { MachineState, PooledMachine } from './machine.ts'

/** What takes its time: a job's way to its machine, by how it found it, and a machine's from one state to another. */
export type Passage = Resume | 'create' | 'boot' | 'suspend' | 'stop'

export interface Expectation {
  /** The last `SEEN_MAX` of each, in ms, newest last. */
  readonly times: Readonly<Partial<Record<Passage, readonly number[]>>>
  /** What is under way, by machine, and since when. */
  readonly begun: ReadonlyMap<MachineId, { readonly passage: Passage; readonly at: number }>
  /** Jobs that were given a machine, and for how many of them another was roused. */
  readonly starts: number
  readonly roused: number
  /** Arrivals per second in each hour of the week (0 is Thursday 0:00 UTC, as in the epoch), the last weeks, newest last. */
  readonly hours: readonly (readonly number[])[]
  /** The hour that is under way, counted from the epoch, and who came in it. */
  readonly hour: { readonly index: number; readonly came: number } | null
}

export const SEEN_MIN = 20
const SEEN_MAX = 200
const WEEKS_MAX = 4
const HOUR_MS = 3_600_000
/** Of a week. */
export const HOURS = 168
/** One job in twenty. */
const ROUSED_SHARE = 0.05

export const noExpectation: Expectation = {
  times: {},
  begun: new Map(),
  starts: 0,
  roused: 0,
  hours: Array.from({ length: HOURS }, () => []),
  hour: null,
}

/** The value that `share` of all do not exceed (nearest rank); undefined of none. */
export function quantile(values: readonly number[], share: number): number | undefined {
  return values.toSorted((a, b) => a - b)[Math.max(0, Math.ceil(values.length * share) - 1)]
}

/** X1 */
export function expected({ times }: Expectation, passage: Passage, share: number): number | undefined {
  const seen = times[passage] ?? []
  return seen.length < SEEN_MIN ? undefined : quantile(seen, share)
}

export function seeTime(before: Expectation, passage: Passage, ms: number): Expectation {
  const seen = [...(before.times[passage] ?? []), Math.max(0, ms)].slice(-SEEN_MAX)
  return { ...before, times: { ...before.times, [passage]: seen } }
}

/** A job has its machine, so long after it asked the provider. */
export function seeStart(before: Expectation, resume: Resume, ms: number): Expectation {
  return { ...seeTime(before, resume, ms), starts: before.starts + 1 }
}

export function rouse(before: Expectation): Expectation {
  return { ...before, roused: before.roused + 1 }
}

/** How a job will have come by a machine that it found in this state; null for one that is made for it. */
export function wayOf(from: MachineState | null): Resume {
  if (from === null || from === 'creating') return 'created'
  return from === 'reserve' ? 'reserve' : from === 'booting' ? 'cold' : 'resumed'
}

/** X2: after how many ms another machine is roused for the job; undefined for never. */
export function lateAfterMs(expectation: Expectation, way: Resume): number | undefined {
  const { starts, roused } = expectation
  return roused + 1 > starts * ROUSED_SHARE ? undefined : expected(expectation, way, 0.95)
}

/** X3: how long to wait for a machine that comes this way. */
export function deadlineMs(
  expectation: Expectation,
  way: Resume,
  { wakeMs, createMs }: { readonly wakeMs: number; readonly createMs: number },
): number {
  const least = way === 'created' ? createMs : wakeMs
  return Math.max(least, Math.min(createMs, 3 * (expected(expectation, way, 0.99) ?? 0)))
}

/** How long each takes, for the plan: what nine of ten did not exceed, else what the provider says. */
export function typicalOf(expectation: Expectation, typical: ProviderTraits['typical']): ProviderTraits['typical'] {
  const of = (passage: Passage, otherwise: number): number => expected(expectation, passage, 0.9) ?? otherwise
  return {
    createMs: of('create', typical.createMs),
    bootMs: of('boot', typical.bootMs),
    suspendMs: of('suspend', typical.suspendMs),
    resumeMs: of('resumed', typical.resumeMs),
    stopMs: of('stop', typical.stopMs),
  }
}

const ENDS: Readonly<Partial<Record<Passage, readonly MachineState[]>>> = {
  create: ['hot', 'suspending', 'ready'],
  boot: ['hot', 'suspending', 'ready'],
  suspend: ['ready'],
  stop: ['reserve'],
}

function passageOf({ state, uses, boots }: PooledMachine): Passage | undefined {
  if (state === 'creating') return 'create'
  if (state === 'booting') return uses === 0 && boots === 1 ? 'create' : 'boot'
  return state === 'suspending' ? 'suspend' : state === 'stopping' ? 'stop' : undefined
}

/** What became of the machines since the look before: by their rows, so that it is the same whoever moved them. */
export function seeMachines(before: Expectation, machines: readonly PooledMachine[]): Expectation {
  let after = before
  const begun = new Map<MachineId, { readonly passage: Passage; readonly at: number }>()
  for (const machine of machines) {
    const { id, state, since } = machine
    const under = before.begun.get(id)
    const passage = passageOf(machine)
    // Straight from one passage into the next: the end of the first is the beginning of the second.
    if (under !== undefined && under.passage !== passage && ENDS[under.passage]?.includes(state) === true)
      after = seeTime(after, under.passage, since - under.at)
    if (passage !== undefined) begun.set(id, under?.passage === passage ? under : { passage, at: since })
  }
  return { ...after, begun }
}

/** Who came since the look before. */
export function seeArrivals(before: Expectation, came: number, now: number): Expectation {
  const index = Math.floor(now / HOUR_MS)
  const { hour, hours } = before
  if (hour === null || hour.index > index) return { ...before, hour: { index, came } }
  if (hour.index === index) return { ...before, hour: { index, came: hour.came + came } }
  const at = hour.index % HOURS
  const perSecond = (hour.came * 1000) / HOUR_MS
  const kept = hours.map((rates, i) => (i === at ? [...rates, perSecond].slice(-WEEKS_MAX) : rates))
  return { ...before, hours: kept, hour: { index, came } }
}

/** X4: arrivals per second at a moment; 0 while no such hour was seen. */
export function forecast({ hours }: Expectation, at: number): number {
  const rates = hours[Math.floor(at / HOUR_MS) % HOURS] ?? []
  const usual = quantile(rates, 0.9) ?? 0
  const both = hours.filter((one) => one.length >= 2)
  const sum = (which: number): number => both.reduce((all, one) => all + (one.at(which) ?? 0), 0)
  const [last, before] = [sum(-1), sum(-2)]
  return before <= 0 ? usual : usual * Math.min(2, Math.max(0.5, last / before))
}
