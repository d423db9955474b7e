/** Opens hosts of machines for tests, and says whether sandboxes work here. */
import { chmodSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { makeId } from '../../schema/id.ts'
import type { Clock } from '../../schema/clock.ts'
import type { Process } from '../../src/local/processes.ts'
import { openSandboxProvider, type SandboxProviderOptions } from '../../src/local/sandbox-provider.ts'
import type { LocalHostOptions } from '../../src/local/supervised-host.ts'
import { openUnsafeProcessProvider } from '../../src/local/unsafe-process-provider.ts'
import type { MachineProvider } from '../../src/pool/machine-provider.ts'
import { machinesLimits } from '../../src/pool/machines.ts'
import { poolPolicy } from '../../src/pool/plan.ts'
import { openPool } from '../../src/pool/pools.ts'
import { roundsLimits } from '../../src/pool/rounds.ts'
import { fakeChance } from '../fake/fake-clock.ts'
import { memoryPoolStore } from '../fake/memory-pool-store.ts'
import type { MachineHost } from '../../src/pool/machine-host.ts'
import { openLog, type Log } from '../../src/log.ts'
import { ROOT } from './source.ts'
import { scratchDirectory } from './scratch.ts'

/** Real processes take real time; only differences of `now` mean anything. */
export const realClock: Clock = {
  now: () => Number(process.hrtime.bigint() / 1_000_000n),
  sleep: async (ms, signal) => {
    await sleep(ms, undefined, signal === undefined ? {} : { signal })
  },
}

export const silentLog: Log = openLog(
  () => {},
  () => realClock.now(),
)

export const PUPPET = join(ROOT, 'test/fixture/runners/puppet.mjs')

/** A skill of test/fixture/skills by the name of its package. */
export function fixtureSkill(name: string): string {
  return join(ROOT, 'test/fixture/skills', name)
}

export interface OpenHost {
  readonly host: MachineHost
  /** The processes of its machines; what descends from this process where it does not say. */
  readonly processes?: () => Promise<readonly Process[]>
  readonly close: () => Promise<void>
}

/** Sandboxes out of a pool of this process's own, as the server has them; `readyMin` of them wait for jobs. */
export const openSandboxes = async (options: SandboxProviderOptions, readyMin = 0): Promise<MachineHost> =>
  pooled(await openSandboxProvider(options, 'here'), readyMin)

export const openPlainProcesses = async (options: LocalHostOptions, readyMin = 0): Promise<MachineHost> =>
  pooled(await openUnsafeProcessProvider(options, 'here'), readyMin)

let pools = 0

/** Machines of a provider out of a pool of this process's own. */
export function pooled(provider: MachineProvider, readyMin: number): MachineHost {
  const chance = fakeChance(`pool ${(pools += 1)}`)
  const pool = openPool({
    pool: provider.name,
    holder: 'here',
    store: memoryPoolStore(),
    provider,
    policy: { ...poolPolicy, readyMin, readyMax: readyMin, machinesMax: machinesLimits.machinesMax },
    demand: async () => ({ queued: 0 }),
    isDead: async () => false,
    isOver: async () => false,
    linesUrl: null,
    clock: realClock,
    chance,
    log: silentLog,
    limits: { machines: machinesLimits, rounds: roundsLimits },
  })
  // Tests open several machines for the one job that they know, which no attempt ever does.
  const job = () => makeId('job', realClock.now(), chance.bytes(16))
  return { ...pool, open: (_owner, lock) => pool.open({ jobId: job(), fence: 1 }, lock) }
}

export interface OpenLocalHost extends OpenHost {
  readonly options: LocalHostOptions
}

/** A host in a directory of its own, with a puppet for a runner. */
export async function openHost(
  open: (options: LocalHostOptions) => Promise<MachineHost>,
  change: Partial<LocalHostOptions> = {},
): Promise<OpenLocalHost> {
  // Not below the person's temporary directory, which other uids may not enter.
  const directory = scratchDirectory('test', '/var/tmp')
  chmodSync(directory, 0o755)
  const options: LocalHostOptions = {
    install: (skill) => Promise.resolve(fixtureSkill(skill.packages[0]?.name ?? '')),
    runtimeDirectory: join(directory, 'runtime'),
    execPath: process.execPath,
    log: silentLog,
    clock: realClock,
    bundles: { runner: PUPPET },
    ...change,
  }
  const host = await open(options)
  return {
    host,
    options,
    close: async () => {
      await host.close()
      rmSync(directory, { recursive: true, force: true })
    },
  }
}

/** Where a process of tests finds what `probeSandbox` said in the main one. */
export const PROBED = 'SENMON_TEST_SANDBOX_PROBED'

/** Why sandboxes do not work here; undefined when they do. With REQUIRE_SANDBOX=bwrap that is a failure instead. */
export async function sandboxMissing(): Promise<string | undefined> {
  const probed = process.env[PROBED]
  // What this process was told by the one that started it.
  return probed === undefined ? await probeSandbox() : ((JSON.parse(probed) as string | null) ?? undefined)
}

/** The same, looked at now. */
export async function probeSandbox(): Promise<string | undefined> {
  const { host, close } = await openHost(openSandboxes)
  try {
    const result = await host.probe()
    if (result.ok) return undefined
    if (process.env['REQUIRE_SANDBOX'] === 'bwrap')
      throw new Error(`REQUIRE_SANDBOX=bwrap, but ${result.reason} ${result.fix}`)
    return result.reason
  } finally {
    await close()
  }
}
