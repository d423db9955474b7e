/**
 * What this process says to the others of its database, and when. Each time is a transaction, so one that is alone says
 * little. Processes find each other by what they say: there is no list of them.
 *
 * N1 While another was heard within ALONE_MS, what is due is said at once, and once in GAP_MS at most; in URGENT_GAP_MS
 *    where somebody is kept waiting by it.
 * N2 One that is alone says what is due once in ALONE_GAP_MS at most; whoever it then hears is told all of it at once.
 * N3 Something is said with every new connection, and again within HELLO_MS: who is there is heard.
 * N4 What could not be said stays due, and what is due at the end is said then.
 */
import type { Clock } from '../../schema/clock.ts'

/** What others may see late by: a job that takes hundreds of steps a second is not said for each. */
const GAP_MS = 25
/** The same where a job waits for a machine until another process hears of it. */
const URGENT_GAP_MS = 2
/** The same while nobody else seems to be there: a process that stood still is back, and says so only then. */
const ALONE_GAP_MS = 2_000
const HELLO_MS = 4_000
/** Longer than two hellos: one may be late. */
const ALONE_MS = 10_000

export class Announcements {
  readonly #clock: Clock
  readonly #due = new Set<string>()
  #isUrgent = false
  /** Epoch ms when another was heard last. */
  #heardAt = -Infinity
  #alarm = Promise.withResolvers<void>()

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** To be said once, however often it is given until then. */
  add(item: string, isUrgent = false): void {
    const isSooner = this.#due.size === 0 || (isUrgent && !this.#isUrgent)
    this.#due.add(item)
    this.#isUrgent ||= isUrgent
    if (isSooner) this.#alarm.resolve()
  }

  /** Another process has said something, whatever it was. */
  heard(): void {
    const wasAlone = this.#isAlone()
    this.#heardAt = this.#clock.now()
    if (wasAlone) this.#alarm.resolve()
  }

  /**
   * Says what there is to say on a new connection until the signal aborts. Whoever connects takes it that others are
   * there until it has listened for long enough. `say` with no items is a mere hello. Rejects when `say` does.
   */
  async keep(say: (items: readonly string[]) => Promise<void>, signal: AbortSignal): Promise<void> {
    this.#heardAt = this.#clock.now()
    let saidAt = -Infinity
    while (!signal.aborted) {
      // Made before looking, so that a ring during the look is not lost.
      this.#alarm = Promise.withResolvers()
      const now = this.#clock.now()
      // A clock that was set back must not silence anybody until it has caught up.
      if (saidAt > now) saidAt = now
      const waitMs = saidAt + this.#gapMs() - now
      if (waitMs > 0) {
        await this.#wait(waitMs, signal)
        continue
      }
      await this.#say(say)
      saidAt = this.#clock.now()
    }
    if (this.#due.size > 0) await this.#say(say)
  }

  async #say(say: (items: readonly string[]) => Promise<void>): Promise<void> {
    const [items, wasUrgent] = [[...this.#due], this.#isUrgent]
    this.#due.clear()
    this.#isUrgent = false
    try {
      await say(items)
    } catch (error) {
      for (const item of items) this.add(item, wasUrgent)
      throw error
    }
  }

  #isAlone(): boolean {
    return this.#clock.now() - this.#heardAt >= ALONE_MS
  }

  #gapMs(): number {
    if (this.#due.size === 0) return HELLO_MS
    if (this.#isAlone()) return ALONE_GAP_MS
    return this.#isUrgent ? URGENT_GAP_MS : GAP_MS
  }

  async #wait(ms: number, signal: AbortSignal): Promise<void> {
    const enough = new AbortController()
    const time = this.#clock.sleep(ms, AbortSignal.any([enough.signal, signal])).catch(() => {})
    await Promise.race([this.#alarm.promise, time])
    enough.abort(new Error('rung'))
  }
}
