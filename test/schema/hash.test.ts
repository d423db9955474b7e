/** Canonical texts and the hashes over them: what every log, tree and lock is named by. */
import { createHash } from 'node:crypto'
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { hashEvent, type JobEvent } from '../../schema/event.ts'
import { canonical, sha256 } from '../../schema/hash.ts'

/** RFC 8785 by the letter, without a thought for speed. */
function plainly(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map((item) => plainly(item ?? null)).join(',')}]`
  if (typeof value !== 'object' || value === null) return JSON.stringify(value)
  const members = Object.entries(value).filter(([, member]) => member !== undefined)
  const sorted = members.toSorted(([a], [b]) => (a < b ? -1 : 1))
  return `{${sorted.map(([key, member]) => `${JSON.stringify(key)}:${plainly(member)}`).join(',')}}`
}

const key = fc.oneof(
  fc.string({ unit: 'binary' }),
  fc.constantFrom('__proto__', 'constructor', '10', '9', '\ud800', '😀', 'ﬀ'),
)
const json = fc.letrec<{ value: unknown }>((tie) => ({
  value: fc.oneof(
    { depthSize: 'small', withCrossShrink: true },
    fc.constantFrom(null, true, false, 0, -0, 1e21, 0.1, undefined),
    fc.string({ unit: 'binary' }),
    fc.double({ noNaN: true, noDefaultInfinity: true }),
    fc.array(tie('value'), { maxLength: 4 }),
    fc.array(fc.tuple(key, tie('value')), { maxLength: 5 }).map((members) => Object.fromEntries(members)),
  ),
})).value

describe('a canonical text', () => {
  it('is one for one value, whatever order its members came in', () => {
    fc.assert(
      fc.property(json, (value) => {
        if (value !== undefined) expect(canonical(value)).toBe(plainly(value))
      }),
    )
  })

  it('is never of what JSON cannot hold', () => {
    for (const value of [Number.NaN, Infinity, 10n, () => 1, Symbol('x'), { a: [Number.NaN] }])
      expect(() => canonical(value)).toThrow(TypeError)
  })
})

describe('a hash', () => {
  it('is the SHA-256 of UTF-8 text or of bytes, in lower-case hex', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), fc.uint8Array(), (text, bytes) => {
        expect(sha256(text)).toBe(createHash('sha256').update(text, 'utf8').digest('hex'))
        expect(sha256(bytes)).toBe(createHash('sha256').update(bytes).digest('hex'))
      }),
    )
  })

  it('of an event covers the canonical text of every member of the event but itself', () => {
    const place = fc.record({
      runId: fc.constantFrom(null, 'run_1'),
      expertKey: fc.option(fc.string()),
      stepNumber: fc.option(fc.nat()),
    })
    const rest = {
      jobId: fc.string(),
      seq: fc.nat(),
      at: fc.nat(),
      type: fc.string(),
      prevHash: fc.string(),
      v: fc.constantFrom(1, 2),
    }
    fc.assert(
      fc.property(fc.record(rest), place, json, (facts, where, data) => {
        const open = { ...facts, ...where, data: data ?? null }
        expect(hashEvent(open as unknown as JobEvent)).toBe(sha256(plainly(open)))
      }),
    )
  })
})
