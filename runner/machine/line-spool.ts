/**
 * Lines that the machine has said and the control plane has not acknowledged, by their number. Pure.
 *
 * LS1 A line leaves only when it was acknowledged, and every batch begins with the first that was not.
 * LS2 A line is never split over batches; a batch above the size holds one line.
 */
export class LineSpool {
  readonly #lines: string[] = []
  #acked = 0
  #bytes = 0

  /** Bytes that wait. */
  get bytes(): number {
    return this.#bytes
  }
  get isEmpty(): boolean {
    return this.#lines.length === 0
  }
  get acked(): number {
    return this.#acked
  }

  /** One line with its newline. */
  push(line: string): void {
    this.#lines.push(line)
    this.#bytes += Buffer.byteLength(line)
  }

  /** What to send next: as many lines as fit in `bytesMax`, but at least one where there is one. */
  batch(bytesMax: number): { readonly from: number; readonly text: string } {
    let bytes = 0
    let count = 0
    for (const line of this.#lines) {
      bytes += Buffer.byteLength(line)
      if (count > 0 && bytes > bytesMax) break
      count += 1
    }
    return { from: this.#acked + 1, text: this.#lines.slice(0, count).join('') }
  }

  /** What is below what was acknowledged before changes nothing. False for a number that we have not reached. */
  acknowledge(count: number): boolean {
    if (count > this.#acked + this.#lines.length) return false
    for (; this.#acked < count; this.#acked++) this.#bytes -= Buffer.byteLength(this.#lines.shift() ?? '')
    return true
  }
}
