/** What a pool expects, from what it has seen. */
import { describe, expect, it } from 'vitest'
import * as fc from 'fast-check'
import type { MachineId } from '../../schema/id.ts'
import {
  deadlineMs,
  expected,
  forecast,
  lateAfterMs,
  noExpectation,
  quantile,
  rouse,
  SEEN_MIN,
  seeArrivals,
  seeMachines,
  seeStart,
  typicalOf,
  wayOf,
  type Expectation,
} from '../../src/pool/expectation.ts'
import { orderMachine, type MachineState, type PooledMachine } from '../../src/pool/machine.ts'
import { FLY_LIKE } from '../fake/virtual-provider.ts'

const HOUR_MS = 3_600_000
const LIMITS = { wakeMs: 10_000, createMs: 90_000 }
const resumed = (times: readonly number[]): Expectation =>
  times.reduce((all, ms) => seeStart(all, 'resumed', ms), noExpectation)
const upTo = (count: number): readonly number[] => Array.from({ length: count }, (_, i) => i + 1)

describe('what is expected', () => {
  it('is a value that so many of all do not exceed, and nothing of too few (X1)', () => {
    expect(expected(resumed(upTo(SEEN_MIN - 1)), 'resumed', 0.95)).toBeUndefined()
    expect(expected(resumed(upTo(SEEN_MIN)), 'resumed', 0.95)).toBe(19)
    const sample = fc.array(fc.nat(10_000), { minLength: 1, maxLength: 50 })
    fc.assert(
      fc.property(sample, fc.double({ min: 0.01, max: 1, noNaN: true }), (values, share) => {
        const value = quantile(values, share) ?? -1
        expect(values.filter((one) => one <= value).length).toBeGreaterThanOrEqual(values.length * share)
        expect(values.filter((one) => one < value).length).toBeLessThan(values.length * share)
      }),
    )
  })

  it('forgets what is long ago', () => {
    expect(expected(resumed([...upTo(200).map(() => 9_000), ...upTo(200)]), 'resumed', 1)).toBe(200)
  })

  it('rouses another machine after what 19 of 20 took, and for one job in twenty at most (X2)', () => {
    const seen = resumed(upTo(40))
    expect(lateAfterMs(seen, 'resumed')).toBe(38)
    expect(lateAfterMs(seen, 'reserve')).toBeUndefined()
    expect(lateAfterMs(rouse(rouse(seen)), 'resumed')).toBeUndefined()
    let roused = noExpectation
    for (let i = 0; i < 1_000; i++) {
      if (lateAfterMs(roused, 'resumed') !== undefined) roused = rouse(roused)
      roused = seeStart(roused, 'resumed', 300)
      expect(roused.roused).toBeLessThanOrEqual(roused.starts / 20)
    }
  })

  it('lengthens a deadline to three times what nearly all took, and never beyond that of a new machine (X3)', () => {
    const way = (ms: number): number => deadlineMs(resumed(upTo(30).map(() => ms)), 'resumed', LIMITS)
    expect([way(200), way(5_000), way(60_000)]).toEqual([10_000, 15_000, 90_000])
    expect(deadlineMs(noExpectation, 'created', LIMITS)).toBe(90_000)
    expect(deadlineMs(noExpectation, 'reserve', LIMITS)).toBe(10_000)
  })

  it('names the way of a machine by the state in which it was found', () => {
    expect((['hot', 'ready', 'suspending', 'booting', 'reserve', 'creating', null] as const).map(wayOf)).toEqual([
      'resumed',
      'resumed',
      'resumed',
      'cold',
      'reserve',
      'created',
      'created',
    ])
  })

  it('measures what machines take by their rows, whoever moved them', () => {
    let seen = noExpectation
    for (let i = 0; i < SEEN_MIN; i++) {
      const id = `mch_${i}` as MachineId
      const order = orderMachine({ id, pool: 'p', place: 'here', generation: 'g', now: 0 }, null)
      const row = (state: MachineState, since: number, more: Partial<PooledMachine> = {}): PooledMachine => {
        return { ...order, state, since, ...more }
      }
      const used = { boots: 2, uses: 1 }
      for (const machine of [
        row('creating', 0),
        row('booting', 5_000),
        row('hot', 6_000),
        row('suspending', 20_000),
        row('ready', 22_000),
        row('busy', 30_000),
        row('stopping', 40_000),
        row('reserve', 40_700, used),
        row('booting', 50_000, used),
        row('suspending', 51_300, used),
      ])
        seen = seeMachines(seen, [machine])
    }
    expect(typicalOf(seen, FLY_LIKE.typical)).toEqual({
      ...FLY_LIKE.typical,
      createMs: 6_000,
      bootMs: 1_300,
      suspendMs: 2_000,
      stopMs: 700,
    })
  })

  it('counts nothing that ended otherwise', () => {
    const order = orderMachine({ id: 'mch_1' as MachineId, pool: 'p', place: 'here', generation: 'g', now: 0 }, null)
    const seen = seeMachines(seeMachines(noExpectation, [order]), [{ ...order, state: 'retiring', since: 90_000 }])
    expect(seen.times).toEqual({})
    expect(seen.begun.size).toBe(0)
  })

  it('expects of an hour what nine of ten of the same hour of the week had, by how the last week grew (X4)', () => {
    let seen = noExpectation
    const week = (at: number, perHour: number): void => {
      for (let hour = 0; hour < 168; hour++) {
        const came = hour === 9 ? perHour : 0
        seen = seeArrivals(seen, came, at + hour * HOUR_MS)
      }
    }
    expect(forecast(seen, 9 * HOUR_MS)).toBe(0)
    week(0, 3_600)
    week(168 * HOUR_MS, 5_400)
    seen = seeArrivals(seen, 0, 2 * 168 * HOUR_MS)
    expect(forecast(seen, (2 * 168 + 9) * HOUR_MS)).toBeCloseTo(1.5 * 1.5)
    expect(forecast(seen, (2 * 168 + 10) * HOUR_MS)).toBe(0)
    week(2 * 168 * HOUR_MS, 36_000)
    seen = seeArrivals(seen, 0, 3 * 168 * HOUR_MS)
    expect(forecast(seen, (3 * 168 + 9) * HOUR_MS)).toBe(20)
  })
})
