/** Opens hosts of machines on a Docker engine for tests, and says whether a real one is here. */
import { readFileSync } from 'node:fs'
import type { LockedStdioSkill } from '../../schema/lock.ts'
import { CONTAINER_UIDS } from '../../schema/machine-image.ts'
import { openDockerProvider, type DockerProviderOptions } from '../../src/docker/docker-provider.ts'
import { openEngine, type EngineAddress } from '../../src/docker/engine.ts'
import { listProcesses, uidOf } from '../../src/local/processes.ts'
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
  // None that waits: its processes would be taken for those of the machine that a test has destroyed.
  const host = pooled(await openTestProvider(address), 0)
  return {
    host,
    // An engine's containers descend from the engine, whoever ordered them.
    processes: () =>
      listProcesses().filter(({ pid }) => {
        const uid = uidOf(pid) ?? 0
        return uid >= CONTAINER_UIDS.first && uid < CONTAINER_UIDS.first + CONTAINER_UIDS.count
      }),
    close: async () => {
      await host.close()
      await close()
    },
  }
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
