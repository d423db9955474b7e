/** Averages of what is asked of a pool. */
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { busyMs, noDemand, observeDemand, type Demand } from '../../src/pool/demand.ts'

const look = (second: number, started: number, busy: number, queued = 0) => ({
  now: second * 1000,
  started,
  busy,
  queued,
})
function watch(seconds: number, at: (second: number) => Parameters<typeof observeDemand>[1]): Demand {
  let demand = noDemand(0)
  for (let second = 1; second <= seconds; second++) demand = observeDemand(demand, at(second))
  return demand
}

describe('what is asked of a pool', () => {
  it('is found after a while: how many come, how long they stay', () => {
    const demand = watch(1_500, (second) => look(second, 2, 60))
    expect(demand.fast).toBeCloseTo(2, 1)
    expect(demand.slow).toBeCloseTo(2, 1)
    expect(demand.stable).toBeCloseTo(60, 0)
    expect(busyMs(demand, 1)).toBeCloseTo(30_000, -2)
  })

  it('is seen in seconds by the fast average, and in minutes by the slow one', () => {
    const demand = watch(320, (second) => look(second, second > 300 ? 10 : 1, 1))
    expect(demand.fast).toBeGreaterThan(8)
    expect(demand.slow).toBeLessThan(2)
  })

  it('counts whoever waits as having come, and once', () => {
    let demand = observeDemand(noDemand(0), look(1, 0, 0, 5))
    expect(demand.fast * 10).toBeCloseTo(5, 0)
    const before = demand.fast
    demand = observeDemand(demand, look(2, 5, 5, 0))
    expect(demand.fast).toBeLessThan(before)
  })

  it('tells bursts from a steady flow', () => {
    const steady = watch(2_000, (second) => look(second, 1, 1))
    const bursts = watch(2_000, (second) => look(second, second % 10 === 0 ? 10 : 0, 1))
    expect(steady.dispersion).toBeLessThan(1.5)
    expect(bursts.dispersion).toBeGreaterThan(5)
  })

  it('is never less than nothing, and a clock that goes back moves nothing', () => {
    const looks = fc.array(
      fc.record({
        now: fc.integer({ min: 0, max: 100_000 }),
        started: fc.nat(20),
        queued: fc.nat(50),
        busy: fc.nat(50),
      }),
      { maxLength: 60 },
    )
    fc.assert(
      fc.property(looks, (all) => {
        let demand = noDemand(0)
        for (const one of all) {
          const next = observeDemand(demand, one)
          if (one.now <= demand.at) expect(next).toBe(demand)
          for (const value of Object.values(next)) expect(value).toBeGreaterThanOrEqual(0)
          demand = next
        }
      }),
    )
  })
})
