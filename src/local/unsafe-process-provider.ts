/**
 * Machines without any isolation: compartments are plain processes that see what their uid sees.
 * For a person who tries Senmon on a computer without a sandbox; never for experts of others.
 */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { RUNNER_OPTIONS, SKILL_OPTIONS } from '../../schema/node-options.ts'
import type { MachineProvider } from '../pool/machine-provider.ts'
import { openLocalProvider } from './local-provider.ts'
import { openSupervisedHost, SETPRIV_PATHS, type Launches, type LocalHostOptions } from './supervised-host.ts'

const WARNING = 'Machines run as plain processes, without isolation: install bubblewrap to protect this computer.'
const plain = { feeds: [], ownGroup: true } as const

/** It ends with its supervisor even while it is stopped: nothing else would end it when the server is gone. */
function mortal(file: string, args: readonly string[]): { readonly file: string; readonly args: readonly string[] } {
  const setpriv = SETPRIV_PATHS.find((path) => existsSync(path))
  return setpriv === undefined ? { file, args } : { file: setpriv, args: ['--pdeathsig', 'KILL', '--', file, ...args] }
}

const launches: Launches = {
  runner: (slot, runtime, bundle, isAwaited) => ({
    ...plain,
    ...mortal(runtime.node, [...RUNNER_OPTIONS, bundle, ...(isAwaited ? ['--unprimed'] : [])]),
    cwd: slot.directory,
    environment: {},
  }),
  skill: (slot, runtime, { directory, locked }) => ({
    ...plain,
    ...mortal(runtime.node, [...SKILL_OPTIONS, join(directory, locked.entry), ...locked.args]),
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
