/**
 * The pool's upkeep: one thin tick that tries what is due, looks at what is late, and acts on the plan.
 *
 * U1 Only who leads the pool acts on its plan; what a former leader decided changes nothing.
 * U2 A round that fails is another round: nothing that was decided is lost with it.
 * U3 A machine whose attempt is over, and whose process is not there to let it go, leaves it all the same.
 * U4 A provider that does not answer ends nothing: only what is known to be late is given up.
 */
import type { Chance, Clock } from '../../schema/clock.ts'
import { makeId, type MachineId } from '../../schema/id.ts'
import type { Log } from '../log.ts'
import { census } from './census.ts'
import { cameSince, noDemand, observeDemand } from './demand.ts'
import type { Errands } from './errands.ts'
import { forecast, noExpectation, seeArrivals, seeMachines, typicalOf } from './expectation.ts'
import type { Explanation } from './explanation.ts'
import { parseExpectation, printExpectation } from './kept-expectation.ts'
import { ProviderError, type MachineNews, type MachineProvider } from './machine-provider.ts'
import {
  isUnfitItself,
  orderMachine,
  stepMachine,
  type MachineCommand,
  type MachineState,
  type Owner,
  type PooledMachine,
} from './machine.ts'
import {
  cameUp,
  initialPace,
  learn,
  neverCame,
  ration,
  restraintsOf,
  suspendWasLate,
  type Outcome,
  type Spent,
} from './pace.ts'
import { planPool, type Action, type PlanMemory, type PoolPolicy, type Target } from './plan.ts'
import type { Leadership, PoolStore } from './pool-store.ts'

/** What waits for machines. */
export interface PoolDemand {
  readonly queued: number
}

export interface RoundsDependencies {
  readonly pool: string
  /** Names this process among all that may lead, and is its place where machines are reached by their own process alone. */
  readonly holder: string
  /** True only when the process that is a place is certainly gone. */
  readonly isDead: (place: string) => Promise<boolean>
  /** True only when the attempt is certainly over. */
  readonly isOver: (owner: Owner) => Promise<boolean>
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
  /** Between two lists of all machines of a place. */
  readonly listMs: number
  /** Between two looks at everything: owners that are over, places that are dead. */
  readonly resyncMs: number
}

export const roundsLimits: RoundsLimits = {
  tickMs: 1_000,
  settleMs: 100,
  leadMs: 10_000,
  errandsMax: 16,
  keepGoneMs: 3_600_000,
  listMs: 5_000,
  resyncMs: 60_000,
}

/** States that say of a machine that it has come up. */
const AT_WORK: ReadonlySet<MachineState> = new Set(['hot', 'ready', 'busy'])
/** Errands that a round looks at: more than it tries, so that those that must wait do not stand before the others. */
const DUE_MAX = 256
/** Machines that nobody knows and that are ended in one census. */
const STRAYS_MAX = 5
/** Actions and faults that an explanation keeps. */
const KEPT_MAX = 20

export interface Rounds {
  /** Generations that jobs may have, newest first. */
  generations(): readonly string[]
  /** Something has changed: the next round need not wait for its time. */
  ring(): void
  /** What became of a call of the provider. */
  heed(outcome: Outcome): void
  /** Something was done with a machine for the sake of a job. */
  note(action: Omit<Explanation['actions'][number], 'at'>): void
  /** Why the pool is as it is, as far as this process knows. */
  explain(): Omit<Explanation, 'given'>
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

  let pace = initialPace
  let spent: Spent = { since: 0, creates: 0, starts: 0 }
  let demand = noDemand(clock.now())
  let expectation = noExpectation
  /** The epoch that began with what was kept; who led meanwhile has kept more. */
  let recalledFor: number | null = null
  /** Null while this process does not lead: who begins to lead shrinks nothing for a whole delay. */
  let memory: PlanMemory | null = null
  let target: Target | null = null
  let machines: readonly PooledMachine[] = []
  let unknown: ReadonlyMap<string, number> = new Map()
  let lists = 0
  let listedAt = 0
  let resyncedAt = 0
  let leading: { readonly lead: Leadership; readonly since: number } | undefined
  /** Machines that never came up, and are counted. */
  let failed: Set<MachineId> = new Set()
  const actions: Explanation['actions'][number][] = []
  const faults: Explanation['faults'][number][] = []
  const keep = <One>(kept: One[], one: One): void => void (kept.unshift(one), kept.splice(KEPT_MAX))

  async function move(machine: PooledMachine, command: MachineCommand, lead: Leadership | null): Promise<boolean> {
    const step = stepMachine(machine, command)
    if (step === undefined) return false
    const [changed] = await store.change([step], lead)
    return changed === true
  }

  async function hear(): Promise<void> {
    for (const one of news.splice(0)) {
      const now = clock.now()
      const command =
        one.type === 'up' ? { type: 'up' as const, now, bootId: one.bootId } : { type: 'gone' as const, now }
      for (let tries = 0; tries < 3; tries++) {
        const machine = await store.find(one.machineId)
        if (machine === undefined || stepMachine(machine, command) === undefined) break
        const isNew = machine.state === 'creating' || machine.state === 'booting'
        if (one.type === 'ended' && isNew && one.reason !== 'destroyed')
          fail(machine, `The machine ${machine.id} ended before it was up (${one.reason}). ${one.stderrTail}`.trim())
        if (await move(machine, command, null)) break
      }
    }
  }

  /** Counts against what it was made of, once. */
  function fail({ id, generation }: PooledMachine, why: string | null): void {
    if (failed.has(id)) return
    failed.add(id)
    pace = neverCame(pace, generation, clock.now(), why)
    if (why !== null) keep(faults, { at: clock.now(), verb: 'boot', why })
  }

  /** A state that lasts too long: looked at once, then ended. */
  async function late(machine: PooledMachine): Promise<void> {
    // Its errand is tried for as long as it takes.
    if (machine.state === 'retiring') return
    if (machine.state === 'suspending') pace = suspendWasLate(pace, machine.place)
    if (machine.state === 'creating' || machine.state === 'booting') fail(machine, null)
    try {
      const seen = await errands.see(machine, await provider.look(machine))
      if (seen.version !== machine.version) return
    } catch (error) {
      if (!(error instanceof ProviderError)) throw error
      if (error.fault !== 'gone') return
    }
    const fault = `It was ${machine.state} for too long.`
    if (await move(machine, { type: 'retire', now: clock.now(), fault }, null))
      keep(actions, { at: clock.now(), type: 'retire', machineId: machine.id, why: fault })
  }

  async function act(action: Action, lead: Leadership): Promise<void> {
    const now = clock.now()
    const { why } = action
    if (action.type === 'create') {
      const id = makeId('mch', now, chance.bytes(16))
      const { place } = action
      const isDone = await store.add(
        [orderMachine({ id, pool, place, generation: provider.generation, now }, null)],
        lead,
      )
      if (isDone) keep(actions, { at: now, type: 'create', machineId: id, why })
      return
    }
    const { type, machine } = action
    const command = type === 'retire' ? { type, now, fault: why } : { type, now }
    if (await move(machine, command, lead)) keep(actions, { at: now, type, machineId: machine.id, why })
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

  /** Machines of attempts that are over. */
  async function free(): Promise<void> {
    const { cleansByStop } = provider.traits
    for (const machine of await own()) {
      const { owner, since } = machine
      if (owner === null || clock.now() - since < limits.resyncMs || !(await dependencies.isOver(owner))) continue
      if (await move(machine, { type: 'release', now: clock.now(), cleansByStop }, null))
        log.warn('A machine was left by its attempt.', { machineId: machine.id, jobId: owner.jobId })
    }
  }

  /** One place after the other is compared with what the provider has there. */
  async function compare(): Promise<void> {
    const place = provider.places[lists++ % provider.places.length] ?? ''
    const observed = await provider.list(place)
    const rows = (await own()).filter((machine) => machine.place === place)
    const found = census(observed, rows, unknown, clock.now())
    const elsewhere = [...unknown].filter(
      ([, since]) => clock.now() - since < 10 * limits.resyncMs * provider.places.length,
    )
    unknown = provider.places.length === 1 ? found.unknown : new Map([...elsewhere, ...found.unknown])
    for (const machine of found.missing) await errands.see(machine, await provider.look(machine).catch(goneOf(machine)))
    for (const { providerId, machineId, generation } of found.strays.slice(0, STRAYS_MAX)) {
      const id = machineId ?? makeId('mch', clock.now(), chance.bytes(16))
      const order = { id, pool, place, generation: generation ?? '', now: clock.now() }
      await provider.destroy({ ...orderMachine(order, null), providerId })
      log.warn('A machine that nobody knows was ended.', { providerId, machineId })
      keep(actions, { at: clock.now(), type: 'end', machineId, why: `no row knows ${providerId}` })
    }
  }

  /** X5 */
  async function recall({ epoch }: Leadership): Promise<void> {
    if (recalledFor === epoch) return
    const kept = await store.expectation(pool)
    const known = parseExpectation(kept)
    if (kept !== undefined && known === undefined) log.warn('What was expected of a pool cannot be read.', { pool })
    if (known !== undefined) expectation = known
    recalledFor = epoch
  }

  /** X5; nothing else waits for it, or fails with it. */
  async function retain(lead: Leadership): Promise<void> {
    await store
      .keepExpectation(pool, printExpectation(expectation), lead)
      .catch((error: unknown) => log.warn('What is expected of a pool was not kept.', { pool, error }))
  }

  async function tend(lead: Leadership): Promise<void> {
    const now = clock.now()
    const started = await store.started(pool, demand.at)
    const { queued } = await dependencies.demand()
    for (const machine of await own()) if (machine.deadline !== null && machine.deadline <= now) await late(machine)
    machines = await own()
    const busy = machines.filter(({ owner }) => owner !== null).length
    for (const one of machines) if (one.state === 'retiring' && isUnfitItself(one)) fail(one, one.fault)
    const ids = new Set(machines.map(({ id }) => id))
    failed = new Set([...failed].filter((id) => ids.has(id)))
    for (const { generation, state, since } of machines)
      if (AT_WORK.has(state) && since > now - 2 * limits.tickMs) pace = cameUp(pace, generation)
    expectation = seeMachines(seeArrivals(expectation, cameSince(demand, { started, queued }), now), machines)
    const { places, generation } = provider
    const traits = { ...provider.traits, typical: typicalOf(expectation, provider.traits.typical) }
    // A machine that is ordered now serves those who come when it is ready.
    const expectedRate = Math.max(forecast(expectation, now), forecast(expectation, now + traits.typical.createMs))
    demand = { ...observeDemand(demand, { now, started, queued, busy }), forecast: expectedRate }
    const plan = planPool({ machines, demand, policy, traits, places, generation, pace, memory, now })
    ;({ memory, target } = plan)
    for (const action of plan.actions) await act(action, lead)
  }

  /** Leads, or goes on leading: a lead that has most of its time left is not renewed, which would be a commit each round. */
  async function leadAt(now: number): Promise<Leadership | undefined> {
    const age = now - (leading?.since ?? -Infinity)
    if (leading !== undefined && age >= 0 && age < limits.leadMs / 3) return leading.lead
    const lead = await store.lead(led, holder, now, now + limits.leadMs)
    leading = lead === undefined ? undefined : { lead, since: now }
    return lead
  }

  /** An errand of one machine fails without holding up the others. */
  async function round(): Promise<void> {
    await hear()
    const now = clock.now()
    const lead = await leadAt(now)
    if (lead === undefined) {
      memory = target = null
      if (now - listedAt < limits.listMs) return
      listedAt = now
      machines = await own()
      return
    }
    await recall(lead)
    await tend(lead)
    const due = await store.errands(pool, provider.places, clock.now(), DUE_MAX)
    const rationed = ration(due, pace, spent, limits.errandsMax, clock.now())
    spent = rationed.spent
    await Promise.all(rationed.errands.map((errand) => errands.try(errand)))
    if (rationed.errands.length > 0) alarm.resolve()
    if (now - resyncedAt >= limits.resyncMs) {
      resyncedAt = now
      await bury()
      await free()
      await store.sweep(pool, now - limits.keepGoneMs)
      await retain(lead)
    }
    if (!isOwn && now - listedAt >= limits.listMs) {
      listedAt = now
      await compare().catch((error: unknown) => {
        if (!(error instanceof ProviderError)) throw error
        keep(faults, { at: now, verb: 'list', why: error.message })
      })
    }
  }

  async function run(): Promise<void> {
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
    generations: () => [...new Set([provider.generation, ...machines.map(({ generation }) => generation)])],
    ring: () => alarm.resolve(),
    heed(outcome) {
      pace = learn(pace, outcome)
      const { fault, verb, why, now } = outcome
      if (fault !== null && fault !== 'gone') keep(faults, { at: now, verb, why })
    },
    note: (action) => keep(actions, { at: clock.now(), ...action }),
    explain() {
      const counts: Partial<Record<MachineState, number>> = {}
      for (const { state } of machines) counts[state] = (counts[state] ?? 0) + 1
      const now = clock.now()
      const restraints = memory === null ? [] : restraintsOf(pace, now)
      return {
        pool,
        at: now,
        leads: memory !== null,
        target,
        counts,
        strays: unknown.size,
        restraints,
        actions,
        faults,
      }
    },
    async close() {
      closing.abort(new Error('the rounds are closing'))
      alarm.resolve()
      unwatch()
      await running
      if (memory !== null && leading !== undefined) await retain(leading.lead)
      // They end with this process, whatever their rows say.
      if (isOwn) for (const machine of await own()) await move(machine, { type: 'gone', now: clock.now() }, null)
    },
  }
}

/** What is not there is gone; whatever else went wrong is for whoever asked. */
function goneOf(machine: PooledMachine) {
  return (error: unknown) => {
    if (!(error instanceof ProviderError) || error.fault !== 'gone') throw error
    const providerId = machine.providerId ?? ''
    return { machineId: machine.id, providerId, state: 'gone', generation: null, createdAt: null } as const
  }
}
