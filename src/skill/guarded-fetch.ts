/**
 * `fetch` for one endpoint that an author chose: it reaches that origin, at an address that was looked at, or nothing.
 *
 * GF1 Only the endpoint's own origin is asked, and no redirect is followed by whoever sends.
 * GF2 A name is looked up once for a connection, each of its addresses must be allowed, and the connection goes to the
 *    one that was looked at: a name that means another host a moment later leads nowhere.
 * GF3 Allowed is the public internet, encrypted, and what the operator names; nothing of the computer's own networks.
 * GF4 An answer is bounded: a whole one, or one event of a stream.
 */
import { lookup as lookUp, type LookupAddress } from 'node:dns'
import { isIP, type LookupFunction, type Socket } from 'node:net'
import { Agent, buildConnector, fetch as undiciFetch } from 'undici'
import { PlatformError } from '../../schema/error.ts'
import { isPublicAddress, type Networks } from '../../schema/network.ts'

const CONNECT_MS_MAX = 10_000
/** Longer than the runner waits for a call, which is who gives up first. */
const HEADERS_MS_MAX = 180_000
const SILENCE_MS_MAX = 600_000
const CONNECTIONS_MAX = 32
/** Ports of the internet on which other protocols than HTTP listen are no business of a skill. */
const PORT_FREE = 1024

export interface GuardedFetchOptions {
  readonly endpoint: URL
  /** The operator's own networks. */
  readonly networks: Networks
  /** Of a whole answer, or of one event of a stream. */
  readonly bytesMax: number
  /** The system's by default. */
  readonly lookup?: (hostname: string) => Promise<readonly LookupAddress[]>
}

export interface GuardedFetch {
  readonly fetch: typeof globalThis.fetch
  /** Ends every connection at once. */
  close(): Promise<void>
}

/** Rejects with `skill_address_refused` what is not allowed, with `limit_exceeded` what is too long. */
export function openGuardedFetch(options: GuardedFetchOptions): GuardedFetch {
  const { endpoint, networks, bytesMax } = options
  const resolve = options.lookup ?? systemLookup
  const isAllowed = (address: string): boolean => {
    if (networks.has(address)) return true
    return endpoint.protocol === 'https:' && isPortAllowed(endpoint) && isPublicAddress(address)
  }
  /** The address to connect to, once all that the name stands for are allowed (GF2). */
  const find = async (hostname: string): Promise<LookupAddress> => {
    const addresses = await resolve(hostname)
    const refused = addresses.find(({ address }) => !isAllowed(address))
    if (refused !== undefined) throw refusedAt(endpoint, refused.address)
    // Many a computer has an address of IPv6 and no way out by it.
    const found = addresses.find(({ family }) => family === 4) ?? addresses[0]
    if (found === undefined) throw new PlatformError('skill_start_failed', `${hostname} has no address.`)
    return found
  }
  const lookup: LookupFunction = (hostname, _options, done) => void lookInto(find(hostname), done)
  const connect = buildConnector({ lookup, timeout: CONNECT_MS_MAX, autoSelectFamily: false })
  const connections = new Agent({
    connections: CONNECTIONS_MAX,
    headersTimeout: HEADERS_MS_MAX,
    bodyTimeout: SILENCE_MS_MAX,
    connect(target, done) {
      // An address is not looked up, so that the lookup alone would let it through.
      const literal = target.hostname.replace(/^\[|\]$/g, '')
      if (isIP(literal) !== 0 && !isAllowed(literal)) return done(refusedAt(endpoint, literal), null)
      return connect(target, (error, socket) => {
        if (error !== null) return done(error, null)
        const peer = (socket as Socket).remoteAddress ?? ''
        if (isAllowed(peer)) return done(null, socket)
        socket.destroy()
        return done(refusedAt(endpoint, peer), null)
      })
    },
  })
  const guarded = async (input: string | URL | Request, init: RequestInit = {}): Promise<Response> => {
    const url = new URL(input instanceof Request ? input.url : input)
    if (url.origin !== endpoint.origin)
      throw new PlatformError('skill_address_refused', `${url.origin} is not ${endpoint.origin}, and is not asked.`)
    try {
      // Both fetches are of one standard; their types come from two packages.
      const request = { ...init, redirect: 'manual', dispatcher: connections } as Parameters<typeof undiciFetch>[1]
      const response = await undiciFetch(url, request)
      return bounded(response as unknown as Response, bytesMax)
    } catch (error) {
      throw causeOf(error)
    }
  }
  return { fetch: guarded, close: () => connections.destroy() }
}

function isPortAllowed({ port }: URL): boolean {
  return port === '' || Number(port) === 443 || Number(port) >= PORT_FREE
}

function systemLookup(hostname: string): Promise<readonly LookupAddress[]> {
  return new Promise((resolve, reject) => {
    lookUp(hostname, { all: true }, (error, addresses) => (error === null ? resolve(addresses) : reject(error)))
  })
}

async function lookInto(finding: Promise<LookupAddress>, done: Parameters<LookupFunction>[2]): Promise<void> {
  let found: LookupAddress
  try {
    found = await finding
  } catch (error) {
    return done(error instanceof Error ? error : new Error(String(error)), '', 4)
  }
  done(null, found.address, found.family)
}

function refusedAt({ origin }: URL, address: string): PlatformError {
  return new PlatformError(
    'skill_address_refused',
    `${origin} is at ${address}, which is not of the public internet over https, nor of a network that the operator allows (SENMON_SKILL_NETWORKS).`,
  )
}

/** fetch says no more than that it failed; why stands below it. */
function causeOf(error: unknown): unknown {
  for (let at = error; at instanceof Error; at = at.cause) if (at instanceof PlatformError) return at
  if (error instanceof Error && error.cause instanceof Error) return error.cause
  return error
}

function bounded(response: Response, bytesMax: number): Response {
  if (response.body === null) return response
  const isStream = response.headers.get('content-type')?.startsWith('text/event-stream') === true
  const meter = isStream ? eventMeter() : wholeMeter()
  const body = response.body.pipeThrough(
    new TransformStream<Uint8Array, Uint8Array>({
      transform(chunk, controller) {
        if (meter(chunk) <= bytesMax) return controller.enqueue(chunk)
        return controller.error(new PlatformError('limit_exceeded', `An answer is above ${bytesMax} bytes.`))
      },
    }),
  )
  const { status, statusText, headers } = response
  return new Response(body, { status, statusText, headers })
}

type Meter = (chunk: Uint8Array) => number

function wholeMeter(): Meter {
  let count = 0
  return (chunk) => (count += chunk.length)
}

const LF = 10
const CR = 13

/** Bytes since the last empty line, which ends an event. */
function eventMeter(): Meter {
  let count = 0
  let most = 0
  let isLineEmpty = true
  return (chunk) => {
    most = 0
    for (const byte of chunk) {
      count += 1
      if (byte !== LF && byte !== CR) isLineEmpty = false
      else if (byte === LF) {
        if (isLineEmpty) count = 0
        isLineEmpty = true
      }
      if (count > most) most = count
    }
    return most
  }
}
