/** The size of what a model reads: as JSON, images by their number. */
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Message } from '../../schema/message.ts'
import { bytesOf } from '../../src/gateway/token.ts'

const messages = fc.array(
  fc.string({ unit: 'grapheme' }).map((text): Message => ({ role: 'user', content: [{ type: 'text', text }] })),
)

describe('the size of a conversation', () => {
  it('is that of its JSON, the first time and ever after', () => {
    fc.assert(
      fc.property(messages, messages, (before, more) => {
        expect(bytesOf(before)).toBe(Buffer.byteLength(JSON.stringify(before)))
        const longer = [...before, ...more]
        expect(bytesOf(longer)).toBe(Buffer.byteLength(JSON.stringify(longer)))
        expect(bytesOf(longer)).toBe(Buffer.byteLength(JSON.stringify(longer)))
      }),
    )
  })

  it('is that of its JSON when it begins as another did, and goes on otherwise or ends before', () => {
    fc.assert(
      fc.property(messages, messages, messages, (beginning, one, other) => {
        const [first, ...rest] = [...beginning, ...one]
        if (first === undefined) return
        for (const list of [[first, ...rest], [first, ...other, ...rest], [first, ...other], [first], [first, ...rest]])
          expect(bytesOf(list)).toBe(Buffer.byteLength(JSON.stringify(list)))
      }),
    )
  })

  it('does not depend on how large an image is', () => {
    const withImage = (base64: string): Message => ({
      role: 'tool',
      content: [
        {
          type: 'toolResult',
          callId: 'c',
          name: 'a/b',
          isError: false,
          content: [{ type: 'image', mediaType: 'image/png', base64 }],
        },
      ],
    })
    expect(bytesOf([withImage('a'.repeat(100_000))])).toBe(bytesOf([withImage('a')]))
    expect(bytesOf([withImage('a')])).toBeGreaterThan(6_000)
  })
})
