/**
 * Asks the provider for what the pool has decided, and says in the machine's row what came of it.
 *
 * ER1 What was seen of a machine changes nothing of a later state: an old stop does not clean what a job has left since.
 * ER2 Nothing that ends or suspends a machine is asked once its row has moved on: it may be another's by now. Whoever stood
 *    still meanwhile looks again.
 */
import type { Clock } from '../../schema/clock.ts'
import { unreachable } from '../../schema/decider.ts'
import type { Log } from '../log.ts'
import { ProviderError, type MachineProvider, type Observation } from './machine-provider.ts'
import type { MachineId } from '../../schema/id.ts'
import { type MachineCommand, type PooledMachine, type Verb } from './machine.ts'
import type { Outcome } from './pace.ts'
import { moveMachine } from './moves.ts'
import type { Errand, PoolStore } from './pool-store.ts'

export interface ErrandsDependencies {
  readonly store: PoolStore
  readonly provider: MachineProvider
  readonly clock: Clock
  readonly log: Log
  /** What became of each call. */
  readonly onOutcome: (outcome: Outcome) => void
}

/** Between two tries: doubled each time, up to the last. */
const BACKOFF_MS = 500
const BACKOFF_MS_MAX = 15_000
/** An answer that took longer says what was, not what is. */
const FRESH_MS = 500

const UNDER_WAY: Readonly<Record<'suspend' | 'stop', ReadonlySet<Observation['state']>>> = {
  suspend: new Set(['suspending', 'suspended']),
  stop: new Set(['stopping', 'stopped']),
}

export interface Errands {
  /** Once, for a machine as it was decided on; gives the row as it is afterwards. Throws `ProviderError`. */
  run(machine: PooledMachine, verb: Verb): Promise<PooledMachine>
  /** One of the outbox: tried, and put off or given up where it fails. Never throws what a provider throws. */
  try(errand: Errand): Promise<void>
  /** This process has claimed it: what it decided on the row as it was before holds no more. */
  claimed(machine: PooledMachine): void
  /** It is gone, and needs no errand. */
  ended(machine: PooledMachine): void
  /** Takes into its row what is seen of a machine that is on its way. */
  see(machine: PooledMachine, observed: Observation): Promise<PooledMachine>
}

export function openErrands({ store, provider, clock, log, onOutcome }: ErrandsDependencies): Errands {
  /** Versions under which this process has claimed machines, until they have ended. */
  const claims = new Map<MachineId, number>()

  /** As far as this process knows by itself, which is all there is to know of machines that it alone can reach. */
  const isClaimed = ({ id, version }: PooledMachine): boolean => (claims.get(id) ?? 0) > version

  async function isCurrent(machine: PooledMachine): Promise<boolean> {
    for (;;) {
      const askedAt = clock.now()
      const current = await store.find(machine.id)
      if (isClaimed(machine) || (current !== undefined && current.version !== machine.version)) return false
      if (clock.now() - askedAt < FRESH_MS) return true
    }
  }

  /** ER2: right before the call leaves, which is the provider's to know where calls wait for their turn. */
  async function end(machine: PooledMachine, verb: 'suspend' | 'stop' | 'destroy'): Promise<void> {
    if (isClaimed(machine)) throw new Superseded()
    if (provider.traits.reach === 'process') return await provider[verb](machine)
    let isLate = false
    const mayAct = async (): Promise<boolean> => {
      isLate = !(await isCurrent(machine))
      return !isLate
    }
    await provider[verb](machine, mayAct).catch((error: unknown) => {
      throw isLate ? new Superseded() : error
    })
  }

  /**
   * What follows from a command, by whoever's row it is now; the machine as it was where it does not apply. What was
   * seen of it holds for the state in which it was seen, and for no later one that is called the same: a process that
   * stood still may have seen a stop of long ago. So does a verdict on it; only that it is gone holds for ever.
   */
  async function apply(machine: PooledMachine, command: MachineCommand): Promise<PooledMachine> {
    const holdsForEver = command.type === 'gone' || command.type === 'created'
    const isAsSeen = (current: PooledMachine): boolean =>
      holdsForEver || (current.state === machine.state && current.since === machine.since)
    return (await moveMachine(store, machine, command, isAsSeen)).machine
  }

  async function ask(machine: PooledMachine, verb: Verb, isAgain: boolean): Promise<PooledMachine> {
    const now = (): number => clock.now()
    switch (verb) {
      case 'create': {
        const { providerId } = await provider.create(machine)
        return await apply(machine, { type: 'created', now: now(), providerId })
      }
      case 'start':
        await provider.start(machine)
        return await apply(machine, { type: 'started', now: now() })
      case 'suspend':
      case 'stop': {
        // What takes its time is looked at again, and asked for again only where it did not begin.
        const before = isAgain ? await provider.look(machine) : undefined
        if (before === undefined || !UNDER_WAY[verb].has(before.state)) await end(machine, verb)
        return await see(machine, await provider.look(machine))
      }
      case 'destroy':
        await end(machine, verb)
        claims.delete(machine.id)
        return await apply(machine, { type: 'gone', now: now() })
      default:
        return unreachable(verb)
    }
  }

  async function see(machine: PooledMachine, { state, providerId }: Observation): Promise<PooledMachine> {
    const now = clock.now()
    if (state === 'gone') return await apply(machine, { type: 'gone', now })
    if (machine.providerId === null) return await apply(machine, { type: 'created', now, providerId })
    if (state === 'suspended') return await apply(machine, { type: 'suspended', now })
    const isStopped = state === 'stopped' && (machine.state === 'stopping' || machine.state === 'quarantined')
    if (isStopped) return await apply(machine, { type: 'stopped', now })
    return machine
  }

  async function postpone(errand: Errand): Promise<void> {
    await store.postpone(errand, clock.now() + Math.min(BACKOFF_MS_MAX, BACKOFF_MS * 2 ** errand.tries))
  }

  async function run(machine: PooledMachine, verb: Verb, isAgain: boolean): Promise<PooledMachine> {
    const { place } = machine
    try {
      const after = await ask(machine, verb, isAgain)
      // A suspend that was taken up is not done yet, however often it is looked at.
      if (verb !== 'suspend' || after.state === 'ready')
        onOutcome({ verb, place, fault: null, why: '', now: clock.now() })
      return after
    } catch (error) {
      if (error instanceof Superseded) return (await store.find(machine.id)) ?? machine
      if (!(error instanceof ProviderError)) throw error
      onOutcome({ verb, place, fault: error.fault, why: error.message, now: clock.now() })
      if (error.fault !== 'gone') throw error
      // What is not there needs no end; whatever else was asked of it cannot be.
      return await apply(machine, { type: 'gone', now: clock.now() })
    }
  }

  return {
    async run(machine, verb) {
      const after = await run(machine, verb, false)
      const { id: machineId, version } = machine
      // It takes its time: it is looked at from now on, as what was asked for already.
      if (after.version === version) await postpone({ machineId, verb, version, notBefore: 0, tries: 0 })
      return after
    },
    claimed: ({ id, version }) => void claims.set(id, version),
    ended: ({ id }) => void claims.delete(id),
    see,
    async try(errand) {
      const machine = await store.find(errand.machineId)
      if (machine === undefined || machine.version !== errand.version) return
      try {
        const after = await run(machine, errand.verb, errand.tries > 0)
        if (after.version === machine.version) await postpone(errand)
      } catch (error) {
        if (!(error instanceof ProviderError)) throw error
        const { machineId, verb, tries } = errand
        log.warn('A provider of machines did not do what it was asked.', { machineId, verb, tries, error })
        const isHopeless = error.fault === 'refused' || (error.fault === 'state' && tries >= 5)
        if (isHopeless && verb !== 'destroy')
          await apply(machine, { type: 'retire', now: clock.now(), fault: error.message })
        else await postpone(errand)
      }
    },
  }
}

/** The row has moved on before the call left. */
class Superseded extends Error {}
