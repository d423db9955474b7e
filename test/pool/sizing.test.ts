/** Counts from loads: the tables of the books, and a queue that is played out to see whether the formulas hold. */
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  machinesFor,
  machinesForRush,
  missShare,
  rateForMachines,
  rateForReady,
  readyFor,
} from '../../src/pool/sizing.ts'

const LOADS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000]

/** Uniform in (0, 1), the same in every run. */
function draws(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return (state + 0.5) / 2 ** 32
  }
}

/** The share that finds no machine, and how many came, of Poisson arrivals whose jobs take as long as `draw` says. */
function play(load: number, machines: number, arrivals: number, seed: number): number {
  const chance = draws(seed)
  const busy: number[] = []
  let [now, missed] = [0, 0]
  for (let i = 0; i < arrivals; i++) {
    now -= Math.log(chance()) / load
    for (let j = busy.length - 1; j >= 0; j--) if ((busy[j] ?? 0) <= now) busy.splice(j, 1)
    if (busy.length >= machines) missed += 1
    else busy.push(now - Math.log(chance()))
  }
  return missed / arrivals
}

describe('the size of a pool', () => {
  it.each([
    [0.05, 1, [4, 5, 9, 15, 26, 56, 105, 202, 489, 966, 1917, 4768]],
    [0.01, 1, [5, 7, 11, 18, 30, 64, 117, 221, 527, 1029, 2028, 5010]],
    [0.001, 1, [6, 8, 14, 21, 35, 71, 128, 238, 555, 1072, 2095, 5133]],
    [0.01, 5, [15, 15, 25, 35, 50, 90, 150, 265, 585, 1105, 2130, 5145]],
  ])('is what the table says for %d of misses and peakedness %d', (miss, peakedness, machines) => {
    expect(LOADS.map((load) => machinesFor(load, miss, peakedness))).toEqual(machines)
  })

  it('is the smallest that keeps what it promises', () => {
    const cases = fc.record({
      load: fc.double({ min: 0.01, max: 300, noNaN: true }),
      miss: fc.constantFrom(0.05, 0.01, 0.001),
    })
    fc.assert(
      fc.property(cases, ({ load, miss }) => {
        const machines = machinesFor(load, miss)
        expect(missShare(load, machines)).toBeLessThanOrEqual(miss)
        expect(missShare(load, machines - 1)).toBeGreaterThan(miss)
      }),
    )
  })

  it('misses no more than twice what it may, played out with Poisson arrivals (I24)', () => {
    for (const [load, miss, seed] of [
      [5, 0.05, 1],
      [10, 0.01, 2],
      [27, 0.01, 3],
    ] as const) {
      const arrivals = 40_000
      const noise = 3 * Math.sqrt((miss * (1 - miss)) / arrivals)
      expect(play(load, machinesFor(load, miss), arrivals, seed)).toBeLessThanOrEqual(2 * miss + noise)
      // The formula is no bigger than it must be: a fifth fewer machines miss more than that.
      expect(play(load, Math.floor(machinesFor(load, miss) * 0.75), arrivals, seed)).toBeGreaterThan(2 * miss)
    }
  })

  it('has ready whom 99 of 100 find, however they come', () => {
    expect(readyFor({ perSecond: 0, leadMs: 12_000, dispersion: 1, burst: 0 })).toBe(0)
    expect(readyFor({ perSecond: 1, leadMs: 12_000, dispersion: 1, burst: 0 })).toBe(21)
    expect(readyFor({ perSecond: 5, leadMs: 12_000, dispersion: 5, burst: 4 })).toBe(105)
  })

  it('follows a rush at once, and asks for nothing without one', () => {
    expect(machinesForRush({ stable: 7, sudden: 7 }, 20)).toBe(0)
    expect(machinesForRush({ stable: 7, sudden: 28 }, 20)).toBe(40)
    expect(machinesForRush({ stable: 0, sudden: 0 }, 0)).toBe(0)
  })

  it('follows two rates: what is ready the highest, machines what has lasted or is expected', () => {
    expect(rateForReady({ fast: 3, slow: 2, dispersion: 1, forecast: 0 })).toBe(3)
    expect(rateForReady({ fast: 1, slow: 2, dispersion: 1, forecast: 4 })).toBe(4)
    expect(rateForMachines({ fast: 5, slow: 1, dispersion: 1, forecast: 0 })).toBe(1)
    expect(rateForMachines({ fast: 5, slow: 1, dispersion: 1, forecast: 2 })).toBe(2)
  })
})
