/** Turns: no more in any time than the rate says. */
import * as fc from 'fast-check'
import { expect, it } from 'vitest'
import { takeTurn, type TurnRate } from '../../src/pool/turn.ts'
import { openTurns } from '../../src/pool/turns.ts'
import { turnStoreContract } from '../contract/turn-store.ts'
import { fakeClock } from '../fake/fake-clock.ts'

turnStoreContract('of one process', async () => ({ store: openTurns(fakeClock()), close: async () => {} }))

it('lets through no more than the burst and what has come since, in any window, and no less than it may', () => {
  const rates = fc.record<TurnRate>({
    perSecond: fc.constantFrom(0.5, 0.9, 1, 4.5),
    burst: fc.constantFrom(1, 2, 3, 9),
  })
  fc.assert(
    fc.property(rates, fc.array(fc.nat(3_000), { minLength: 1, maxLength: 40 }), (rate, gaps) => {
      let freeAt: number | undefined
      let now = 1_000_000
      const at: number[] = []
      for (const gap of gaps) {
        now += gap
        const taken = takeTurn(freeAt, rate, now)
        freeAt = taken.freeAt
        at.push(now + taken.waitMs)
        // It is as late as it must be: a millisecond before, one turn less had come.
        if (taken.waitMs > 1) expect(taken.freeAt - (rate.burst * 1000) / rate.perSecond).toBeGreaterThan(now)
      }
      const moments = at.toSorted((a, b) => a - b)
      for (const [i, from] of moments.entries())
        for (const [j, to] of moments.entries())
          if (j >= i) expect(j - i + 1).toBeLessThanOrEqual(rate.burst + ((to - from) * rate.perSecond) / 1000 + 0.01)
    }),
  )
})
