/**
 * Many operations over one event stream: graphql-sse's single-connection mode, without its queue.
 *
 *   PUT  reserves a stream and answers its token; GET opens it; POST starts an operation; DELETE ends one
 *
 * SS1 A token is of use only with the key that reserved it.
 * SS2 An operation asks for its next result only when the stream has taken the last one.
 * SS3 When the stream is gone, all its operations are.
 */
import type { Chance, Clock } from '../../schema/clock.ts'
import { PlatformError } from '../../schema/error.ts'
import type { ApiKeyId } from '../../schema/id.ts'
import { EVENT_STREAM_HEADERS, streamFrames, type Frame } from './event-stream.ts'
import type { Failures } from './failure.ts'
import { isStream, printResult, type GraphQLDoor, type RequestContext, type Result } from './graphql-door.ts'
import type { StreamSlots } from './stream-slots.ts'

/** A reservation that nobody opens is given up after this. */
export const RESERVATION_MS = 30_000
/** How many operations one stream carries at once. */
const OPERATIONS_MAX = 20

interface Operation {
  readonly end: () => Promise<void>
}

interface Stream {
  readonly keyId: ApiKeyId
  readonly leave: () => void
  readonly operations: Map<string, Operation>
  readonly outbox: Outbox
  isOpen: boolean
}

export interface SingleConnection {
  reserve(keyId: ApiKeyId): Response
  open(keyId: ApiKeyId, token: string): Response
  start(token: string, context: RequestContext): Promise<Response>
  stop(keyId: ApiKeyId, token: string, operationId: string): Promise<Response>
}

export function openSingleConnection(dependencies: {
  readonly door: GraphQLDoor
  readonly slots: StreamSlots
  readonly failures: Failures
  readonly clock: Clock
  readonly chance: Chance
  /** Aborts when the server closes. */
  readonly closing: AbortSignal
}): SingleConnection {
  const { door, slots, failures, clock, chance, closing } = dependencies
  const streams = new Map<string, Stream>()

  const getStream = (keyId: ApiKeyId, token: string): Stream => {
    const stream = streams.get(token)
    // Another key's token is as unknown as none (SS1).
    if (stream === undefined || stream.keyId !== keyId)
      throw new PlatformError('input_invalid', 'There is no such stream; reserve one with PUT.')
    return stream
  }

  const end = async (token: string, stream: Stream): Promise<void> => {
    if (!streams.delete(token)) return
    stream.leave()
    stream.outbox.close()
    await Promise.all([...stream.operations.values()].map((operation) => operation.end()))
  }

  const giveUp = async (token: string, stream: Stream): Promise<void> => {
    try {
      await clock.sleep(RESERVATION_MS, closing)
    } catch {
      // The server closes, and the reservation with it.
    }
    if (!stream.isOpen || closing.aborted) await end(token, stream)
  }

  /** Sends an operation's results into the stream, each when there is room (SS2). */
  const pump = async (stream: Stream, id: string, result: Result, context: RequestContext): Promise<void> => {
    const send = (payload: string) =>
      stream.outbox.put({ event: 'next', data: `{"id":${JSON.stringify(id)},"payload":${payload}}` })
    try {
      if (isStream(result)) for await (const part of result) await send(printResult(part))
      else await send(printResult(result))
    } catch (error) {
      if (!context.signal.aborted) await send(printResult({ errors: [failures.mask(error)] }))
    }
    if (stream.operations.delete(id)) await stream.outbox.put({ event: 'complete', data: JSON.stringify({ id }) })
  }

  return {
    reserve(keyId) {
      const token = Buffer.from(chance.bytes(24)).toString('base64url')
      const stream = { keyId, leave: slots.take(keyId), operations: new Map(), outbox: openOutbox(), isOpen: false }
      streams.set(token, stream)
      void giveUp(token, stream)
      return new Response(token, { status: 201, headers: { 'content-type': 'text/plain; charset=utf-8' } })
    },
    open(keyId, token) {
      const stream = getStream(keyId, token)
      if (stream.isOpen) throw new PlatformError('input_invalid', 'The stream is open already; reserve another.')
      stream.isOpen = true
      const left = () => void end(token, stream)
      return new Response(streamFrames(stream.outbox, { clock, left }), { headers: EVENT_STREAM_HEADERS })
    },
    async start(token, context) {
      const stream = getStream(context.caller.keyId, token)
      const id = context.params.extensions?.['operationId']
      if (typeof id !== 'string' || id === '' || id.length > 64)
        throw new PlatformError('input_invalid', 'extensions.operationId must be a string of 1 to 64 characters.')
      if (stream.operations.has(id)) throw new PlatformError('input_invalid', 'The stream has this operation already.')
      if (stream.operations.size >= OPERATIONS_MAX)
        throw new PlatformError('rate_limited', `A stream carries at most ${OPERATIONS_MAX} operations at once.`)
      const gone = new AbortController()
      const own = { ...context, signal: AbortSignal.any([context.signal, gone.signal]) }
      let result: Result | undefined
      stream.operations.set(id, {
        async end() {
          gone.abort()
          if (isStream(result)) await result[Symbol.asyncIterator]().return?.(undefined)
        },
      })
      result = await door.perform(own)
      void pump(stream, id, result, own)
      return new Response(null, { status: 202 })
    },
    async stop(keyId, token, operationId) {
      const stream = getStream(keyId, token)
      const operation = stream.operations.get(operationId)
      stream.operations.delete(operationId)
      await operation?.end()
      return new Response(null, { status: 200 })
    },
  }
}

interface Outbox extends AsyncIterator<Frame> {
  /** Resolves when the frame has been taken, or when nobody will take it any more. */
  put(frame: Frame): Promise<void>
  close(): void
}

/** Hands frames over one by one: whoever puts waits for whoever takes. */
function openOutbox(): Outbox {
  const waiting: { readonly frame: Frame; readonly taken: () => void }[] = []
  let take: ((result: IteratorResult<Frame>) => void) | undefined
  let isClosed = false
  const done = { done: true, value: undefined } as const
  return {
    put: (frame) =>
      new Promise((taken) => {
        if (isClosed) return taken()
        if (take === undefined) return void waiting.push({ frame, taken })
        const hand = take
        take = undefined
        hand({ done: false, value: frame })
        taken()
      }),
    next: () =>
      new Promise((resolve) => {
        if (isClosed) return resolve(done)
        const first = waiting.shift()
        if (first === undefined) take = resolve
        else {
          resolve({ done: false, value: first.frame })
          first.taken()
        }
      }),
    close() {
      isClosed = true
      take?.(done)
      for (const { taken } of waiting.splice(0)) taken()
    },
  }
}
