/** How fast a pool asks, by what became of what it asked. */
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { ProviderFault } from '../../src/pool/machine-provider.ts'
import type { MachineId } from '../../schema/id.ts'
import type { Verb } from '../../src/pool/machine.ts'
import type { Errand } from '../../src/pool/pool-store.ts'
import {
  cameUp,
  initialPace,
  isResting,
  isUnfit,
  learn,
  neverCame,
  ORDERS_MAX,
  ration,
  restraintsOf,
  STARTS_PER_SECOND,
  suspendsAt,
  suspendWasLate,
  type Outcome,
  type Pace,
} from '../../src/pool/pace.ts'

const outcome = (verb: Verb, fault: ProviderFault | null, now = 0): Outcome => ({
  verb,
  place: 'a',
  fault,
  why: 'a test',
  now,
})

describe('the pace of a pool', () => {
  it('starts anew with one order after a failure, and doubles with each that went well (PA1)', () => {
    let pace = learn(initialPace, outcome('create', 'ambiguous'))
    const orders = [pace.orders]
    for (let i = 0; i < 7; i++) orders.push((pace = learn(pace, outcome('create', null))).orders)
    expect(orders).toEqual([1, 2, 4, 8, 16, 32, 64, ORDERS_MAX])
  })

  it('allows one suspend more with each that was done, and half as many with each that was late (PA2)', () => {
    let pace = initialPace
    for (let i = 0; i < 5; i++) pace = learn(pace, outcome('suspend', null))
    expect(suspendsAt(pace, 'a')).toBe(10)
    expect(suspendsAt((pace = suspendWasLate(pace, 'a')), 'a')).toBe(5)
    expect(suspendsAt(learn(pace, outcome('suspend', 'throttled')), 'a')).toBe(2)
    expect(suspendsAt(pace, 'b')).toBe(5)
  })

  it('leaves a place alone that has no room, twice as long each time, until it had some (PA3)', () => {
    let pace = learn(initialPace, outcome('create', 'capacity'))
    expect([isResting(pace, 'a', 4_999), isResting(pace, 'a', 5_000), isResting(pace, 'b', 0)]).toEqual([
      true,
      false,
      false,
    ])
    pace = learn(pace, outcome('create', 'capacity', 4_000))
    expect(isResting(pace, 'a', 5_000)).toBe(false)
    pace = learn(pace, outcome('create', 'capacity', 5_000))
    expect([isResting(pace, 'a', 14_999), isResting(pace, 'a', 15_000)]).toEqual([true, false])
    pace = learn(pace, outcome('create', null, 15_000))
    pace = learn(pace, outcome('create', 'capacity', 15_000))
    expect(isResting(pace, 'a', 20_000)).toBe(false)
  })

  it('orders nothing for a long time when an order never will be right (PA4)', () => {
    const pace = learn(initialPace, outcome('create', 'refused', 1_000))
    expect(pace.refused).toEqual({ until: 301_000, why: 'a test' })
    expect(learn(pace, outcome('create', null)).refused).toBeNull()
  })

  it('makes none of a generation of which three in a row did not come up, for a time that doubles (PA6)', () => {
    const fail = (pace: Pace, now: number, times = 1): Pace =>
      Array.from({ length: times }).reduce<Pace>((before) => neverCame(before, 'g', now), pace)
    const twice = fail(initialPace, 0, 2)
    expect(isUnfit(twice, 'g', 0)).toBe(false)
    const thrice = fail(twice, 0)
    expect([isUnfit(thrice, 'g', 59_999), isUnfit(thrice, 'g', 60_000), isUnfit(thrice, 'h', 0)]).toEqual([
      true,
      false,
      false,
    ])
    // What was under way by then changes nothing.
    expect(isUnfit(fail(thrice, 30_000), 'g', 60_000)).toBe(false)
    expect(isUnfit(fail(thrice, 60_000), 'g', 179_999)).toBe(true)
    expect(isUnfit(fail(cameUp(thrice, 'g'), 1_000, 2), 'g', 1_000)).toBe(false)
  })

  it('says what holds it back', () => {
    expect(restraintsOf(initialPace, 0)).toEqual([])
    let pace = learn(learn(initialPace, outcome('create', 'capacity', 1_000)), outcome('create', 'refused', 1_000))
    for (let i = 0; i < 3; i++) pace = neverCame(pace, 'g', 1_000)
    expect(restraintsOf(pace, 2_000)).toEqual([
      'Nothing is ordered for 299 s more, since the provider refuses: a test',
      'No machine of generation g is made for 59 s more: 3 in a row did not come up.',
      'a had no room and is left alone for 4 s more.',
      'After a failure, 1 may be ordered at once; twice as many with each that works.',
    ])
  })

  it('tries again what was put off at the same pace, and what ends machines at once (PA5, I22)', () => {
    const errand = (verb: Verb, i: number): Errand => {
      return { machineId: `mch_${verb}${i}` as MachineId, verb, version: 1, notBefore: 0, tries: 3 }
    }
    const due = (['create', 'start', 'stop'] as const).flatMap((verb) =>
      Array.from({ length: 20 }, (_, i) => errand(verb, i)),
    )
    const count = (all: readonly Errand[], verb: Verb): number => all.filter((one) => one.verb === verb).length
    const slow = learn(initialPace, outcome('create', 'ambiguous'))
    const nothing = { since: 0, creates: 0, starts: 0 }
    const first = ration(due, slow, nothing, 100, 5_000)
    expect((['create', 'start', 'stop'] as const).map((verb) => count(first.errands, verb))).toEqual([
      1,
      STARTS_PER_SECOND - 1,
      20,
    ])
    const soon = ration(due, slow, first.spent, 100, 5_999)
    expect(soon.errands.map(({ verb }) => verb)).toEqual(Array(20).fill('stop'))
    expect(count(ration(due, slow, soon.spent, 100, 6_000).errands, 'create')).toBe(1)
    expect(count(ration(due, initialPace, nothing, 100, 6_000).errands, 'create')).toBe(STARTS_PER_SECOND)
    expect(ration(due, initialPace, nothing, 3, 6_000).errands).toHaveLength(3)
  })

  it('never stops for good, whatever happens', () => {
    const outcomes = fc.array(
      fc.record({
        verb: fc.constantFrom<Verb>('create', 'start', 'suspend', 'stop', 'destroy'),
        place: fc.constantFrom('a', 'b'),
        fault: fc.constantFrom<(ProviderFault | null)[]>(
          null,
          'capacity',
          'throttled',
          'state',
          'gone',
          'ambiguous',
          'refused',
        ),
        why: fc.constant('a test'),
        now: fc.nat(1_000_000),
      }),
    )
    fc.assert(
      fc.property(outcomes, (all) => {
        let pace = initialPace
        for (const one of all) {
          pace = learn(pace, one)
          expect(pace.orders).toBeGreaterThanOrEqual(1)
          expect(suspendsAt(pace, one.place)).toBeGreaterThanOrEqual(1)
          for (const { until, ms } of Object.values(pace.resting)) {
            expect(ms).toBeLessThanOrEqual(300_000)
            expect(until).toBeLessThanOrEqual(1_000_000 + ms)
          }
        }
      }),
    )
  })
})
