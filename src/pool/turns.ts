/** Turns at what may be asked so often, as far as one process knows, or all of them together. */
import type { Clock } from '../../schema/clock.ts'
import { takeTurn, type TurnRate } from './turn.ts'

/** Port: whoever asks at its turn, and no later than a moment after it, asks as often as the rate says, all of them together. */
export interface TurnStore {
  /**
   * Takes the next turn at `subject`, and gives in how many ms from now it is; undefined, with none taken, when it is later
   * than `waitMsMax`. Throws when nobody knows whose turn it is: then it is nobody's.
   */
  take(subject: string, rate: TurnRate, waitMsMax: number): Promise<number | undefined>
}

const SUBJECTS_MAX = 10_000

/** Of this process alone. */
export function openTurns(clock: Pick<Clock, 'now'>): TurnStore {
  /** Until when turns are taken; what was asked for least lately first. */
  const taken = new Map<string, number>()
  return {
    async take(subject, rate, waitMsMax) {
      const now = clock.now()
      const { freeAt, waitMs } = takeTurn(taken.get(subject), rate, now)
      if (waitMs > waitMsMax) return undefined
      taken.delete(subject)
      taken.set(subject, freeAt)
      if (taken.size > SUBJECTS_MAX)
        for (const [oldest, until] of taken) {
          if (until <= now) taken.delete(oldest)
          if (taken.size <= SUBJECTS_MAX) break
        }
      return waitMs
    },
  }
}
