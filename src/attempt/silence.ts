/**
 * How long a machine may say nothing. A runner that lives says so every few seconds (P3.7), so a machine that is silent
 * for longer is stuck, whatever its processes look like.
 */
import type { Clock } from '../../schema/clock.ts'

export interface Silence {
  /** The machine said a line; `taken` resolves when we listen again, and until then the silence is ours. */
  broken(taken: Promise<void>): Promise<void>
  /** The machine said a line that was taken at once. */
  heard(): void
}

/** Calls `tooLong` once the machine has said nothing for `ms`, unless `over` aborts before. */
export function watchSilence(clock: Clock, ms: number, over: AbortSignal, tooLong: () => void): Silence {
  let heardAt = clock.now()
  let taking = 0
  const watch = async (): Promise<void> => {
    for (;;) {
      if (taking > 0) heardAt = clock.now()
      const left = heardAt + ms - clock.now()
      if (left <= 0) return tooLong()
      await clock.sleep(left, over)
    }
  }
  // Only `over` ends it early.
  watch().catch(() => {})
  return {
    heard() {
      heardAt = clock.now()
    },
    async broken(taken) {
      taking += 1
      try {
        await taken
      } finally {
        taking -= 1
        heardAt = clock.now()
      }
    },
  }
}
