/** What comes in time, or nothing. */
import type { Clock } from '../../schema/clock.ts'

/** The value, or undefined when it has not come after `ms`; what rejects before then rejects. */
export async function inTime<Value>(value: Promise<Value>, ms: number, clock: Clock): Promise<Value | undefined> {
  const enough = new AbortController()
  const late = clock.sleep(Math.max(0, ms), enough.signal).then(
    () => undefined,
    () => undefined,
  )
  try {
    return await Promise.race([value, late])
  } finally {
    enough.abort(new Error('it came'))
  }
}
