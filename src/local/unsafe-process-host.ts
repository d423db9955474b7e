/**
 * Machines without any isolation: compartments are plain processes that see what their uid sees.
 * For a person who tries Senmon on a computer without a sandbox; never for experts of others.
 */
import { join } from 'node:path'
import type { MachineHost } from '../pool/machine-host.ts'
import { openSupervisedHost, type Launches, type LocalHostOptions } from './supervised-host.ts'

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
export async function openUnsafeProcessHost(options: LocalHostOptions): Promise<MachineHost> {
  const host = await openSupervisedHost(options, launches)
  options.log.warn('Machines run as plain processes, without isolation: install bubblewrap to protect this computer.')
  return {
    name: 'unsafe-process',
    // There is nothing to probe: it runs wherever Node runs, and protects nowhere.
    probe: () => Promise.resolve({ ok: true }),
    open: (_owner, lock) => host.open(lock),
    close: () => host.close(),
  }
}
