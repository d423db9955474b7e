/**
 * A machine of the pool, from its order to its end; the row that Postgres keeps of it. Pure: what may follow what.
 *
 *   creating ─▶ booting ─▶ hot ─▶ suspending ─▶ ready ─▶ waking ─▶ busy ─▶ stopping ─▶ reserve ─▶ booting …
 *   creating, booting, hot, suspending and reserve may be claimed too: ─▶ waking
 *   any ─▶ quarantined ─▶ reserve, or retiring ─▶ gone;  any ─▶ retiring ─▶ gone;  ready ─▶ booting, roused
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
 *   quarantined  it did not come for a job: it takes none until a stop was seen to be done; the second time it is destroyed
 *   retiring     being destroyed
 *   gone         destroyed, or never there; kept for a while for whoever asks
 *
 * M1 A machine has an owner exactly while it is waking or busy.
 * M2 Once given a job it is claimed no more until it has become clean: by a stop that was seen to be done.
 * M3 Nothing moves a machine that is waking or busy but its attempt's hold and release, its end, and a fault.
 * M4 Gone is gone, and retiring leads nowhere else.
 * M5 A state that must pass has a deadline; one that may last has none.
 * M6 A machine that fails twice without a job in between is destroyed.
 */
import { unreachable } from '../../schema/decider.ts'
import type { Resume } from '../../schema/event.ts'
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
  /** Epoch ms when it was last given one; null for never. */
  readonly heldAt: number | null
  /** What went wrong since it last had a job, in a sentence; null for nothing. */
  readonly fault: string | null
}

/** States from which a claim may take a machine, in the order in which it would rather have them. */
export const CLAIMABLE: readonly MachineState[] = ['hot', 'ready', 'suspending', 'booting', 'reserve', 'creating']

/** Whether a claim may take it: nothing that a job left can be in it. */
export function isClean({ boots, tainted }: Pick<PooledMachine, 'boots' | 'tainted'>): boolean {
  return boots > tainted
}

const UNFIT = 'It can do no job: '

/** The fault of a machine that says so itself, and why. */
export function unfitFault(reason: string): string {
  return `${UNFIT}${reason}`
}

/** Whether it has said so: then what it is made of is at fault, and not whoever was to make or move it. */
export function isUnfitItself({ fault }: PooledMachine): boolean {
  return fault?.startsWith(UNFIT) === true
}

/** Whether it ever was up: its supervisor has then started a runner, which did a job of its own (P3.8). */
export function hasComeUp({ bootId, idleSince, heldAt, fault }: PooledMachine): boolean {
  // A stop of one that did not come for its job leaves it idle, and says nothing of it.
  return bootId !== null || heldAt !== null || (idleSince !== null && fault === null)
}

/** What is to be asked of the provider. */
export type Verb = 'create' | 'start' | 'suspend' | 'stop' | 'destroy'

/** How long a state may last before something is wrong, in ms; left out for ever. */
export const DEADLINES_MS: Readonly<Partial<Record<MachineState, number>>> = {
  creating: 90_000,
  booting: 30_000,
  suspending: 45_000,
  waking: 10_000,
  stopping: 45_000,
  quarantined: 600_000,
  retiring: 60_000,
}

/** What happens to a machine, or is to. */
export type MachineCommand = { readonly now: number } &
  /** The provider has it, under this name. */
  (
    | { readonly type: 'created'; readonly providerId: string }
    /** The provider has done what was asked; the machine itself is on its way. */
    | { readonly type: 'started' }
    /** Its supervisor says that it is up. */
    | { readonly type: 'up'; readonly bootId: string }
    | { readonly type: 'suspend' | 'suspended' | 'stop' | 'stopped' | 'boot' | 'gone' }
    | { readonly type: 'claim'; readonly owner: Owner; readonly deadline: number }
    /** The machine itself has come for its job. */
    | { readonly type: 'hold'; readonly owner: Pick<Owner, 'jobId' | 'fence'>; readonly bootId: string }
    /** The attempt is over. `cleansByStop`: whether a stop makes it clean. */
    | { readonly type: 'release'; readonly cleansByStop: boolean }
    | { readonly type: 'quarantine' | 'retire'; readonly fault: string | null }
  )

/** A row as it is to be, and what is to be asked of the provider from then on; null for nothing more. */
export interface MachineStep {
  readonly next: PooledMachine
  readonly verb: Verb | null
}

/** A machine that is ordered: for the pool, or at once for an owner who has no other. */
export function orderMachine(
  order: Pick<PooledMachine, 'id' | 'pool' | 'place' | 'generation'> & { readonly now: number },
  claim: { readonly owner: Owner; readonly deadline: number } | null,
): PooledMachine {
  const { id, pool, place, generation, now } = order
  const state = claim === null ? 'creating' : 'waking'
  return {
    id,
    pool,
    place,
    generation,
    state,
    version: 1,
    providerId: null,
    bootId: null,
    boots: 1,
    tainted: 0,
    owner: claim?.owner ?? null,
    since: now,
    deadline: claim?.deadline ?? now + (DEADLINES_MS.creating ?? 0),
    idleSince: null,
    uses: 0,
    heldAt: null,
    fault: null,
  }
}

/** What follows; undefined when the command does not apply to the machine as it is. */
export function stepMachine(machine: PooledMachine, command: MachineCommand): MachineStep | undefined {
  const { state } = machine
  const { now } = command
  const isOwned = state === 'waking' || state === 'busy'
  const to = (next: MachineState, verb: Verb | null, change: Partial<PooledMachine> = {}): MachineStep => {
    const lasting = DEADLINES_MS[next]
    const moved = {
      ...machine,
      state: next,
      version: machine.version + 1,
      since: next === state ? machine.since : now,
      deadline: next === state ? machine.deadline : lasting === undefined ? null : now + lasting,
    }
    return { next: { ...moved, ...change }, verb }
  }
  switch (command.type) {
    case 'created': {
      const { providerId } = command
      if (state === 'creating') return to('booting', null, { providerId })
      return state === 'waking' && machine.providerId === null ? to('waking', null, { providerId }) : undefined
    }
    case 'started':
      return state === 'booting' || state === 'waking' ? to(state, null) : undefined
    case 'up': {
      const { bootId } = command
      if (state === 'creating' || state === 'booting' || state === 'suspending' || state === 'ready')
        return isClean(machine) ? to('hot', null, { bootId }) : undefined
      return undefined
    }
    case 'suspend':
      return state === 'hot' ? to('suspending', 'suspend') : undefined
    case 'suspended':
      return state === 'suspending' ? to('ready', null, { idleSince: now }) : undefined
    case 'claim': {
      if (!CLAIMABLE.includes(state) || !isClean(machine)) return undefined
      const { owner, deadline } = command
      const verb = state === 'creating' ? 'create' : state === 'hot' || state === 'booting' ? null : 'start'
      return to('waking', verb, { owner, deadline })
    }
    case 'hold': {
      const { bootId } = command
      if (state !== 'waking' || !isOwnedBy(machine, command.owner)) return undefined
      return to('busy', null, { bootId, tainted: machine.boots, uses: machine.uses + 1, heldAt: now, fault: null })
    }
    case 'release':
      if (!isOwned) return undefined
      // One that never came for its job may come yet: it must find that it is owned no more, and be of no use.
      return command.cleansByStop ? to('stopping', 'stop', { owner: null }) : to('retiring', 'destroy', { owner: null })
    case 'stop':
      return state === 'hot' || state === 'suspending' || state === 'ready' ? to('stopping', 'stop') : undefined
    case 'stopped':
      // One that was set aside without a job in it is as clean as it was.
      if (state === 'quarantined' && isClean(machine)) return to('reserve', null, { bootId: null, idleSince: now })
      if (state !== 'stopping') return undefined
      return to('reserve', null, { boots: machine.boots + 1, bootId: null, idleSince: now })
    case 'boot':
      return state === 'reserve' || state === 'ready' ? to('booting', 'start') : undefined
    case 'quarantine':
      if (state === 'gone' || state === 'retiring' || state === 'quarantined') return undefined
      if (machine.fault !== null) return to('retiring', 'destroy', { owner: null, fault: command.fault })
      return to('quarantined', 'stop', { owner: null, fault: command.fault })
    case 'retire':
      if (state === 'gone' || state === 'retiring') return undefined
      return to('retiring', 'destroy', { owner: null, fault: command.fault ?? machine.fault })
    case 'gone':
      return state === 'gone' ? undefined : to('gone', null, { owner: null })
    default:
      return unreachable(command)
  }
}

export function isOwnedBy({ owner }: PooledMachine, one: Pick<Owner, 'jobId' | 'fence'>): boolean {
  return owner !== null && owner.jobId === one.jobId && owner.fence === one.fence
}

/** How a machine that was found in `from` came to hold its job, when `before` is the boot that it had then. */
export function resumeOf(from: MachineState | null, before: string | null, bootId: string): Resume {
  if (from === null || from === 'creating') return 'created'
  if (from === 'reserve') return 'reserve'
  return before === bootId ? 'resumed' : 'cold'
}
