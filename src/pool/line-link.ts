/**
 * The lines of one attempt with a machine elsewhere, as the keeper's process holds them: counted in either direction,
 * so that a batch that comes twice, late or never is harmless.
 *
 * LL1 Every line of the machine is read once, in order, however often and in whatever order its batches come.
 * LL2 Every line for the machine is sent again until the machine has said that it heard it.
 * LL3 A machine that is not read is not acknowledged: what waits here is bounded.
 * LL4 Once it is closed nothing passes either way.
 */
import type { HostLine, InwardLine, MachineLine } from '../../schema/control.ts'
import { parseMachineLine, printLine } from '../../schema/control-line.ts'
import { PlatformError } from '../../schema/error.ts'
import { isLineFault, LineSplitter, type LineFault } from '../../schema/lines.ts'

/** Above this the answer to a batch waits until the keeper has read. */
const WAITING_BYTES_MAX = 4 * 1024 * 1024

export interface LineLink {
  readonly lines: AsyncIterable<MachineLine>
  /** Bytes of lines that the machine has not said to have heard. */
  readonly unheardBytes: number
  /** The counted line after `after`, when there is one; waits for it, and gives undefined when `signal` ends first. */
  next(after: number, signal: AbortSignal): Promise<string | undefined>
  /** The machine has heard all up to `count`. */
  heard(count: number): void
  /** Lines of the machine, the first of which is its `from`th; resolves with how far it need not send again. */
  take(from: number, batch: Uint8Array): Promise<number>
  send(line: HostLine | InwardLine): void
  /** The machine says no more: `lines` ends when all have been read. */
  finish(): void
  close(): void
  readonly isClosed: boolean
}

export function openLineLink(): LineLink {
  const down: string[] = []
  /** Lines for the machine that are forgotten, since it heard them. */
  let forgotten = 0
  let unheardBytes = 0
  let taken = 0
  const up: { readonly text: string | LineFault; readonly bytes: number }[] = []
  let waitingBytes = 0
  let isFinished = false
  let isClosed = false
  const change = new Bell()

  async function* read(): AsyncGenerator<MachineLine> {
    for (;;) {
      if (isClosed) return
      const one = up.shift()
      if (one === undefined) {
        if (isFinished) return
        await change.rung()
        continue
      }
      waitingBytes -= one.bytes
      change.ring()
      const line = isLineFault(one.text) ? one.text : parseMachineLine(one.text)
      if (isLineFault(line)) throw new PlatformError('protocol_breach', `The machine broke P2.6: ${line.message}`)
      yield line
    }
  }

  const isWanted = (signal: AbortSignal): boolean => !isClosed && !signal.aborted
  const isTooMuch = (): boolean => waitingBytes > WAITING_BYTES_MAX && !isClosed

  return {
    lines: read(),
    get unheardBytes() {
      return unheardBytes
    },
    get isClosed() {
      return isClosed
    },
    async next(after, signal) {
      while (isWanted(signal)) {
        const text = down[after - forgotten]
        if (text !== undefined) return text
        await change.rung(signal)
      }
      return undefined
    },
    heard(count) {
      const known = Math.min(count - forgotten, down.length)
      if (known <= 0) return
      for (const text of down.splice(0, known)) unheardBytes -= Buffer.byteLength(text)
      forgotten += known
    },
    async take(from, batch) {
      if (from > taken + 1) return taken
      const splitter = new LineSplitter()
      let at = from - 1
      for (const text of splitter.push(batch)) {
        at += 1
        if (at <= taken || isClosed || isFinished) continue
        taken = at
        const bytes = isLineFault(text) ? 0 : text.length
        waitingBytes += bytes
        up.push({ text, bytes })
      }
      change.ring()
      while (isTooMuch()) await change.rung()
      return taken
    },
    send(line) {
      if (isClosed) return
      const text = printLine(line)
      down.push(text)
      unheardBytes += Buffer.byteLength(text)
      change.ring()
    },
    finish() {
      isFinished = true
      change.ring()
    },
    close() {
      isClosed = true
      change.ring()
    },
  }
}

/** Wakes all who wait for something to change. */
class Bell {
  #rung = Promise.withResolvers<void>()

  ring(): void {
    this.#rung.resolve()
    this.#rung = Promise.withResolvers()
  }

  async rung(signal?: AbortSignal): Promise<void> {
    const { promise } = this.#rung
    if (signal === undefined) return await promise
    if (signal.aborted) return
    const aborted = Promise.withResolvers<void>()
    const abort = (): void => aborted.resolve()
    signal.addEventListener('abort', abort)
    await Promise.race([promise, aborted.promise])
    signal.removeEventListener('abort', abort)
  }
}
