/**
 * A number of places for jobs that run: takes what waits while one is free, and what is created in this process at once
 * where no other waits.
 */
import type { Clock } from '../../schema/clock.ts'
import type { Attempt, Jobs, Place } from '../job/jobs.ts'
import type { Log } from '../log.ts'

export interface PlacesDependencies {
  readonly jobs: Pick<Jobs, 'claim' | 'offer' | 'onClaimable'>
  readonly clock: Clock
  readonly log: Log
  /** Names this process in leases. */
  readonly holder: string
  /** What goes in the commit of a lease: its machine, where one is to be had. */
  readonly ride: Place['ride']
  /** What happens in a place, to its end; never rejects. Once the signal aborts, the end is to come soon. */
  readonly drive: (attempt: Attempt, closing: AbortSignal) => Promise<void>
  readonly limits: {
    /** Jobs at once. */
    readonly concurrent: number
    /** How often to look for jobs though nobody called: what a lost wake-up costs. */
    readonly pollMs: number
  }
}

export interface TakenPlaces {
  /** Places that are taken now. */
  count(): number
  /** Takes no more, has every job brought to its end, and resolves when no place is taken. */
  close(): Promise<void>
}

/** Takes jobs that are created here at once, and those that wait once `ready` has resolved, which does not reject. */
export function openPlaces(dependencies: PlacesDependencies, ready: Promise<void> = Promise.resolve()): TakenPlaces {
  const { jobs, clock, log, limits, holder, ride } = dependencies
  const closing = new AbortController()
  const kept = new Set<Promise<void>>()
  let alarm = Promise.withResolvers<void>()
  /** Places that a look has asked for. */
  let asked = 0
  /** When this process last looked nothing waited that it could have had, and nobody has called since. */
  let isQuiet = false
  const ring = (): void => {
    isQuiet = false
    alarm.resolve()
  }
  const unsubscribe = jobs.onClaimable(ring)
  const free = (): number => limits.concurrent - kept.size - asked

  /** A place is taken until what happens in it is over; then whoever waits may have it. */
  function occupy(until: Promise<void>): void {
    const keeping = until.finally(() => {
      kept.delete(keeping)
      if (!isQuiet) ring()
    })
    kept.add(keeping)
  }

  const drive = (attempt: Attempt): Promise<void> => dependencies.drive(attempt, closing.signal)

  const withdraw = jobs.offer({
    holder,
    take() {
      if (free() <= 0 || closing.signal.aborted) return undefined
      const over = Promise.withResolvers<void>()
      occupy(over.promise)
      return { ride, begin: (attempt) => over.resolve(drive(attempt)), leave: () => over.resolve() }
    },
  })

  async function fill(): Promise<void> {
    while (free() > 0 && !closing.signal.aborted) {
      isQuiet = true
      asked = free()
      try {
        const attempts = await jobs.claim(holder, asked, ride)
        if (attempts.length === 0) return
        for (const attempt of attempts) occupy(drive(attempt))
      } catch (error) {
        isQuiet = false
        throw error
      } finally {
        asked = 0
      }
    }
    isQuiet = false
  }

  async function run(): Promise<void> {
    await ready
    while (!closing.signal.aborted) {
      // Made before looking, so that a call during the look is not lost.
      alarm = Promise.withResolvers()
      try {
        await fill()
      } catch (error) {
        log.error('No job could be claimed.', { error })
      }
      await alarmOrPoll(alarm.promise, clock, limits.pollMs, closing.signal)
    }
  }

  const running = run()
  return {
    count: () => kept.size,
    async close() {
      closing.abort(new Error('the places are closing'))
      ring()
      unsubscribe()
      withdraw()
      await running
      await Promise.all(kept)
    },
  }
}

async function alarmOrPoll(alarm: Promise<void>, clock: Clock, ms: number, closing: AbortSignal): Promise<void> {
  const enough = new AbortController()
  const poll = clock.sleep(ms, AbortSignal.any([enough.signal, closing])).catch(() => {})
  await Promise.race([alarm, poll])
  enough.abort(new Error('woken'))
}
