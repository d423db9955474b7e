/** How much may pass in a time: for whoever relays what others write. */

/** Lets `perSecond` through on average and `burst` at once; units are the caller's. */
export class Rate {
  readonly #perSecond: number
  readonly #burst: number
  #tokens: number
  #at: number

  constructor(perSecond: number, burst: number, nowMs: number) {
    this.#perSecond = perSecond
    this.#burst = burst
    this.#tokens = burst
    this.#at = nowMs
  }

  /** False when these are too many; they are then not taken. */
  take(nowMs: number, count = 1): boolean {
    const refill = (Math.max(0, nowMs - this.#at) * this.#perSecond) / 1000
    this.#tokens = Math.min(this.#burst, this.#tokens + refill)
    this.#at = nowMs
    if (this.#tokens < count) return false
    this.#tokens -= count
    return true
  }
}
