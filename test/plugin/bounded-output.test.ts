/** What is kept of a command's output: its beginning and its end, in whole characters, however it came in pieces. */
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { BoundedOutput, HEAD_BYTES, TAIL_BYTES } from '../../plugins/shell/output.ts'

const NOTICE = /^\[(\d+) bytes are left out here; write the output to a file to read all of it\]$/m

/** The text of an output that came in pieces of these sizes, over and over. */
function take(bytes: Uint8Array, sizes: readonly number[]): string {
  const output = new BoundedOutput()
  for (let at = 0, i = 0; at < bytes.length; i++) {
    const size = sizes[i % sizes.length] ?? 1
    output.add(bytes.subarray(at, at + size))
    at += size
  }
  return output.text()
}

/** Aimed at the two cuts: characters of one to four bytes, and lengths around what is kept. */
const units = fc.constantFrom('a', '\n', 'é', 'あ', '🙂', 'zz\n')
const near = fc.integer({ min: -12, max: 40 }).map((over) => HEAD_BYTES + TAIL_BYTES + over)
const lengths = fc.oneof(fc.nat(200), near, fc.integer({ min: 20_000, max: 60_000 }))
const texts = fc.tuple(fc.array(units, { minLength: 1, maxLength: 7 }), lengths).map(([pattern, length]) => {
  const once = pattern.join('')
  return once.repeat(Math.ceil(length / Buffer.byteLength(once)))
})
const pieces = fc.array(fc.integer({ min: 1, max: 30_000 }), { minLength: 1, maxLength: 5 })

describe('the output of a command', () => {
  it('is whole when it fits, and else says how many bytes are missing, in whole characters', () => {
    fc.assert(
      fc.property(texts, pieces, (text, sizes) => {
        const bytes = Buffer.from(text)
        const kept = take(bytes, sizes)
        if (bytes.length <= HEAD_BYTES + TAIL_BYTES) {
          expect(kept).toBe(text)
          return
        }
        expect(kept).not.toContain('\ufffd')
        const [head = '', tail = ''] = kept.split(NOTICE).filter((_, i) => i !== 1)
        expect(text.startsWith(head.slice(0, -1))).toBe(true)
        expect(text.endsWith(tail.slice(1))).toBe(true)
        // A character that a cut goes through is missing as well, but for its bytes: at most three at each cut.
        const missing = Number(NOTICE.exec(kept)?.[1])
        const shown = Buffer.byteLength(head) - 1 + Buffer.byteLength(tail) - 1
        expect(bytes.length - shown - missing).toBeGreaterThanOrEqual(0)
        expect(bytes.length - shown - missing).toBeLessThanOrEqual(6)
        expect(missing).toBe(bytes.length - HEAD_BYTES - TAIL_BYTES)
      }),
    )
  })

  it('is the same in whatever pieces it came', () => {
    fc.assert(
      fc.property(texts, pieces, (text, sizes) => {
        const bytes = Buffer.from(text)
        expect(take(bytes, sizes)).toBe(take(bytes, [bytes.length]))
      }),
    )
  })

  it('holds nothing that no text may hold', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 400 }), pieces, (bytes, sizes) => {
        const text = take(bytes, sizes)
        expect(text.includes('\0')).toBe(false)
        expect(text.isWellFormed()).toBe(true)
      }),
    )
  })
})
