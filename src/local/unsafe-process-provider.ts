/**
 * Machines without any isolation: compartments are plain processes that see what their uid sees.
 * For a person who tries Senmon on a computer without a sandbox; never for experts of others.
 */
import { join } from 'node:path'
import type { MachineProvider } from '../pool/machine-provider.ts'
import { openLocalProvider } from './local-provider.ts'
import { openSupervisedHost, type Launches, type LocalHostOptions } from './supervised-host.ts'

const WARNING = 'Machines run as plain processes, without isolation: install bubblewrap to protect this computer.'
const plain = { feeds: [], ownGroup: true } as const

const launches: Launches = {
  runner: (slot, runtime, bundle) => ({
    ...plain,
    file: runtime.node,
    args: [bundle],
    cwd: slot.directory,
    environment: {},
  }),
  skill: (slot, runtime, { directory, locked }) => ({
    ...plain,
    file: runtime.node,
    args: [join(directory, locked.entry), ...locked.args],
    cwd: slot.workspace,
    environment: { PATH: '/usr/local/bin:/usr/bin:/bin', SENMON_WORKSPACE: slot.workspace },
  }),
  input: (slot) => join(slot.workspace, 'input'),
}

/** The name says it: nothing here protects this computer. Warns in the log. */
export async function openUnsafeProcessProvider(options: LocalHostOptions, place: string): Promise<MachineProvider> {
  const host = await openSupervisedHost(options, launches)
  options.log.warn(WARNING)
  return openLocalProvider({
    name: 'unsafe-process',
    host,
    place,
    probe: () => Promise.resolve({ ok: true }),
    clock: options.clock,
  })
}
