/**
 * Port: the rows of machines, what is still to be asked of providers, and who leads a pool.
 *
 * D1 A change of a row names the version that it was decided on; on another version it changes nothing.
 * D2 A machine has at most one owner, and an attempt (job and fence) at most one machine at a time.
 * D3 A job has at most one machine that is waking or busy.
 * D4 Only a clean machine is hot, ready, reserve or claimed: `boots > tainted`, whatever the code above says.
 * D5 What is to be asked of a provider is written in the commit that decided it, and stays until it was done.
 * D6 Of several claims at once, each takes another machine, and none waits for another.
 * D7 A pool has one leader at a time; what a former one decided under its epoch changes nothing.
 */
import type { MachineId } from '../../schema/id.ts'
import type { Json } from '../../schema/json.ts'
import type { Rider } from '../job/job-log.ts'
import type { MachineState, MachineStep, Owner, PooledMachine, Verb } from './machine.ts'

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

/** A step of one machine: its `next.version` is one above the row's. A verb is due at once; null takes back what was. */
export type MachineChange = MachineStep

/** How long an errand of a machine that waits for its job is left to whoever claimed it, in ms. */
export const OWN_ERRAND_MS = 2_000

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
  /**
   * Busy at once, in the same commit, where a machine was hot or ready: for who holds its pipes, so that nobody else
   * could give it anything. One in another state is waking.
   */
  readonly holds: boolean
  /** An earlier claim for this owner may have taken effect, and nobody knows: that machine is its, and no other. */
  readonly isAgain?: boolean
}

/** Told what becomes of a claim that goes in the commit of its owner's lease. */
export interface ClaimNews {
  /** Right after that commit. Nothing is said where no machine was to be had, or the owner has one already. */
  claimed(claimed: Claimed): void
  /** The lease may have been written, and the claim with it: its answer was lost. */
  doubted(): void
  left(): void
}

/** The claimed machine as it now is, and how it was found. */
export interface Claimed {
  readonly machine: PooledMachine
  readonly from: MachineState
  readonly verb: Verb | null
}

export interface Leadership {
  readonly pool: string
  readonly epoch: number
}

export interface PoolStore {
  /** New rows with the order for each (verb `create`), in one commit; false, and nothing, when `lead` leads no more. */
  add(machines: readonly PooledMachine[], lead: Leadership | null): Promise<boolean>
  /**
   * Takes the best machine there is for the owner, in the order of `CLAIMABLE`: of the newest generation first; of the
   * ready ones that which became so last (its snapshot is fresh, and the oldest stay idle); skips rows that others hold.
   * Its errand is that of `stepMachine`, due after `OWN_ERRAND_MS`: whoever claimed it tries it first. Undefined when there is none. One commit. Throws `fence_stale` when the owner has a machine already (D2, D3).
   */
  claim(request: ClaimRequest): Promise<Claimed | undefined>
  /** The same claim, to be made by the log of jobs in the commit in which the owner gets its lease, where it does. */
  rider(request: ClaimRequest, news: ClaimNews): Rider
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

  /** How many machines of the pool were given a job after `since`, those that are gone by now among them. */
  started(pool: string, since: number): Promise<number>

  /** Errands that are due at some places, the longest due first; those whose row has moved on are left out. */
  errands(pool: string, places: readonly string[], now: number, limit: number): Promise<readonly Errand[]>
  /** It failed and is to be tried again; false when the row has moved on. */
  postpone(errand: Errand, notBefore: number): Promise<boolean>
  /** Forgets machines that have been gone since before `before`. */
  sweep(pool: string, before: number): Promise<number>

  /** Leads the pool from now until `until`, or goes on leading; undefined while another does. The epoch rises with each new leader. */
  lead(pool: string, holder: string, now: number, until: number): Promise<Leadership | undefined>

  /** What a leader kept of what it expects, as `printExpectation` made it; undefined before there was anything. */
  expectation(pool: string): Promise<unknown>
  /** Replaces it; false, and nothing, when `lead` leads no more (D7). */
  keepExpectation(pool: string, kept: Json, lead: Leadership): Promise<boolean>
}
