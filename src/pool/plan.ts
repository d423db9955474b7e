/**
 * What a pool should do now, given its machines, what is asked of it, and its policy. Pure; every action says why.
 *
 *   create ─▶ ready (or hot, where nothing suspends) ─▶ reserve (stopped and clean, where a stop cleans) ─▶ end
 *
 * PL1 What was ordered counts as if it were there: asked twice at the same moment, the plan orders nothing more.
 * PL2 There are never more machines than the policy allows, whatever is asked for.
 * PL3 Nothing is asked of a machine that is waking or busy.
 * PL4 The pool shrinks only once a whole delay has wanted less, one machine at a time, the longest idle first; never in a
 *    panic, and never below the least that is to be ready.
 * PL5 Suspends under way at a place are never more than its allowance.
 * PL6 Machines of an older generation are replaced while nine tenths of what is wanted stay there.
 * PL7 Where demand stays as it is, the plan comes to rest: it wants what there is.
 * PL8 A generation of which no machine has come up yet begins with canaries beside an older one: two in a hundred, at least
 *    one; nothing older is given up for it.
 */
import { busyMs, type Demand } from './demand.ts'
import type { ProviderTraits } from './machine-provider.ts'
import { hasComeUp, isClean, type MachineState, type PooledMachine } from './machine.ts'
import { isResting, isUnfit, suspendsAt, type Pace } from './pace.ts'
import {
  machinesFor,
  machinesForRush,
  PEAKEDNESS_MAX,
  rateForMachines,
  rateForReady,
  readyFor,
  type Arrivals,
} from './sizing.ts'

export interface PoolPolicy {
  /** Machines that are to be ready, whatever is asked for. */
  readonly readyMin: number
  /** No more than these are kept ready, whatever comes. */
  readonly readyMax: number
  /** All machines that are not gone. */
  readonly machinesMax: number
  /** The share of jobs that may find no machine there at all, not even a stopped one. */
  readonly missShare: number
  /** Jobs that come at once, on top of what the averages say. */
  readonly burst: number
  /** How long less must have been wanted before the pool shrinks, in ms. */
  readonly shrinkAfterMs: number
  /** How long a stopped machine that nobody wants is kept, in ms. */
  readonly reserveKeptMs: number
  /** How long a machine stays suspended before it is made anew, in ms: a snapshot does not get better. */
  readonly readyKeptMs: number
  /** Jobs after which a machine is not used again. */
  readonly usesMax: number
}

/** What is reasonable where an operator says nothing else; the rest is for him to say. */
export const poolPolicy: Omit<PoolPolicy, 'readyMin' | 'machinesMax'> = {
  readyMax: 1_000,
  missShare: 0.01,
  burst: 0,
  shrinkAfterMs: 300_000,
  reserveKeptMs: 1_800_000,
  readyKeptMs: 21_600_000,
  usesMax: 100,
}

export type Action = { readonly why: string } & (
  | { readonly type: 'create'; readonly place: string }
  | { readonly type: 'suspend' | 'stop' | 'boot' | 'retire'; readonly machine: PooledMachine }
)

type OfMachine = Extract<Action, { readonly machine: PooledMachine }>

/** What is wanted, and why. */
export interface Target {
  /** Ready, or on their way there. */
  readonly ready: number
  /** All, with those that have jobs and those in reserve. */
  readonly machines: number
  readonly isPanic: boolean
  readonly why: string
}

/** What a plan keeps for the next. */
export interface PlanMemory {
  /** What was wanted, and when; no entry is less than a later one, so the first is the most of the whole delay. */
  readonly wanted: readonly { readonly at: number; readonly ready: number; readonly machines: number }[]
  readonly panicUntil: number
  /** When the pool last gave something up. */
  readonly shrankAt: number
  readonly refreshedAt: number
  readonly replacedAt: number
}

export interface PoolView {
  readonly machines: readonly PooledMachine[]
  readonly demand: Demand
  readonly policy: PoolPolicy
  readonly traits: ProviderTraits
  readonly places: readonly string[]
  /** That new machines are of. */
  readonly generation: string
  readonly pace: Pace
  /** Null for who leads the pool only now: what there is was wanted until now. */
  readonly memory: PlanMemory | null
  readonly now: number
}

export interface Plan {
  /** In the order in which they are to be done. */
  readonly actions: readonly Action[]
  readonly target: Target
  readonly memory: PlanMemory
}

const TO_READY: readonly MachineState[] = ['creating', 'booting', 'hot', 'suspending', 'ready']
const AT_HAND: readonly MachineState[] = ['hot', 'suspending', 'ready']
const MINUTE_MS = 60_000
/** Orders and boots that have not ended after this are expected no more. */
export const EXPECTED_MS = 300_000
/** Boots of stopped machines that may be under way at once. */
const BOOTS_MAX = 16
const PANIC_MS = 60_000

export function planPool(view: PoolView): Plan {
  const fleet = fleetOf(view)
  const wanted = want(view, fleet)
  const memory = remember(view, fleet, wanted)
  const kept = memory.wanted[0] ?? wanted
  const target: Target = {
    ...wanted,
    isPanic: view.now < memory.panicUntil,
    ready: Math.min(kept.ready, roomForReady(view, fleet)),
    machines: Math.min(view.policy.machinesMax, kept.machines),
  }
  const grown = grow(view, fleet, target)
  const started = grown.flatMap((one) => (one.type === 'create' ? [] : [one.machine]))
  const replaced = replace(view, fleet, target, memory).filter(({ machine }) => !started.includes(machine))
  // One that is about to go is asked for nothing else.
  const going = replaced.map((one) => one.machine)
  const idled = suspend(view, fleet, target).filter(({ machine }) => !going.includes(machine))
  const isGrowing = grown.length > 0
  // What is given up is counted once.
  const isSmaller = replaced.length > 0 || idled.some(({ type }) => type === 'stop')
  const shrunk = isGrowing || target.isPanic || isSmaller ? [] : shrink(view, fleet, target, memory)
  const isQuiet = !isGrowing && replaced.length === 0 && shrunk.length === 0
  const refreshed = isQuiet && !target.isPanic ? refresh(view, fleet, memory) : []
  const stamped = (acts: readonly Action[], before: number): number => (acts.length > 0 ? view.now : before)
  return {
    actions: [...grown, ...idled, ...replaced, ...shrunk, ...refreshed],
    target,
    memory: {
      ...memory,
      shrankAt: stamped(shrunk, memory.shrankAt),
      replacedAt: stamped(replaced, memory.replacedAt),
      refreshedAt: stamped(refreshed, memory.refreshedAt),
    },
  }
}

interface Fleet {
  /** Clean, and on the way to being ready or there; longest idle first. */
  readonly supply: readonly PooledMachine[]
  /** How many of these would serve a job at once: what is on its way may yet be late. */
  readonly there: number
  readonly reserve: readonly PooledMachine[]
  /** On their way to the reserve. */
  readonly cleaning: number
  readonly busy: number
  /** All that are not gone. */
  readonly all: number
}

function fleetOf({ machines, traits, now }: PoolView): Fleet {
  const living = machines.filter(({ state }) => state !== 'gone')
  const isExpected = ({ state, since }: PooledMachine): boolean =>
    (state !== 'creating' && state !== 'booting') || now - since < EXPECTED_MS
  const idle = living
    .filter((machine) => isClean(machine) && isExpected(machine))
    .toSorted((a, b) => (a.idleSince ?? now) - (b.idleSince ?? now) || (a.id < b.id ? -1 : 1))
  const supply = idle.filter(({ state }) => TO_READY.includes(state))
  return {
    supply,
    there: supply.filter(({ state }) => AT_HAND.includes(state)).length,
    reserve: idle.filter(({ state }) => state === 'reserve'),
    cleaning: traits.cleansByStop ? living.filter(({ state }) => state === 'stopping').length : 0,
    busy: living.filter(({ state }) => state === 'waking' || state === 'busy').length,
    all: living.length,
  }
}

/** How long it takes to make one ready, in ms. */
function leadMs({ traits: { cleansByStop, suspends, typical } }: PoolView): number {
  const boot = cleansByStop ? typical.bootMs : typical.createMs
  return boot + (suspends ? typical.suspendMs : 0)
}

/** How long a used machine takes to be of use again, or another in its place, in ms. */
function recycleMs(view: PoolView): number {
  return (view.traits.cleansByStop ? view.traits.typical.stopMs : 0) + leadMs(view)
}

function roomForReady({ policy }: PoolView, { busy }: Fleet): number {
  return Math.max(0, Math.min(policy.readyMax, policy.machinesMax - busy))
}

/** What the demand of this moment asks for. */
function want(view: PoolView, { supply, busy }: Fleet): Target {
  const { demand, policy } = view
  const arrivals = { perSecond: rateForReady(demand), dispersion: demand.dispersion, burst: policy.burst }
  const calculated = readyFor({ ...arrivals, leadMs: leadMs(view) })
  const ready = Math.min(policy.readyMax, Math.max(policy.readyMin, calculated))
  const load = (rateForMachines(demand) * (busyMs(demand, 0) + recycleMs(view))) / 1000
  const forLoad = machinesFor(load, policy.missShare, Math.min(PEAKEDNESS_MAX, demand.dispersion))
  // Those at work, and for those who come, at the highest rate, before a machine that is ordered now is ready.
  const meanwhile = readyFor({ ...arrivals, leadMs: view.traits.typical.createMs + leadMs(view) })
  const rush = machinesForRush(demand, supply.length + busy)
  const machines = Math.max(forLoad, rush, busy + Math.max(ready, meanwhile))
  const why =
    calculated > policy.readyMin
      ? `${rate(demand)} jobs per second come, and ${seconds(leadMs(view))} s make a machine ready: ${ready} ready`
      : `${ready} ready, as the policy says whatever comes`
  const isPanic = rush > 0
  return { ready, machines, isPanic, why: isPanic ? `${why}; a rush: twice what there is` : why }
}

const rate = (arrivals: Arrivals): string => rateForReady(arrivals).toFixed(2)
const seconds = (ms: number): string => (ms / 1000).toFixed(1)

function remember({ memory, policy, now }: PoolView, { supply, all }: Fleet, wanted: Target): PlanMemory {
  const before: PlanMemory = memory ?? {
    wanted: [{ at: now, ready: Math.min(policy.readyMax, supply.length), machines: all }],
    panicUntil: 0,
    shrankAt: now,
    refreshedAt: now,
    replacedAt: 0,
  }
  const { ready, machines, isPanic } = wanted
  const recent = before.wanted.filter(({ at }) => now - at < policy.shrinkAfterMs)
  // Each number by itself is the most of what is left; an entry that is no more than this one says nothing more.
  const kept = recent.map((one) => ({
    at: one.at,
    ready: Math.max(one.ready, ready),
    machines: Math.max(one.machines, machines),
  }))
  const distinct = kept.filter(
    (one, i) => i === kept.length - 1 || one.ready !== kept[i + 1]?.ready || one.machines !== kept[i + 1]?.machines,
  )
  const last = distinct.at(-1)
  const isSame = last !== undefined && last.ready === ready && last.machines === machines
  return {
    ...before,
    wanted: isSame
      ? [...distinct.slice(0, -1), { at: now, ready, machines }]
      : [...distinct, { at: now, ready, machines }],
    panicUntil: isPanic ? now + PANIC_MS : before.panicUntil,
  }
}

/** Up at once, as far as orders may go. */
function grow(view: PoolView, fleet: Fleet, target: Target): readonly Action[] {
  const { policy, pace, places, generation, traits, now } = view
  // While nothing says that the newest comes up, what came up before goes on.
  const fresh = fleet.reserve.filter((one) => one.generation === generation || !isProven(view))
  const lacking = Math.max(0, target.ready + surgeOf(view, fleet, target) - fleet.supply.length)
  const booting = fleet.supply.filter(({ state }) => state === 'booting').length
  // The last to come goes first: what nobody needs stays idle, and is given up for it.
  const boots = fresh.toReversed().slice(0, Math.max(0, Math.min(lacking, BOOTS_MAX - booting)))
  const why = `${fleet.supply.length} of ${target.ready} are ready or on their way: ${target.why}`
  const actions: Action[] = boots.map((machine) => ({ type: 'boot', machine, why }))

  // What the reserve will give, or what is being cleaned for it, needs no order.
  const whole = traits.cleansByStop ? target.machines - fleet.all : 0
  const short = lacking - boots.length - (traits.cleansByStop ? fresh.length - boots.length + fleet.cleaning : 0)
  const orders = fleet.supply.filter(({ state }) => state === 'creating').length
  const canaries = canariesLeft(view, fleet)
  const room = Math.min(policy.machinesMax - fleet.all, pace.orders - orders, canaries ?? Infinity)
  const open = places.filter((place) => !isResting(pace, place, now))
  const isRefused = pace.refused !== null && pace.refused.until > now
  if (open.length === 0 || isRefused || isUnfit(pace, generation, now)) return actions
  const first = `the first of generation ${generation}: the rest follow when one has come up`
  const because =
    canaries !== undefined
      ? first
      : short > 0
        ? why
        : `${fleet.all} of ${target.machines} machines are there: ${target.why}`
  for (let i = 0; i < Math.min(room, Math.max(short, whole, canaries ?? 0)); i++)
    actions.push({ type: 'create', place: open[(fleet.all + i) % open.length] ?? '', why: because })
  return actions
}

/** What nobody has wanted for a while is kept for less. */
function suspend(view: PoolView, fleet: Fleet, target: Target): readonly OfMachine[] {
  const { traits, pace, now } = view
  const hot = fleet.supply.filter(({ state }) => state === 'hot')
  const above = fleet.there - target.ready - surgeOf(view, fleet, target)
  const surplus = traits.cleansByStop && !target.isPanic ? hot.slice(0, Math.max(0, above)) : []
  const actions: OfMachine[] = surplus.map((machine) => ({
    type: 'stop',
    machine,
    why: `${fleet.there} are there and ${target.ready} are wanted: to the reserve`,
  }))
  if (!traits.suspends) return actions
  // One that resumes in an instant may as well sleep at once.
  const hotMs = traits.typical.suspendMs < 50 ? 0 : Math.max(2 * traits.typical.suspendMs, 10_000)
  const underWay = new Map<string, number>()
  for (const { state, place } of fleet.supply)
    if (state === 'suspending') underWay.set(place, (underWay.get(place) ?? 0) + 1)
  for (const machine of hot) {
    const { place, since } = machine
    const count = underWay.get(place) ?? 0
    if (surplus.includes(machine) || now - since < hotMs || count >= suspendsAt(pace, place)) continue
    underWay.set(place, count + 1)
    const why = hotMs > 0 ? `nobody has wanted it for ${seconds(now - since)} s` : 'nobody waits for it'
    actions.push({ type: 'suspend', machine, why })
  }
  return actions
}

/** New machines beside the old ones that they are to replace. */
function surgeOf({ generation }: PoolView, { supply }: Fleet, { ready }: Target): number {
  return supply.some((one) => one.generation !== generation) ? Math.max(1, Math.ceil(ready / 10)) : 0
}

/** Whether a machine of the newest generation has ever come up, as far as the rows say. */
function isProven({ machines, generation }: PoolView): boolean {
  return machines.some((one) => one.generation === generation && hasComeUp(one))
}

/** PL8: how many more of a new generation are ordered before one has come up; undefined where it is no trial. */
function canariesLeft(view: PoolView, { all, supply, reserve }: Fleet): number | undefined {
  const { machines, generation } = view
  const hasOlder = [...supply, ...reserve].some((one) => one.generation !== generation)
  if (!hasOlder || isProven(view)) return undefined
  const living = machines.filter((one) => one.generation === generation && one.state !== 'gone').length
  return Math.max(0, Math.max(1, Math.ceil(all / 50)) - living)
}

/** At most a tenth of the pool in a minute. */
function isTooSoon(last: number, all: number, now: number): boolean {
  return now - last < MINUTE_MS / Math.max(1, all / 10)
}

function replace(view: PoolView, fleet: Fleet, target: Target, memory: PlanMemory): readonly OfMachine[] {
  const { generation, policy, now } = view
  const old = [...fleet.reserve, ...fleet.supply].find(
    (one) => one.generation !== generation && (one.state === 'reserve' || one.state === 'ready' || one.state === 'hot'),
  )
  if (old === undefined || isTooSoon(memory.replacedAt, fleet.all, now)) return []
  const there = fleet.supply.filter(({ state }) => state === 'ready' || state === 'hot').length
  const isEnough = there - 1 >= target.ready * 0.9 && isProven(view)
  // Where no room is left for a new one before an old one has gone, it goes first.
  const hasRoom = fleet.all < policy.machinesMax
  if (!isProven(view) && (hasRoom || canariesLeft(view, fleet) === 0 || isUnfit(view.pace, generation, now))) return []
  if (old.state !== 'reserve' && !isEnough && hasRoom) return []
  return [{ type: 'retire', machine: old, why: `its generation is ${old.generation}, and new ones are ${generation}` }]
}

function shrink(view: PoolView, fleet: Fleet, target: Target, memory: PlanMemory): readonly Action[] {
  const { policy, traits, now } = view
  if (isTooSoon(memory.shrankAt, fleet.all, now)) return []
  if (fleet.there > Math.max(policy.readyMin, target.ready) + surgeOf(view, fleet, target)) {
    const oldest = fleet.supply.find(({ state }) => state === 'ready' || (state === 'hot' && !traits.suspends))
    if (oldest === undefined) return []
    const why = `${fleet.there} are ready, and no more than ${target.ready} were wanted for ${minutes(policy.shrinkAfterMs)} minutes`
    return [{ type: traits.cleansByStop ? 'stop' : 'retire', machine: oldest, why }]
  }
  const [oldest] = fleet.reserve
  if (oldest === undefined || fleet.all <= target.machines) return []
  if (now - (oldest.idleSince ?? now) < policy.reserveKeptMs) return []
  const why = `${fleet.all} machines are there, ${target.machines} are wanted, and it was in reserve for ${minutes(policy.reserveKeptMs)} minutes`
  return [{ type: 'retire', machine: oldest, why }]
}

const minutes = (ms: number): string => (ms / MINUTE_MS).toFixed(0)

/** What is old is made anew, one in a minute. */
function refresh({ policy, traits, now }: PoolView, fleet: Fleet, memory: PlanMemory): readonly Action[] {
  if (now - memory.refreshedAt < MINUTE_MS) return []
  const worn = fleet.reserve.find(({ uses }) => uses >= policy.usesMax)
  if (worn !== undefined) return [{ type: 'retire', machine: worn, why: `it was used ${worn.uses} times` }]
  const stale = fleet.supply.find(
    ({ state, idleSince }) => state === 'ready' && idleSince !== null && now - idleSince >= policy.readyKeptMs,
  )
  if (stale === undefined) return []
  const why = `it has been suspended for ${minutes(policy.readyKeptMs)} minutes`
  return [{ type: traits.cleansByStop ? 'stop' : 'retire', machine: stale, why }]
}
