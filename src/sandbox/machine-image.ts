/**
 * The image that machines away from this computer's files are made of: where everything is in it, and how the
 * compartments inside start. They are the sandboxes of this computer, with the image's paths. images/machine makes it.
 */
import type { LockedStdioSkill } from '../../schema/lock.ts'
import type { Launch } from '../../schema/machine-plan.ts'
import { RUNNER_OPTIONS, SKILL_OPTIONS } from '../../schema/node-options.ts'
import { sandboxLaunch, type SandboxSpec } from './sandbox.ts'
import { assemble, denyProgram, type Arch } from './seccomp.ts'
import { SYSTEM_PATH } from './system-programs.ts'

export const MACHINE_IMAGE = {
  node: '/usr/local/bin/node',
  bwrap: '/usr/bin/bwrap',
  /** Of Node alone: what it loads, at the paths where it looks. */
  libraries: ['/senmon/root/lib', '/senmon/root/lib64'],
  supervisor: '/senmon/supervisor/main.mjs',
  runner: '/senmon/runner/main.mjs',
  /** What Node compiled of each beside it. */
  cache: 'cache',
  passwd: '/senmon/passwd',
  preload: '/senmon/preload.cjs',
  /** Of one machine alone, in memory; so are the three below it, each of a size of its own. */
  home: '/machine',
  workspace: '/machine/workspace',
  input: '/machine/input',
  /** Where packages of skills are restored to. */
  packages: '/machine/packages',
} as const

/** Uids of supervisors: systemd and the distributions leave these to nobody. Each has its compiled code in the image. */
export const MACHINE_UID_FIRST = 60_578
export const MACHINE_UIDS = 64

/** The runner; in the place of the image's own, JavaScript that imports nothing of ours. */
export function imageRunner(arch: Arch, script?: string): Launch {
  const cache = `/runner/${MACHINE_IMAGE.cache}`
  const its = (path: string): string => path.slice(0, path.lastIndexOf('/'))
  return sandboxLaunch(
    {
      ...specOf(arch),
      mounts: [{ source: its(MACHINE_IMAGE.runner), target: '/runner', writable: false }],
      cwd: '/tmp',
      command: [
        ...RUNNER_OPTIONS,
        ...(script === undefined ? ['/runner/main.mjs'] : ['--input-type=module', '--eval', script]),
      ],
      environment: { NODE_COMPILE_CACHE: cache, NODE_COMPILE_CACHE_PORTABLE: '1' },
    },
    '/',
  )
}

/** A skill whose packages are, or will be, in `directory` of the machine. */
export function imageSkill(arch: Arch, locked: LockedStdioSkill, directory: string): Launch {
  const isSystem = locked.programs === 'system'
  return sandboxLaunch(
    {
      ...specOf(arch),
      ...(isSystem ? { programs: SYSTEM_PROGRAMS } : {}),
      mounts: [
        { source: directory, target: '/skill', writable: false },
        { source: MACHINE_IMAGE.workspace, target: '/workspace', writable: true },
        { source: MACHINE_IMAGE.input, target: '/workspace/input', writable: false },
      ],
      cwd: '/workspace',
      command: [...SKILL_OPTIONS, `/skill/${locked.entry}`, ...locked.args],
      environment: { PATH: isSystem ? SYSTEM_PATH : '/opt:/usr/bin:/bin', SENMON_WORKSPACE: '/workspace' },
    },
    '/',
  )
}

const LINKS = ['bin', 'sbin', 'lib', 'lib64'].flatMap((name) => ['--symlink', `usr/${name}`, `/${name}`])
/** All of the image's /usr: nobody keeps anything of their own there. */
const SYSTEM_PROGRAMS: readonly string[] = ['--ro-bind', '/usr', '/usr', ...LINKS].concat(
  ['/etc/alternatives', '/etc/ld.so.cache'].flatMap((path) => ['--ro-bind-try', path, path]),
)

const NODE_ALONE: readonly string[] = MACHINE_IMAGE.libraries.flatMap((source) => [
  '--ro-bind',
  source,
  source.replace('/senmon/root', ''),
])

function specOf(arch: Arch): Omit<SandboxSpec, 'mounts' | 'cwd' | 'command' | 'environment'> {
  return {
    bwrap: MACHINE_IMAGE.bwrap,
    node: MACHINE_IMAGE.node,
    libraries: [],
    programs: NODE_ALONE,
    passwd: MACHINE_IMAGE.passwd,
    preload: MACHINE_IMAGE.preload,
    seccomp: assemble(denyProgram(arch)),
  }
}
