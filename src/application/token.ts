/**
 * API keys: `snm_<26 characters of the key's id><43 of secret><6 of CRC-32>`, letters and digits only.
 * The checksum tells junk from keys without asking anybody, and lets scanners find leaked keys without false alarms.
 */
import { sha256, type Sha256 } from '../../schema/hash.ts'
import { parseId, type ApiKeyId } from '../../schema/id.ts'
import { Secret } from '../../schema/secret.ts'

const ALPHABET = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz'
const ID_LENGTH = 26
const SECRET_LENGTH = 43
const CHECK_LENGTH = 6
const SHAPE = new RegExp(`^snm_[0-9a-z]{${ID_LENGTH}}[0-9A-Za-z]{${SECRET_LENGTH + CHECK_LENGTH}}$`)
/** Bytes of chance in a secret. */
export const SECRET_BYTES = 32

export interface ParsedToken {
  readonly keyId: ApiKeyId
  /** SHA-256 of the secret part: all that is ever stored. The secret has 256 bits of chance, so it needs no salt. */
  readonly secretHash: Sha256
}

/** The key of an id, from SECRET_BYTES of chance. */
export function mintToken(
  keyId: ApiKeyId,
  chance: Uint8Array,
): { readonly token: Secret; readonly secretHash: Sha256 } {
  if (chance.length !== SECRET_BYTES) throw new TypeError(`a key needs ${SECRET_BYTES} bytes of chance`)
  const secret = base62(
    chance.reduce((sum, byte) => (sum << 8n) | BigInt(byte), 0n),
    SECRET_LENGTH,
  )
  const body = `snm_${keyId.slice('key_'.length)}${secret}`
  const token = `${body}${checksum(body)}`
  if (!SHAPE.test(token)) throw new TypeError(`${keyId} is not the id of a key`)
  return { token: new Secret(token), secretHash: sha256(secret) }
}

/** What a key says, or undefined for whatever was not minted here: wrong shape, case, spaces or checksum. */
export function parseToken(text: string): ParsedToken | undefined {
  if (text.length !== 4 + ID_LENGTH + SECRET_LENGTH + CHECK_LENGTH || !SHAPE.test(text)) return undefined
  const body = text.slice(0, -CHECK_LENGTH)
  if (checksum(body) !== text.slice(-CHECK_LENGTH)) return undefined
  const keyId = parseId('key', `key_${body.slice(4, 4 + ID_LENGTH)}`)
  return keyId === undefined ? undefined : { keyId, secretHash: sha256(body.slice(4 + ID_LENGTH)) }
}

function checksum(body: string): string {
  return base62(BigInt(crc32(body)), CHECK_LENGTH)
}

/** CRC-32 as in gzip, of ASCII text. */
function crc32(text: string): number {
  let crc = 0xffffffff
  for (let i = 0; i < text.length; i++) {
    crc ^= text.charCodeAt(i)
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0)
  }
  return (crc ^ 0xffffffff) >>> 0
}

function base62(value: bigint, length: number): string {
  let text = ''
  for (let rest = value; text.length < length; rest /= 62n) text = (ALPHABET[Number(rest % 62n)] ?? '') + text
  return text
}
