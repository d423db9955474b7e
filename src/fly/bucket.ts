/** How often something may be asked: a bucket of tokens that fills as time passes. Pure. */

export interface Rate {
  /** Tokens each second. */
  readonly perSecond: number
  /** Tokens when it is full. */
  readonly burst: number
}

export interface Bucket {
  readonly tokens: number
  /** Epoch ms at which it had them. */
  readonly at: number
}

/** Fly allows one call a second and a burst of three for each action and machine, or app; its clock is not ours. */
export const CALLS: Rate = { perSecond: 0.9, burst: 3 }
/** The same for looking at a machine: five a second, ten at once. */
export const LOOKS: Rate = { perSecond: 4.5, burst: 9 }

/** Takes a token: at once when `waitMs` is 0, else the caller's turn is in `waitMs`, and the token is taken already. */
export function takeToken(
  bucket: Bucket | undefined,
  { perSecond, burst }: Rate,
  now: number,
): { readonly bucket: Bucket; readonly waitMs: number } {
  const filled = bucket === undefined ? burst : Math.min(burst, bucket.tokens + ((now - bucket.at) * perSecond) / 1000)
  const tokens = filled - 1
  return { bucket: { tokens, at: now }, waitMs: tokens >= 0 ? 0 : Math.ceil((-tokens / perSecond) * 1000) }
}

/** Whether it is as good as new, so that it need not be kept. */
export function isFull({ tokens, at }: Bucket, { perSecond, burst }: Rate, now: number): boolean {
  return tokens + ((now - at) * perSecond) / 1000 >= burst
}
