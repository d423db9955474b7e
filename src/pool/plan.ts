/** What a pool should do now, given its machines, what is asked of it, and its policy. Pure; every action says why. */
import type { MachineProvider } from './machine-provider.ts'
import { isClean, type MachineState, type PooledMachine } from './machine.ts'

/** What waits for machines, and what has them. */
export interface PoolDemand {
  readonly queued: number
  readonly running: number
}

export interface PoolPolicy {
  /** Machines that are to be ready, whatever is asked for. */
  readonly readyMin: number
  /** All machines that are not gone. */
  readonly machinesMax: number
}

export type Action = { readonly why: string } & (
  | { readonly type: 'create'; readonly place: string }
  | { readonly type: 'suspend' | 'stop' | 'boot' | 'retire'; readonly machine: PooledMachine }
)

const SUPPLY: readonly MachineState[] = ['creating', 'booting', 'hot', 'suspending', 'ready']

/** In the order in which they are to be done. */
export function planPool(
  machines: readonly PooledMachine[],
  _demand: PoolDemand,
  policy: PoolPolicy,
  provider: Pick<MachineProvider, 'traits' | 'places'>,
  _now: number,
): readonly Action[] {
  const actions: Action[] = []
  const supply = machines.filter((machine) => SUPPLY.includes(machine.state) && isClean(machine))
  const why = `${supply.length} of ${policy.readyMin} machines are ready or on their way`
  for (let i = 0; i < Math.min(policy.readyMin - supply.length, policy.machinesMax - machines.length); i++)
    actions.push({ type: 'create', place: provider.places[(machines.length + i) % provider.places.length] ?? '', why })
  if (provider.traits.suspends)
    for (const machine of machines)
      if (machine.state === 'hot')
        actions.push({ type: 'suspend', machine, why: 'it is primed and nobody wants it now' })
  return actions
}
