/** What every content store keeps, whatever it is made of. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { PlatformError } from '../../schema/error.ts'
import { sha256 } from '../../schema/hash.ts'
import type { ContentStore } from '../../src/workspace/content-store.ts'

export interface ContentStoreSubject {
  readonly store: ContentStore
  /** Another process's view of the same store; it may be the same object. */
  readonly other: ContentStore
  close(): Promise<void>
}

const codeOf = async (promise: Promise<unknown>): Promise<string> =>
  promise.then(
    () => 'nothing was thrown',
    (error: unknown) => {
      if (error instanceof PlatformError) return error.code
      throw error
    },
  )

/** `open` gives an empty store. */
export function contentStoreContract(subject: string, open: () => Promise<ContentStoreSubject>): void {
  describe(`the content store (${subject})`, () => {
    let opened: ContentStoreSubject
    beforeEach(async () => {
      opened = await open()
    })
    afterEach(async () => opened.close())

    it('gives back what was put, byte for byte, under its hash', async () => {
      const all = [new Uint8Array(), Uint8Array.from({ length: 256 }, (_, i) => i), new Uint8Array(3_000_000).fill(7)]
      for (const bytes of all) {
        expect(await opened.store.has(sha256(bytes))).toBe(false)
        expect(await opened.store.put(bytes)).toBe(sha256(bytes))
        expect(await opened.other.has(sha256(bytes))).toBe(true)
        const found = await opened.other.get(sha256(bytes))
        expect(found.constructor).toBe(Uint8Array)
        expect(Buffer.compare(found, bytes)).toBe(0)
      }
    })

    it('says content_missing of what it has not', async () => {
      const absent = sha256('absent')
      expect(await opened.store.has(absent)).toBe(false)
      expect(await codeOf(opened.store.get(absent))).toBe('content_missing')
    })

    it('takes nothing but a hash for a name', async () => {
      for (const name of ['', '..', '../../etc/passwd', `${sha256('a')}/..`, sha256('a').toUpperCase()]) {
        expect(await opened.store.has(name as never)).toBe(false) // not a hash, and the types say so
        expect(await codeOf(opened.store.get(name as never))).toBe('content_missing')
      }
    })

    it('takes the same bytes from many at once, as nothing new', async () => {
      const bytes = new Uint8Array(100_000).fill(3)
      const puts = Array.from({ length: 16 }, (_, n) => (n % 2 === 0 ? opened.store : opened.other).put(bytes))
      expect(new Set(await Promise.all(puts))).toEqual(new Set([sha256(bytes)]))
      expect(Buffer.compare(await opened.store.get(sha256(bytes)), bytes)).toBe(0)
    })

    it('keeps what it has when its caller changes the bytes afterwards', async () => {
      const bytes = Uint8Array.from([1, 2, 3])
      const hash = await opened.store.put(bytes)
      bytes[0] = 9
      const found = await opened.store.get(hash)
      found[1] = 9
      expect([...(await opened.store.get(hash))]).toEqual([1, 2, 3])
    })
  })
}
