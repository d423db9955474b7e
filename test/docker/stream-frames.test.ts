import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { StreamFrames, type StreamPiece } from '../../src/docker/stream-frames.ts'

const frame = fc.record({ type: fc.constantFrom(1, 2), bytes: fc.uint8Array({ maxLength: 40 }) })

function print(frames: readonly { readonly type: number; readonly bytes: Uint8Array }[]): Buffer {
  return Buffer.concat(
    frames.map(({ type, bytes }) => {
      const header = Buffer.from([type, 0, 0, 0, 0, 0, 0, 0])
      header.writeUInt32BE(bytes.length, 4)
      return Buffer.concat([header, bytes])
    }),
  )
}

const texts = (pieces: readonly StreamPiece[], stream: StreamPiece['stream']): Buffer =>
  Buffer.concat(pieces.filter((piece) => piece.stream === stream).map(({ bytes }) => bytes))

describe('the stream of an attached container', () => {
  it('gives each stream what was written to it, wherever the connection cuts', () => {
    fc.assert(
      fc.property(fc.array(frame, { maxLength: 8 }), fc.array(fc.nat(), { maxLength: 12 }), (frames, cuts) => {
        const whole = print(frames)
        const at = [0, ...cuts.map((cut) => cut % (whole.length + 1)).toSorted((a, b) => a - b), whole.length]
        const reader = new StreamFrames()
        const pieces = at.slice(1).flatMap((end, i) => [...reader.push(whole.subarray(at[i], end))])
        for (const [type, stream] of [[1, 'out'] as const, [2, 'err'] as const])
          expect(texts(pieces, stream)).toEqual(
            Buffer.concat(frames.filter((one) => one.type === type).map(({ bytes }) => bytes)),
          )
      }),
    )
  })

  it('holds nothing back until a frame is whole', () => {
    const reader = new StreamFrames()
    const huge = Buffer.from([1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 65])
    expect(texts(reader.push(huge), 'out').toString()).toBe('A')
  })

  it.each([
    ['a stream that is none', [3, 0, 0, 0, 0, 0, 0, 1, 65]],
    ['our own input', [0, 0, 0, 0, 0, 0, 0, 1, 65]],
    ['bytes that must be zero', [1, 1, 0, 0, 0, 0, 0, 1, 65]],
    ['the raw stream of a terminal', [...Buffer.from('{"type":"ready"}')]],
  ])('takes nothing for a frame that begins with %s', (_what, bytes) => {
    expect(() => new StreamFrames().push(Uint8Array.from(bytes))).toThrow(/a frame that begins with/)
  })
})
