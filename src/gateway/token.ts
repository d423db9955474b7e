/**
 * How many tokens a text has, by rules that need no tokenizer: one for what a generation may take at most, one for
 * what a rehearsal says it took.
 */
import type { GeneratedPart, Message } from '../../schema/message.ts'

/** Ordinary text has a token for every two bytes at most; only noise (base64, digits) has more. */
const BYTES_MIN = 2
/** English and code have about four. */
const BYTES_USUAL = 4
/** What an image counts as: above what providers take for one at full size, at BYTES_MIN. */
const IMAGE_BYTES = 6_000
/** Around each request: the provider's own words about tools, and the marks between messages. */
export const OVERHEAD_TOKENS = 500

/** At most so many tokens, of text that no provider has counted yet. */
export function tokensAtMost(bytes: number): number {
  return Math.ceil(bytes / BYTES_MIN)
}

/** About so many: what a rehearsal counts. */
export function tokensUsually(bytes: number): number {
  return Math.ceil(bytes / BYTES_USUAL)
}

/** What was measured before: a prompt is the same for all steps of a run, and so is every message but the last ones. */
const measured = new WeakMap<object, number>()

/** The size of what a model reads or writes, images by number and not by size. What is given never changes afterwards. */
export function bytesOf(value: Message | readonly (Message | GeneratedPart | string)[] | object | string): number {
  if (typeof value === 'string') return textBytes(value)
  const known = measured.get(value)
  if (known !== undefined) return known
  const bytes = Array.isArray(value) ? listBytes(value as readonly (object | string)[]) : textBytes(value)
  measured.set(value, bytes)
  return bytes
}

/** The list measured last that begins with this: a conversation is the one before and what was said since. */
const begun = new WeakMap<object, { readonly items: readonly (object | string)[]; readonly bytes: number }>()

/** As its JSON, bracket and comma included. */
function listBytes(items: readonly (object | string)[]): number {
  const [first] = items
  if (typeof first !== 'object')
    return items.reduce((sum: number, item) => sum + bytesOf(item), 2 + Math.max(0, items.length - 1))
  const known = begun.get(first)
  const before = known !== undefined && isBeginning(known.items, items) ? known : { items: [], bytes: 1 }
  let { bytes } = before
  for (let i = before.items.length; i < items.length; i++) bytes += bytesOf(items[i] ?? '') + 1
  begun.set(first, { items, bytes })
  return bytes
}

/** Looking whether two are the same costs a fraction of looking one up. */
function isBeginning(items: readonly unknown[], longer: readonly unknown[]): boolean {
  for (let i = 0; i < items.length; i++) if (items[i] !== longer[i]) return false
  return items.length <= longer.length
}

function textBytes(value: object | string): number {
  const plain = JSON.stringify(value)
  // A look at each member would cost ten times as much, and few have images.
  if (!plain.includes('"base64"')) return Buffer.byteLength(plain)
  let images = 0
  const text = JSON.stringify(value, (_key, member: unknown) => {
    const isImage = typeof member === 'object' && member !== null && 'base64' in member && 'mediaType' in member
    if (!isImage) return member
    images += 1
    return 0
  })
  return Buffer.byteLength(text) + images * IMAGE_BYTES
}
