/** The control plane as a machine elsewhere reaches it: one request for each thing, and the stream of lines down. */
import { Agent as HttpAgent, request as httpRequest, type IncomingMessage } from 'node:http'
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https'
import type { ImageFacts } from '../../schema/machine-image.ts'
import {
  LINK_HEADER,
  parseAcked,
  parseEnrolled,
  parseLinkAnswer,
  printLinkName,
  type Enrolled,
  type EnrolRequest,
  type LinkAnswer,
  type LinkName,
  type LinkRequest,
  type MachineEnd,
  type UnfitRequest,
} from '../../schema/machine-link.ts'

/** `refused`: we are not, or no more, who may ask; asking again changes nothing. */
export class DoorError extends Error {
  readonly refused: boolean

  constructor(refused: boolean, message: string, options?: ErrorOptions) {
    super(message, options)
    this.refused = refused
  }
}

/** Whose lines they are, and where they go. */
export interface LinkPlace {
  readonly url: string
  readonly secret: string
  readonly name: LinkName
}

/** Its calls throw `DoorError`. */
export interface Door {
  enrol(request: EnrolRequest): Promise<Enrolled>
  park(secret: string, request: LinkRequest): Promise<LinkAnswer>
  /** On a connection of its own: those from before a suspension are dead, and nothing says so. */
  wake(secret: string, request: LinkRequest): Promise<LinkAnswer>
  /** Says that it can do no job. */
  unfit(secret: string, request: UnfitRequest): Promise<void>
  /** The lines after `after`, as bytes; ends when the connection does, or with `signal`. */
  hear(place: LinkPlace, image: ImageFacts, after: number, signal: AbortSignal): Promise<AsyncIterable<Uint8Array>>
  /** Says lines, of which the first is the `from`th, and that `heard` were heard; gives how far they are known. */
  say(place: LinkPlace, from: number, heard: number, lines: string): Promise<number>
  end(place: LinkPlace, end: MachineEnd): Promise<void>
  /** Lets go of every connection that is kept for later. */
  forget(): void
  /** By how many ms the control plane's clock is ahead of ours, by its newest answer (the header Date); null before one. */
  skewMs(): number | null
}

const ANSWER_MS_MAX = 10_000
const WAKE_MS_MAX = 1_000
const PARK_MS_MAX = 5_000
const ANSWER_BYTES_MAX = 1024 * 1024

interface Call {
  readonly url: string
  readonly secret?: string
  readonly name?: LinkName
  readonly body: string
  readonly msMax: number
  readonly alone?: boolean
  readonly signal?: AbortSignal
}

/** `now` is the machine's own clock, in epoch ms, however wrong. */
export function openDoor(baseUrl: string, now: () => number): Door {
  let agents = newAgents()
  let skewMs: number | null = null

  function open({ url, secret, name, body, msMax, alone, signal }: Call): Promise<IncomingMessage> {
    const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>()
    const isTls = url.startsWith('https:')
    const request = (isTls ? httpsRequest : httpRequest)(url, {
      method: 'POST',
      agent: alone === true ? false : isTls ? agents.https : agents.http,
      headers: {
        'content-type': 'application/json',
        'content-length': Buffer.byteLength(body),
        ...(secret === undefined ? {} : { authorization: `Bearer ${secret}` }),
        ...(name === undefined ? {} : { [LINK_HEADER]: printLinkName(name) }),
      },
      ...(signal === undefined ? {} : { signal }),
    })
    // Of silence, not of the whole: a stream that says something now and then may last.
    request.setTimeout(msMax, () => request.destroy(new Error(`no word for ${msMax} ms`)))
    request.on('error', (cause) => reject(new DoorError(false, `The control plane is not reached: ${cause.message}`)))
    request.on('response', (response) => {
      const date = Date.parse(response.headers.date ?? '')
      // It says whole seconds: it was made in the middle of one, as a rule.
      if (Number.isFinite(date)) skewMs = date + 500 - now()
      resolve(response)
    })
    request.end(body)
    return promise
  }

  async function call(given: Call): Promise<Buffer> {
    const response = await open(given)
    const bytes = await readAll(response)
    const { statusCode = 0 } = response
    if (statusCode === 200) return bytes
    const refused = statusCode === 401 || statusCode === 410
    throw new DoorError(refused, `The control plane answers ${statusCode}: ${bytes.toString('utf8').slice(0, 200)}`)
  }

  async function ask<Value>(given: Call, parse: (value: unknown) => Value | undefined): Promise<Value> {
    const bytes = await call(given)
    let value: Value | undefined
    try {
      value = parse(JSON.parse(bytes.toString('utf8')))
    } catch {
      // It is said below.
    }
    if (value === undefined) throw new DoorError(false, 'The control plane answers something else than it should.')
    return value
  }

  const at = (url: string, verb: string): string => `${url.replace(/\/$/, '')}/machine/v1/${verb}`

  return {
    enrol: (request) =>
      ask({ url: at(baseUrl, 'enrol'), body: JSON.stringify(request), msMax: ANSWER_MS_MAX }, parseEnrolled),
    park: (secret, request) =>
      ask({ url: at(baseUrl, 'park'), secret, body: JSON.stringify(request), msMax: PARK_MS_MAX }, parseLinkAnswer),
    wake: (secret, request) =>
      ask(
        { url: at(baseUrl, 'wake'), secret, body: JSON.stringify(request), msMax: WAKE_MS_MAX, alone: true },
        parseLinkAnswer,
      ),
    async unfit(secret, request) {
      await call({ url: at(baseUrl, 'unfit'), secret, body: JSON.stringify(request), msMax: ANSWER_MS_MAX })
    },
    async hear({ url, secret, name }, image, after, signal) {
      const body = JSON.stringify(image)
      const place = { url: at(url, `hear?after=${after}`), secret, name, body, signal, alone: true }
      const response = await open({ ...place, msMax: 3 * ANSWER_MS_MAX })
      const { statusCode = 0 } = response
      if (statusCode === 200) return response
      response.destroy()
      throw new DoorError(statusCode === 401 || statusCode === 410, `The control plane answers ${statusCode}.`)
    },
    async say({ url, secret, name }, from, heard, lines) {
      const place = at(url, `lines?from=${from}&heard=${heard}`)
      const { acked } = await ask({ url: place, secret, name, body: lines, msMax: ANSWER_MS_MAX }, parseAcked)
      return acked
    },
    async end({ url, secret, name }, end) {
      await call({ url: at(url, 'end'), secret, name, body: JSON.stringify(end), msMax: ANSWER_MS_MAX })
    },
    forget() {
      agents.http.destroy()
      agents.https.destroy()
      agents = newAgents()
    },
    skewMs: () => skewMs,
  }
}

function newAgents(): { readonly http: HttpAgent; readonly https: HttpsAgent } {
  return { http: new HttpAgent({ keepAlive: true }), https: new HttpsAgent({ keepAlive: true }) }
}

async function readAll(response: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = []
  let bytes = 0
  try {
    for await (const chunk of response as AsyncIterable<Buffer>) {
      bytes += chunk.length
      if (bytes > ANSWER_BYTES_MAX) throw new Error(`more than ${ANSWER_BYTES_MAX} bytes`)
      chunks.push(chunk)
    }
  } catch (cause) {
    throw new DoorError(false, `An answer broke off: ${cause instanceof Error ? cause.message : String(cause)}`)
  }
  return Buffer.concat(chunks)
}
