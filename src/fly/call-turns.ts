/**
 * When it is our turn to ask Fly. It counts each action by machine, which one process of ours minds at a time, and orders and
 * lists by app, where all processes ask: these turns are theirs together.
 *
 * FT1 Orders and lists of an app, by however many processes, are never more than Fly allows, whoever stood still when.
 * FT2 Where nobody knows whose turn it is, nothing is asked.
 */
import type { Clock } from '../../schema/clock.ts'
import { ProviderError } from '../pool/machine-provider.ts'
import type { TurnRate } from '../pool/turn.ts'
import { openTurns, type TurnStore } from '../pool/turns.ts'
import type { FlyVerb } from './fault.ts'

/** Fly allows one call a second and three at once for each action and machine; its clock is not ours. */
export const CALLS: TurnRate = { perSecond: 0.9, burst: 3 }
/** The same for looking at a machine: five a second, ten at once. */
export const LOOKS: TurnRate = { perSecond: 4.5, burst: 9 }
/**
 * Fly allows as many to an app as to a machine. One of the three at once is kept for those that come late: with a burst of
 * 2, turns that are used up to `LATE_MS_MAX` after they began are at most 2 + 0.9 (t + 0.5) in any t seconds, below 3 + t.
 */
export const APP_CALLS: TurnRate = { perSecond: 0.9, burst: 2 }
/** A turn that was not used by then is over: whoever stood still takes another. */
export const LATE_MS_MAX = 500
/** A call whose turn comes later than this is refused as throttled, so that nobody waits without a word. */
const TURN_MS_MAX = 3_000

export interface CallTurnsDependencies {
  /** Of all processes that ask with the same apps. */
  readonly turns: TurnStore
  readonly clock: Clock
}

/** Resolves when it is our turn, which is now or never. Throws `ProviderError`, `throttled`. */
export type CallTurns = (verb: FlyVerb, subject: string) => Promise<void>

export function openCallTurns({ turns, clock }: CallTurnsDependencies): CallTurns {
  const own = openTurns(clock)

  return async (verb, subject) => {
    const isOfApp = verb === 'create' || verb === 'list'
    const [store, rate] = isOfApp ? [turns, APP_CALLS] : [own, verb === 'look' ? LOOKS : CALLS]
    const until = clock.now() + TURN_MS_MAX
    for (;;) {
      const askedAt = clock.now()
      const waitMs = await store.take(`fly ${verb} ${subject}`, rate, until - askedAt).catch((cause: unknown) => {
        throw new ProviderError('throttled', `It is not known whose turn it is to ask Fly for ${verb} of ${subject}.`, {
          cause,
        })
      })
      if (waitMs === undefined) throw new ProviderError('throttled', `${verb} of ${subject} is asked too often.`)
      if (waitMs > 0) await clock.sleep(waitMs)
      const lateMs = clock.now() - askedAt - waitMs
      if (lateMs >= 0 && lateMs <= LATE_MS_MAX) return
    }
  }
}
