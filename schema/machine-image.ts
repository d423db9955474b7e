/**
 * The image of machines that have none of the control plane's files, as containers or elsewhere: what is where in it.
 * `runner/image` makes it; the control plane says by it how compartments start.
 */

/** One image as one machine has it. */
export interface ImageFacts {
  readonly arch: 'x64' | 'arm64'
  readonly node: string
  readonly bwrap: string
  /** What is in it of ours. */
  readonly files: string
  /** A directory of this machine alone, which whoever runs the supervisor can write. */
  readonly home: string
}

/** Where they are in the image that the Dockerfile makes. */
export const IMAGE: Omit<ImageFacts, 'arch'> = {
  node: '/usr/local/bin/node',
  bwrap: '/usr/bin/bwrap',
  files: '/senmon',
  home: '/machine',
}

/** Programs that are bundled in the image, each in a directory with what Node compiled of it. */
export type ImageProgram = 'machine' | 'supervisor' | 'runner'

/** Uids of supervisors in containers: systemd and the distributions leave these to nobody. */
export const CONTAINER_UIDS = { first: 60_578, count: 64 } as const
/** Whom the supervisor runs as in a machine whose first process is root: one more of them. */
export const SUPERVISOR_UID: number = CONTAINER_UIDS.first + CONTAINER_UIDS.count

/** Everything else follows. */
export function imagePaths({ files, home }: Pick<ImageFacts, 'files' | 'home'>) {
  return {
    bundle: (program: ImageProgram): string => `${files}/${program}/main.mjs`,
    directory: (program: ImageProgram): string => `${files}/${program}`,
    /** What Node compiled, for the uids that run the program. */
    cache: (program: ImageProgram): string => `${files}/${program}/cache`,
    passwd: `${files}/passwd`,
    preload: `${files}/preload.cjs`,
    /** What Node loads, below `lib` and `lib64` as its loader looks for it: all that a compartment with Node alone sees. */
    libraries: `${files}/root`,
    workspace: `${home}/workspace`,
    input: `${home}/input`,
    /** Packages of skills are restored here. */
    packages: `${home}/packages`,
  }
}

/** The environment under which Node finds what it compiled. */
export function cacheEnvironment(cache: string): Readonly<Record<string, string>> {
  return { NODE_COMPILE_CACHE: cache, NODE_COMPILE_CACHE_PORTABLE: '1' }
}
