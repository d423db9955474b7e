/**
 * Fly Machines as a pool moves them: suspended while nobody wants them, stopped to be clean. Each place is an app; a
 * machine is given nothing that is secret, and comes to us by itself (`links.ts`).
 */
import type { Clock } from '../../schema/clock.ts'
import { canonical, sha256 } from '../../schema/hash.ts'
import type { LockedStdioSkill } from '../../schema/lock.ts'
import type { Links } from '../pool/links.ts'
import { ProviderError, type MachineProvider, type ProviderTraits } from '../pool/machine-provider.ts'
import type { PooledMachine } from '../pool/machine.ts'
import { openImageSkills } from '../skill/image-skills.ts'
import { MANAGED_BY, metadataOf, nameOf, observe } from './fly-machine.ts'
import { probeFly } from './fly-probe.ts'
import type { MachinesClient } from './machines-client.ts'

export interface FlySize {
  readonly cpuKind: 'shared' | 'performance'
  readonly cpus: number
  /** At most 2048: a larger machine cannot be suspended. */
  readonly memoryMb: number
}

export interface FlyProviderOptions {
  readonly client: MachinesClient
  readonly links: Links
  readonly apps: readonly string[]
  /** `repository@sha256:…`: a tag could become another image behind our back. */
  readonly image: string
  readonly regions: readonly string[]
  readonly size: FlySize
  /** Where machines reach any process of ours. */
  readonly machineUrl: string
  readonly install: (skill: LockedStdioSkill) => Promise<string>
  readonly clock: Clock
}

const TRAITS: ProviderTraits = {
  suspends: true,
  cleansByStop: true,
  endsWithJob: false,
  reach: 'all',
  typical: { createMs: 8_000, bootMs: 1_200, suspendMs: 2_500, resumeMs: 250, stopMs: 1_000 },
}
/** A machine suspends itself when it is told to; after as long we ask Fly to do it. */
const SELF_SUSPEND_MS = 3_000
/** After so long a machine that is not listed was never made. */
const SURE_MS = 60_000

/** What every machine of the pool is made of, but for its name. */
export function machineConfig(image: string, size: FlySize): Readonly<Record<string, unknown>> {
  return {
    image,
    guest: { cpu_kind: size.cpuKind, cpus: size.cpus, memory_mb: size.memoryMb },
    restart: { policy: 'no' },
    auto_destroy: false,
    rootfs: { persist: 'never' },
    stop_config: { signal: 'SIGTERM', timeout: '30s' },
    dns: { skip_registration: true },
  }
}

export function openFlyProvider(options: FlyProviderOptions): MachineProvider {
  const { client, links, apps, image, regions, size, machineUrl, clock } = options
  const skills = openImageSkills(options.install)
  const config = machineConfig(image, size)
  const generation = sha256(canonical([config, machineUrl])).slice(0, 16)

  const idOf = ({ id, providerId }: PooledMachine): string => {
    if (providerId !== null) return providerId
    throw new ProviderError('state', `Fly has not yet named the machine ${id}.`)
  }

  return {
    name: 'fly',
    traits: TRAITS,
    generation,
    places: apps,
    probe: () => probeFly({ client, apps, regions, config: null }),
    async create({ id, pool, place, generation: made }) {
      if (made !== generation)
        throw new ProviderError('refused', `The machine ${id} is of a generation that is made no more.`)
      const metadata = { managed_by: MANAGED_BY, pool, gen: generation, launch_id: id }
      const env = { SENMON_MACHINE_ID: id, SENMON_MACHINE_URL: machineUrl }
      const order = { name: nameOf(id), launchId: id, config: { ...config, env, metadata }, regions, isLaunched: true }
      return { providerId: (await client.create(place, order)).id }
    },
    async find({ id, place }) {
      const found = await client.find(place, nameOf(id), id)
      return found === undefined ? undefined : observe(found)
    },
    async look(machine) {
      const { id, place, providerId } = machine
      if (providerId !== null) return observe(await client.look(place, providerId))
      const found = await client.find(place, nameOf(id), id)
      if (found === undefined) throw new ProviderError('gone', `Fly knows no machine ${id}.`)
      return observe(found)
    },
    list: async (place) =>
      (await client.list(place)).filter((one) => metadataOf(one)['managed_by'] === MANAGED_BY).map(observe),
    start: (machine) => client.start(machine.place, idOf(machine)),
    async suspend(machine, mayAct) {
      if (clock.now() - machine.since >= SELF_SUSPEND_MS) await client.suspend(machine.place, idOf(machine), mayAct)
    },
    stop: (machine, mayAct) => client.stop(machine.place, idOf(machine), mayAct),
    async destroy(machine, mayAct) {
      const { id, place, providerId } = machine
      const name = providerId ?? (await client.find(place, nameOf(id), id))?.id
      if (name !== undefined) return await client.destroy(place, name, mayAct)
      // Its order may be on its way yet, and lists lag: one that is not seen now would be nobody's later.
      if (clock.now() - machine.since < SURE_MS)
        throw new ProviderError('ambiguous', `It is not known yet whether Fly has a machine ${id}.`)
    },
    async connect(machine, lock, hold, deadline) {
      const connected = await links.expect(machine, (image) => skills.of(image, lock), hold, deadline)
      return {
        ...connected,
        lines: skills.answer(connected.lines, (line) => connected.send(line)),
        get unreadBytes() {
          return connected.unreadBytes
        },
      }
    },
    watch: () => () => {},
    async close() {
      links.close()
      await client.close()
    },
  }
}
