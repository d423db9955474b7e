/**
 * A pool under a steady load, in virtual time: arrivals as chance has them, the real plan once a second, machines that take
 * as long as their traits say and nothing that fails. Who finds no machine at all is counted against what was promised (I24).
 */
import type { JobId, MachineId } from '../../schema/id.ts'
import { noDemand, observeDemand } from '../../src/pool/demand.ts'
import {
  CLAIMABLE,
  orderMachine,
  stepMachine,
  type MachineCommand,
  type PooledMachine,
} from '../../src/pool/machine.ts'
import { initialPace } from '../../src/pool/pace.ts'
import { planPool, poolPolicy, type PlanMemory } from '../../src/pool/plan.ts'
import { FLY_LIKE } from '../fake/virtual-provider.ts'
import { drawing } from './draw.ts'
import { Findings } from './invariant.ts'

const TICK_MS = 1_000
/** The averages of five minutes know the load by then. */
const WARM_UP_MS = 1_200_000
const MEASURED_MS = 2_400_000
const JOB_MS = 20_000
const LOADS_PER_SECOND = [0.5, 1, 2]

type Unstamped = MachineCommand extends infer One ? (One extends unknown ? Omit<One, 'now'> : never) : never

export function playLoad(seed: number): Findings {
  const draw = drawing(seed)
  const findings = new Findings(`load ${seed}`)
  const perSecond = LOADS_PER_SECOND[seed % LOADS_PER_SECOND.length] ?? 1
  const policy = { ...poolPolicy, readyMin: 1, machinesMax: 400 }
  const { typical } = FLY_LIKE
  const machines = new Map<MachineId, PooledMachine>()
  /** What is under way: it ends in its moment. */
  const due: { readonly at: number; readonly id: MachineId; readonly command: Unstamped }[] = []
  let memory: PlanMemory | null = null
  let demand = noDemand(0)
  let [made, started, arrived, missed, next] = [0, 0, 0, 0, 0]

  function move(id: MachineId, command: Unstamped, now: number): PooledMachine | undefined {
    const machine = machines.get(id)
    const step = machine === undefined ? undefined : stepMachine(machine, { ...command, now })
    if (step !== undefined) machines.set(id, step.next)
    return step?.next
  }
  const later = (at: number, id: MachineId, command: Unstamped): void => void due.push({ at, id, command })

  function arrive(now: number): void {
    if (now >= WARM_UP_MS) arrived += 1
    const found = [...machines.values()]
      .filter(({ state }) => CLAIMABLE.includes(state))
      .toSorted((a, b) => CLAIMABLE.indexOf(a.state) - CLAIMABLE.indexOf(b.state))[0]
    if (found === undefined) {
      if (now >= WARM_UP_MS) missed += 1
      return
    }
    started += 1
    const owner = { jobId: `job_${started}` as JobId, fence: 1, linesUrl: null }
    move(found.id, { type: 'claim', owner, deadline: now + 60_000 }, now)
    move(found.id, { type: 'hold', owner, bootId: 'b' }, now)
    later(now - Math.log(draw()) * JOB_MS, found.id, { type: 'release', cleansByStop: true })
  }

  for (let now = 0; now < WARM_UP_MS + MEASURED_MS; now += TICK_MS) {
    for (; next < now + TICK_MS; next -= (Math.log(draw()) * 1000) / perSecond) if (next >= now) arrive(next)
    for (const { id, command } of due.filter(({ at }) => at <= now)) {
      const moved = move(id, command, now)
      if (moved?.state === 'stopping') later(now + typical.stopMs, id, { type: 'stopped' })
    }
    due.splice(0, due.length, ...due.filter(({ at }) => at > now))
    const busy = [...machines.values()].filter(({ owner }) => owner !== null).length
    demand = observeDemand(demand, { now, started, queued: 0, busy })
    started = 0
    const all = [...machines.values()].filter(({ state }) => state !== 'gone')
    const view = { machines: all, demand, policy, traits: FLY_LIKE, places: ['here'], generation: 'g' }
    const plan = planPool({ ...view, pace: initialPace, memory, now })
    memory = plan.memory
    for (const action of plan.actions) {
      if (action.type === 'create') {
        const id = `mch_${(made += 1)}` as MachineId
        machines.set(id, orderMachine({ id, pool: 'p', place: 'here', generation: 'g', now }, null))
        later(now + typical.createMs, id, { type: 'up', bootId: 'b' })
        continue
      }
      const { id } = action.machine
      const command: Unstamped = action.type === 'retire' ? { type: 'retire', fault: null } : { type: action.type }
      move(id, command, now)
      if (action.type === 'retire') move(id, { type: 'gone' }, now)
      if (action.type === 'boot') later(now + typical.bootMs, id, { type: 'up', bootId: 'b' })
      if (action.type === 'suspend') later(now + typical.suspendMs, id, { type: 'suspended' })
      if (action.type === 'stop') later(now + typical.stopMs, id, { type: 'stopped' })
    }
    for (const { id, state } of all) if (state === 'gone') machines.delete(id)
  }
  const allowed = 2 * policy.missShare
  const noise = 3 * Math.sqrt((allowed * (1 - allowed)) / arrived)
  findings.look('I24', missed / arrived <= allowed + noise, () => `${missed} of ${arrived} found no machine`)
  return findings
}
