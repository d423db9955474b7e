/**
 * Chance that repeats: a stream of numbers for each name under one seed, so that the order in which machines act does
 * not change what each of them draws. A stream is plain data; `draw` moves it on.
 */
import { sha256 } from '../../../schema/hash.ts'

export interface Stream {
  state: number
}

/** How long something takes, in ms, or how much of it there is. */
export type Spread =
  | { readonly fixed: number }
  | { readonly from: number; readonly to: number }
  /** Lognormal, by its median and one quantile. */
  | { readonly median: number; readonly p95: number }
  | { readonly median: number; readonly p99: number }
  /** Exponential, cut at `cap`. */
  | { readonly mean: number; readonly cap: number }

export function openStream(...names: readonly (string | number)[]): Stream {
  return { state: Number.parseInt(sha256(names.join('\n')).slice(0, 8), 16) }
}

/** From 0 to below 1: mulberry32 (T. Ettinger, public domain), a 32-bit state and a good enough spread for a fake. */
export function draw(stream: Stream): number {
  stream.state = (stream.state + 0x6d2b79f5) | 0
  let mixed = Math.imul(stream.state ^ (stream.state >>> 15), stream.state | 1)
  mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
  return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
}

export function isDrawn(stream: Stream, probability: number): boolean {
  return draw(stream) < probability
}

/** Whole, and at least 0. */
export function drawFrom(stream: Stream, spread: Spread): number {
  return Math.max(0, Math.round(valueOf(stream, spread)))
}

function valueOf(stream: Stream, spread: Spread): number {
  if ('fixed' in spread) return spread.fixed
  if ('from' in spread) return spread.from + draw(stream) * (spread.to - spread.from)
  if ('mean' in spread) return Math.min(spread.cap, -spread.mean * Math.log(1 - draw(stream)))
  const [quantile, deviations] = 'p95' in spread ? [spread.p95, 1.6449] : [spread.p99, 2.3263]
  if (spread.median === 0) return 0
  return spread.median * Math.exp(normal(stream) * (Math.log(quantile / spread.median) / deviations))
}

/** Box and Muller. */
function normal(stream: Stream): number {
  return Math.sqrt(-2 * Math.log(1 - draw(stream))) * Math.cos(2 * Math.PI * draw(stream))
}

/** `length` lower-case hex digits. */
export function drawHex(stream: Stream, length: number): string {
  return Array.from({ length }, () => Math.floor(draw(stream) * 16).toString(16)).join('')
}

const CROCKFORD = '0123456789ABCDEFGHJKMNPQRSTVWXYZ'

/** A ULID: 48 bits of epoch ms and 80 of chance, in Crockford's base 32. */
export function drawUlid(stream: Stream, now: number): string {
  let time = ''
  for (let rest = now, i = 0; i < 10; i++, rest = Math.floor(rest / 32)) time = `${CROCKFORD[rest % 32]}${time}`
  return time + Array.from({ length: 16 }, () => CROCKFORD[Math.floor(draw(stream) * 32)]).join('')
}
