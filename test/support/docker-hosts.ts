/** Opens hosts of machines on a Docker engine for tests, and says whether a real one is here. */
import { readFileSync } from 'node:fs'
import type { LockedStdioSkill } from '../../schema/lock.ts'
import { LABEL } from '../../src/docker/container.ts'
import { openDockerProvider, type DockerProviderOptions } from '../../src/docker/docker-provider.ts'
import { openEngine, type Engine, type EngineAddress } from '../../src/docker/engine.ts'
import { descendants, listProcesses, type Process } from '../../src/local/processes.ts'
import type { MachineProvider } from '../../src/pool/machine-provider.ts'
import { imageRunner } from '../../src/sandbox/machine-image.ts'
import { fixtureSkill, pooled, PUPPET, realClock, silentLog, type OpenHost } from './sandbox.ts'

export const TEST_IMAGE = 'senmon-machine:test'

const install = (skill: LockedStdioSkill): Promise<string> =>
  Promise.resolve(fixtureSkill(skill.packages[0]?.name ?? ''))

/** A provider on the engine at an address, with a puppet for a runner. */
export function openTestProvider(
  address: EngineAddress,
  change: Partial<DockerProviderOptions> = {},
): Promise<MachineProvider> {
  return openDockerProvider({
    engine: openEngine(address, realClock),
    image: TEST_IMAGE,
    runtime: null,
    place: 'here',
    isDead: () => Promise.resolve(false),
    install,
    runner: (image) => imageRunner(image, readFileSync(PUPPET, 'utf8')),
    clock: realClock,
    log: silentLog,
    ...change,
  })
}

export async function openDockerHost(address: EngineAddress, close: () => Promise<void>): Promise<OpenHost> {
  const place = `test-${process.pid}`
  // None that waits: its processes would be taken for those of the machine that a test has destroyed.
  const host = pooled(await openTestProvider(address, { place }), 0)
  const engine = openEngine(address, realClock)
  return {
    host,
    processes: () => processesAt(engine, place),
    close: async () => {
      await host.close()
      engine.close()
      await close()
    },
  }
}

/** What runs in the containers of a place. They descend from the engine, whoever ordered them: it says where each begins. */
async function processesAt(engine: Engine, place: string): Promise<readonly Process[]> {
  const filters = encodeURIComponent(JSON.stringify({ label: [`${LABEL.place}=${place}`] }))
  const { body } = await engine.call('GET', `/containers/json?filters=${filters}`)
  const first = await Promise.all(
    (body as readonly { readonly Id: string }[]).map(async ({ Id }) => {
      const { body: seen } = await engine.call('GET', `/containers/${Id}/json`)
      return (seen as unknown as { readonly State: { readonly Pid: number } }).State.Pid
    }),
  )
  const all = listProcesses()
  return first.flatMap((pid) => descendants(pid, all))
}

/** Why no real engine can run machines here; undefined when one can. With REQUIRE_DOCKER=1 that is a failure instead. */
export async function dockerMissing(address: EngineAddress): Promise<string | undefined> {
  const provider = await openTestProvider(address)
  try {
    const probe = await provider.probe()
    if (probe.ok) return undefined
    if (process.env['REQUIRE_DOCKER'] === '1') throw new Error(`REQUIRE_DOCKER=1, but ${probe.reason} ${probe.fix}`)
    return probe.reason
  } finally {
    await provider.close()
  }
}

/** Where the engine of this computer listens, for tests: a socket, since they look at its processes. */
export function testEngine(): EngineAddress {
  const given = process.env['DOCKER_HOST']?.replace(/^unix:\/\//, '')
  return { type: 'socket', path: given ?? '/var/run/docker.sock' }
}
