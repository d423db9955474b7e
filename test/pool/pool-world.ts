/** A pool in virtual time: a store in memory, a provider that exists in a table, and as many processes as a test wants. */
import { makeId, type JobId } from '../../schema/id.ts'
import type { Lock } from '../../schema/lock.ts'
import { openLog } from '../../src/log.ts'
import type { Machine, MachineHost } from '../../src/pool/machine-host.ts'
import type { ProviderTraits } from '../../src/pool/machine-provider.ts'
import type { PooledMachine } from '../../src/pool/machine.ts'
import { machinesLimits, type MachinesLimits } from '../../src/pool/machines.ts'
import { poolPolicy, type PoolPolicy } from '../../src/pool/plan.ts'
import { openPool, type Pool, type PoolDependencies } from '../../src/pool/pools.ts'
import type { PoolStore } from '../../src/pool/pool-store.ts'
import { roundsLimits } from '../../src/pool/rounds.ts'
import { fakeChance, fakeClock, type FakeClock } from '../fake/fake-clock.ts'
import { memoryPoolStore } from '../fake/memory-pool-store.ts'
import { FLY_LIKE, virtualProvider, type Trouble, type VirtualProvider } from '../fake/virtual-provider.ts'
import type { Verb } from '../../src/pool/machine.ts'
import type { MachineId } from '../../schema/id.ts'

export const LOCK = { version: 1, coordinator: 'none@1.0.0', experts: {} } as unknown as Lock // nobody looks at it

export interface PoolWorld {
  readonly clock: FakeClock
  readonly store: PoolStore
  readonly provider: VirtualProvider
  /** One process more. */
  open(holder?: string, change?: Partial<PoolDependencies>): Pool
  job(): JobId
  list(): Promise<readonly PooledMachine[]>
  /** Lets time pass in small steps, so that whoever is at work gets to where it waits. */
  pass(ms: number): Promise<void>
  /** Drives time until a promise is settled. */
  settle<Value>(promise: Promise<Value>, ms?: number): Promise<Value>
  close(): Promise<void>
}

export function poolWorld(
  options: {
    readonly traits?: ProviderTraits
    readonly ready?: number
    readonly policy?: Partial<PoolPolicy>
    readonly limits?: Partial<MachinesLimits>
    readonly troubleOf?: (verb: Verb, id: MachineId, nth: number) => Trouble | undefined
  } = {},
): PoolWorld {
  const clock = fakeClock()
  const chance = fakeChance('pool')
  const store = memoryPoolStore()
  const traits = options.traits ?? FLY_LIKE
  const provider = virtualProvider(
    clock,
    traits,
    options.troubleOf === undefined ? {} : { troubleOf: options.troubleOf },
  )
  const hosts: MachineHost[] = []
  const limits = { machines: { ...machinesLimits, ...options.limits }, rounds: roundsLimits }
  const step = async (): Promise<void> => {
    await new Promise((resolve) => setImmediate(resolve))
    await clock.advance(50)
  }
  const settle = async <Value>(promise: Promise<Value>, ms = 200_000): Promise<Value> => {
    const end = { isReached: false }
    const done = promise.finally(() => (end.isReached = true))
    done.catch(() => {})
    for (let passed = 0; passed < ms && !end.isReached; passed += 50) await step()
    if (!end.isReached) throw new Error(`it took more than ${ms} ms`)
    return await done
  }
  return {
    clock,
    store,
    provider,
    open(holder = 'here', change = {}) {
      const host = openPool({
        pool: 'p',
        holder,
        store,
        provider,
        policy: {
          ...poolPolicy,
          readyMin: options.ready ?? 2,
          machinesMax: limits.machines.machinesMax,
          ...options.policy,
        },
        demand: async () => ({ queued: 0 }),
        isDead: async () => false,
        isOver: async () => false,
        linesUrl: null,
        clock,
        chance,
        log: openLog(
          () => {},
          () => clock.now(),
        ),
        limits,
        ...change,
      })
      hosts.push(host)
      return host
    },
    job: () => makeId('job', clock.now(), chance.bytes(16)),
    list: () => store.list('p'),
    pass: async (ms) => {
      for (let passed = 0; passed < ms; passed += 50) await step()
    },
    settle,
    close: async () => settle(Promise.all(hosts.map((host) => host.close())).then(() => undefined)),
  }
}

export const states = (machines: readonly PooledMachine[]): readonly string[] =>
  machines.map(({ state }) => state).toSorted()

export type { Machine }
