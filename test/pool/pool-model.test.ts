/** A short run of `npm run campaign -- pool-model`. */
import { expect, it } from 'vitest'
import { playPool, type Play } from './pool-model.ts'

const SEEDS = 24

it('a pool keeps what it promises whatever its provider, its processes and its clocks do (I1, I2, I4, I5, I7, I9, I10, I11, I13, I16, I17, I20, I21, I22)', async () => {
  const plays: Play[] = []
  for (let seed = 1; seed <= SEEDS; seed++) plays.push(await playPool(seed))
  expect(plays.flatMap(({ violations }) => violations)).toEqual([])
  const sum = (of: (play: Play) => number): number => plays.reduce((all, play) => all + of(play), 0)
  // The adversary was there.
  expect(sum(({ deaths }) => deaths)).toBeGreaterThan(10)
  expect(sum(({ stalls }) => stalls)).toBeGreaterThan(10)
  expect(sum(({ faults }) => faults)).toBeGreaterThan(50)
  expect(sum(({ given }) => given['cold'] ?? 0)).toBeGreaterThan(0)
  expect(sum(({ given }) => given['reserve'] ?? 0)).toBeGreaterThan(0)
  expect(sum(({ given }) => given['resumed'] ?? 0)).toBeGreaterThan(sum(({ jobs }) => jobs) / 2)
}, 60_000)
