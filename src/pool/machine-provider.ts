/**
 * Port: what makes, moves and ends machines: sandboxes of this computer, a Docker engine, Fly Machines. Its calls are
 * slow and may fail with nobody knowing whether they took effect: every one may be made again. It decides nothing:
 * which machine does what is the pool's.
 */
import { PlatformError } from '../../schema/error.ts'
import type { MachineId } from '../../schema/id.ts'
import type { Lock } from '../../schema/lock.ts'
import type { Machine, ProbeResult } from './machine-host.ts'
import type { PooledMachine } from './machine.ts'

export type ProviderName = 'local' | 'docker' | 'fly' | 'unsafe-process'

/** What a pool can ask of a provider, and what it must not. */
export interface ProviderTraits {
  /** Whether `suspend` keeps a machine for less than it costs to run. */
  readonly suspends: boolean
  /** Whether a stopped machine starts clean; else a used one is destroyed. */
  readonly cleansByStop: boolean
  /** Whether nothing is left of a used machine once its connection was destroyed; else it is yet to be stopped or destroyed. */
  readonly endsWithJob: boolean
  /** `process`: machines end with the process that made them, and only it can reach them. */
  readonly reach: 'process' | 'all'
  /** How long each takes, in ms, as a rule: what the pool plans with until it has measured. */
  readonly typical: {
    readonly createMs: number
    readonly bootMs: number
    readonly suspendMs: number
    readonly resumeMs: number
    readonly stopMs: number
  }
}

/** What one machine may use with all its processes, and whether anything keeps it to that. */
export interface MachineLimit {
  readonly name: 'memoryBytes' | 'tasks' | 'cpus'
  readonly value: number
  /** What ends or refuses more, in a word or two; null where nothing does. */
  readonly keptBy: string | null
}

/** How an order or a command failed: what may be done next depends on nothing else. */
export type ProviderFault =
  /** It did not take effect: no room here. Try elsewhere, or later. */
  | 'capacity'
  /** It did not take effect: asked too often. Later. */
  | 'throttled'
  /** It did not take effect: the machine is in no state for it. Look, then decide. */
  | 'state'
  /** There is no such machine. */
  | 'gone'
  /** Nobody knows whether it took effect. Look before anything else. */
  | 'ambiguous'
  /** It never will: our request or our credentials are wrong. Stop asking, call a human. */
  | 'refused'

/** What a provider's calls throw, and nothing else. */
export class ProviderError extends PlatformError {
  readonly fault: ProviderFault

  constructor(fault: ProviderFault, message: string, options?: ErrorOptions) {
    super('machine_provider_failed', message, options)
    this.fault = fault
  }
}

/** What the provider says of a machine, in the pool's words; `unknown` for a word that is new. */
export interface Observation {
  readonly machineId: MachineId | null
  readonly providerId: string
  readonly state:
    | 'creating'
    | 'starting'
    | 'running'
    | 'suspending'
    | 'suspended'
    | 'stopping'
    | 'stopped'
    | 'failed'
    | 'destroying'
    | 'gone'
    | 'unknown'
  readonly generation: string | null
  /** Epoch ms, by the provider's clock; null when it does not say. */
  readonly createdAt: number | null
}

export interface Created {
  readonly providerId: string
}

/**
 * Whether what was decided still holds: asked in the moment before a call leaves, by whoever lets calls wait for their
 * turn. On false nothing is asked of the machine, and the call throws `state`. Left out, nothing has to hold.
 */
export type MayAct = () => Promise<boolean>

/** Its calls throw `ProviderError`. */
export interface MachineProvider {
  readonly name: ProviderName
  readonly traits: ProviderTraits
  /** Absent where a machine is a whole computer of its own. */
  readonly limits?: readonly MachineLimit[]
  /** The generation that new machines are of. */
  readonly generation: string
  /** Where this process may make machines; the pool spreads over them. */
  readonly places: readonly string[]
  /** REALLY runs a machine and checks a denied read and a denied connect. */
  probe(): Promise<ProbeResult>

  /** Makes and boots one. Asked again for the same machine it gives the one that is there. */
  create(machine: Pick<PooledMachine, 'id' | 'pool' | 'place' | 'generation' | 'owner'>): Promise<Created>
  /** By the pool's own name, for an order whose answer was lost. */
  find(machine: Pick<PooledMachine, 'id' | 'place'>): Promise<Observation | undefined>
  look(machine: PooledMachine): Promise<Observation>
  /** All machines of this pool at a place, ours or not known to us any more; never on a job's way to its machine. */
  list(place: string): Promise<readonly Observation[]>
  /** Boots a stopped one, resumes a suspended one. */
  start(machine: PooledMachine): Promise<void>
  suspend(machine: PooledMachine, mayAct?: MayAct): Promise<void>
  stop(machine: PooledMachine, mayAct?: MayAct): Promise<void>
  destroy(machine: PooledMachine, mayAct?: MayAct): Promise<void>

  /** A machine is being claimed for a job of this lock: what that needs beside the machine may be made ready meanwhile. */
  expect?(lock: Lock): void
  /**
   * The lines of a machine that was claimed and started. `hold` is called with its boot id before it is given
   * anything; on false it must be given nothing and this throws `fence_stale`. Throws `machine_failed` when the machine
   * has not come before `deadline` (epoch ms) or ended meanwhile.
   */
  connect(
    machine: PooledMachine,
    lock: Lock,
    hold: (bootId: string) => Promise<boolean>,
    deadline: number,
  ): Promise<Machine>

  /** Calls `tell` with what became of a machine, where the provider knows without being asked. Gives the way to stop. */
  watch(tell: (news: MachineNews) => void): () => void
  close(): Promise<void>
}

/** A machine came up and waits for a job, or it ended. */
export type MachineNews =
  | { readonly type: 'up'; readonly machineId: MachineId; readonly bootId: string }
  /** How, and the end of what its supervisor wrote. */
  | { readonly type: 'ended'; readonly machineId: MachineId; readonly reason: string; readonly stderrTail: string }
