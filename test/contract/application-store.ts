/** What every application store keeps, whatever it is made of. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { sha256 } from '../../schema/hash.ts'
import { makeId } from '../../schema/id.ts'
import type { ApplicationStore, StoredKey } from '../../src/application/application-store.ts'
import { anApplication, anotherApplication } from '../job/given.ts'

const keyId = makeId('key', 1, new Uint8Array(16))
const unknownKeyId = makeId('key', 2, new Uint8Array(16))
const aKey: StoredKey = {
  id: keyId,
  applicationId: anApplication,
  secretHash: sha256('a secret'),
  scopes: ['*'],
  revokedAt: null,
}

/** `open` gives an empty store. */
export function applicationStoreContract(
  subject: string,
  open: () => Promise<{ readonly store: ApplicationStore; close(): Promise<void> }>,
): void {
  describe(`the application store (${subject})`, () => {
    let opened: Awaited<ReturnType<typeof open>>
    let store: ApplicationStore
    beforeEach(async () => {
      opened = await open()
      store = opened.store
    })
    afterEach(async () => opened.close())

    const dev = { id: anApplication, name: 'dev', createdAt: 1_700_000_000_001 }

    it('creates an application once, whoever asks at once', async () => {
      const rival = { id: anotherApplication, name: 'dev', createdAt: 1_700_000_000_002 }
      const answers = await Promise.all([dev, rival, dev, rival].map(async (each) => store.ensure(each)))
      expect(new Set(answers.map((answer) => answer.id)).size).toBe(1)
      const [winner] = answers
      expect(await store.ensure(rival)).toEqual(winner)
      expect(winner === undefined ? undefined : await store.find(winner.id)).toEqual(winner)
    })

    it('finds an application by id, and nothing for an unknown one', async () => {
      await store.ensure(dev)
      expect(await store.find(anApplication)).toEqual(dev)
      expect(await store.find(anotherApplication)).toBeUndefined()
    })

    it('gives back a key as it was put', async () => {
      await store.ensure(dev)
      await store.putKey({ ...aKey, scopes: ['job:read', 'job:write'] })
      expect(await store.findKey(keyId)).toEqual({ ...aKey, scopes: ['job:read', 'job:write'] })
      expect(await store.findKey(unknownKeyId)).toBeUndefined()
    })

    it('revokes a key once, and remembers when', async () => {
      await store.ensure(dev)
      await store.putKey(aKey)
      expect(await store.revokeKey(keyId, 1_700_000_000_009)).toBe(true)
      expect(await store.findKey(keyId)).toEqual({ ...aKey, revokedAt: 1_700_000_000_009 })
      expect(await store.revokeKey(keyId, 1_700_000_000_010)).toBe(false)
      expect((await store.findKey(keyId))?.revokedAt).toBe(1_700_000_000_009)
      expect(await store.revokeKey(unknownKeyId, 1)).toBe(false)
    })
  })
}
