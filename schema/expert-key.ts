/**
 * Expert keys: `name`, `name@1.2.0`, `name@^1` or `name@tag`. The name is an npm package name, optionally
 * followed by `/member` for another expert of the same file (`@acme/licences/reader`).
 */

/** A key with an exact version, as it stands in a lock. */
export type ExpertKey = string & { readonly __brand: 'ExpertKey' }

export interface ParsedExpertKey {
  /** The whole name, member included. */
  readonly name: string
  readonly packageName: string
  /** The expert within the package's file; undefined for the one that the package is named for. */
  readonly member: string | undefined
  /** Version, range or tag; undefined means the tag `latest`. */
  readonly spec: string | undefined
}

const PART = '[a-z0-9][a-z0-9._-]{0,63}'
const KEY = new RegExp(`^((@${PART}/)?${PART})(?:/(${PART}))?(?:@([^@\\s/]{1,128}))?$`)
const RESERVED = new Set(['__proto__', 'constructor', 'prototype', 'node_modules', 'favicon.ico'])

/** The parts of a key, or undefined when it is not one. */
export function parseExpertKey(text: string): ParsedExpertKey | undefined {
  const match = KEY.exec(text)
  if (match === null) return undefined
  const [, packageName = '', , member, spec] = match
  if (RESERVED.has(packageName) || (member !== undefined && RESERVED.has(member))) return undefined
  return { name: member === undefined ? packageName : `${packageName}/${member}`, packageName, member, spec }
}

/** The exact key of a locked expert. */
export function printExpertKey(name: string, version: string): ExpertKey {
  return `${name}@${version}` as ExpertKey
}
