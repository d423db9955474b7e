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
  /** All that went wrong is that time ran out, for a test or for the run: a fault may make either wait for ever. */
  readonly isLate: boolean
  /** The source with the fault was read while the tests ran. */
  readonly wasRead: boolean
}

/** `undecided`: time ran out, and perhaps not by the fault. */
export type Verdict = 'caught' | 'survived' | 'ran no test' | 'was not read' | 'undecided'

/**
 * A file that no longer loads proves nothing: only a test that ran and failed has caught a fault. Nor does a run that did
 * without the fault, with a build that was made before. Where time ran out, `confirmedBy` decides.
 */
export function verdictOf({ passed, failed, isLate, wasRead }: Outcome): Verdict {
  if (!wasRead) return 'was not read'
  if (isLate) return 'undecided'
  if (failed > 0) return 'caught'
  return passed > 0 ? 'survived' : 'ran no test'
}

/** The verdict on a fault with which time ran out, from the same tests in the same time without it. */
export function confirmedBy({ passed, failed, isLate }: Outcome): Verdict {
  return passed > 0 && failed === 0 && !isLate ? 'caught' : 'undecided'
}

/** In milliseconds. */
export interface Limits {
  /** For one test; it holds for those that name no limit of their own. */
  readonly testMs: number
  readonly runMs: number
}

/** For tests, files or folders, by how long each file took without any fault, in milliseconds. */
export function limitsOf(tests: readonly string[], tookMs: ReadonlyMap<string, number>): Limits {
  const isAsked = (file: string): boolean => tests.some((test) => file === test || file.startsWith(`${test}/`))
  const took = [...tookMs].reduce((sum, [file, ms]) => (isAsked(file) ? sum + ms : sum), 0)
  // Generous, since who waits for nothing is not slowed by it; and a machine may be busier than it was.
  const testMs = 15_000 + 3 * took
  return { testMs, runMs: 20_000 + testMs }
}
