/**
 * Minds machines that are on their way to their jobs and belong to a provider: looks after one that does not come, has a
 * lost start made again, wakes another where a job waits for long, and changes over to what is up (V5, V6).
 */
import type { Clock } from '../../schema/clock.ts'
import { PlatformError } from '../../schema/error.ts'
import type { Log } from '../log.ts'
import type { Errands } from './errands.ts'
import type { Machine } from './machine-host.ts'
import { ProviderError, type MachineProvider } from './machine-provider.ts'
import { isClean, isOwnedBy, type Owner, type PooledMachine } from './machine.ts'
import { moveMachine } from './moves.ts'
import type { PoolStore } from './pool-store.ts'

export interface MindingDependencies {
  readonly pool: string
  readonly store: PoolStore
  readonly provider: Pick<MachineProvider, 'look' | 'traits'>
  readonly errands: Errands
  readonly clock: Clock
  readonly log: Log
  readonly limits: {
    /** Between two looks. */
    readonly lookMs: number
    /** When a machine that has not come is looked at. */
    readonly probeMs: number
  }
  /** Generations that jobs may have, newest first. */
  readonly generations: () => readonly string[]
  /** Whether this process may use a machine. */
  readonly isReachable: (machine: PooledMachine) => boolean
  /** Starts a machine again whose start was lost. */
  readonly again: (machine: PooledMachine) => Promise<void>
  /** Hears of a machine that is woken beside the one that is late. */
  readonly onRouse: (machine: PooledMachine) => void
}

/**
 * Waits for a machine that comes to its owner, and minds it meanwhile; it is late after `lateMs`. Throws what the coming
 * throws, and a ProviderError when the machine is to be given up.
 */
export type Minding = (
  coming: Promise<Machine>,
  machine: PooledMachine,
  owner: Pick<Owner, 'jobId' | 'fence'>,
  lateMs: number,
) => Promise<Machine>

export function openMinding(dependencies: MindingDependencies): Minding {
  const { pool, store, provider, errands, clock, log, limits, generations, isReachable, again, onRouse } = dependencies

  /** A machine that has not come for its job in a while: throws when it will not. One that cannot be looked at may yet come. */
  async function probe(machine: PooledMachine): Promise<void> {
    // Without a name, which may have come since, a look would be a search among all.
    const current = (await store.find(machine.id)) ?? machine
    // It has said to another process of ours that it can do no job.
    if (current.owner === null && current.fault !== null)
      throw new PlatformError('machine_failed', `The machine ${machine.id} did not start. ${current.fault}`)
    if (current.providerId === null) return
    const seen = await provider.look(current).catch((error: unknown) => {
      if (error instanceof ProviderError && error.fault !== 'gone') return undefined
      throw error
    })
    if (seen === undefined) return
    const { state } = seen
    if (state === 'gone' || state === 'failed' || state === 'destroying')
      throw new ProviderError('gone', `The machine ${machine.id} was to come for its job and is ${state}.`)
    // Its start was lost, or a suspend that was on its way came after it.
    if (state === 'suspended' || state === 'stopped') await again(machine)
  }

  /** Another that is up, or will soon be: one that runs already, else the freshest that is suspended. */
  async function rouseAnother(): Promise<void> {
    const idle = (await store.list(pool)).filter(
      (one) => isReachable(one) && isClean(one) && generations().includes(one.generation),
    )
    const ready = idle.filter(({ state }) => state === 'ready')
    const [freshest] = ready.toSorted((a, b) => (b.idleSince ?? 0) - (a.idleSince ?? 0))
    if (freshest === undefined || idle.some(({ state }) => state === 'hot')) return
    const isReady = ({ state }: PooledMachine): boolean => state === 'ready'
    const roused = await moveMachine(store, freshest, { type: 'boot', now: clock.now() }, isReady)
    if (!roused.isMoved) return
    onRouse(freshest)
    await errands.run(roused.machine, 'start')
  }

  /** V6: gives a machine up that has not come, where another is up. Throws when it has. */
  async function change(machine: PooledMachine, owner: Pick<Owner, 'jobId' | 'fence'>): Promise<void> {
    const isUp = (await store.list(pool)).some((one) => one.state === 'hot' && isReachable(one) && isClean(one))
    if (!isUp) return
    const { cleansByStop } = provider.traits
    const isWaking = (current: PooledMachine): boolean => current.state === 'waking' && isOwnedBy(current, owner)
    const command = { type: 'release', now: clock.now(), cleansByStop } as const
    const released = await moveMachine(store, machine, command, isWaking)
    if (!released.isMoved) return
    void errands.run(released.machine, cleansByStop ? 'stop' : 'destroy').catch(() => {})
    throw new ProviderError('ambiguous', `The machine ${machine.id} was late for its job, and another was up.`)
  }

  /** While a machine is on its way to its job. Ends with the signal, or throws when the machine is to be given up. */
  async function attend(
    machine: PooledMachine,
    owner: Pick<Owner, 'jobId' | 'fence'>,
    lateMs: number,
    signal: AbortSignal,
  ): Promise<void> {
    const from = clock.now()
    for (let [isProbed, isRoused] = [false, false]; !signal.aborted;) {
      await clock.sleep(limits.lookMs, signal).catch(() => {})
      if (signal.aborted) return
      const passed = clock.now() - from
      if (!isProbed && passed >= limits.probeMs) {
        isProbed = true
        await probe(machine)
      }
      if (passed < lateMs) continue
      if (!isRoused) {
        isRoused = true
        await rouseAnother().catch((error: unknown) => log.warn('No other machine could be roused.', { error }))
      }
      await change(machine, owner)
    }
  }

  return async (coming, machine, owner, lateMs) => {
    const over = new AbortController()
    coming.catch(() => {})
    try {
      return await Promise.race([coming, attend(machine, owner, lateMs, over.signal).then(() => coming)])
    } finally {
      over.abort(new Error('it came, or is given up'))
    }
  }
}
