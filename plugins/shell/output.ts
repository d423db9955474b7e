/** What a command wrote, bounded: its beginning, its end, and how much is missing between them. Pure. */

/** Bytes kept of the beginning and of the end: what a command says last matters most. */
export const HEAD_BYTES = 6 * 1024
export const TAIL_BYTES = 10 * 1024

/** Takes any amount of output in memory that is at most three times what it keeps. */
export class BoundedOutput {
  readonly #head: Uint8Array[] = []
  #headBytes = 0
  #tail: Uint8Array[] = []
  #tailBytes = 0
  #total = 0

  add(chunk: Uint8Array): void {
    this.#total += chunk.length
    const room = HEAD_BYTES - this.#headBytes
    const first = chunk.subarray(0, room)
    if (first.length > 0) {
      this.#head.push(Uint8Array.from(first))
      this.#headBytes += first.length
    }
    const rest = chunk.subarray(first.length)
    if (rest.length === 0) return
    this.#tail.push(Uint8Array.from(rest.subarray(-TAIL_BYTES)))
    this.#tailBytes += Math.min(rest.length, TAIL_BYTES)
    if (this.#tailBytes <= 2 * TAIL_BYTES) return
    const kept = Buffer.concat(this.#tail).subarray(-TAIL_BYTES)
    this.#tail = [kept]
    this.#tailBytes = kept.length
  }

  /** The text, with a line in brackets where bytes were left out. */
  text(): string {
    const head = Buffer.concat(this.#head)
    const tail = Buffer.concat(this.#tail).subarray(-TAIL_BYTES)
    const missing = this.#total - head.length - tail.length
    if (missing === 0) return readable(Buffer.concat([head, tail]))
    const notice = `[${missing} bytes are left out here; write the output to a file to read all of it]`
    return `${readable(wholeEnd(head))}\n${notice}\n${readable(wholeStart(tail))}`
  }
}

/** Without the bytes of a character that was cut at the end. */
function wholeEnd(bytes: Uint8Array): Uint8Array {
  for (let back = 1; back <= Math.min(3, bytes.length); back++) {
    const byte = bytes[bytes.length - back] ?? 0
    if (byte < 0x80) return bytes
    if (byte >= 0xc0) {
      const length = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : 2
      return length > back ? bytes.subarray(0, bytes.length - back) : bytes
    }
  }
  return bytes
}

/** Without the bytes of a character that was cut at the start. */
function wholeStart(bytes: Uint8Array): Uint8Array {
  let at = 0
  while (at < Math.min(3, bytes.length) && ((bytes[at] ?? 0) & 0xc0) === 0x80) at += 1
  return bytes.subarray(at)
}

/** As UTF-8; what is none, and what no text may hold, becomes U+FFFD. */
function readable(bytes: Uint8Array): string {
  return new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes).replaceAll('\0', '\ufffd')
}
