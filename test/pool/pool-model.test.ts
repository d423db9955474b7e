/** A short run of `npm run campaign -- pool-model`. */
import { expect, it } from 'vitest'
import { playLoad } from './load-model.ts'
import { playPool, type Play } from './pool-model.ts'

const SEEDS = 9

it('a pool keeps what it promises whatever its provider, its processes and its clocks do (I1 to I23)', async () => {
  const plays: Play[] = []
  for (let seed = 1; seed <= SEEDS; seed++) {
    const play = await playPool(seed)
    expect(play.findings.all).toEqual([])
    plays.push(play)
  }
  const sum = (of: (play: Play) => number): number => plays.reduce((all, play) => all + of(play), 0)
  // The adversary was there.
  expect(sum(({ deaths }) => deaths)).toBeGreaterThan(5)
  expect(sum(({ stalls }) => stalls)).toBeGreaterThan(5)
  expect(sum(({ faults }) => faults)).toBeGreaterThan(20)
  expect(sum(({ jumps }) => jumps)).toBeGreaterThan(2)
  expect(sum(({ begun }) => begun)).toBeGreaterThan(20)
  expect(sum(({ given }) => given['cold'] ?? 0)).toBeGreaterThan(0)
  expect(sum(({ given }) => given['reserve'] ?? 0)).toBeGreaterThan(0)
  expect(sum(({ given }) => given['resumed'] ?? 0)).toBeGreaterThan(sum(({ jobs }) => jobs) / 2)
}, 180_000)

it('a pool has a machine for nearly every job of a steady load (I24)', () => {
  expect([1, 2, 3].flatMap((seed) => playLoad(seed).all)).toEqual([])
})
