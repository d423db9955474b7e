/**
 * What a program leaves behind before its job comes: given back, since a machine may wait for long and many wait beside
 * it. Nothing but memory depends on it; a Node that was started without `--expose-gc` keeps it.
 */
import { queryObjects, setFlagsFromString } from 'node:v8'

/** After priming. */
export function collectGarbage(): void {
  globalThis.gc?.({ type: 'major', execution: 'sync', flavor: 'last-resort' })
}

/**
 * Before priming: of what has been compiled by then, most ran once and made the program ready. What the job takes is
 * compiled again by priming, and stays.
 */
export function forgetBeginning(collect: () => void = collectGarbage): void {
  setFlagsFromString('--stress-flush-code')
  collect()
  setFlagsFromString('--no-stress-flush-code')
}

/** For where a heap is built, under the options that it is begun with: V8 collects garbage before it looks for objects, here of none. */
export function collectByLooking(): void {
  queryObjects(collectByLooking)
}
