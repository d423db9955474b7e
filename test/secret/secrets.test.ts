/** Sealed secrets: what opens, what does not, and what never shows (K01, K03, K04, K11 of the threat table). */
import { inspect } from 'node:util'
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { isRefusal, PlatformError } from '../../schema/error.ts'
import { makeId } from '../../schema/id.ts'
import { Secret } from '../../schema/secret.ts'
import { seal, unseal, type SealedPlace } from '../../src/secret/sealing.ts'
import { openSecrets, VALUE_BYTES_MAX } from '../../src/secret/secrets.ts'
import { fakeChance, fakeClock } from '../fake/fake-clock.ts'
import { memorySecretStore } from '../fake/memory-secret-store.ts'

const chance = fakeChance()
const key = chance.bytes(32)
const otherKey = chance.bytes(32)
const nonce = chance.bytes(12)
const place: SealedPlace = { application: 'app_1', name: 'TOKEN', version: 7 }
const plain = new TextEncoder().encode('canary-3f9a')
const HEADER = 1 + 32 + 12 + 16

describe('sealed bytes', () => {
  it('open where they were sealed, whatever they hold', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        expect(unseal(key, place, seal(key, place, bytes, nonce))).toEqual(bytes)
      }),
    )
  })

  it('open in no other place (SE1)', () => {
    const places: readonly SealedPlace[] = [
      place,
      { ...place, application: 'app_2' },
      { ...place, name: 'OTHER' },
      { ...place, name: null },
      { ...place, version: 8 },
      { application: 'app_1","name":"TOKEN', name: null, version: 7 },
    ]
    for (const from of places)
      for (const to of places) {
        const opened = unseal(key, to, seal(key, from, plain, nonce))
        expect(opened).toEqual(from === to ? plain : undefined)
      }
  })

  it('open under no other key, nor with the commitment of one (SE2)', () => {
    const sealed = seal(key, place, plain, nonce)
    expect(unseal(otherKey, place, sealed)).toBeUndefined()
    const commitment = seal(otherKey, place, plain, nonce).subarray(1, 33)
    const dressed = Uint8Array.from([...sealed.subarray(0, 1), ...commitment, ...sealed.subarray(33)])
    expect(unseal(otherKey, place, dressed)).toBeUndefined()
    expect(unseal(key, place, dressed)).toBeUndefined()
  })

  it('open with no changed byte and no shorter tag (SE3)', () => {
    const sealed = seal(key, place, plain, nonce)
    for (let at = 0; at < sealed.length; at++)
      expect(unseal(key, place, sealed.with(at, (sealed[at] ?? 0) ^ 1))).toBeUndefined()
    for (let length = 0; length < sealed.length; length++)
      expect(unseal(key, place, sealed.slice(0, length))).toBeUndefined()
    const body = sealed.subarray(HEADER)
    for (let tag = 0; tag < 16; tag++) {
      const cut = Uint8Array.from([...sealed.subarray(0, HEADER - 16 + tag), ...body])
      expect(unseal(key, place, cut)).toBeUndefined()
    }
  })

  it('take no key and no nonce of another length', () => {
    expect(() => seal(key.subarray(1), place, plain, nonce)).toThrow('32 bytes')
    expect(() => seal(key, place, plain, nonce.subarray(1))).toThrow('12 bytes')
    expect(() => unseal(new Uint8Array(16), place, seal(key, place, plain, nonce))).toThrow('32 bytes')
  })
})

const mine = makeId('app', 1, new Uint8Array(16))
const theirs = makeId('app', 2, new Uint8Array(16))

function world(masterKey: Uint8Array = key, store = memorySecretStore()) {
  const clock = fakeClock()
  return { store, clock, secrets: openSecrets({ store, masterKey, clock, chance: fakeChance('nonces') }) }
}

async function codeOf(promise: Promise<unknown>): Promise<string> {
  const error = await promise.catch((error: unknown) => error)
  return error instanceof PlatformError ? error.code : `no error: ${inspect(error)}`
}

describe('the secrets of an application', () => {
  it('are found as they were set, the newest of each name', async () => {
    const { secrets, clock } = world()
    await secrets.set(mine, 'TOKEN', new Secret('old'))
    await clock.advance(5)
    expect(await secrets.set(mine, 'TOKEN', new Secret('\ufeffnew 秘密 🗝'))).toEqual({
      name: 'TOKEN',
      updatedAt: clock.now(),
    })
    expect((await secrets.find(mine, 'TOKEN'))?.reveal()).toBe('\ufeffnew 秘密 🗝')
    expect(await secrets.list(mine)).toEqual([{ name: 'TOKEN', updatedAt: clock.now() }])
    expect(await secrets.find(mine, 'OTHER')).toBeUndefined()
    expect(await secrets.find(theirs, 'TOKEN')).toBeUndefined()
    expect(await secrets.delete(mine, 'TOKEN')).toEqual({ name: 'TOKEN' })
    expect(await secrets.delete(mine, 'TOKEN')).toMatchObject({ refused: 'secret_not_found' })
    expect(await secrets.find(mine, 'TOKEN')).toBeUndefined()
  })

  it('never reach the store in the clear, and seal differently each time', async () => {
    const { secrets, store } = world()
    await secrets.set(mine, 'AA', new Secret('canary-3f9a'))
    await secrets.set(mine, 'BB', new Secret('canary-3f9a'))
    const sealed = [...(store.secrets.get(mine)?.values() ?? [])].map((secret) => Buffer.from(secret.sealed))
    const stored = [...sealed, ...[...store.dataKeys.values()].map((bytes) => Buffer.from(bytes))]
    for (const bytes of stored) {
      expect(bytes.includes('canary')).toBe(false)
      expect(bytes.includes(Buffer.from(key))).toBe(false)
    }
    const nonces = stored.map((bytes) => bytes.subarray(33, 45).toString('hex'))
    expect(new Set(nonces).size).toBe(3)
    const found = await secrets.find(mine, 'AA')
    expect(`${String(found)} ${JSON.stringify({ found })} ${inspect(found)}`).not.toContain('canary')
  })

  it('do not open when moved to another application, name or moment', async () => {
    const { secrets, store } = world()
    await secrets.set(mine, 'TOKEN', new Secret('mine'))
    await secrets.set(theirs, 'TOKEN', new Secret('theirs'))
    const secret = await store.get(mine, 'TOKEN')
    if (secret === undefined) throw new Error('no secret')
    await store.put(theirs, secret)
    await store.put(mine, { ...secret, name: 'OTHER' })
    expect(await codeOf(secrets.find(theirs, 'TOKEN'))).toBe('secret_undecipherable')
    expect(await codeOf(secrets.find(mine, 'OTHER'))).toBe('secret_undecipherable')
    await store.put(mine, { ...secret, updatedAt: secret.updatedAt + 1 })
    expect(await codeOf(secrets.find(mine, 'TOKEN'))).toBe('secret_undecipherable')
    const dataKey = store.dataKeys.get(mine)
    if (dataKey === undefined) throw new Error('no data key')
    store.dataKeys.set(theirs, dataKey)
    expect(await codeOf(secrets.set(theirs, 'NEXT', new Secret('x')))).toBe('secret_undecipherable')
  })

  it('do not open under another master key, which is told in the same words', async () => {
    const { secrets, store } = world()
    await secrets.set(mine, 'TOKEN', new Secret('mine'))
    const { secrets: restored } = world(otherKey, store)
    expect(await codeOf(restored.find(mine, 'TOKEN'))).toBe('secret_undecipherable')
    expect(await codeOf(restored.set(mine, 'TOKEN', new Secret('x')))).toBe('secret_undecipherable')
    expect((await secrets.find(mine, 'TOKEN'))?.reveal()).toBe('mine')
    expect(() => world(new Uint8Array(31))).toThrow('31 bytes')
  })

  it('share a data key when two are set at once', async () => {
    const { secrets } = world()
    const names = ['AA', 'BB', 'CC', 'DD']
    await Promise.all(names.map((name) => secrets.set(mine, name, new Secret(name))))
    for (const name of names) expect((await secrets.find(mine, name))?.reveal()).toBe(name)
  })

  it.each([
    '',
    'a',
    'A',
    'lower',
    '1ST',
    '_A',
    'A-B',
    'A B',
    'A\u0000',
    'TOKEN\n',
    '__proto__',
    'A'.repeat(65),
    'ＡＢ',
    'NODE_OPTIONS',
    'NODE_PATH',
    'LD_PRELOAD',
    'LD_LIBRARY_PATH',
    'DYLD_INSERT_LIBRARIES',
    'PATH',
    'HOME',
    'IFS',
    'npm_config_registry',
    'NPM_CONFIG_REGISTRY',
    'BASH_ENV',
    'PYTHONPATH',
    'RUBYOPT',
    'PERL5OPT',
    'GIT_SSH_COMMAND',
    'HTTPS_PROXY',
    'NODE_TLS_REJECT_UNAUTHORIZED',
    'NODE_EXTRA_CA_CERTS',
    'SENMON_MACHINES',
    'SSL_CERT_FILE',
  ])('do not take the name %j', async (name) => {
    const { secrets, store } = world()
    expect(await secrets.set(mine, name, new Secret('x'))).toMatchObject({ refused: 'input_invalid' })
    expect(store.secrets.size).toBe(0)
  })

  it.each(['GITHUB_TOKEN', 'ANTHROPIC_API_KEY', 'AB', 'A_1', 'A'.repeat(64), 'SLACK_PATH', 'NODE_AUTH_TOKEN'])(
    'take the name %s',
    async (name) => {
      expect(isRefusal(await world().secrets.set(mine, name, new Secret('x')))).toBe(false)
    },
  )

  it('take values of 1 to 65,536 bytes that an environment can hold', async () => {
    const { secrets } = world()
    const set = async (value: string) => secrets.set(mine, 'TOKEN', new Secret(value))
    expect(await set('')).toMatchObject({ refused: 'input_invalid' })
    expect(await set('a\u0000b')).toMatchObject({ refused: 'input_invalid' })
    expect(await set('half \ud800')).toMatchObject({ refused: 'input_invalid' })
    expect(await set('x'.repeat(VALUE_BYTES_MAX + 1))).toMatchObject({ refused: 'input_too_large' })
    expect(await set('é'.repeat(VALUE_BYTES_MAX / 2 + 1))).toMatchObject({ refused: 'input_too_large' })
    expect(isRefusal(await set('x'.repeat(VALUE_BYTES_MAX)))).toBe(false)
    expect((await secrets.find(mine, 'TOKEN'))?.reveal()).toHaveLength(VALUE_BYTES_MAX)
  })
})
