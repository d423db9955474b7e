/**
 * A machine of the pool, from its order to its end; the row that Postgres keeps of it. Pure: what may follow what.
 *
 *   creating ─▶ booting ─▶ hot ─▶ suspending ─▶ ready ─▶ waking ─▶ busy ─▶ stopping ─▶ reserve ─▶ booting …
 *   creating, booting, hot, suspending and reserve may be claimed too: ─▶ waking
 *   any ─▶ quarantined ─▶ retiring ─▶ gone;  any ─▶ retiring ─▶ gone
 *
 *   creating     ordered from the provider; it may not have heard of it
 *   booting      its supervisor has not yet said who it is
 *   hot          it runs, is primed and waits for a job
 *   suspending   it is being suspended
 *   ready        suspended and primed: a job is a resume away
 *   waking       claimed by an attempt; it has been given nothing
 *   busy         it has been given a job, and is tainted by it
 *   stopping     on its way to clean: what a job left is being thrown away
 *   reserve      stopped and clean: a job is a boot away
 *   quarantined  something about it was wrong: it takes no job and is looked at once more
 *   retiring     being destroyed
 *   gone         destroyed, or never there; kept for a while for whoever asks
 */
import type { JobId, MachineId } from '../../schema/id.ts'

export const MACHINE_STATES = [
  'creating',
  'booting',
  'hot',
  'suspending',
  'ready',
  'waking',
  'busy',
  'stopping',
  'reserve',
  'quarantined',
  'retiring',
  'gone',
] as const
export type MachineState = (typeof MACHINE_STATES)[number]

/** The attempt that a machine was claimed for: one lease on one job. */
export interface Owner {
  readonly jobId: JobId
  readonly fence: number
  /** Where the machine sends its lines: the keeper's own process. Null where the keeper holds its pipes. */
  readonly linesUrl: string | null
}

export interface PooledMachine {
  /** Also the name under which the provider is asked for it, so that an order whose answer was lost is found again. */
  readonly id: MachineId
  /** All machines that are alike: provider, region and size; `plan` decides for one pool at a time. */
  readonly pool: string
  /** Who can reach it: the provider's app for all, or the process that holds its pipes. */
  readonly place: string
  /** Hash of the image and the settings that it was made of. */
  readonly generation: string
  readonly state: MachineState
  /** Rises with every change of the row: a change names the version that it was decided on. */
  readonly version: number
  /** The provider's own name for it; null until it is known. */
  readonly providerId: string | null
  /** Of the boot that runs or is suspended; null when none is known. */
  readonly bootId: string | null
  /** Counts the times that it became clean: by its creation, and by each stop that was seen to be done. */
  readonly boots: number
  /** `boots` when it was last given a job; 0 for never. It may be claimed only while this is below `boots`. */
  readonly tainted: number
  /** Set while waking and busy, and by nothing else. */
  readonly owner: Owner | null
  /** Epoch ms. */
  readonly since: number
  /** Epoch ms by which the state must have been left; null for one that may last. */
  readonly deadline: number | null
  /** Epoch ms when it last became ready or reserve. */
  readonly idleSince: number | null
  /** Jobs that it was given. */
  readonly uses: number
  /** What went wrong last, in a sentence; null for nothing. */
  readonly fault: string | null
}

/** States from which a claim may take a machine, in the order in which it would rather have them. */
export const CLAIMABLE: readonly MachineState[] = ['hot', 'ready', 'suspending', 'booting', 'creating', 'reserve']

/** Whether a claim may take it: nothing that a job left can be in it. */
export function isClean({ boots, tainted }: Pick<PooledMachine, 'boots' | 'tainted'>): boolean {
  return boots > tainted
}
