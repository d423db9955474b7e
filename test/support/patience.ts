/** Waiting for what sockets, files and other processes bring about: for as long as the test may take, and no shorter. */
import { setTimeout as sleep } from 'node:timers/promises'

/** Looks until it holds, `everyMs` apart. */
export async function until(holds: () => boolean | Promise<boolean>, everyMs = 2): Promise<void> {
  while (!(await holds())) await sleep(everyMs)
}
