/** How compartments are started in an image: the same sandboxes as on this computer, with the paths of the image. Pure. */
import type { Lock, LockedStdioSkill } from '../../schema/lock.ts'
import type { ImageFacts } from '../../schema/machine-link.ts'
import { SKILL_LIMITS, type Launch, type MachinePlan, type SkillsLine } from '../../schema/machine-plan.ts'
import { RUNNER_OPTIONS, SKILL_OPTIONS } from '../../schema/node-options.ts'
import { sandboxLaunch, type Mount, type SandboxSpec } from '../sandbox/sandbox.ts'
import { assemble, denyProgram } from '../sandbox/seccomp.ts'
import { SYSTEM_PATH } from '../sandbox/system-programs.ts'

/** A compartment's own names: what a skill asks for under them it does not get. */
const OWN_NAMES = new Set(['PATH', 'SENMON_WORKSPACE'])

export function imagePlan(image: ImageFacts): MachinePlan {
  return {
    workspace: image.workspace,
    input: image.input,
    skillLimits: SKILL_LIMITS,
    runner: sandboxLaunch(
      {
        ...specOf(image),
        mounts: [{ source: image.runner, target: '/runner/main.mjs', writable: false }],
        cwd: '/tmp',
        command: [...RUNNER_OPTIONS, '/runner/main.mjs'],
        environment: {},
      },
      image.place,
    ),
  }
}

/** The skills of a lock that run in a machine; `packageOf` names the package of each. */
export function imageSkills(image: ImageFacts, lock: Lock, packageOf: (skill: LockedStdioSkill) => string): SkillsLine {
  const skills = stdioSkills(lock).map(({ expertKey, skill, locked }) => ({
    expertKey,
    skill,
    requiredEnv: locked.requiredEnv.filter((name) => !OWN_NAMES.has(name)),
    launch: skillLaunch(image, locked, `${image.packages}/${packageOf(locked)}`),
  }))
  return { type: 'skills', skills }
}

export function stdioSkills(
  lock: Lock,
): readonly { readonly expertKey: string; readonly skill: string; readonly locked: LockedStdioSkill }[] {
  return Object.values(lock.experts).flatMap((expert) =>
    Object.entries(expert.skills).flatMap(([skill, locked]) =>
      locked.type === 'mcpStdioSkill' ? [{ expertKey: expert.key, skill, locked }] : [],
    ),
  )
}

function skillLaunch(image: ImageFacts, locked: LockedStdioSkill, directory: string): Launch {
  const isSystem = locked.programs === 'system'
  const mounts: readonly Mount[] = [
    { source: directory, target: '/skill', writable: false },
    { source: image.workspace, target: '/workspace', writable: true },
    // Always there: a mount point in a directory that the skill can write cannot be moved away from inside.
    { source: image.input, target: '/workspace/input', writable: false },
  ]
  const inRoots = (path: string): boolean => image.roots.some((root) => path.startsWith(`${root.path}/`))
  return sandboxLaunch(
    {
      ...specOf(image),
      ...(isSystem ? { programs: programsOf(image), libraries: image.libraries.filter((path) => !inRoots(path)) } : {}),
      mounts,
      cwd: '/workspace',
      command: [...SKILL_OPTIONS, `/skill/${locked.entry}`, ...locked.args],
      environment: { PATH: isSystem ? SYSTEM_PATH : '/opt:/usr/bin:/bin', SENMON_WORKSPACE: '/workspace' },
    },
    image.place,
  )
}

function specOf(image: ImageFacts): Omit<SandboxSpec, 'mounts' | 'cwd' | 'command' | 'environment'> {
  return {
    bwrap: image.bwrap,
    node: image.node,
    libraries: image.libraries,
    programs: [],
    passwd: image.passwd,
    preload: image.preload,
    seccomp: assemble(denyProgram(image.arch)),
  }
}

function programsOf({ roots, settings }: ImageFacts): readonly string[] {
  return [
    ...roots.flatMap(({ path, link }) => (link === null ? ['--ro-bind', path, path] : ['--symlink', link, path])),
    ...settings.flatMap((path) => ['--ro-bind', path, path]),
  ]
}
