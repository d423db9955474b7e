/** What every store of turns keeps: no more are taken than the rate says, by however many ask at once. */
import { describe, expect, it } from 'vitest'
import type { TurnRate } from '../../src/pool/turn.ts'
import type { TurnStore } from '../../src/pool/turns.ts'

/** Slow enough that what passes in a test is little, wherever it runs: a turn in a thousand seconds. */
const SLOW: TurnRate = { perSecond: 0.001, burst: 3 }
const TURN_MS = 1_000_000
const LONG = 1e9

export function turnStoreContract(
  name: string,
  open: () => Promise<{ readonly store: TurnStore; readonly close: () => Promise<void> }>,
): void {
  describe(`turns: ${name}`, () => {
    it('gives a burst at once, then one after the other, whoever asks', async () => {
      const { store, close } = await open()
      const waits = await Promise.all(Array.from({ length: 6 }, () => store.take('a', SLOW, LONG)))
      const sorted = waits.map((wait) => wait ?? -1).toSorted((a, b) => a - b)
      expect(sorted.slice(0, 3)).toEqual([0, 0, 0])
      for (const [i, wait] of sorted.slice(3).entries()) {
        expect(wait).toBeLessThanOrEqual(TURN_MS * (i + 1))
        expect(wait).toBeGreaterThan(TURN_MS * (i + 1) - TURN_MS / 2)
      }
      await close()
    })

    it('counts each subject by itself', async () => {
      const { store, close } = await open()
      for (let i = 0; i < 3; i++) expect(await store.take('b', SLOW, 0)).toBe(0)
      expect(await store.take('c', SLOW, 0)).toBe(0)
      await close()
    })

    it('takes none that is too far away, nor one for whoever has no time left', async () => {
      const { store, close } = await open()
      expect(await store.take('d', SLOW, -1)).toBeUndefined()
      for (let i = 0; i < 3; i++) expect(await store.take('d', SLOW, 0)).toBe(0)
      for (let i = 0; i < 3; i++) expect(await store.take('d', SLOW, 1_000)).toBeUndefined()
      // What was refused was not taken.
      expect(await store.take('d', SLOW, LONG)).toBeLessThanOrEqual(TURN_MS)
      await close()
    })
  })
}
