/**
 * Asks the provider for what the pool has decided, and says in the machine's row what came of it.
 *
 * R1 What was seen of a machine changes nothing of a later state: an old stop does not clean what a job has left since.
 */
import type { Clock } from '../../schema/clock.ts'
import { unreachable } from '../../schema/decider.ts'
import type { Log } from '../log.ts'
import { ProviderError, type MachineProvider, type Observation } from './machine-provider.ts'
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

const UNDER_WAY: Readonly<Record<'suspend' | 'stop', ReadonlySet<Observation['state']>>> = {
  suspend: new Set(['suspending', 'suspended']),
  stop: new Set(['stopping', 'stopped']),
}

export interface Errands {
  /** Once, for a machine as it was decided on; gives the row as it is afterwards. Throws `ProviderError`. */
  run(machine: PooledMachine, verb: Verb): Promise<PooledMachine>
  /** One of the outbox: tried, and put off or given up where it fails. Never throws what a provider throws. */
  try(errand: Errand): Promise<void>
  /** Takes into its row what is seen of a machine that is on its way. */
  see(machine: PooledMachine, observed: Observation): Promise<PooledMachine>
}

export function openErrands({ store, provider, clock, log, onOutcome }: ErrandsDependencies): Errands {
  /**
   * What follows from a command, by whoever's row it is now; the machine as it was where it does not apply. What was
   * seen of it holds for the state in which it was seen, and for no later one that is called the same: a process that
   * stood still may have seen a stop of long ago.
   */
  async function apply(machine: PooledMachine, command: MachineCommand): Promise<PooledMachine> {
    const isSeen = command.type === 'suspended' || command.type === 'stopped' || command.type === 'started'
    const isAsSeen = (current: PooledMachine): boolean =>
      !isSeen || (current.state === machine.state && current.since === machine.since)
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
        if (before === undefined || !UNDER_WAY[verb].has(before.state)) await provider[verb](machine)
        return await see(machine, await provider.look(machine))
      }
      case 'destroy':
        await provider.destroy(machine)
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
    if (state === 'stopped' && machine.state === 'stopping') return await apply(machine, { type: 'stopped', now })
    return machine
  }

  async function postpone(errand: Errand): Promise<void> {
    await store.postpone(errand, clock.now() + Math.min(BACKOFF_MS_MAX, BACKOFF_MS * 2 ** errand.tries))
  }

  async function run(machine: PooledMachine, verb: Verb, isAgain: boolean): Promise<PooledMachine> {
    const { place } = machine
    try {
      const after = await ask(machine, verb, isAgain)
      onOutcome({ verb, place, fault: null, why: '', now: clock.now() })
      return after
    } catch (error) {
      if (!(error instanceof ProviderError)) throw error
      onOutcome({ verb, place, fault: error.fault, why: error.message, now: clock.now() })
      if (error.fault !== 'gone') throw error
      // What is not there needs no end; whatever else was asked of it cannot be.
      return await apply(machine, { type: 'gone', now: clock.now() })
    }
  }

  return {
    run: (machine, verb) => run(machine, verb, false),
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
