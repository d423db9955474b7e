/**
 * Where machines elsewhere come in: `/machine/v1/`. It asks for no API key: each request shows the provider's token or
 * the secret of its machine and boot (PROTOCOL.md, part 9). Nothing that comes in is trusted before that:
 *
 * MD1 A body is bounded before it is read, and cut off when it is not there in `BODY_MS_MAX`.
 * MD2 Who is not known yet is looked at so often, all together; who is, is answered so often: above that is a 429.
 * MD3 Whoever is not let in is not told why.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Clock } from '../../schema/clock.ts'
import { PlatformError } from '../../schema/error.ts'
import { Rate } from '../../schema/rate.ts'
import {
  BATCH_BYTES_MAX,
  BEAT_MS,
  LINK_BYTES_MAX,
  LINK_HEADER,
  parseEnrolRequest,
  parseImageFacts,
  parseLinkName,
  parseMachineEnd,
  parseLinkRequest,
  parseUnfitRequest,
  WAKE_MS,
  type LinkName,
} from '../../schema/machine-link.ts'
import type { Links } from '../pool/links.ts'
import type { Log } from '../log.ts'

export interface MachineDoorDependencies {
  readonly links: Links
  readonly clock: Clock
  readonly log: Log
}

export type MachineDoor = (incoming: IncomingMessage, outgoing: ServerResponse) => void

const PREFIX = '/machine/v1/'
const BODY_MS_MAX = 15_000
/** Each second, of all who show a token or a secret that was not seen before: many more than machines come up. */
const STRANGERS = { perSecond: 100, burst: 300 }
/** Polls each second of one machine: twice what one that waits for its wake asks. */
const POLLS = { perSecond: 2_000 / WAKE_MS, burst: 4_000 / WAKE_MS }
const POLLERS_MAX = 10_000
const STATUS: Readonly<Record<string, number>> = {
  unauthenticated: 401,
  fence_stale: 410,
  input_invalid: 400,
  input_too_large: 413,
  item_not_found: 404,
  rate_limited: 429,
}

export function isMachinePath(url: string | undefined): boolean {
  return url?.startsWith(PREFIX) === true
}

export function openMachineDoor({ links, clock, log }: MachineDoorDependencies): MachineDoor {
  const strangers = new Rate(STRANGERS.perSecond, STRANGERS.burst, clock.now())
  /** Of machines that were let in, by their secret; the least lately heard first. */
  const polls = new Map<string, Rate>()

  function demandTurn(secret: string | null): void {
    const rate = (secret === null ? undefined : polls.get(secret)) ?? strangers
    if (!rate.take(clock.now())) throw new PlatformError('rate_limited', 'This is asked too often.')
  }

  function know(secret: string): void {
    const rate = polls.get(secret) ?? new Rate(POLLS.perSecond, POLLS.burst, clock.now())
    polls.delete(secret)
    polls.set(secret, rate)
    for (const oldest of polls.keys()) {
      if (polls.size <= POLLERS_MAX) break
      polls.delete(oldest)
    }
  }

  async function answer(incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
    const { pathname, searchParams } = new URL(incoming.url ?? '', 'http://machine')
    const verb = pathname.slice(PREFIX.length)
    if (incoming.method !== 'POST') throw new PlatformError('item_not_found', 'Machines ask by POST.')
    switch (verb) {
      case 'enrol': {
        const request = parseEnrolRequest(await readJson(incoming))
        if (request === undefined) throw invalid('enrol')
        demandTurn(null)
        return sendJson(outgoing, await links.enrol(request))
      }
      case 'park':
      case 'wake': {
        const request = parseLinkRequest(await readJson(incoming))
        if (request === undefined) throw invalid(verb)
        const secret = secretIn(incoming)
        demandTurn(secret)
        const said = await (verb === 'wake'
          ? links.wake(secret, request)
          : links.park(secret, request, goneSignal(outgoing)))
        know(secret)
        return sendJson(outgoing, said)
      }
      case 'unfit': {
        const request = parseUnfitRequest(await readJson(incoming))
        if (request === undefined) throw invalid(verb)
        const secret = secretIn(incoming)
        demandTurn(secret)
        await links.unfit(secret, request)
        return sendJson(outgoing, {})
      }
      case 'hear':
        return await hear(incoming, outgoing)
      case 'lines': {
        const { secret, name } = callerOf(incoming)
        const from = Number(searchParams.get('from'))
        if (!Number.isSafeInteger(from) || from < 1) throw invalid('lines')
        const link = links.link(secret, name)
        link.heard(countIn(searchParams.get('heard')))
        const batch = await readBytes(incoming, BATCH_BYTES_MAX)
        const acked = await link.take(from, batch)
        if (link.isClosed) throw new PlatformError('fence_stale', `The machine ${name.machineId} has no job here.`)
        return sendJson(outgoing, { acked })
      }
      case 'end': {
        const { secret, name } = callerOf(incoming)
        const end = parseMachineEnd(await readJson(incoming))
        if (end === undefined) throw invalid('end')
        links.end(secret, name, end)
        return sendJson(outgoing, {})
      }
      default:
        throw new PlatformError('item_not_found', 'Machines have nothing to ask there.')
    }
  }

  /** The stream down: each line once, then an empty one now and then, so that silence means that we are gone. */
  async function hear(incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
    const { secret, name } = callerOf(incoming)
    const after = countIn(new URL(incoming.url ?? '', 'http://machine').searchParams.get('after'))
    const image = parseImageFacts(await readJson(incoming))
    if (image === undefined) throw invalid('hear')
    const link = await links.come(secret, name, image)
    link.heard(after)
    const gone = goneSignal(outgoing)
    outgoing.writeHead(200, { 'content-type': 'application/x-ndjson', 'cache-control': 'no-store' })
    outgoing.flushHeaders()
    for (let at = after; !gone.aborted && !link.isClosed;) {
      const beat = new AbortController()
      const quiet = clock.sleep(BEAT_MS, AbortSignal.any([beat.signal, gone])).then(
        () => beat.abort(new Error('it was quiet')),
        () => {},
      )
      const text = await link.next(at, AbortSignal.any([beat.signal, gone]))
      beat.abort(new Error('a line came'))
      await quiet
      if (gone.aborted || (text === undefined && link.isClosed)) break
      if (text !== undefined) at += 1
      if (!outgoing.write(text ?? '\n')) await drained(outgoing, gone)
    }
    outgoing.end()
  }

  async function readJson(incoming: IncomingMessage): Promise<unknown> {
    const bytes = await readBytes(incoming, LINK_BYTES_MAX)
    try {
      return JSON.parse(bytes.toString('utf8'))
    } catch {
      throw new PlatformError('input_invalid', 'The body is not JSON.')
    }
  }

  async function readBytes(incoming: IncomingMessage, bytesMax: number): Promise<Buffer> {
    const read = new AbortController()
    void clock.sleep(BODY_MS_MAX, read.signal).then(
      () => incoming.destroy(),
      () => {},
    )
    try {
      return await readAll(incoming, bytesMax)
    } finally {
      read.abort(new Error('it was read'))
    }
  }

  return (incoming, outgoing) => {
    answer(incoming, outgoing).catch((error: unknown) => {
      // Cut off, by us or by the machine: nobody is there to be answered.
      if (incoming.destroyed && !incoming.complete) return
      const code = error instanceof PlatformError ? error.code : 'internal'
      const status = STATUS[code] ?? 503
      if (status === 503) log.error('A machine was not answered.', { error })
      if (outgoing.headersSent) {
        outgoing.destroy()
        return
      }
      // The rest of a body that is not read would be taken for the next request.
      outgoing.writeHead(status, { 'content-type': 'application/json', connection: 'close' })
      outgoing.end(JSON.stringify({ code }))
    })
  }
}

function invalid(what: string): PlatformError {
  return new PlatformError('input_invalid', `A request to ${what} is malformed.`)
}

function secretIn(incoming: IncomingMessage): string {
  const secret = /^Bearer ([\x21-\x7e]{1,512})$/.exec(incoming.headers.authorization ?? '')?.[1]
  if (secret === undefined) throw new PlatformError('unauthenticated', 'This is no machine of ours in this boot.')
  return secret
}

function callerOf(incoming: IncomingMessage): { readonly secret: string; readonly name: LinkName } {
  const header = incoming.headers[LINK_HEADER]
  const name = parseLinkName(typeof header === 'string' ? header : undefined)
  if (name === undefined) throw invalid('lines')
  return { secret: secretIn(incoming), name }
}

function countIn(text: string | null): number {
  const count = Number(text ?? 0)
  if (!Number.isSafeInteger(count) || count < 0) throw invalid('lines')
  return count
}

function sendJson(outgoing: ServerResponse, value: object): void {
  const text = JSON.stringify(value)
  outgoing.writeHead(200, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) })
  outgoing.end(text)
}

async function readAll(incoming: IncomingMessage, bytesMax: number): Promise<Buffer> {
  const chunks: Buffer[] = []
  let bytes = 0
  // Left open for an answer: only what is cut off is destroyed.
  for await (const chunk of incoming.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    bytes += chunk.length
    if (bytes > bytesMax) throw new PlatformError('input_too_large', `A body may have at most ${bytesMax} bytes.`)
    chunks.push(chunk)
  }
  return Buffer.concat(chunks)
}

function goneSignal(outgoing: ServerResponse): AbortSignal {
  const gone = new AbortController()
  outgoing.once('close', () => gone.abort(new Error('the machine hung up')))
  return gone.signal
}

async function drained(outgoing: ServerResponse, gone: AbortSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>()
  const settle = (): void => resolve()
  outgoing.once('drain', settle)
  gone.addEventListener('abort', settle)
  await promise
  outgoing.off('drain', settle)
  gone.removeEventListener('abort', settle)
}
