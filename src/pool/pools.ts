/** A pool at work: machines for jobs out of it, and the rounds that keep it. */
import type { Chance, Clock } from '../../schema/clock.ts'
import type { Log } from '../log.ts'
import { openErrands } from './errands.ts'
import type { MachineHost } from './machine-host.ts'
import type { MachineProvider } from './machine-provider.ts'
import { openMachines, type MachinesLimits } from './machines.ts'
import type { PoolDemand, PoolPolicy } from './plan.ts'
import type { PoolStore } from './pool-store.ts'
import { openRounds, type RoundsLimits } from './rounds.ts'

export interface PoolDependencies {
  /** All machines that are alike have one name, whichever process made them. */
  readonly pool: string
  /** Names this process among all that share the pool. */
  readonly holder: string
  readonly store: PoolStore
  readonly provider: MachineProvider
  readonly policy: PoolPolicy
  readonly demand: () => Promise<PoolDemand>
  readonly isDead: (place: string) => Promise<boolean>
  /** Where machines send their lines to; null where this process holds their pipes. */
  readonly linesUrl: string | null
  readonly clock: Clock
  readonly chance: Chance
  readonly log: Log
  readonly limits: { readonly machines: MachinesLimits; readonly rounds: RoundsLimits }
}

/** Keeps the pool from now on; closing it ends what only this process can reach. */
export function openPool(dependencies: PoolDependencies): MachineHost {
  const { provider, limits } = dependencies
  const errands = openErrands(dependencies)
  const rounds = openRounds({ ...dependencies, errands, limits: limits.rounds })
  const machines = openMachines({
    ...dependencies,
    errands,
    limits: limits.machines,
    onChange: () => rounds.ring(),
    generations: () => rounds.generations(),
  })
  return {
    ...machines,
    name: provider.name,
    async close() {
      await rounds.close()
      await machines.close()
    },
  }
}
