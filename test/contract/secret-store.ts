/** What every secret store keeps, whatever it is made of. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { SecretStore } from '../../src/secret/secret-store.ts'
import { anApplication, anotherApplication } from '../job/given.ts'

const bytes = (...values: number[]): Uint8Array => Uint8Array.from(values)

/** `open` gives an empty store. */
export function secretStoreContract(
  subject: string,
  open: () => Promise<{ readonly store: SecretStore; close(): Promise<void> }>,
): void {
  describe(`the secret store (${subject})`, () => {
    let opened: Awaited<ReturnType<typeof open>>
    let store: SecretStore
    beforeEach(async () => {
      opened = await open()
      store = opened.store
    })
    afterEach(async () => opened.close())

    it("gives everyone the first writer's data key", async () => {
      const [a, b, c] = await Promise.all([1, 2, 3].map(async (n) => store.dataKey(anApplication, bytes(n, 0, 255))))
      expect(a).toBeInstanceOf(Uint8Array)
      expect(b).toEqual(a)
      expect(c).toEqual(a)
      expect(await store.dataKey(anApplication, bytes(9))).toEqual(a)
      expect(await store.dataKey(anotherApplication, bytes(9))).toEqual(bytes(9))
    })

    it('gives back what was put, byte for byte, and the newest of each name', async () => {
      const every = Uint8Array.from({ length: 256 }, (_, n) => n)
      await store.put(anApplication, { name: 'TOKEN', sealed: bytes(1), updatedAt: 1_700_000_000_001 })
      await store.put(anApplication, { name: 'TOKEN', sealed: every, updatedAt: 1_700_000_000_002 })
      expect(await store.get(anApplication, 'TOKEN')).toEqual({
        name: 'TOKEN',
        sealed: every,
        updatedAt: 1_700_000_000_002,
      })
    })

    it('keeps the secrets of two applications apart', async () => {
      await store.put(anApplication, { name: 'TOKEN', sealed: bytes(1), updatedAt: 1 })
      expect(await store.get(anotherApplication, 'TOKEN')).toBeUndefined()
      expect(await store.list(anotherApplication)).toEqual([])
      expect(await store.delete(anotherApplication, 'TOKEN')).toBe(false)
      expect(await store.get(anApplication, 'TOKEN')).toBeDefined()
    })

    it('lists names in order, without what is sealed', async () => {
      await store.put(anApplication, { name: 'B', sealed: bytes(1), updatedAt: 2 })
      await store.put(anApplication, { name: 'A', sealed: bytes(1), updatedAt: 3 })
      expect(await store.list(anApplication)).toEqual([
        { name: 'A', updatedAt: 3 },
        { name: 'B', updatedAt: 2 },
      ])
    })

    it('deletes a secret once', async () => {
      await store.put(anApplication, { name: 'TOKEN', sealed: bytes(1), updatedAt: 1 })
      expect(await store.delete(anApplication, 'TOKEN')).toBe(true)
      expect(await store.get(anApplication, 'TOKEN')).toBeUndefined()
      expect(await store.delete(anApplication, 'TOKEN')).toBe(false)
    })
  })
}
