/**
 * How a program of a machine begins: by itself, or as a heap, which is what Node has in memory once the program has been
 * read and has made itself ready. A process that begins with a heap reads no source and compiles nothing again.
 */
import { startupSnapshot } from 'node:v8'
import type { Clock } from '../schema/clock.ts'
import { collectByLooking, forgetBeginning } from './garbage.ts'

/**
 * Runs `main`. While Node builds a heap (`--build-snapshot`), makes ready instead, and leaves `main` to whoever begins
 * with it. `ready` must leave nothing open, and nothing that must differ between two processes. What was compiled before is in no
 * heap: most of it ran once, and whoever begins with the heap would read it each time.
 */
export function begin(main: () => void, ready: () => Promise<void>): void {
  if (!startupSnapshot.isBuildingSnapshot()) return main()
  forgetBeginning(collectByLooking)
  ready().then(
    () => startupSnapshot.setDeserializeMainFunction(main),
    (error: unknown) => {
      throw error
    },
  )
}

/** For making ready in a heap: a timer would stay open, and whoever waits for one here waits for a deadline. */
export const timeless: Clock = { now: () => 0, sleep: () => new Promise(() => {}) }
