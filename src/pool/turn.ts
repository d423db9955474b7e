/** How often something may be asked, and when it is whose turn: by one number for each thing that is asked. Pure. */

export interface TurnRate {
  /** Turns each second. */
  readonly perSecond: number
  /** Turns at once, after a rest. */
  readonly burst: number
}

/** Ms from one turn to the next, where all are taken. */
export function turnMs({ perSecond }: TurnRate): number {
  return 1000 / perSecond
}

/**
 * The next turn is in `waitMs`, at once when that is 0. `freeAt` says until when turns are taken, epoch ms; undefined for
 * nobody's yet. It is a bucket of tokens (the generic cell rate algorithm, ITU-T I.371).
 */
export function takeTurn(
  freeAt: number | undefined,
  rate: TurnRate,
  now: number,
): { readonly freeAt: number; readonly waitMs: number } {
  const next = Math.max(freeAt ?? 0, now) + turnMs(rate)
  return { freeAt: next, waitMs: Math.max(0, Math.ceil(next - rate.burst * turnMs(rate) - now)) }
}
