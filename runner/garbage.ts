/**
 * What a program leaves behind before its job comes: given back, since a machine may wait for long and many wait beside
 * it. Nothing but memory depends on it; a Node that was started without `--expose-gc` keeps it.
 */
import { setFlagsFromString } from 'node:v8'

/** After priming. */
export function collectGarbage(): void {
  globalThis.gc?.({ type: 'major', execution: 'sync', flavor: 'last-resort' })
}

/**
 * Before priming: of what has been compiled by then, most ran once and made the program ready. What the job takes is
 * compiled again by priming, and stays.
 */
export function forgetBeginning(): void {
  setFlagsFromString('--stress-flush-code')
  collectGarbage()
  setFlagsFromString('--no-stress-flush-code')
}
