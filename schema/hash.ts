/** Hashes of values: canonical JSON (RFC 8785 in spirit: sorted keys, no spaces) under SHA-256. */
import { hash } from 'node:crypto'
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
  if (Array.isArray(value)) {
    let text = '['
    for (let i = 0; i < value.length; i++) text += `${i === 0 ? '' : ','}${canonical(value[i] ?? null)}`
    return `${text}]`
  }
  if (typeof value === 'object') {
    const members = value as Readonly<Record<string, unknown>>
    let text = ''
    // Without a comparison of its own, a sort compares by UTF-16 code unit.
    for (const key of Object.keys(members).toSorted()) {
      const member = members[key]
      if (member !== undefined) text += `${text === '' ? '' : ','}${JSON.stringify(key)}:${canonical(member)}`
    }
    return `{${text}}`
  }
  throw new TypeError(`a ${typeof value} has no JSON form`)
}

export function sha256(bytes: string | Uint8Array): Sha256 {
  return hash('sha256', bytes, 'hex') as Sha256
}

/** The hash of a value's canonical text. */
export function hashOf(value: Json | object): Sha256 {
  return sha256(canonical(value))
}
