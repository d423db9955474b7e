/**
 * The options under which Node runs in a machine, the same on every host. Those of V8 are part of what Node compares
 * before it takes what was compiled earlier, so a bundle is compiled under those that it runs under.
 */

/** Memory in MB that a program's own objects may take; what ends one that wants more is Node itself, in words. */
const heap = (megabytes: number): string => `--max-old-space-size=${megabytes}`
/** For what priming leaves behind, before a machine waits. */
const GARBAGE = '--expose-gc'

export const RUNNER_OPTIONS: readonly string[] = [heap(512), GARBAGE]
export const SUPERVISOR_OPTIONS: readonly string[] = [heap(1024), GARBAGE]
export const SKILL_OPTIONS: readonly string[] = [heap(512)]

/** Of a program that begins with a heap: it has been primed, and V8 would make `gc` anew in each, which takes two milliseconds. */
export function heapOptions(options: readonly string[]): readonly string[] {
  return options.filter((option) => option !== GARBAGE)
}
