/**
 * What a host tells a machine's supervisor beside the lines of the control plane: where its directories are and how its
 * compartments start. It names no secret. The plan is there before any job is known, the skills come with the job.
 * The host knows sandboxes, the supervisor knows lines; this is all that passes between them.
 */
import type { Sha256 } from './hash.ts'

/** Bytes that a starting process reads from a descriptor of its own, which is then closed. */
export type Feed =
  | { readonly fd: number; readonly type: 'bytes'; readonly base64: string }
  /** NUL-separated options; a compartment's environment joins them, so that no value shows on a command line. */
  | { readonly fd: number; readonly type: 'options'; readonly options: readonly string[] }

/** How to start one compartment. Its own environment is empty but for `environment`. */
export interface Launch {
  readonly file: string
  readonly args: readonly string[]
  /** Where the launcher itself starts, as the host sees it. */
  readonly cwd: string
  /** Without a feed of options, names and values reach the process directly. */
  readonly feeds: readonly Feed[]
  readonly environment: Readonly<Record<string, string>>
  /** Lead a process group and end it as a whole: for a launcher that does not hold its descendants. */
  readonly ownGroup: boolean
}

/** The bytes of a feed, for a compartment with this environment. */
export function bytesOf(feed: Feed, environment: Readonly<Record<string, string>>): Buffer {
  if (feed.type === 'bytes') return Buffer.from(feed.base64, 'base64')
  const set = Object.entries(environment).flatMap(([name, value]) => ['--setenv', name, value])
  return Buffer.from([...feed.options, ...set].map((option) => `${option}\0`).join(''))
}

/** What a process starts with as its environment: nothing, where it is fed by a descriptor. */
export function environmentOf(
  launch: Launch,
  environment: Readonly<Record<string, string>>,
): Readonly<Record<string, string>> {
  return launch.feeds.some(({ type }) => type === 'options') ? {} : environment
}

export interface SkillLaunch {
  readonly expertKey: string
  readonly skill: string
  /** Names of secrets that the compartment gets besides. */
  readonly requiredEnv: readonly string[]
  readonly launch: Launch
  /**
   * A file in which the kernel counts how many of the compartment's processes it ended for their memory (`oom_kill n`):
   * there it keeps all of them to what a skill may use. Absent where nothing but the supervisor does.
   */
  readonly memoryEnds?: string
  /** What the compartment finds its packages in; absent where the host has put them there. */
  readonly packages?: PackageContent
}

/** Files that the supervisor restores from content before the compartment starts (P7.15). */
export interface PackageContent {
  readonly treeHash: Sha256
  /** In a directory of the machine alone; the same for the same content. */
  readonly directory: string
}

/** What one skill may use with all its processes. */
export interface SkillLimits {
  readonly processes: number
  readonly memoryBytes: number
}

export const SKILL_LIMITS: SkillLimits = { processes: 256, memoryBytes: 2 * 1024 * 1024 * 1024 }

/** How to start the skills of the job that follows; said once, by the host, before `start` (P2.7). */
export interface SkillsLine {
  readonly type: 'skills'
  readonly skills: readonly SkillLaunch[]
}

/**
 * Where a supervisor finds a runner that has been begun beside it: its stdin, stdout and stderr, and its keeper, which
 * ends it when this descriptor is closed, and writes how it ended as half a sentence.
 */
export const RUNNER_FDS = { input: 3, output: 4, errors: 5, keeper: 6 } as const

export interface MachinePlan {
  /** Directories of this machine alone, as the supervisor sees them. */
  readonly workspace: string
  readonly input: string
  readonly runner: Launch
  readonly skillLimits: SkillLimits
  /**
   * The host has started the runner beside the supervisor, which has it at `RUNNER_FDS`; left out, the supervisor starts it.
   */
  readonly isRunnerBegun?: boolean
  /** False for a machine whose job waits already: left out, it makes itself ready for any (P3.8). */
  readonly primes?: boolean
}
