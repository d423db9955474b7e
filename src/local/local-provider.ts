/**
 * The machines of one process on this computer, as a pool moves them: started before there is a job, stopped in their
 * tracks while nobody wants them, each used once. They end with this process, and only it can reach them.
 */
import { basename } from 'node:path'
import type { Clock } from '../../schema/clock.ts'
import { PlatformError } from '../../schema/error.ts'
import { sha256 } from '../../schema/hash.ts'
import type { MachineId } from '../../schema/id.ts'
import { inTime } from '../pool/in-time.ts'
import type { ProbeResult } from '../pool/machine-host.ts'
import {
  ProviderError,
  type MachineNews,
  type MachineProvider,
  type Observation,
  type ProviderTraits,
} from '../pool/machine-provider.ts'
import type { Parked, SupervisedHost } from './supervised-host.ts'

export interface LocalProviderOptions {
  readonly name: 'local' | 'unsafe-process'
  readonly host: SupervisedHost
  /** Names this process among all whose machines one pool may hold. */
  readonly place: string
  readonly probe: () => Promise<ProbeResult>
  readonly clock: Clock
}

const TRAITS: ProviderTraits = {
  suspends: true,
  cleansByStop: false,
  endsWithJob: true,
  reach: 'process',
  typical: { createMs: 150, bootMs: 150, suspendMs: 1, resumeMs: 1, stopMs: 20 },
}

interface Kept extends Parked {
  suspended: boolean
  ended: boolean
}

export function openLocalProvider(options: LocalProviderOptions): MachineProvider {
  const { host, place, clock } = options
  const { runtime } = host
  const kept = new Map<MachineId, Kept>()
  const orders = new Map<MachineId, Promise<Kept>>()
  const listeners = new Set<(news: MachineNews) => void>()
  const tell = (news: MachineNews): void => listeners.forEach((listener) => listener(news))

  async function make(id: MachineId, isAwaited: boolean): Promise<Kept> {
    const parked = await host.park(undefined, isAwaited).catch((cause: unknown) => {
      orders.delete(id)
      throw new ProviderError('capacity', 'No machine could be started on this computer.', { cause })
    })
    const one: Kept = { ...parked, suspended: false, ended: false }
    kept.set(id, one)
    void one.machine.primed.then((bootId) => bootId !== undefined && tell({ type: 'up', machineId: id, bootId }))
    void one.machine.ended.then((end) => {
      one.ended = true
      kept.delete(id)
      orders.delete(id)
      tell({ type: 'ended', machineId: id, ...end })
    })
    return one
  }

  function find(id: MachineId): Kept {
    const one = kept.get(id)
    if (one === undefined || one.ended) throw new ProviderError('gone', `The machine ${id} is gone.`)
    return one
  }

  function observe(id: MachineId, { suspended, machine }: Kept): Observation {
    const state = suspended ? 'suspended' : 'running'
    return { machineId: id, providerId: providerIdOf(machine.pid), state, generation: null, createdAt: null }
  }

  return {
    name: options.name,
    traits: TRAITS,
    limits: host.limits,
    generation: sha256(
      JSON.stringify([runtime.bundles.runner, runtime.bundles.supervisor, runtime.node].map((path) => basename(path))),
    ).slice(0, 16),
    places: [place],
    probe: options.probe,
    async create({ id, owner }) {
      const order = orders.get(id) ?? make(id, owner !== null)
      orders.set(id, order)
      return { providerId: providerIdOf((await order).machine.pid) }
    },
    async find({ id }) {
      const one = kept.get(id)
      return one === undefined ? undefined : observe(id, one)
    },
    look: async ({ id }) => observe(id, find(id)),
    list: async () => [...kept].map(([id, one]) => observe(id, one)),
    async start({ id }) {
      const one = find(id)
      one.machine.resume()
      one.suspended = false
    },
    async suspend({ id }) {
      const one = find(id)
      one.suspended = one.machine.suspend()
      if (!one.suspended) throw new ProviderError('refused', 'Machines cannot be suspended here.')
    },
    async stop({ id }) {
      await find(id).machine.destroy()
    },
    async destroy({ id }) {
      await kept.get(id)?.machine.destroy()
    },
    expect: (lock) => host.expect(lock),
    async connect({ id }, lock, hold, deadline) {
      const one = find(id)
      // Now a job waits for it.
      one.cgroup.yield(false)
      const [bootId, placed] = await Promise.all([
        inTime(one.machine.primed, deadline - clock.now(), clock),
        host.place(lock),
      ])
      if (bootId === undefined) {
        const why = one.ended ? (await one.machine.ended).stderrTail : 'It was not up in time.'
        throw new PlatformError('machine_failed', `The machine ${id} did not start. ${why}`)
      }
      if (!(await hold(bootId))) throw new PlatformError('fence_stale', `The machine ${id} is another's.`)
      return host.fill(one, placed)
    },
    watch(listener) {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
    close: () => host.close(),
  }
}

function providerIdOf(pid: number | undefined): string {
  return `pid ${pid ?? 'none'}`
}
