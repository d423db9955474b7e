/** A fault: one small change to a source that makes a guarantee untrue, and the tests that must fail for it. */

export interface Fault {
  /** What is wrong once it is planted, in the present tense. */
  readonly name: string
  /** The source, from the repository's root. */
  readonly file: string
  /** Text that stands in the source exactly once. */
  readonly find: string
  readonly replace: string
  /** Tests, files or folders, of which at least one must fail. */
  readonly tests: readonly string[]
  /** The suite of the tests; default `core`, which is quicker. */
  readonly suite?: 'core' | 'whole'
}

/** The source with the fault in it. Throws when the text to replace does not stand there once, or nothing changes. */
export function plant(fault: Fault, source: string): string {
  const times = source.split(fault.find).length - 1
  if (times !== 1) throw new Error(`"${fault.name}": its text stands ${times} times in ${fault.file}, not once`)
  if (fault.find === fault.replace) throw new Error(`"${fault.name}" changes nothing`)
  return source.replace(fault.find, () => fault.replace)
}

/** What vitest's report says of a run, as far as the verdict needs it. */
export interface Outcome {
  readonly passed: number
  readonly failed: number
  /** It was ended because it took too long: a fault may make a test wait for ever. */
  readonly hung: boolean
  /** The source with the fault was read while the tests ran. */
  readonly wasRead: boolean
}

export type Verdict = 'caught' | 'survived' | 'ran no test' | 'was not read'

/**
 * A file that no longer loads proves nothing: only a test that ran and failed, or hung, has caught a fault. Nor does a run
 * that did without the fault, with a build that was made before.
 */
export function verdictOf({ passed, failed, hung, wasRead }: Outcome): Verdict {
  if (!wasRead) return 'was not read'
  if (hung || failed > 0) return 'caught'
  return passed > 0 ? 'survived' : 'ran no test'
}
