/** Why a pool is as it is, for the humans who operate it. */
import type { Resume } from '../../schema/event.ts'
import type { MachineId } from '../../schema/id.ts'
import type { MachineState } from './machine.ts'
import type { MachineLimit } from './machine-provider.ts'
import type { Target } from './plan.ts'

export interface Explanation {
  readonly pool: string
  /** Epoch ms. */
  readonly at: number
  /** The process said it as it ended: it keeps nothing any more. */
  readonly isLast?: boolean
  /** Whether this process leads the pool: only who does has a target. */
  readonly leads: boolean
  readonly target: Target | null
  readonly counts: Readonly<Partial<Record<MachineState, number>>>
  /** Machines that the provider has and no row knows. */
  readonly strays: number
  /** What one machine of this process may use; absent where its provider does not say. */
  readonly limits?: readonly MachineLimit[]
  /** Why less is asked of the provider than is wanted, as who leads knows it; left out by who reported before it was said. */
  readonly restraints?: readonly string[]
  /** How the jobs of this process came by their machines, since it started. */
  readonly given: Readonly<Partial<Record<Resume, number>>>
  /** What the pool did last, newest first. */
  readonly actions: readonly {
    readonly at: number
    readonly type: 'create' | 'suspend' | 'stop' | 'boot' | 'retire' | 'quarantine' | 'rouse' | 'end'
    readonly machineId: MachineId | null
    readonly why: string
  }[]
  /** What the provider did not do, newest first. */
  readonly faults: readonly { readonly at: number; readonly verb: string; readonly why: string }[]
}

/** The share of jobs that found a machine that was running or suspended; null before there was a job. */
export function warmShare({ given }: Pick<Explanation, 'given'>): number | null {
  const all = Object.values(given).reduce((sum, count) => sum + count, 0)
  return all === 0 ? null : (given.resumed ?? 0) / all
}
