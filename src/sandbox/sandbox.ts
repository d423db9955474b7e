/**
 * The options of bubblewrap for one compartment: what it sees, and that it sees nothing else.
 * The options travel by a descriptor, never on the command line, where every process could read them.
 */
import type { Feed, Launch } from '../../schema/machine-plan.ts'

export interface Mount {
  readonly source: string
  readonly target: string
  readonly writable: boolean
}

export interface SandboxSpec {
  readonly bwrap: string
  /** The Node binary, as the host sees it. */
  readonly node: string
  /** Shared objects that Node loads: they are seen at the paths where the host has them. */
  readonly libraries: readonly string[]
  /** Options that show the programs of the system; [] for a compartment that has Node alone. */
  readonly programs: readonly string[]
  /** CommonJS that Node runs first: it takes away PWD, which bubblewrap sets whatever it is told. */
  readonly preload: string
  /** A passwd file that gives uid 1000 a name and /tmp as its home. */
  readonly passwd: string
  readonly mounts: readonly Mount[]
  readonly cwd: string
  /** What Node runs, as the compartment sees it. */
  readonly command: readonly string[]
  readonly environment: Readonly<Record<string, string>>
  /** The assembled filter; opened afresh for every start. */
  readonly seccomp: Uint8Array
}

export const NODE_INSIDE = '/opt/node'
const PRELOAD_INSIDE = '/opt/preload.cjs'
/** Whom the processes of every sandbox run as, as they see it themselves. */
export const SANDBOX_UID = 1000
const OPTIONS_FD = 3
const SECCOMP_FD = 4
const TMP_BYTES = 64 * 1024 * 1024
const SHM_BYTES = 16 * 1024 * 1024

/** Every compartment's options but its mounts; their order is the order in which bubblewrap acts. */
function sandboxOptions(spec: SandboxSpec): readonly string[] {
  const bind = ({ source, target, writable }: Mount) => [writable ? '--bind' : '--ro-bind', source, target]
  return [
    ['user', 'pid', 'ipc', 'uts', 'cgroup', 'net'].map((namespace) => `--unshare-${namespace}`),
    ['--disable-userns', '--die-with-parent', '--new-session', '--cap-drop', 'ALL'],
    ['--hostname', 'senmon', '--uid', `${SANDBOX_UID}`, '--gid', `${SANDBOX_UID}`, '--clearenv'],
    spec.programs,
    spec.libraries.flatMap((path) => ['--ro-bind', path, path]),
    ['--proc', '/proc', '--remount-ro', '/proc'],
    ['--dev', '/dev', '--perms', '1777', '--size', `${SHM_BYTES}`, '--tmpfs', '/dev/shm', '--remount-ro', '/dev'],
    ['--perms', '1777', '--size', `${TMP_BYTES}`, '--tmpfs', '/tmp'],
    ['--ro-bind', spec.passwd, '/etc/passwd', '--ro-bind', spec.node, NODE_INSIDE],
    ['--ro-bind', spec.preload, PRELOAD_INSIDE],
    spec.mounts.flatMap(bind),
    ['--remount-ro', '/', '--chdir', spec.cwd],
    ['--seccomp', `${SECCOMP_FD}`],
  ].flat()
}

/** How a supervisor starts the compartment; `cwd` is a directory of the host where bubblewrap itself starts. */
export function sandboxLaunch(spec: SandboxSpec, cwd: string): Launch {
  const feeds: readonly Feed[] = [
    { fd: OPTIONS_FD, type: 'options', options: sandboxOptions(spec) },
    { fd: SECCOMP_FD, type: 'bytes', base64: Buffer.from(spec.seccomp).toString('base64') },
  ]
  return {
    file: spec.bwrap,
    args: ['--args', `${OPTIONS_FD}`, '--', NODE_INSIDE, '--require', PRELOAD_INSIDE, ...spec.command],
    cwd,
    feeds,
    environment: spec.environment,
    ownGroup: false,
  }
}
