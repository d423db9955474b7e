/** The shape of time and chance; each main.ts makes it real, tests drive it. */

export interface Clock {
  /** Epoch milliseconds. */
  now(): number
  /** Resolves after `ms`, or rejects with the signal's reason. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>
}

export interface Chance {
  /** `count` unpredictable bytes. */
  bytes(count: number): Uint8Array
}
