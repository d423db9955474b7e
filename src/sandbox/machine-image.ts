/**
 * How compartments start in a machine of the image, wherever it runs: the same sandboxes as on this computer, with the
 * image's paths. Pure.
 */
import type { LockedStdioSkill } from '../../schema/lock.ts'
import { cacheEnvironment, imagePaths, type ImageFacts } from '../../schema/machine-image.ts'
import { SKILL_LIMITS, type Launch, type MachinePlan } from '../../schema/machine-plan.ts'
import { RUNNER_OPTIONS, SKILL_OPTIONS } from '../../schema/node-options.ts'
import { sandboxLaunch, type SandboxSpec } from './sandbox.ts'
import { assemble, denyProgram } from './seccomp.ts'
import { SYSTEM_PATH } from './system-programs.ts'

/** A compartment's own names: what a skill asks for under them it does not get. */
const OWN_NAMES = new Set(['PATH', 'SENMON_WORKSPACE'])

/** Of a machine whose job is not known; `runner` in the place of the image's own. */
export function imagePlan(image: ImageFacts, runner: Launch = imageRunner(image)): MachinePlan {
  const { workspace, input } = imagePaths(image)
  return { workspace, input, runner, skillLimits: SKILL_LIMITS }
}

/** The runner; in the place of the image's own, JavaScript that imports nothing of ours. */
export function imageRunner(image: ImageFacts, script?: string): Launch {
  const paths = imagePaths(image)
  const program = script === undefined ? ['/runner/main.mjs'] : ['--input-type=module', '--eval', script]
  return launch(image, nodeAlone(image), {
    mounts: [{ source: paths.directory('runner'), target: '/runner', writable: false }],
    cwd: '/tmp',
    command: [...RUNNER_OPTIONS, ...program],
    environment: cacheEnvironment('/runner/cache'),
  })
}

/** A skill whose packages are, or will be, in `directory` of the machine. */
export function imageSkill(image: ImageFacts, locked: LockedStdioSkill, directory: string): Launch {
  const isSystem = locked.programs === 'system'
  const { workspace, input } = imagePaths(image)
  return launch(image, isSystem ? SYSTEM_PROGRAMS : nodeAlone(image), {
    mounts: [
      { source: directory, target: '/skill', writable: false },
      { source: workspace, target: '/workspace', writable: true },
      // Always there: a mount point in a directory that the skill can write cannot be moved away from inside.
      { source: input, target: '/workspace/input', writable: false },
    ],
    cwd: '/workspace',
    command: [...SKILL_OPTIONS, `/skill/${locked.entry}`, ...locked.args],
    environment: { PATH: isSystem ? SYSTEM_PATH : '/opt:/usr/bin:/bin', SENMON_WORKSPACE: '/workspace' },
  })
}

/** Names of secrets that its compartment gets. */
export function secretsOf({ requiredEnv }: LockedStdioSkill): readonly string[] {
  return requiredEnv.filter((name) => !OWN_NAMES.has(name))
}

const LINKS = ['bin', 'sbin', 'lib', 'lib64'].flatMap((name) => ['--symlink', `usr/${name}`, `/${name}`])
/** All of the image's /usr: nobody keeps anything of their own there. */
const SYSTEM_PROGRAMS: readonly string[] = ['--ro-bind', '/usr', '/usr', ...LINKS].concat(
  ['/etc/alternatives', '/etc/ld.so.cache'].flatMap((path) => ['--ro-bind-try', path, path]),
)

const nodeAlone = (image: ImageFacts): readonly string[] =>
  ['lib', 'lib64'].flatMap((name) => ['--ro-bind', `${imagePaths(image).libraries}/${name}`, `/${name}`])

function launch(
  image: ImageFacts,
  programs: readonly string[],
  own: Pick<SandboxSpec, 'mounts' | 'cwd' | 'command' | 'environment'>,
): Launch {
  const { passwd, preload } = imagePaths(image)
  const { arch, bwrap, node } = image
  return sandboxLaunch(
    { bwrap, node, libraries: [], programs, passwd, preload, seccomp: assemble(denyProgram(arch)), ...own },
    '/',
  )
}
