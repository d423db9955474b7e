/**
 * A client of the Docker Engine API (v1.41 and later), by its own socket and without the command line. It speaks a
 * version that both sides know, bounds every answer in size and time, and believes nothing that it has not parsed.
 */
import { Agent, request as httpRequest, type IncomingMessage, type RequestOptions } from 'node:http'
import { Agent as TlsAgent, request as httpsRequest } from 'node:https'
import type { Duplex } from 'node:stream'
import type { Clock } from '../../schema/clock.ts'
import type { Json } from '../../schema/json.ts'
import { isLineFault, linesOf } from '../../schema/lines.ts'
import { ProviderError } from '../pool/machine-provider.ts'
import { connectionFault, type EngineRefusal } from './engine-fault.ts'

export type EngineAddress =
  | { readonly type: 'socket'; readonly path: string }
  | {
      readonly type: 'tls'
      readonly hostname: string
      readonly port: number
      readonly ca: string
      readonly cert: string
      readonly key: string
    }
  /** Without TLS: only for an engine of this very computer. */
  | { readonly type: 'loopback'; readonly hostname: string; readonly port: number }

/** The oldest version that takes all that a machine needs, and the newest that was read for this. */
export const API_OLDEST = '1.41'
export const API_NEWEST = '1.51'

const ANSWER_BYTES_MAX = 16 * 1024 * 1024
const EVENT_BYTES_MAX = 1024 * 1024
/** Making a container on a busy disk takes its time. */
const CALL_MS = 60_000

interface Sending {
  readonly signal?: AbortSignal
  /** Of its own: no other request will use the connection. */
  readonly agent?: false
  readonly headers?: Readonly<Record<string, string>>
}

export interface EngineAnswer {
  readonly status: number
  readonly body: Json
}

export interface Engine {
  /** Where it is, for people. */
  readonly place: string
  /** Its version and system, asked afresh. Throws `ProviderError`. */
  greet(): Promise<{ readonly apiVersion: string; readonly system: string }>
  /** Any answer, refusals too. Throws `ProviderError` when there is none. */
  call(method: 'GET' | 'POST' | 'DELETE', path: string, body?: Json): Promise<EngineAnswer>
  /** The container's streams, for as long as it or the connection lives. Throws `ProviderError`. */
  attach(container: string): Promise<Duplex>
  /** Tells what happens to containers with this label, until `signal`; resolves when the engine stops telling. */
  events(label: string, tell: (event: Json) => void, signal: AbortSignal): Promise<void>
  close(): void
}

/** Opens nothing yet: the first call does. */
export function openEngine(address: EngineAddress, clock: Clock): Engine {
  const isTls = address.type === 'tls'
  const request = isTls ? httpsRequest : httpRequest
  const agent = isTls ? new TlsAgent({ keepAlive: true }) : new Agent({ keepAlive: true })
  const target: RequestOptions =
    address.type === 'socket'
      ? { socketPath: address.path }
      : address.type === 'tls'
        ? { ...address, host: address.hostname }
        : { host: address.hostname, port: address.port }
  const place = address.type === 'socket' ? address.path : `${address.hostname}:${address.port}`
  let version: Promise<string> | undefined

  /** Sends one request and gives the answer's head. */
  async function send(method: string, path: string, more: Sending, body?: Json): Promise<IncomingMessage> {
    const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>()
    const text = body === undefined ? '' : JSON.stringify(body)
    const headers = { Host: 'docker', 'Content-Length': Buffer.byteLength(text), ...more.headers }
    const type = body === undefined ? {} : { 'Content-Type': 'application/json' }
    const sent = request({ agent, ...target, ...more, method, path, headers: { ...headers, ...type } })
    sent.once('response', resolve).once('error', (error) => reject(unanswered(method, path, error)))
    sent.once('upgrade', (answer: IncomingMessage, stream: Duplex, head: Buffer) => {
      if (head.length > 0) stream.unshift(head)
      resolve(Object.assign(answer, { stream }))
    })
    sent.end(text)
    return await promise
  }

  async function answer(method: string, path: string, body?: Json): Promise<EngineAnswer & { head: IncomingMessage }> {
    const late = new AbortController()
    const done = new AbortController()
    clock.sleep(CALL_MS, done.signal).then(
      () => late.abort(new Error(`no answer within ${CALL_MS} ms`)),
      () => {},
    )
    try {
      const head = await send(method, path, { signal: late.signal }, body)
      return { status: head.statusCode ?? 0, body: await readJson(head, method, path), head }
    } finally {
      done.abort(new Error('answered'))
    }
  }

  async function greet(): Promise<{ readonly apiVersion: string; readonly system: string }> {
    const { head } = await answer('GET', '/_ping')
    const theirs = head.headers['api-version']
    const system = head.headers['ostype']
    return {
      apiVersion: typeof theirs === 'string' && /^\d+\.\d+$/.test(theirs) ? theirs : '0.0',
      system: typeof system === 'string' ? system : 'unknown',
    }
  }

  function versioned(): Promise<string> {
    version ??= greet().then(
      ({ apiVersion }) => `/v${older(apiVersion, API_NEWEST)}`,
      (error: unknown) => {
        version = undefined
        throw error
      },
    )
    return version
  }

  return {
    place,
    greet,
    async call(method, path, body) {
      const { status, body: answered } = await answer(method, `${await versioned()}${path}`, body)
      return { status, body: answered }
    },
    async attach(container) {
      const path = `${await versioned()}/containers/${container}/attach?stream=1&stdin=1&stdout=1&stderr=1`
      const head = await send('POST', path, { agent: false, headers: { Connection: 'Upgrade', Upgrade: 'tcp' } })
      const { stream } = head as IncomingMessage & { stream?: Duplex } // put there by `upgrade`
      if (stream !== undefined) return stream
      const refusal = refusalOf({ status: head.statusCode ?? 0, body: await readJson(head, 'POST', path) })
      throw new ProviderError('state', `Docker does not attach ${container}: ${refusal.message} (${refusal.status}).`)
    },
    async events(label, tell, signal) {
      const filters = encodeURIComponent(JSON.stringify({ type: ['container'], label: [label] }))
      const head = await send('GET', `${await versioned()}/events?filters=${filters}`, { agent: false, signal })
      try {
        for await (const line of linesOf(head, EVENT_BYTES_MAX)) {
          if (isLineFault(line) || line === '') continue
          tell(JSON.parse(line) as Json)
        }
      } catch {
        // It broke off: whoever listens asks again.
      }
    },
    close: () => agent.destroy(),
  }
}

/** What the engine says went wrong. */
export function refusalOf({ status, body }: EngineAnswer): EngineRefusal {
  const said = typeof body === 'object' && body !== null && 'message' in body ? body.message : undefined
  return { status, message: typeof said === 'string' ? said.trim().slice(0, 500) : 'it does not say why' }
}

/** Of two versions. */
export function older(a: string, b: string): string {
  return isOlder(a, b) ? a : b
}

export function isOlder(a: string, b: string): boolean {
  const [one, two] = [a, b].map((version) => version.split('.').map(Number))
  return (one?.[0] ?? 0) - (two?.[0] ?? 0) < 0 || (one?.[0] === two?.[0] && (one?.[1] ?? 0) < (two?.[1] ?? 0))
}

function unanswered(method: string, path: string, error: Error): ProviderError {
  const code = 'code' in error && typeof error.code === 'string' ? error.code : undefined
  return new ProviderError(connectionFault(code), `Docker did not answer ${method} ${path}: ${error.message}.`, {
    cause: error,
  })
}

async function readJson(head: IncomingMessage, method: string, path: string): Promise<Json> {
  const chunks: Buffer[] = []
  let sizeBytes = 0
  try {
    for await (const chunk of head as AsyncIterable<Buffer>) {
      sizeBytes += chunk.length
      if (sizeBytes > ANSWER_BYTES_MAX) throw new Error(`an answer above ${ANSWER_BYTES_MAX} bytes`)
      chunks.push(chunk)
    }
  } catch (error) {
    throw unanswered(method, path, error instanceof Error ? error : new Error(String(error)))
  }
  const text = Buffer.concat(chunks).toString('utf8')
  try {
    return text === '' ? null : (JSON.parse(text) as Json)
  } catch {
    return { message: text.slice(0, 500) }
  }
}
