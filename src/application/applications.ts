/**
 * The verbs of applications: who is asking, and may they.
 *
 * AP1 Only a key that was minted, is known, is not revoked and belongs to a known application gives a caller.
 * AP2 Junk is dropped before the store is asked.
 * AP3 Whatever the store does wrong (nothing, null, another's row, an error), nobody is let in.
 * AP4 A key that was revoked here is live for nobody at once; one that another process revoked, for LIVE_MS at most.
 */
import { timingSafeEqual } from 'node:crypto'
import type { Chance, Clock } from '../../schema/clock.ts'
import { PlatformError } from '../../schema/error.ts'
import { sha256 } from '../../schema/hash.ts'
import { makeId, type ApiKeyId, type ApplicationId } from '../../schema/id.ts'
import type { Secret } from '../../schema/secret.ts'
import type { Application, ApplicationStore, StoredKey } from './application-store.ts'
import { mintToken, parseToken, SECRET_BYTES } from './token.ts'

export interface Caller {
  readonly application: Application
  readonly keyId: ApiKeyId
  readonly scopes: readonly string[]
}

export interface Applications {
  /**
   * The caller that a key stands for; undefined for junk, unknown, revoked. Never throws for bad keys;
   * throws `not_ready` when the store cannot be asked.
   */
  authenticate(key: string | null): Promise<Caller | undefined>
  /**
   * True while the key has not been revoked: streams ask again for every event, so the store is asked once in LIVE_MS.
   * False when in doubt; never throws.
   */
  isLive(keyId: ApiKeyId): Promise<boolean>
  /** The application of this name, made when there is none. */
  ensure(name: string): Promise<Application>
  /**
   * A new key for all that is the application's own, and for an operator's view where `role` says so; this is the only
   * time that it is seen.
   */
  createKey(applicationId: ApplicationId, role?: typeof OPERATOR): Promise<Secret>
  /** False for an unknown key, another application's, or one revoked before. */
  revokeKey(applicationId: ApplicationId, keyId: ApiKeyId): Promise<boolean>
}

export interface ApplicationsDependencies {
  readonly store: ApplicationStore
  readonly clock: Clock
  readonly chance: Chance
}

/** How long a key that was found live counts as live without another look. */
export const LIVE_MS = 1000
/** Keys of whose life is known; above that all are forgotten and asked for again. */
const KNOWN_MAX = 10_000

/** Every verb on what is the application's own. */
const OWN_SCOPES: readonly string[] = ['*']
/** Besides: to look at what all applications share. No key has it but one that was made with it. */
export const OPERATOR = 'operator'

/** False for no caller, and for scopes that do not say so in so many words. */
export function isOperator(caller: Pick<Caller, 'scopes'> | undefined): boolean {
  return caller?.scopes.includes(OPERATOR) === true
}

export function openApplications({ store, clock, chance }: ApplicationsDependencies): Applications {
  async function findLive(keyId: ApiKeyId): Promise<StoredKey | undefined> {
    const key = await store.findKey(keyId)
    // Only a row that says in so many words that this key is not revoked will do.
    return key?.id === keyId && key.revokedAt === null && Array.isArray(key.scopes) ? key : undefined
  }

  /** When each key was last asked for and found live. */
  const foundAt = new Map<ApiKeyId, number>()
  let revocations = 0

  async function askLive(keyId: ApiKeyId, now: number): Promise<boolean> {
    const before = revocations
    if ((await findLive(keyId)) === undefined) return false
    if (foundAt.size >= KNOWN_MAX) foundAt.clear()
    // An answer from before a revocation says nothing about after it.
    if (before === revocations) foundAt.set(keyId, now)
    return true
  }

  return {
    async authenticate(text) {
      const token = typeof text === 'string' ? parseToken(text) : undefined
      if (token === undefined) return undefined
      try {
        const key = await findLive(token.keyId)
        if (key === undefined || !isEqual(key.secretHash, token.secretHash)) return undefined
        const application = await store.find(key.applicationId)
        if (application?.id !== key.applicationId) return undefined
        return { application, keyId: key.id, scopes: key.scopes }
      } catch (error) {
        throw new PlatformError('not_ready', 'The store of applications did not answer.', { cause: error })
      }
    },
    async isLive(keyId) {
      const now = clock.now()
      const ageMs = now - (foundAt.get(keyId) ?? -Infinity)
      if (ageMs >= 0 && ageMs < LIVE_MS) return true
      foundAt.delete(keyId)
      try {
        return await askLive(keyId, now)
      } catch {
        // A stream that ends can be opened again; one that goes on with a revoked key cannot be taken back.
        return false
      }
    },
    async ensure(name) {
      const createdAt = clock.now()
      return store.ensure({ id: makeId('app', createdAt, chance.bytes(16)), name, createdAt })
    },
    async createKey(applicationId, role) {
      const id = makeId('key', clock.now(), chance.bytes(16))
      const { token, secretHash } = mintToken(id, chance.bytes(SECRET_BYTES))
      const scopes = role === undefined ? OWN_SCOPES : [...OWN_SCOPES, role]
      await store.putKey({ id, applicationId, secretHash, scopes, revokedAt: null })
      return token
    },
    async revokeKey(applicationId, keyId) {
      const key = await store.findKey(keyId)
      if (key?.applicationId !== applicationId) return false
      const revoked = await store.revokeKey(keyId, clock.now())
      revocations += 1
      foundAt.delete(keyId)
      return revoked
    },
  }
}

/** Compares hashes of both, so that neither length nor content shows in the time it takes. */
function isEqual(a: string, b: string): boolean {
  return typeof a === 'string' && timingSafeEqual(Buffer.from(sha256(a)), Buffer.from(sha256(b)))
}
