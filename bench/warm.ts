/**
 * How many jobs find a warm machine while they come evenly, in bursts, suddenly or as day and night: the pool's own plan
 * and steps, in virtual time, on machines that take as long as the simulator of Fly says. Nothing fails, and no clock of
 * this computer counts: what comes out is the same on any.
 */
import { makeId, type JobId, type MachineId } from '../schema/id.ts'
import { noDemand, observeDemand } from '../src/pool/demand.ts'
import { CLAIMABLE, isClean, orderMachine, stepMachine, type PooledMachine } from '../src/pool/machine.ts'
import { initialPace, learn } from '../src/pool/pace.ts'
import { planPool, poolPolicy, type PlanMemory } from '../src/pool/plan.ts'
import { roundsLimits } from '../src/pool/rounds.ts'
import { draw, drawFrom, openStream, type Spread } from '../test/fake/fly-sim/draws.ts'
import { NORMAL } from '../test/fake/fly-sim/timing.ts'
import { FLY_LIKE } from '../test/fake/virtual-provider.ts'
import { percentile } from './load.ts'

const MINUTE_MS = 60_000
const MEMORY_MIB = 512
/** What jobs take, exponential: the pool is sized by the mean alone. */
const JOB_MS: Spread = { mean: 120_000, cap: 3_600_000 }
const SUSPEND_MS: Spread = {
  from: NORMAL.suspendBaseMs + 0.5 * NORMAL.suspendPerMibMs * MEMORY_MIB,
  to: NORMAL.suspendBaseMs + 1.5 * NORMAL.suspendPerMibMs * MEMORY_MIB,
}

interface Load {
  readonly name: string
  /** Arrivals per second when `share` of the time is over, and the most that there ever are. */
  readonly rateAt: (share: number) => number
  readonly most: number
  /** Jobs that come together. */
  readonly burst: number
  /** The share of jobs that are to find a machine that runs or is suspended. */
  readonly goal: number
}

const LOADS: readonly Load[] = [
  { name: '1/s', rateAt: () => 1, most: 1, burst: 1, goal: 0.99 },
  { name: '5/s', rateAt: () => 5, most: 5, burst: 1, goal: 0.99 },
  { name: '5/s in bursts of 5', rateAt: () => 5, most: 5, burst: 5, goal: 0.99 },
  { name: 'a step from 0.5 to 5/s', rateAt: (share) => (share < 0.25 ? 0.5 : 5), most: 5, burst: 1, goal: 0.99 },
  {
    name: 'a sine from 0.2 to 4/s',
    rateAt: (share) => 2.1 + 1.9 * Math.sin(4 * Math.PI * share),
    most: 4,
    burst: 1,
    goal: 0.99,
  },
]

export interface Played {
  readonly jobs: number
  /** Found a machine that ran or was suspended. */
  readonly warm: number
  /** Found one on its way there, or a clean one that had to boot. */
  readonly cold: number
  /** Found none: one was made. */
  readonly made: number
  /** From the claim until the machine was there, in ms, sorted. */
  readonly waits: readonly number[]
  /** On the average. */
  readonly ready: number
  readonly machines: number
}

/** Plays a load for `minutes` after it has run for `settleMinutes` at its beginning's rate. */
export function play(load: Load, settleMinutes: number, minutes: number, seed: number): Played {
  const [arrivals, times] = [openStream(seed, load.name, 'arrivals'), openStream(seed, load.name, 'times')]
  const [from, end] = [settleMinutes * MINUTE_MS, (settleMinutes + minutes) * MINUTE_MS]
  const machines = new Map<MachineId, PooledMachine>()
  /** When what is under way at a machine ends. */
  const due = new Map<MachineId, number>()
  const queue = new Agenda()
  let [now, made] = [0, 0]
  const id = <Kind extends 'mch' | 'job'>(kind: Kind) =>
    makeId(
      kind,
      now,
      Uint8Array.from({ length: 16 }, (_, i) => ((made + 1) >> (8 * (i % 4))) & 255),
    )
  const took = (spread: Spread): number => drawFrom(times, spread)

  const apply = (machine: PooledMachine, command: Parameters<typeof stepMachine>[1]): PooledMachine | undefined => {
    const step = stepMachine(machine, command)
    if (step === undefined) return undefined
    if (step.next.state === 'gone') machines.delete(machine.id)
    else machines.set(machine.id, step.next)
    return step.next
  }
  /** What ends after `ms`, where nothing else has happened to the machine by then. */
  const later = (machine: PooledMachine, ms: number, act: (machine: PooledMachine) => void): void => {
    due.set(machine.id, now + ms)
    queue.add(now + ms, () => {
      const current = machines.get(machine.id)
      if (current?.version === machine.version) act(current)
    })
  }
  const bootMs = (): number => took(NORMAL.coldBootMs)
  const makeMs = (): number => took(draw(times) < NORMAL.slowPulls ? NORMAL.slowPullMs : NORMAL.cachedPullMs) + bootMs()
  const up = (machine: PooledMachine): void => void apply(machine, { type: 'up', now, bootId: `boot ${now}` })
  const stopped = (machine: PooledMachine): void => void apply(machine, { type: 'stopped', now })
  const order = (owner: { readonly jobId: JobId } | null): PooledMachine => {
    made += 1
    const claim = owner === null ? null : { owner: { ...owner, fence: 1, linesUrl: null }, deadline: now + 90_000 }
    const machine = orderMachine({ id: id('mch'), pool: 'p', place: 'here', generation: 'g1', now }, claim)
    machines.set(machine.id, machine)
    return machine
  }

  let pace = initialPace
  let demand = noDemand(0)
  let memory: PlanMemory | null = null
  let started = 0
  const policy = { ...poolPolicy, readyMin: 2, machinesMax: 5_000 }
  const tick = (): void => {
    const all = [...machines.values()]
    const busy = all.filter(({ owner }) => owner !== null).length
    demand = observeDemand(demand, { now, started, queued: 0, busy })
    started = 0
    const view = { demand, policy, traits: FLY_LIKE, places: ['here'], generation: 'g1', pace, memory, now }
    const plan = planPool({ machines: all, ...view })
    memory = plan.memory
    for (const action of plan.actions) {
      if (action.type === 'create') {
        later(order(null), makeMs(), up)
        continue
      }
      const machine = apply(
        action.machine,
        action.type === 'retire' ? { type: 'retire', now, fault: null } : { type: action.type, now },
      )
      if (machine === undefined) continue
      if (action.type === 'boot') later(machine, bootMs(), up)
      if (action.type === 'stop') later(machine, took(NORMAL.stopMs), stopped)
      if (action.type === 'retire')
        later(machine, took(NORMAL.destroyMs), (one) => void apply(one, { type: 'gone', now }))
      if (action.type === 'suspend')
        later(machine, took(SUSPEND_MS), (one) => {
          apply(one, { type: 'suspended', now })
          pace = learn(pace, { verb: 'suspend', place: 'here', fault: null, why: '', now })
        })
    }
    queue.add(now + roundsLimits.tickMs, tick)
  }

  const counts = { warm: 0, cold: 0, made: 0 }
  const waits: number[] = []
  const serve = (): void => {
    started += 1
    made += 1
    const jobId = id('job')
    const found = best(machines)
    const rest = found === undefined ? 0 : Math.max(0, (due.get(found.id) ?? now) - now)
    const claimed =
      found === undefined
        ? order({ jobId })
        : apply(found, { type: 'claim', now, owner: { jobId, fence: 1, linesUrl: null }, deadline: now + 90_000 })
    if (claimed === undefined) throw new Error('a machine that may be claimed was not')
    const waitMs = waitOf(found?.state, rest)
    if (now >= from) {
      counts[kindOf(found?.state)] += 1
      waits.push(waitMs)
    }
    later(claimed, waitMs, (waking) => {
      const held = apply(waking, { type: 'hold', now, owner: { jobId, fence: 1 }, bootId: `boot ${now}` })
      if (held === undefined) throw new Error('a machine that woke was not held')
      later(held, took(JOB_MS), (busy) => {
        const released = apply(busy, { type: 'release', now, cleansByStop: true })
        if (released !== undefined) later(released, took(NORMAL.stopMs), stopped)
      })
    })
  }
  const waitOf = (state: PooledMachine['state'] | undefined, rest: number): number => {
    switch (state) {
      case 'hot':
        return 0
      case 'ready':
        return took(NORMAL.resumeMs)
      case 'suspending':
        return rest + took(NORMAL.resumeMs)
      case 'reserve':
        return bootMs()
      case undefined:
        return makeMs()
      default:
        return rest
    }
  }
  /** Candidates come at the highest rate, and as many stay as the rate of the moment says. */
  const arrive = (): void => {
    const share = now < from ? 0 : (now - from) / (end - from)
    if (draw(arrivals) < load.rateAt(share) / load.most) for (let n = 0; n < load.burst; n++) serve()
    queue.add(now + (-Math.log(1 - draw(arrivals)) * 1000 * load.burst) / load.most, arrive)
  }

  queue.add(0, tick)
  queue.add(1, arrive)
  const sums = { ready: 0, machines: 0, looks: 0 }
  const look = (): void => {
    for (const { state } of machines.values()) sums.ready += state === 'ready' || state === 'hot' ? 1 : 0
    sums.machines += machines.size
    sums.looks += 1
    queue.add(now + 10_000, look)
  }
  queue.add(from, look)
  for (let next = queue.take(); next !== undefined && next.at < end; next = queue.take()) {
    now = next.at
    next.act()
  }
  return {
    jobs: waits.length,
    ...counts,
    waits: waits.toSorted((a, b) => a - b),
    ready: sums.ready / sums.looks,
    machines: sums.machines / sums.looks,
  }
}

function kindOf(state: PooledMachine['state'] | undefined): 'warm' | 'cold' | 'made' {
  if (state === undefined || state === 'creating') return 'made'
  return state === 'hot' || state === 'ready' ? 'warm' : 'cold'
}

/** As the store takes it: the best state, of that the one which became idle last. */
function best(machines: ReadonlyMap<MachineId, PooledMachine>): PooledMachine | undefined {
  let found: PooledMachine | undefined
  let rank = Infinity
  for (const machine of machines.values()) {
    const state = CLAIMABLE.indexOf(machine.state)
    if (state < 0 || !isClean(machine)) continue
    const own = state * 1e12 - (machine.idleSince ?? 0)
    if (own < rank) [found, rank] = [machine, own]
  }
  return found
}

interface Entry {
  readonly at: number
  readonly act: () => void
}

/** What is to happen, the soonest first: a binary heap. */
class Agenda {
  readonly #entries: Entry[] = []

  add(at: number, act: () => void): void {
    const entries = this.#entries
    let place = entries.push({ at, act }) - 1
    for (;;) {
      const above = (place - 1) >> 1
      const [upper, own] = [entries[above], entries[place]]
      if (place === 0 || upper === undefined || own === undefined || upper.at <= own.at) return
      entries[above] = own
      entries[place] = upper
      place = above
    }
  }

  take(): Entry | undefined {
    const entries = this.#entries
    const first = entries[0]
    const last = entries.pop()
    if (last === undefined || entries.length === 0) return first
    entries[0] = last
    for (let place = 0; ;) {
      let least = place
      for (const below of [2 * place + 1, 2 * place + 2])
        if ((entries[below]?.at ?? Infinity) < (entries[least]?.at ?? Infinity)) least = below
      const [upper, own] = [entries[least], entries[place]]
      if (least === place || upper === undefined || own === undefined) return first
      entries[place] = upper
      entries[least] = own
      place = least
    }
  }
}

export function* benchWarm({ short }: { readonly short: boolean }): Generator<string> {
  const minutes = short ? 60 : 240
  yield `jobs of 2 minutes for ${minutes / 60} h, in virtual time, by the plan alone: how they find their machine`
  for (const load of LOADS) {
    const { jobs, warm, cold, made, waits, ready, machines } = play(load, 20, minutes, 1)
    const share = (count: number): string => `${((100 * count) / jobs).toFixed(2)} %`.padStart(8)
    const verdict = warm / jobs >= load.goal ? 'as it is to be' : 'TOO FEW'
    const found = `warm ${share(warm)}  to boot ${share(cold)}  to be made ${share(made)}`
    const wait = `wait p50 ${percentile(waits, 0.5)} ms p99 ${percentile(waits, 0.99)} ms`
    yield `${load.name.padEnd(24)} ${found}  ${wait}  ${ready.toFixed(0)} ready of ${machines.toFixed(0)}; goal ${100 * load.goal} % warm: ${verdict}`
  }
}
