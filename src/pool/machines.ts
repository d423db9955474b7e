/**
 * Machines for jobs, out of the pool: claims one for an attempt, wakes it, and lets it go when the attempt is over.
 *
 * V1 A machine is given nothing before it is held: in the store, by its boot, for this very attempt.
 * V2 A machine that does not come in time is given up before another is claimed.
 * V3 Whatever becomes of an attempt, its machine leaves it: on its way to clean, or to its end. No other machine does.
 * V4 A later attempt of a job takes the machine of an earlier one away before it has its own.
 * V5 A provider that does not answer costs no job its attempt and no machine its life: whoever asks waits, and says that
 *    there was none to be had when it has waited for long.
 * V6 A job that waits for a machine longer than nearly all do takes another that is up, and the first goes back clean.
 * V7 A machine that was claimed in the commit of a lease is the one that its attempt gets, or leaves it where there is no
 *    attempt in the end; where nobody knows whether it was claimed, the attempt looks before it claims another.
 */
import type { Chance, Clock } from '../../schema/clock.ts'
import { PlatformError } from '../../schema/error.ts'
import { makeId, type MachineId } from '../../schema/id.ts'
import type { Lock } from '../../schema/lock.ts'
import type { Log } from '../log.ts'
import type { Errands } from './errands.ts'
import type { Explanation } from './explanation.ts'
import { deadlineMs, lateAfterMs, noExpectation, rouse, seeStart, wayOf } from './expectation.ts'
import type { Machine, MachineHost } from './machine-host.ts'
import { ProviderError, type MachineProvider } from './machine-provider.ts'
import { isOwnedBy, orderMachine, resumeOf, type MachineState, type Owner, type PooledMachine } from './machine.ts'
import { openMinding } from './late-machines.ts'
import { moveMachine } from './moves.ts'
import type { Claimed, ClaimRequest, PoolStore } from './pool-store.ts'

export interface MachinesDependencies {
  readonly pool: string
  readonly store: PoolStore
  readonly provider: MachineProvider
  readonly errands: Errands
  readonly clock: Clock
  readonly chance: Chance
  readonly log: Log
  /** Where machines send their lines to; null where this process holds their pipes. */
  readonly linesUrl: string | null
  /** Called when the pool has one machine less to give, or one more to clean: the rounds have something to do. */
  readonly onChange: () => void
  /** Generations that jobs may have, newest first. */
  readonly generations: () => readonly string[]
  /** What is done with machines for the sake of jobs, for those who ask why. */
  readonly onAction: (action: Omit<Explanation['actions'][number], 'at'>) => void
  readonly limits: MachinesLimits
}

export interface MachinesLimits {
  /** All machines of the pool that are not gone. */
  readonly machinesMax: number
  /** How long a machine may take to wake before another is tried, at least: as long as three times what it has been seen to take. */
  readonly wakeMs: number
  /** When a machine that has not come is looked at. */
  readonly probeMs: number
  /** The same for one that is being made. */
  readonly createMs: number
  /** Machines that one attempt may try. */
  readonly triesMax: number
  /** How long to wait for a machine while there is none to be had, and how often to look while all are busy. */
  readonly waitMs: number
  readonly lookMs: number
  /** How often to ask again for one that the provider did not give; doubled each time, up to ten times as long. */
  readonly askMs: number
}

export const machinesLimits: MachinesLimits = {
  machinesMax: 64,
  wakeMs: 10_000,
  probeMs: 2_500,
  createMs: 90_000,
  triesMax: 3,
  waitMs: 60_000,
  lookMs: 250,
  askMs: 500,
}

type Attempted = Pick<Owner, 'jobId' | 'fence'>

interface Ahead {
  claimed: Claimed | undefined
  isDoubted: boolean
}

export function openMachines(dependencies: MachinesDependencies): MachineHost {
  const { pool, store, provider, errands, clock, chance, log, limits, onChange } = dependencies
  const isHere = provider.traits.reach === 'process'
  let closed = false
  let expectation = noExpectation
  let ordering: Promise<unknown> = Promise.resolve()

  const isReachable = ({ place }: PooledMachine): boolean => !isHere || provider.places.includes(place)
  const mind = openMinding({
    ...dependencies,
    isReachable,
    again: (machine) => ask(machine, 'start'),
    onRouse: (machine) => {
      expectation = rouse(expectation)
      dependencies.onAction({ type: 'rouse', machineId: machine.id, why: 'a job waits longer than nearly all do' })
    },
  })

  /** Claims that go, or went, with the lease of an attempt that is still to come for its machine. */
  const riders = new Map<string, Ahead>()
  const nameOf = ({ jobId, fence }: Attempted): string => `${jobId} ${fence}`

  function claimFor(owner: Owner): ClaimRequest {
    const now = clock.now()
    const { places } = provider
    const generations = dependencies.generations()
    const deadline = now + deadlineMs(expectation, 'resumed', limits)
    return { pool, places, owner, generations, now, deadline, holds: isHere }
  }

  /** The machine that came with the lease, the best there is, or a new one; undefined while there may be no more. */
  async function obtain(
    owner: Owner,
  ): Promise<Claimed | { readonly machine: PooledMachine; readonly from: null } | undefined> {
    const ahead = riders.get(nameOf(owner))
    riders.delete(nameOf(owner))
    if (ahead?.claimed !== undefined) return ahead.claimed
    const claimed = await store.claim({ ...claimFor(owner), isAgain: ahead?.isDoubted === true })
    if (claimed !== undefined) {
      errands.claimed(claimed.machine)
      return claimed
    }
    const ordered = ordering.then(() => order(owner))
    ordering = ordered.catch(() => undefined)
    return await ordered
  }

  /** One order of this process after the other: each counts those before it. */
  async function order(owner: Owner): Promise<{ readonly machine: PooledMachine; readonly from: null } | undefined> {
    const living = (await store.list(pool)).filter(isReachable)
    if (living.length >= limits.machinesMax) return undefined
    const { places, generation } = provider
    const now = clock.now()
    const id = makeId('mch', now, chance.bytes(16))
    const place = places[living.length % places.length] ?? ''
    const deadline = now + deadlineMs(expectation, 'created', limits)
    const machine = orderMachine({ id, pool, place, generation, now }, { owner, deadline })
    await store.add([machine], null)
    return { machine, from: null }
  }

  async function obtainInTime(
    owner: Owner,
    signal: AbortSignal,
  ): Promise<NonNullable<Awaited<ReturnType<typeof obtain>>>> {
    for (const until = clock.now() + limits.waitMs; ;) {
      const obtained = await obtain(owner).catch(async (error: unknown) => {
        const isStale = error instanceof PlatformError && error.code === 'fence_stale'
        if (!isStale || clock.now() >= until || !(await supersede(owner))) throw error
        return 'again' as const
      })
      if (obtained === 'again') continue
      if (obtained !== undefined) return obtained
      if (closed || signal.aborted || clock.now() >= until)
        throw new PlatformError(
          'machine_provider_failed',
          `All ${limits.machinesMax} machines of the pool ${pool} are taken.`,
        )
      await clock.sleep(limits.lookMs, signal).catch(() => {})
    }
  }

  /**
   * Lets go of the machine that an earlier attempt of the job has: its process died, or has not ended it yet. False when
   * this attempt, or a later one, has one; true also where somebody else has let it go meanwhile.
   */
  async function supersede({ jobId, fence }: Owner): Promise<boolean> {
    const { cleansByStop } = provider.traits
    const others = (await store.list(pool)).filter(({ owner }) => owner?.jobId === jobId)
    for (const machine of others) {
      const { owner } = machine
      if (owner === null || owner.fence >= fence) return false
      const { isMoved } = await moveMachine(
        store,
        machine,
        { type: 'release', now: clock.now(), cleansByStop },
        ownedBy(owner),
      )
      if (isMoved) log.warn('An earlier attempt has lost its machine.', { machineId: machine.id, jobId, owner })
    }
    return true
  }

  /** Only what is still this attempt's is let go: an attempt that stood still may find another's job in its machine. */
  async function letGo(machine: PooledMachine, owner: Attempted): Promise<void> {
    const { cleansByStop, endsWithJob } = provider.traits
    const now = clock.now()
    try {
      // What is gone already is left nothing to ask for: one commit says so.
      const command = endsWithJob ? { type: 'gone' as const, now } : { type: 'release' as const, now, cleansByStop }
      const moved = await moveMachine(store, machine, command, ownedBy(owner))
      if (endsWithJob) errands.ended(machine)
      else if (moved.isMoved) await errands.run(moved.machine, cleansByStop ? 'stop' : 'destroy')
    } catch (error) {
      // It stays in the outbox, or among what the rounds find past its deadline.
      log.warn('A machine was not let go at once.', { machineId: machine.id, error })
    }
    onChange()
  }

  /** What nobody knows to have worked may have: its errand stays due, and the machine may come until its deadline. */
  async function ask(machine: PooledMachine, verb: 'create' | 'start'): Promise<void> {
    try {
      await (isHere && verb === 'start' ? provider.start(machine) : errands.run(machine, verb))
    } catch (error) {
      const isOpen = error instanceof ProviderError && (error.fault === 'ambiguous' || error.fault === 'throttled')
      if (!isOpen || isHere) throw error
    }
  }

  async function wake(
    owner: Attempted,
    {
      machine,
      from,
      verb,
    }: { readonly machine: PooledMachine; readonly from: MachineState | null; readonly verb: Claimed['verb'] },
    lock: Lock,
    startedAt: number,
  ): Promise<Machine> {
    const claimedAt = clock.now()
    if (verb === 'create' || verb === 'start') await ask(machine, verb)
    const askedAt = clock.now()
    let held: PooledMachine | undefined = machine.state === 'busy' ? machine : undefined
    const hold = async (bootId: string): Promise<boolean> => {
      if (held !== undefined) return held.bootId === bootId
      held = await store.hold(machine.id, owner, bootId, clock.now())
      return held !== undefined
    }
    const deadline = machine.deadline ?? clock.now() + limits.wakeMs
    const coming = provider.connect(machine, lock, hold, deadline)
    const lateMs = lateAfterMs(expectation, wayOf(from)) ?? Infinity
    const connected = await (isHere ? coming : mind(coming, machine, owner, lateMs)).catch((error: unknown) => {
      // It may have been given the job already: another may have that only under another fence.
      if (held !== undefined) throw new GivenError(machine.id, error)
      throw clock.now() < deadline ? error : new ProviderError('ambiguous', lateness(machine), { cause: error })
    })
    const bootId = held?.bootId ?? ''
    const phases = { claim: claimedAt - startedAt, start: askedAt - claimedAt, wake: clock.now() - askedAt }
    const obtained = {
      resume: resumeOf(from, from === null ? null : machine.bootId, bootId),
      machineId: machine.id,
      phases,
    }
    expectation = seeStart(expectation, obtained.resume, phases.start + phases.wake)
    let leaving: Promise<void> | undefined
    return {
      ...connected,
      obtained,
      processes: () => connected.processes(),
      send: (line) => connected.send(line),
      get unreadBytes() {
        return connected.unreadBytes
      },
      lines: connected.lines,
      ended: connected.ended,
      destroy: async () => {
        leaving ??= connected.destroy().then(() => letGo(held ?? machine, owner))
        await leaving
      },
    }
  }

  /** What becomes of a machine that did not come: set aside where a stop makes it good, else its end. */
  async function giveUp(
    machine: PooledMachine,
    from: MachineState | null,
    owner: Attempted,
    error: unknown,
  ): Promise<void> {
    const { cleansByStop } = provider.traits
    const fault = error instanceof Error ? error.message : String(error)
    const isThere = !(error instanceof ProviderError && (error.fault === 'gone' || error.fault === 'refused'))
    const mayServe = cleansByStop && isThere && from !== null && from !== 'creating'
    const type = mayServe ? 'quarantine' : 'retire'
    const { isMoved, machine: left } = await moveMachine(
      store,
      machine,
      { type, now: clock.now(), fault },
      ownedBy(owner),
    )
    onChange()
    if (!isMoved) return
    dependencies.onAction({ type, machineId: machine.id, why: fault })
    void errands.run(left, left.state === 'quarantined' ? 'stop' : 'destroy').catch(() => {})
  }

  return {
    name: provider.name,
    probe: () => provider.probe(),
    ahead({ jobId, fence }) {
      if (closed) return undefined
      const owner: Owner = { jobId, fence, linesUrl: dependencies.linesUrl }
      const ahead: Ahead = { claimed: undefined, isDoubted: false }
      riders.set(nameOf(owner), ahead)
      return store.rider(claimFor(owner), {
        claimed(claimed) {
          errands.claimed(claimed.machine)
          ahead.claimed = claimed
        },
        doubted: () => void (ahead.isDoubted = true),
        left() {
          if (riders.get(nameOf(owner)) === ahead) riders.delete(nameOf(owner))
          if (ahead.claimed !== undefined) void letGo(ahead.claimed.machine, owner)
        },
      })
    },
    async open(attempt, lock, signal = NEVER) {
      const owner: Owner = { jobId: attempt.jobId, fence: attempt.fence, linesUrl: dependencies.linesUrl }
      const until = clock.now() + limits.waitMs
      provider.expect?.(lock)
      for (let [tries, refusals] = [1, 0]; ;) {
        const startedAt = clock.now()
        const obtained = await obtainInTime(owner, signal)
        const found = obtained.from === null ? { ...obtained, verb: 'create' as const } : obtained
        onChange()
        try {
          return await wake(attempt, found, lock, startedAt)
        } catch (error) {
          const { machine } = found
          const isOver = error instanceof PlatformError && error.code === 'fence_stale'
          if (!isOver)
            log.warn('A machine did not come for its job.', { machineId: machine.id, jobId: owner.jobId, error })
          await giveUp(machine, found.from, owner, error)
          if (isOver || error instanceof GivenError || closed || signal.aborted) throw error
          const isDone = error instanceof ProviderError ? clock.now() >= until : tries >= limits.triesMax
          if (isDone) throw error
          if (!(error instanceof ProviderError)) tries += 1
          // One more may come at once; a provider that goes on refusing is asked ever less often.
          else if (refusals++ > 0)
            await clock.sleep(limits.askMs * Math.min(10, 2 ** (refusals - 2)), signal).catch(() => {})
        }
      }
    },
    async close() {
      closed = true
      await provider.close()
    },
  }
}

const NEVER = new AbortController().signal

/** Lost after it was held. */
class GivenError extends PlatformError {
  constructor(id: MachineId, cause: unknown) {
    super('machine_failed', `The machine ${id} was lost with its job.`, { cause })
  }
}

/** Whether a row is still this attempt's. */
const ownedBy =
  (owner: Attempted) =>
  (current: PooledMachine): boolean =>
    isOwnedBy(current, owner)

const lateness = ({ id }: PooledMachine): string => `The machine ${id} did not come for its job in time.`
