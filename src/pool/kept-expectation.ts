/** What is kept of a pool's expectation for whoever leads it next: plain JSON, and what is under way is seen from the rows. */
import { z } from 'zod'
import type { Json } from '../../schema/json.ts'
import { HOURS, noExpectation, type Expectation } from './expectation.ts'

const time = z.number().nonnegative()
const times = z.array(time).optional()
const keptExpectation = z.object({
  v: z.literal(1),
  times: z.object({
    resumed: times,
    cold: times,
    reserve: times,
    created: times,
    create: times,
    boot: times,
    suspend: times,
    stop: times,
  }),
  hours: z.array(z.array(time)).length(HOURS),
  hour: z.object({ index: z.number().int().nonnegative(), came: time }).nullable(),
})

/** Milliseconds and arrivals per second, as `Expectation` has them; rates to five digits. */
export function printExpectation({ times, hours, hour }: Expectation): Json {
  const rates = hours.map((week) => week.map((rate) => Number(rate.toPrecision(5))))
  return { v: 1, times, hours: rates, hour }
}

/** Undefined for what another version wrote, or nobody. */
export function parseExpectation(json: unknown): Expectation | undefined {
  const { success, data } = keptExpectation.safeParse(json)
  if (!success) return undefined
  const known = Object.entries(data.times).filter(([, seen]) => seen !== undefined)
  return { ...noExpectation, times: Object.fromEntries(known), hours: data.hours, hour: data.hour }
}
