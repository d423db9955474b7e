/** Hashes of values: canonical JSON (RFC 8785 in spirit: sorted keys, no spaces) under SHA-256. */
import { createHash } from 'node:crypto'
import type { Json } from './json.ts'

/** Lower-case hex SHA-256. */
export type Sha256 = string & { readonly __brand: 'Sha256' }

/**
 * One text per value: object keys sorted by UTF-16 code unit, `undefined` members left out, as RFC 8785 asks.
 * Throws on numbers that JSON cannot hold; a lone surrogate is escaped as JSON.stringify does.
 */
export function canonical(value: unknown): string {
  if (value === null || typeof value === 'boolean' || typeof value === 'string') return JSON.stringify(value)
  if (typeof value === 'number') {
    if (!Number.isFinite(value)) throw new TypeError(`${value} has no JSON form`)
    return JSON.stringify(value)
  }
  if (Array.isArray(value)) return `[${value.map((item) => canonical(item ?? null)).join(',')}]`
  if (typeof value === 'object') {
    const members = Object.entries(value)
      .filter(([, member]) => member !== undefined)
      .toSorted(([a], [b]) => (a < b ? -1 : 1))
    return `{${members.map(([key, member]) => `${JSON.stringify(key)}:${canonical(member)}`).join(',')}}`
  }
  throw new TypeError(`a ${typeof value} has no JSON form`)
}

export function sha256(bytes: string | Uint8Array): Sha256 {
  return createHash('sha256').update(bytes).digest('hex') as Sha256
}

/** The hash of a value's canonical text. */
export function hashOf(value: Json | object): Sha256 {
  return sha256(canonical(value))
}
