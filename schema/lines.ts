/** Bytes into lines, however they arrive: the cap holds before anything is decoded or parsed. */
import { LINE_BYTES_MAX } from './control.ts'

/** A line that could not be read; `fault` says the rule it broke, `message` the rest in one sentence. */
export interface LineFault {
  readonly fault: 'too_long' | 'not_utf8' | 'not_json' | 'too_deep' | 'unknown_type' | 'invalid'
  readonly message: string
}

export function isLineFault(value: unknown): value is LineFault {
  return typeof value === 'object' && value !== null && 'fault' in value
}

/**
 * Splits bytes at newlines, incrementally. A line above `bytesMax` is one fault and its bytes are let go as they
 * come, so that it never holds more than the cap.
 */
export class LineSplitter {
  readonly #bytesMax: number
  readonly #decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })
  #held: Uint8Array[] = []
  #heldBytes = 0
  #skipping = false

  constructor(bytesMax: number = LINE_BYTES_MAX) {
    this.#bytesMax = bytesMax
  }

  /** The lines that `chunk` completes, without their newline, in order. The chunk may be reused after the call. */
  push(chunk: Uint8Array): readonly (string | LineFault)[] {
    const lines: (string | LineFault)[] = []
    let from = 0
    for (;;) {
      const newline = chunk.indexOf(10, from)
      const part = chunk.subarray(from, newline === -1 ? chunk.length : newline)
      const fault = this.#hold(part, newline === -1)
      if (fault !== undefined) lines.push(fault)
      if (newline === -1) return lines
      if (!this.#skipping) lines.push(this.#take())
      this.#skipping = false
      from = newline + 1
    }
  }

  /** What is left when the bytes end without a newline; undefined when nothing is. */
  end(): string | LineFault | undefined {
    return this.#heldBytes === 0 ? undefined : this.#take()
  }

  #hold(part: Uint8Array, partial: boolean): LineFault | undefined {
    if (this.#skipping) return undefined
    if (this.#heldBytes + part.length > this.#bytesMax) {
      this.#held = []
      this.#heldBytes = 0
      this.#skipping = true
      return { fault: 'too_long', message: `A line is longer than ${this.#bytesMax} bytes.` }
    }
    if (part.length > 0) this.#held.push(partial ? part.slice() : part)
    this.#heldBytes += part.length
    return undefined
  }

  #take(): string | LineFault {
    const whole = this.#held.length === 1 ? this.#held[0] : join(this.#held, this.#heldBytes)
    this.#held = []
    this.#heldBytes = 0
    try {
      return this.#decoder.decode(whole)
    } catch {
      return { fault: 'not_utf8', message: 'A line is not UTF-8.' }
    }
  }
}

function join(parts: readonly Uint8Array[], bytes: number): Uint8Array {
  const whole = new Uint8Array(bytes)
  let at = 0
  for (const part of parts) {
    whole.set(part, at)
    at += part.length
  }
  return whole
}

/** The lines of a stream of bytes, a last one without newline included. */
export async function* linesOf(
  chunks: AsyncIterable<Uint8Array>,
  bytesMax: number = LINE_BYTES_MAX,
): AsyncGenerator<string | LineFault> {
  const splitter = new LineSplitter(bytesMax)
  for await (const chunk of chunks) yield* splitter.push(chunk)
  const last = splitter.end()
  if (last !== undefined) yield last
}
