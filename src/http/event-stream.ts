/** Server-sent events: frames are asked for only when the reader has room, so that a stalled reader costs nothing. */
import type { Clock } from '../../schema/clock.ts'

/** How often a quiet stream shows that it lives: below the 15 s after which some proxies give up. */
export const PING_MS = 12_000

export interface Frame {
  readonly event: string
  readonly data: string
  /** The cursor that a client sends back as `Last-Event-ID`. */
  readonly id?: number | null
}

export const EVENT_STREAM_HEADERS = {
  'content-type': 'text/event-stream; charset=utf-8',
  'cache-control': 'no-cache, no-transform',
  'x-accel-buffering': 'no',
  'x-content-type-options': 'nosniff',
} as const

export function printFrame({ event, data, id }: Frame): string {
  return `${id === undefined || id === null ? '' : `id: ${id}\n`}event: ${event}\ndata: ${data}\n\n`
}

/**
 * The frames as bytes, with pings between. `frames` is returned when the reader leaves; `left` is called once, when
 * the stream is over either way.
 */
export function streamFrames(
  frames: AsyncIterator<Frame>,
  { clock, left }: { readonly clock: Clock; readonly left: () => void },
): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder()
  const over = new AbortController()
  const end = () => {
    if (over.signal.aborted) return
    over.abort()
    left()
  }
  async function ping(controller: ReadableStreamDefaultController<Uint8Array>): Promise<void> {
    try {
      for (;;) {
        await clock.sleep(PING_MS, over.signal)
        if (!over.signal.aborted && (controller.desiredSize ?? 0) > 0) controller.enqueue(encoder.encode(':\n\n'))
      }
    } catch {
      // The sleep was woken: the stream is over.
    }
  }
  return new ReadableStream<Uint8Array>({
    start(controller) {
      // Some browsers hold the headers back until the first byte.
      controller.enqueue(encoder.encode(':\n\n'))
      void ping(controller)
    },
    async pull(controller) {
      const next = await frames.next()
      if (over.signal.aborted) return
      if (next.done === true) {
        end()
        controller.close()
      } else controller.enqueue(encoder.encode(printFrame(next.value)))
    },
    async cancel() {
      end()
      await frames.return?.(undefined)
    },
  })
}
