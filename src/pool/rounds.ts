/**
 * The pool's upkeep: one thin tick that tries what is due, looks at what is late, and acts on the plan.
 *
 * U1 Only who leads the pool acts on its plan; what a former leader decided changes nothing.
 * U2 A round that fails is another round: nothing that was decided is lost with it.
 */
import type { Chance, Clock } from '../../schema/clock.ts'
import { makeId } from '../../schema/id.ts'
import type { Log } from '../log.ts'
import type { Errands } from './errands.ts'
import { ProviderError, type MachineNews, type MachineProvider } from './machine-provider.ts'
import { orderMachine, stepMachine, type MachineCommand, type PooledMachine } from './machine.ts'
import { planPool, type Action, type PoolDemand, type PoolPolicy } from './plan.ts'
import type { Leadership, PoolStore } from './pool-store.ts'

export interface RoundsDependencies {
  readonly pool: string
  /** Names this process among all that may lead, and is its place where machines are reached by their own process alone. */
  readonly holder: string
  /** True only when the process that is a place is certainly gone. */
  readonly isDead: (place: string) => Promise<boolean>
  readonly store: PoolStore
  readonly provider: MachineProvider
  readonly errands: Errands
  readonly policy: PoolPolicy
  readonly demand: () => Promise<PoolDemand>
  readonly clock: Clock
  readonly chance: Chance
  readonly log: Log
  readonly limits: RoundsLimits
}

export interface RoundsLimits {
  readonly tickMs: number
  /** How long a ring waits: whatever made it ring is more urgent than upkeep. */
  readonly settleMs: number
  readonly leadMs: number
  /** Errands of one round at once. */
  readonly errandsMax: number
  /** How long machines that are gone stay known. */
  readonly keepGoneMs: number
}

export const roundsLimits: RoundsLimits = {
  tickMs: 1_000,
  settleMs: 100,
  leadMs: 10_000,
  errandsMax: 16,
  keepGoneMs: 3_600_000,
}

export interface Rounds {
  /** Generations that jobs may have, newest first. */
  generations(): readonly string[]
  /** Something has changed: the next round need not wait for its time. */
  ring(): void
  close(): Promise<void>
}

export function openRounds(dependencies: RoundsDependencies): Rounds {
  const { pool, holder, store, provider, errands, policy, clock, chance, log, limits } = dependencies
  const closing = new AbortController()
  const isOwn = provider.traits.reach === 'process'
  /** Where machines are each process's own, each leads for itself. */
  const led = isOwn ? `${pool} of ${holder}` : pool
  let alarm = Promise.withResolvers<void>()
  const news: MachineNews[] = []
  const unwatch = provider.watch((one) => {
    news.push(one)
    alarm.resolve()
  })

  async function move(machine: PooledMachine, command: MachineCommand, lead: Leadership | null): Promise<void> {
    const step = stepMachine(machine, command)
    if (step !== undefined) await store.change([step], lead)
  }

  async function hear(): Promise<void> {
    for (const one of news.splice(0)) {
      const machine = await store.find(one.machineId)
      if (machine === undefined) continue
      const now = clock.now()
      if (one.type === 'up') await move(machine, { type: 'up', now, bootId: one.bootId }, null)
      else await move(machine, { type: 'gone', now }, null)
    }
  }

  /** A state that lasts too long: looked at once, then ended. */
  async function late(machine: PooledMachine): Promise<void> {
    try {
      const seen = await errands.see(machine, await provider.look(machine))
      if (seen.version !== machine.version) return
    } catch (error) {
      if (!(error instanceof ProviderError)) throw error
      // Nobody can say what it does: that alone ends nothing.
      if (error.fault !== 'gone') return
    }
    const fault = `It was ${machine.state} for too long.`
    await move(machine, { type: 'retire', now: clock.now(), fault }, null)
  }

  async function act(action: Action, lead: Leadership): Promise<void> {
    const now = clock.now()
    if (action.type === 'create') {
      const id = makeId('mch', now, chance.bytes(16))
      const { place } = action
      await store.add([orderMachine({ id, pool, place, generation: provider.generation, now }, null)], lead)
    } else if (action.type === 'retire') await move(action.machine, { type: 'retire', now, fault: action.why }, lead)
    else await move(action.machine, { type: action.type, now }, lead)
  }

  /** The machines that this process has to do with. */
  async function own(): Promise<readonly PooledMachine[]> {
    return (await store.list(pool)).filter(({ place }) => provider.places.includes(place))
  }

  /** Machines that ended with their process. */
  async function bury(): Promise<void> {
    for (const machine of await store.list(pool))
      if (!provider.places.includes(machine.place) && (await dependencies.isDead(machine.place)))
        await move(machine, { type: 'gone', now: clock.now() }, null)
  }

  async function round(): Promise<void> {
    await hear()
    const now = clock.now()
    const lead = await store.lead(led, holder, now, now + limits.leadMs)
    if (lead === undefined) return
    for (const machine of await own()) if (machine.deadline !== null && machine.deadline <= now) await late(machine)
    for (const action of planPool(await own(), await dependencies.demand(), policy, provider, clock.now()))
      await act(action, lead)
    const due = await store.errands(pool, provider.places, clock.now(), limits.errandsMax)
    await Promise.all(due.map((errand) => errands.try(errand)))
    await store.sweep(pool, now - limits.keepGoneMs)
    if (due.length > 0) alarm.resolve()
  }

  async function run(): Promise<void> {
    if (isOwn) await bury().catch((error: unknown) => log.error('Machines of dead processes stay.', { pool, error }))
    while (!closing.signal.aborted) {
      // Made before looking, so that a ring during the round is not lost.
      alarm = Promise.withResolvers()
      await round().catch((error: unknown) => log.error('A round of the pool failed.', { pool, error }))
      const enough = new AbortController()
      const time = clock.sleep(limits.tickMs, AbortSignal.any([enough.signal, closing.signal])).catch(() => {})
      await Promise.race([alarm.promise, time])
      enough.abort(new Error('woken'))
      await clock.sleep(limits.settleMs, closing.signal).catch(() => {})
    }
  }

  const running = run()
  return {
    generations: () => [provider.generation],
    ring: () => alarm.resolve(),
    async close() {
      closing.abort(new Error('the rounds are closing'))
      alarm.resolve()
      unwatch()
      await running
      // They end with this process, whatever their rows say.
      if (isOwn) for (const machine of await own()) await move(machine, { type: 'gone', now: clock.now() }, null)
    },
  }
}
