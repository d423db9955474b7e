/** Who is asking: keys that were minted here, and nothing else. */
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { PlatformError } from '../../schema/error.ts'
import { makeId } from '../../schema/id.ts'
import type { ApplicationStore } from '../../src/application/application-store.ts'
import { LIVE_MS, openApplications } from '../../src/application/applications.ts'
import { mintToken, parseToken, SECRET_BYTES } from '../../src/application/token.ts'
import { fakeChance, fakeClock } from '../fake/fake-clock.ts'
import { memoryApplicationStore } from '../fake/memory-application-store.ts'

const keyId = makeId('key', 1_700_000_000_000, new Uint8Array(16))

describe('a key', () => {
  it('parses back to its id and the hash of its secret', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: SECRET_BYTES, maxLength: SECRET_BYTES }), (chance) => {
        const { token, secretHash } = mintToken(keyId, chance)
        expect(token.reveal()).toMatch(/^snm_[0-9A-Za-z]{75}$/)
        expect(parseToken(token.reveal())).toEqual({ keyId, secretHash })
        expect(String(token)).toBe('***')
      }),
    )
  })

  it('with one character changed is no key', () => {
    const token = mintToken(keyId, fakeChance().bytes(SECRET_BYTES)).token.reveal()
    fc.assert(
      fc.property(fc.nat(token.length - 1), fc.constantFrom('0', 'a', 'Z', '_', ' ', '\u0430'), (at, char) => {
        fc.pre(token[at] !== char)
        expect(parseToken(token.slice(0, at) + char + token.slice(at + 1))).toBeUndefined()
      }),
      { numRuns: 500 },
    )
  })

  it('in another case, padded, cut, lengthened or of another kind is no key', () => {
    const token = mintToken(keyId, fakeChance().bytes(SECRET_BYTES)).token.reveal()
    const junk = ['', 'snm_', token.toUpperCase(), token.toLowerCase(), ` ${token}`, `${token} `, `${token}\n`]
    const lengths = Array.from({ length: 100 }, (_, n) => token.repeat(2).slice(0, n)).filter((text) => text !== token)
    for (const text of [...junk, ...lengths, `Bearer ${token}`, 'x'.repeat(100_000)])
      expect(parseToken(text)).toBeUndefined()
  })
})

function world(alter: (store: ApplicationStore) => Partial<ApplicationStore> = () => ({})) {
  const memory = memoryApplicationStore()
  let lookUps = 0
  const store: ApplicationStore = {
    ...memory,
    findKey: async (id) => {
      lookUps++
      return memory.findKey(id)
    },
  }
  const clock = fakeClock()
  const good = openApplications({ store, clock, chance: fakeChance() })
  const altered = openApplications({
    store: { ...store, ...alter(store) },
    clock: fakeClock(),
    chance: fakeChance('b'),
  })
  return { good, altered, memory, clock, lookUps: () => lookUps }
}

describe('the life of a key', () => {
  async function found() {
    const all = world()
    const application = await all.good.ensure('dev')
    const caller = await all.good.authenticate((await all.good.createKey(application.id)).reveal())
    if (caller === undefined) throw new Error('no caller')
    expect(await all.good.isLive(caller.keyId)).toBe(true)
    return { ...all, application, keyId: caller.keyId }
  }

  it('is asked of the store once in a while, however often events ask (AP4)', async () => {
    const { good, clock, keyId, lookUps } = await found()
    const before = lookUps()
    for (let i = 0; i < 100; i++) expect(await good.isLive(keyId)).toBe(true)
    expect(lookUps()).toBe(before)
    await clock.advance(LIVE_MS)
    expect(await good.isLive(keyId)).toBe(true)
    expect(lookUps()).toBe(before + 1)
  })

  it('ends at once where it is revoked (AP4)', async () => {
    const { good, application, keyId } = await found()
    expect(await good.revokeKey(application.id, keyId)).toBe(true)
    expect(await good.isLive(keyId)).toBe(false)
  })

  it('ends within LIVE_MS when another process revokes it (AP4)', async () => {
    const { good, memory, clock, keyId } = await found()
    await memory.revokeKey(keyId, clock.now())
    await clock.advance(LIVE_MS - 1)
    expect(await good.isLive(keyId)).toBe(true)
    await clock.advance(1)
    expect(await good.isLive(keyId)).toBe(false)
  })

  it('is not kept from a look that a revocation overtook (AP4)', async () => {
    const { good, application, clock, keyId } = await found()
    await clock.advance(LIVE_MS)
    const asked = good.isLive(keyId)
    await good.revokeKey(application.id, keyId)
    await asked
    expect(await good.isLive(keyId)).toBe(false)
  })
})

describe('authentication', () => {
  it('knows the caller of a good key, until the key is revoked (AP1)', async () => {
    const { good } = world()
    const application = await good.ensure('dev')
    const key = await good.createKey(application.id)
    const caller = await good.authenticate(key.reveal())
    expect(caller).toMatchObject({ application, scopes: ['*'] })
    if (caller === undefined) throw new Error('no caller')
    expect(await good.isLive(caller.keyId)).toBe(true)
    const other = await good.ensure('other')
    expect(await good.revokeKey(other.id, caller.keyId)).toBe(false)
    expect(await good.revokeKey(application.id, caller.keyId)).toBe(true)
    expect(await good.revokeKey(application.id, caller.keyId)).toBe(false)
    expect(await good.authenticate(key.reveal())).toBeUndefined()
    expect(await good.isLive(caller.keyId)).toBe(false)
    expect(await good.isLive(keyId)).toBe(false)
  })

  it('drops junk without asking the store (AP2)', async () => {
    const { good, lookUps } = world()
    for (const junk of [null, '', 'snm_junk', 'x'.repeat(10_000)]) expect(await good.authenticate(junk)).toBeUndefined()
    expect(lookUps()).toBe(0)
  })

  it("does not let one key's id in with another key's secret (AP1)", async () => {
    const { good } = world()
    const application = await good.ensure('dev')
    const key = parseToken((await good.createKey(application.id)).reveal())
    if (key === undefined) throw new Error('no key')
    const forged = mintToken(key.keyId, fakeChance('forger').bytes(SECRET_BYTES)).token
    expect(await good.authenticate(forged.reveal())).toBeUndefined()
  })

  // Each case stands for a store that answers wrongly; the types forbid most of them, the world does not.
  const odd: readonly [string, (store: ApplicationStore) => Partial<ApplicationStore>][] = [
    ['null for a key', () => ({ findKey: async () => null as never })],
    ['an empty key', () => ({ findKey: async () => ({}) as never })],
    [
      'a key that does not say whether it is revoked',
      (store) => ({
        findKey: async (id) => ({ ...(await store.findKey(id)), revokedAt: undefined }) as never,
      }),
    ],
    [
      'a key without scopes',
      (store) => ({
        findKey: async (id) => ({ ...(await store.findKey(id)), scopes: undefined }) as never,
      }),
    ],
    [
      'a key without a hash',
      (store) => ({
        findKey: async (id) => ({ ...(await store.findKey(id)), secretHash: undefined }) as never,
      }),
    ],
    ['another key', (store) => ({ findKey: async (id) => ({ ...(await store.findKey(id)), id: keyId }) as never })],
    ['null for an application', () => ({ find: async () => null as never })],
    ['nothing for an application', () => ({ find: async () => undefined })],
    [
      'another application',
      (store) => ({
        find: async (id) => ({ ...(await store.find(id)), id: makeId('app', 1, new Uint8Array(16)) }) as never,
      }),
    ],
  ]
  it.each(odd)('lets nobody in when the store gives %s (AP3)', async (_, alter) => {
    const { good, altered } = world(alter)
    const key = await good.createKey((await good.ensure('dev')).id)
    expect(await good.authenticate(key.reveal())).toBeDefined()
    expect(await altered.authenticate(key.reveal())).toBeUndefined()
  })

  it('says that it cannot tell when the store throws, and that no key is live (AP3)', async () => {
    const broken = async (): Promise<never> => {
      throw new Error('password=hunter2')
    }
    const { good, altered } = world(() => ({ findKey: broken, find: broken }))
    const key = await good.createKey((await good.ensure('dev')).id)
    const error = await altered.authenticate(key.reveal()).catch((error: unknown) => error)
    expect(error).toBeInstanceOf(PlatformError)
    expect(error).toMatchObject({ code: 'not_ready' })
    expect(error instanceof Error ? error.message : '').not.toContain('hunter2')
    expect(await altered.isLive(keyId)).toBe(false)
  })
})
