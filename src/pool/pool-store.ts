/**
 * Port: the rows of machines, what is still to be asked of providers, and who leads a pool.
 *
 * (D1) A change of a row names the version that it was decided on; on another version it changes nothing.
 * (D2) A machine has at most one owner, and an attempt (job and fence) at most one machine, ever.
 * (D3) A job has at most one machine that is waking or busy.
 * (D4) Only a clean machine is hot, ready, reserve or claimed: `boots > tainted`, whatever the code above says.
 * (D5) What is to be asked of a provider is written in the commit that decided it, and stays until it was done.
 * (D6) Of several claims at once, each takes another machine, and none waits for another.
 * (D7) A pool has one leader at a time; what a former one decided under its epoch changes nothing.
 */
import type { MachineId } from '../../schema/id.ts'
import type { MachineState, Owner, PooledMachine } from './machine.ts'

export type Verb = 'create' | 'start' | 'suspend' | 'stop' | 'destroy'

/** One call of a provider that is to be made for a machine: the outbox. There is at most one for each machine. */
export interface Errand {
  readonly machineId: MachineId
  readonly verb: Verb
  /** The row's version when it was decided: it is dropped when the row has moved on. */
  readonly version: number
  /** Epoch ms before which it is not tried (again). */
  readonly notBefore: number
  readonly tries: number
}

/** One row as it is to be, and what is to be asked of the provider from then on; null takes back what was. */
export interface MachineChange {
  /** Its `version` is one above the row's. */
  readonly next: PooledMachine
  readonly verb: Verb | null
  readonly notBefore?: number
}

export interface ClaimRequest {
  readonly pool: string
  /** Only machines that this process can reach. */
  readonly places: readonly string[]
  readonly owner: Owner
  /** Newest first: machines of generations that are not named are not taken. */
  readonly generations: readonly string[]
  readonly now: number
  /** Epoch ms by which it must have woken. */
  readonly deadline: number
}

/** The claimed machine as it now is, and the state in which it was found. */
export interface Claimed {
  readonly machine: PooledMachine
  readonly from: MachineState
}

export interface Leadership {
  readonly pool: string
  readonly epoch: number
}

export interface PoolStore {
  /** New rows with the order for each (verb `create`), in one commit. */
  add(machines: readonly PooledMachine[], lead: Leadership | null, now: number): Promise<boolean>
  /**
   * Takes the best machine there is for the owner, in the order of `CLAIMABLE`: of the newest generation first; of the
   * ready ones that which became so last (its snapshot is fresh, and the oldest stay idle); skips rows that others hold.
   * The machine is `waking` from then on; unless it was hot, its errand is `start` (`create` stays for one that was
   * creating). Undefined when there is none. One commit. Throws `fence_stale` when the owner has a machine already (D2, D3).
   */
  claim(request: ClaimRequest): Promise<Claimed | undefined>
  /**
   * waking -> busy for this very owner, with its boot id, tainted, its errand done; gives the row. The same again by the
   * same boot gives the same. Undefined when it is claimed no more: it must be given nothing.
   */
  hold(
    id: MachineId,
    owner: Pick<Owner, 'jobId' | 'fence'>,
    bootId: string,
    now: number,
  ): Promise<PooledMachine | undefined>
  /** Each change by itself: false where the version was another, or `lead` leads no more. */
  change(changes: readonly MachineChange[], lead: Leadership | null): Promise<readonly boolean[]>
  find(id: MachineId): Promise<PooledMachine | undefined>
  /** All that are not gone. */
  list(pool: string): Promise<readonly PooledMachine[]>

  /** Errands that are due at some places, the longest due first; those whose row has moved on are left out. */
  errands(pool: string, places: readonly string[], now: number, limit: number): Promise<readonly Errand[]>
  /** It failed and is to be tried again; false when the row has moved on. */
  postpone(errand: Errand, notBefore: number): Promise<boolean>
  /** Forgets machines that have been gone since before `before`. */
  sweep(pool: string, before: number): Promise<number>

  /** Leads the pool from now until `until`, or goes on leading; undefined while another does. The epoch rises with each new leader. */
  lead(pool: string, holder: string, now: number, until: number): Promise<Leadership | undefined>
}
