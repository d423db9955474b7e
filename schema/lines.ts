/** Bytes into lines, however they arrive: the cap holds before anything is decoded or parsed. */
import type { Readable } from 'node:stream'
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

/**
 * Hands each line of a stream to `take` in the turn in which it comes, a last one without newline included. While a
 * promise that `take` gave is open no other line is taken, and soon nothing more is read. Resolves at the end of the
 * stream; rejects when it breaks off, or with what `take` throws.
 *
 * The same as `linesOf` for whoever does little with each line: there, each passes through promises of four makers.
 */
export function eachLine(
  stream: Readable,
  take: (line: string | LineFault) => Promise<void> | undefined,
  bytesMax: number = LINE_BYTES_MAX,
): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  const splitter = new LineSplitter(bytesMax)
  let waiting: readonly (string | LineFault)[] = []
  let next = 0
  let isBusy = false
  let isOver = false
  const fail = (error: unknown): void => {
    isBusy = true
    reject(error instanceof Error ? error : new Error(String(error)))
    stream.destroy()
  }
  const go = (): void => {
    try {
      while (next < waiting.length) {
        const taken = take(waiting[next++] ?? '')
        if (taken === undefined) continue
        isBusy = true
        taken.then(() => {
          isBusy = false
          go()
        }, fail)
        return
      }
    } catch (error) {
      return fail(error)
    }
    if (isOver) resolve()
    else if (stream.isPaused()) stream.resume()
  }
  const add = (lines: readonly (string | LineFault)[]): void => {
    waiting = next < waiting.length ? [...waiting.slice(next), ...lines] : lines
    next = 0
  }
  stream.on('data', (chunk: Uint8Array) => {
    add(splitter.push(chunk))
    if (isBusy) stream.pause()
    else go()
  })
  stream.once('end', () => {
    const last = splitter.end()
    if (last !== undefined) add([last])
    isOver = true
    if (!isBusy) go()
  })
  stream.once('error', fail)
  stream.once('close', () => {
    if (!isOver) fail(new Error('The stream broke off.'))
  })
  return promise
}

/** Lines that whoever takes them asks for one at a time. */
export class LineQueue<Line> implements AsyncIterableIterator<Line, undefined> {
  #waiting: Line[] = []
  #next = 0
  #asked: PromiseWithResolvers<IteratorResult<Line, undefined>> | undefined
  #room: PromiseWithResolvers<void> | undefined
  #end: { readonly error: unknown } | 'well' | undefined

  /** A promise when there are many that nobody has asked for: it resolves once they were. */
  push(line: Line): Promise<void> | undefined {
    const asked = this.#asked
    if (asked !== undefined) {
      this.#asked = undefined
      asked.resolve({ value: line, done: false })
      return undefined
    }
    this.#waiting.push(line)
    if (this.#waiting.length - this.#next < QUEUE_MAX) return undefined
    this.#room ??= Promise.withResolvers()
    return this.#room.promise
  }

  /** There are no more; what waits is given first. */
  end(): void {
    this.#end ??= 'well'
    this.#asked?.resolve({ value: undefined, done: true })
    this.#asked = undefined
  }

  /** As `end`, but whoever asks then hears of the error. */
  fail(error: unknown): void {
    this.#end ??= { error }
    this.#asked?.reject(error)
    this.#asked = undefined
  }

  /** Asked again only when it has answered. */
  async next(): Promise<IteratorResult<Line, undefined>> {
    if (this.#next < this.#waiting.length) {
      const value = this.#waiting[this.#next++] as Line // within bounds
      if (this.#next === this.#waiting.length) {
        this.#waiting = []
        this.#next = 0
        this.#room?.resolve()
        this.#room = undefined
      }
      return { value, done: false }
    }
    if (this.#end === 'well') return { value: undefined, done: true }
    if (this.#end !== undefined) throw this.#end.error
    this.#asked = Promise.withResolvers()
    return this.#asked.promise
  }

  [Symbol.asyncIterator](): this {
    return this
  }
}

const QUEUE_MAX = 1000
