/**
 * The stream of an attached container without a terminal: its output and its complaints in one, each piece after eight
 * bytes that say which it is and how long (Docker Engine API, "Attach to a container", stream format). Pure.
 */
import { PlatformError } from '../../schema/error.ts'

const HEADER_BYTES = 8
const OUT = 1
const ERR = 2

export interface StreamPiece {
  readonly stream: 'out' | 'err'
  /** A part of a frame: nothing is held until the frame is whole. */
  readonly bytes: Uint8Array
}

/** Takes the bytes as they arrive, and gives what they hold in order. */
export class StreamFrames {
  readonly #header = new Uint8Array(HEADER_BYTES)
  #headerBytes = 0
  #stream: StreamPiece['stream'] = 'out'
  #left = 0

  /** Throws `protocol_breach` where a frame begins otherwise than one does: nothing after it means anything. */
  push(chunk: Uint8Array): readonly StreamPiece[] {
    const pieces: StreamPiece[] = []
    for (let at = 0; at < chunk.length;) {
      if (this.#left > 0) {
        const bytes = chunk.subarray(at, at + this.#left)
        pieces.push({ stream: this.#stream, bytes })
        this.#left -= bytes.length
        at += bytes.length
        continue
      }
      const part = chunk.subarray(at, at + HEADER_BYTES - this.#headerBytes)
      this.#header.set(part, this.#headerBytes)
      this.#headerBytes += part.length
      at += part.length
      if (this.#headerBytes === HEADER_BYTES) this.#begin()
    }
    return pieces
  }

  #begin(): void {
    const [type, ...zeros] = this.#header.subarray(0, 4)
    if ((type !== OUT && type !== ERR) || zeros.some((byte) => byte !== 0))
      throw new PlatformError('protocol_breach', `The stream of a container has a frame that begins with ${type}.`)
    this.#stream = type === OUT ? 'out' : 'err'
    this.#left = new DataView(this.#header.buffer).getUint32(4)
    this.#headerBytes = 0
  }
}
