/**
 * Sealing: AES-256-GCM under a key that the sealed bytes commit to, bound to where they belong.
 * Layout: 1 byte of format, 32 of key commitment, 12 of nonce, 16 of tag, then the ciphertext.
 *
 * SE1 What was sealed for one place (application, name, version) opens for no other.
 * SE2 What was sealed under one key opens under no other, and says so before anything is decrypted.
 * SE3 A tag is 16 bytes, always; a changed byte anywhere opens nothing.
 */
import { createCipheriv, createDecipheriv, createHmac, timingSafeEqual } from 'node:crypto'
import { canonical } from '../../schema/hash.ts'

export const KEY_BYTES = 32
export const NONCE_BYTES = 12
const TAG_BYTES = 16
const COMMITMENT_BYTES = 32
const FORMAT = 1
const HEADER_BYTES = 1 + COMMITMENT_BYTES + NONCE_BYTES + TAG_BYTES

/** Where sealed bytes belong. */
export interface SealedPlace {
  readonly application: string
  /** A secret's name; null for the application's data key. */
  readonly name: string | null
  /** Changes with every new value. */
  readonly version: number
}

/** Seals with a fresh nonce, which must never come twice with one key. */
export function seal(key: Uint8Array, place: SealedPlace, plain: Uint8Array, nonce: Uint8Array): Uint8Array {
  assertKey(key)
  if (nonce.length !== NONCE_BYTES) throw new TypeError(`a nonce has ${NONCE_BYTES} bytes, not ${nonce.length}`)
  const cipher = createCipheriv('aes-256-gcm', key, nonce, { authTagLength: TAG_BYTES })
  cipher.setAAD(bind(place))
  const ciphertext = Buffer.concat([cipher.update(plain), cipher.final()])
  return Uint8Array.from(Buffer.concat([Uint8Array.of(FORMAT), commit(key), nonce, cipher.getAuthTag(), ciphertext]))
}

/** The plain bytes, or undefined when anything at all is not as it was sealed. */
export function unseal(key: Uint8Array, place: SealedPlace, sealed: Uint8Array): Uint8Array | undefined {
  assertKey(key)
  if (sealed.length < HEADER_BYTES || sealed[0] !== FORMAT) return undefined
  const parts = Buffer.from(sealed)
  const commitment = parts.subarray(1, 1 + COMMITMENT_BYTES)
  const nonce = parts.subarray(1 + COMMITMENT_BYTES, 1 + COMMITMENT_BYTES + NONCE_BYTES)
  const tag = parts.subarray(HEADER_BYTES - TAG_BYTES, HEADER_BYTES)
  if (!timingSafeEqual(commitment, commit(key))) return undefined
  const decipher = createDecipheriv('aes-256-gcm', key, nonce, { authTagLength: TAG_BYTES })
  decipher.setAAD(bind(place))
  decipher.setAuthTag(tag)
  try {
    // Nothing of update() leaves before final() has checked the tag.
    return Uint8Array.from(Buffer.concat([decipher.update(parts.subarray(HEADER_BYTES)), decipher.final()]))
  } catch {
    return undefined
  }
}

function bind({ application, name, version }: SealedPlace): Buffer {
  return Buffer.from(canonical({ alg: 'A256GCM', application, format: FORMAT, name, version }))
}

/** GCM alone lets one ciphertext open under several keys; this ties it to one. */
function commit(key: Uint8Array): Buffer {
  return createHmac('sha256', key).update('senmon key commitment').digest()
}

function assertKey(key: Uint8Array): void {
  if (key.length !== KEY_BYTES) throw new TypeError(`a key has ${KEY_BYTES} bytes, not ${key.length}`)
}
