/** Opens hosts of machines for tests, and says whether sandboxes work here. */
import { mkdtempSync, chmodSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Clock } from '../../schema/clock.ts'
import { openLocalMachineHost } from '../../src/local/local-machine-host.ts'
import type { LocalHostOptions } from '../../src/local/supervised-host.ts'
import type { MachineHost } from '../../src/pool/machine-host.ts'
import { openLog, type Log } from '../../src/log.ts'
import { ROOT } from './source.ts'

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
  readonly options: LocalHostOptions
  readonly close: () => Promise<void>
}

/** A host in a directory of its own, with a puppet for a runner. */
export async function openHost(
  open: (options: LocalHostOptions) => Promise<MachineHost>,
  change: Partial<LocalHostOptions> = {},
): Promise<OpenHost> {
  // Not below the person's temporary directory, which other uids may not enter.
  const directory = mkdtempSync('/var/tmp/senmon-test-')
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

/** Why sandboxes do not work here; undefined when they do. With REQUIRE_SANDBOX=bwrap that is a failure instead. */
export async function sandboxMissing(): Promise<string | undefined> {
  const { host, close } = await openHost(openLocalMachineHost)
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
