/**
 * What priming leaves behind: given back before a machine waits, since it may wait for long and many wait beside it.
 * Nothing but memory depends on it; a Node that was started without `--expose-gc` keeps it.
 */
export function collectGarbage(): void {
  globalThis.gc?.({ type: 'major', execution: 'sync', flavor: 'last-resort' })
}
