/** A pool at work: machines for jobs out of it, and the rounds that keep it. */
import type { Chance, Clock } from '../../schema/clock.ts'
import type { Resume } from '../../schema/event.ts'
import type { Log } from '../log.ts'
import { openErrands } from './errands.ts'
import type { Explanation } from './explanation.ts'
import type { MachineHost } from './machine-host.ts'
import type { MachineProvider } from './machine-provider.ts'
import type { Owner } from './machine.ts'
import { openMachines, type MachinesLimits } from './machines.ts'
import type { PoolPolicy } from './plan.ts'
import type { PoolStore } from './pool-store.ts'
import { openRounds, type PoolDemand, type RoundsLimits } from './rounds.ts'

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
  readonly isOver: (owner: Owner) => Promise<boolean>
  /** Where machines send their lines to; null where this process holds their pipes. */
  readonly linesUrl: string | null
  readonly clock: Clock
  readonly chance: Chance
  readonly log: Log
  readonly limits: { readonly machines: MachinesLimits; readonly rounds: RoundsLimits }
}

export interface Pool extends MachineHost {
  explain(): Explanation
}

/** Keeps the pool from now on; closing it ends what only this process can reach. */
export function openPool(dependencies: PoolDependencies): Pool {
  const { provider, limits } = dependencies
  const errands = openErrands({ ...dependencies, onOutcome: (outcome) => rounds.heed(outcome) })
  const rounds = openRounds({ ...dependencies, errands, limits: limits.rounds })
  const machines = openMachines({
    ...dependencies,
    errands,
    limits: limits.machines,
    onChange: () => rounds.ring(),
    generations: () => rounds.generations(),
    onAction: (action) => rounds.note(action),
  })
  const given: Partial<Record<Resume, number>> = {}
  return {
    ...machines,
    name: provider.name,
    async open(attempt, lock, signal) {
      const machine = await machines.open(attempt, lock, signal)
      const { resume } = machine.obtained
      given[resume] = (given[resume] ?? 0) + 1
      return machine
    },
    explain: () => ({
      ...rounds.explain(),
      ...(provider.limits === undefined ? {} : { limits: provider.limits }),
      given: { ...given },
    }),
    async close() {
      try {
        await rounds.close()
      } finally {
        // Also where nothing can be recorded any more: machines that stay would keep their process from ending.
        await machines.close()
      }
    },
  }
}
