/**
 * Who a machine is, by the token that Fly gives it in itself: a JWT (RFC 7519) that names app, machine and image. Judged by
 * our clock: the machine's may be late after a resume.
 *
 * FI1 A token counts when a key of the issuer signed it, for our audience, and in its time.
 * FI2 It speaks for the machine whose row it comes for: its app, its name, our image, and Fly's own name once that is known.
 * FI3 It counts once in a process, and for two minutes: a machine has one made for each time that it asks.
 */
import { createRemoteJWKSet, jwtVerify, customFetch, type JWTPayload } from 'jose'
import type { Clock } from '../../schema/clock.ts'
import { PlatformError } from '../../schema/error.ts'
import type { ProvenMachine } from '../pool/links.ts'
import type { PooledMachine } from '../pool/machine.ts'
import { nameOf } from './fly-machine.ts'

export interface FlyIdentityOptions {
  /** `https://oidc.fly.io/<organisation>`. */
  readonly issuer: string
  /** Where the issuer's keys are. */
  readonly keysUrl: string
  /** Our own URL for machines: a token that was minted for anybody else is worth nothing here. */
  readonly audience: string
  /** `sha256:…` of the image that machines run; one of another image is not let in. */
  readonly imageDigest: string
  readonly clock: Clock
}

const LEEWAY_SECONDS = 60
/** Since it was made; Fly gives it ten minutes. */
const AGE_SECONDS_MAX = 120
const SEEN_MS = (AGE_SECONDS_MAX + LEEWAY_SECONDS) * 1_000

/** Throws `unauthenticated`, which does not say what was wrong: whoever asks knows, or must not. */
export function openFlyIdentity(
  options: FlyIdentityOptions,
): (identity: string, machine: PooledMachine) => Promise<ProvenMachine> {
  const { issuer, keysUrl, audience, imageDigest, clock } = options
  const keys = createRemoteJWKSet(new URL(keysUrl), {
    cooldownDuration: 30_000,
    timeoutDuration: 5_000,
    [customFetch]: (url, init) => fetch(url, init),
  })
  /** Names of tokens that counted, and when; the oldest first. */
  const seen = new Map<string, number>()

  function isNew(name: string): boolean {
    const now = clock.now()
    for (const [old, at] of seen) {
      if (now - at <= SEEN_MS) break
      seen.delete(old)
    }
    if (seen.has(name)) return false
    seen.set(name, now)
    return true
  }

  return async (identity, machine) => {
    const refused = (cause?: unknown): PlatformError =>
      new PlatformError('unauthenticated', 'This is no machine of ours in this boot.', { cause })
    let claims: JWTPayload
    try {
      const verified = await jwtVerify(identity, keys, {
        issuer,
        audience,
        algorithms: ['RS256', 'ES256', 'EdDSA'],
        clockTolerance: LEEWAY_SECONDS,
        currentDate: new Date(clock.now()),
        requiredClaims: ['exp', 'iat', 'jti', 'sub'],
        maxTokenAge: AGE_SECONDS_MAX,
      })
      claims = verified.payload
    } catch (error) {
      throw refused(error)
    }
    const { jti = '', app_name: app, machine_id: id, machine_name: name, image_digest: digest } = claims
    if (typeof id !== 'string' || app !== machine.place || name !== nameOf(machine.id)) throw refused()
    if (digest !== imageDigest || (machine.providerId !== null && machine.providerId !== id)) throw refused()
    if (!isNew(jti)) throw refused()
    return { providerId: id }
  }
}
