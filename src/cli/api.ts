/** The platform as the command line sees it: GraphQL over HTTP, and the events of a job over SSE. */
import { Readable } from 'node:stream'
import { createClient, NetworkError } from 'graphql-sse'
import type { Clock } from '../../schema/clock.ts'
import { isErrorCode, PlatformError } from '../../schema/error.ts'
import { isJsonObject, type Json, type JsonObject } from '../../schema/json.ts'
import type { Secret } from '../../schema/secret.ts'

/** An event as the API gives it. `type` is `delta` for streamed text, which has no place in the log. */
export interface ShownEvent {
  readonly seq: number
  readonly type: string
  readonly runId: string | null
  readonly expertKey: string | null
  readonly stepNumber: number | null
  /** ISO text. */
  readonly at: string
  readonly data: JsonObject
  readonly hash: string
}

export interface ShownQuestion {
  readonly id: string
  readonly purpose: string | null
  readonly kind: string
  readonly title: string
  readonly schema: JsonObject
  readonly toolName: string
  readonly args: Json
  readonly argsHash: string
  readonly answeredAt: string | null
  readonly withdrawnAt?: string | null
}

export interface ShownJob {
  readonly id: string
  readonly status: string
  readonly outcome: string | null
  readonly reason: string | null
  readonly message: string | null
  readonly expertKey: string
  readonly query: string | null
  readonly result: string | null
  readonly steps: number
  readonly revision: number
  readonly createdAt: string
  readonly usage: {
    readonly inputTokens: number
    readonly outputTokens: number
    readonly costUsd: number | null
  }
  /** Null before its run has begun; the share is null while the window is not known. */
  readonly context: { readonly tokens: number; readonly window: number | null; readonly share: number | null } | null
  readonly questions: readonly ShownQuestion[]
}

export const JOB_FIELDS = `id status outcome reason message: explanation expertKey query result steps revision createdAt
  usage { inputTokens outputTokens costUsd }
  context { tokens window share }
  questions { id purpose kind title schema toolName args argsHash answeredAt withdrawnAt }`

export interface Api {
  readonly url: string
  /** The data of a query or mutation. Throws what the API refused, as a PlatformError of the same code. */
  request(query: string, variables: JsonObject): Promise<JsonObject>
  /** A mutation whose result is a union with Refusal: the field's value, or the refusal thrown. */
  mutate(field: string, query: string, variables: JsonObject): Promise<JsonObject>
  /** The job. Throws job_not_found. */
  job(jobId: string): Promise<ShownJob>
  /** The integrity of each version of a package that the registry holds; empty when it holds none. */
  published(packageName: string): Promise<Readonly<Record<string, string>>>
  /** What npm's libraries must know to publish there as the caller. */
  npmOptions(): Readonly<Record<string, string>>
  /** The bytes at a path of the server, as they come. Throws what the API refused. */
  download(path: string): Promise<AsyncIterable<Uint8Array>>
  /** Posts bytes as they come; the answer's `data`. Throws what the API refused. */
  upload(path: string, mediaType: string, chunks: AsyncIterable<Uint8Array>): Promise<JsonObject>
  /** Every event after `after`, over as many connections as it takes; ends with the job, or with the signal. */
  events(jobId: string, after: number, signal: AbortSignal): AsyncGenerator<ShownEvent, void, void>
}

const EVENTS = `subscription ($jobId: ID!, $after: Int!) {
  events(jobId: $jobId, after: $after) { seq type runId expertKey stepNumber at data hash }
}`
/** Waits between connections that brought nothing: soon at first, then patiently, in the end never again. */
const RETRY_WAITS_MS = [100, 300, 1_000, 2_000, 4_000, 8_000, 15_000]
const REQUEST_TIMEOUT_MS = 60_000

/** `fetchFn` is the world's fetch. */
export function openApi(url: string, key: Secret, clock: Clock, fetchFn: typeof fetch): Api {
  const headers = () => ({ authorization: `Bearer ${key.reveal()}` })

  async function request(query: string, variables: JsonObject): Promise<JsonObject> {
    let response
    try {
      response = await fetchFn(`${url}/graphql`, {
        method: 'POST',
        headers: { ...headers(), 'content-type': 'application/json', accept: 'application/json' },
        body: JSON.stringify({ query, variables }),
        signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS),
      })
    } catch (cause) {
      throw unreachableServer(url, cause)
    }
    const body: unknown = await response.json().catch(() => undefined)
    if (!isJsonObject(body)) throw new PlatformError('internal', `${url} answered ${response.status} without JSON.`)
    throwErrors(body, response.status)
    if (!isJsonObject(body['data'])) throw new PlatformError('internal', `${url} answered without data.`)
    return body['data']
  }

  async function mutate(field: string, query: string, variables: JsonObject): Promise<JsonObject> {
    const result = (await request(query, variables))[field]
    if (!isJsonObject(result)) throw new PlatformError('internal', `${url} answered ${field} with nothing.`)
    if (result['__typename'] === 'Refusal') throw platformError(result['code'], result['sentence'])
    return result
  }

  async function job(jobId: string): Promise<ShownJob> {
    const data = await request(`query ($id: ID!) { job(id: $id) { ${JOB_FIELDS} } }`, { id: jobId })
    if (!isJsonObject(data['job'])) throw new PlatformError('job_not_found', `There is no job ${jobId}.`)
    return toShownJob(data['job'])
  }

  async function published(packageName: string): Promise<Readonly<Record<string, string>>> {
    let response
    try {
      const signal = AbortSignal.timeout(REQUEST_TIMEOUT_MS)
      response = await fetchFn(`${url}/npm/${packageName.replace('/', '%2f')}`, { headers: headers(), signal })
    } catch (cause) {
      throw unreachableServer(url, cause)
    }
    if (response.status === 404) return {}
    const body: unknown = await response.json().catch(() => undefined)
    if (!isJsonObject(body) || !response.ok) throw platformError(byStatus(response.status), `${url} answered badly.`)
    const versions = isJsonObject(body['versions']) ? Object.entries(body['versions']) : []
    return Object.fromEntries(
      versions.flatMap(([version, manifest]) => {
        const dist = isJsonObject(manifest) ? manifest['dist'] : undefined
        const integrity = isJsonObject(dist) ? dist['integrity'] : undefined
        return typeof integrity === 'string' ? [[version, integrity]] : []
      }),
    )
  }

  async function send(path: string, init: RequestInit): Promise<Response> {
    let response
    try {
      response = await fetchFn(`${url}${path}`, init)
    } catch (cause) {
      throw unreachableServer(url, cause)
    }
    if (response.ok) return response
    const body: unknown = await response.json().catch(() => undefined)
    const { error = byStatus(response.status), reason = `The server answered ${response.status}.` } = isJsonObject(body)
      ? body
      : {}
    throw platformError(error, reason)
  }

  async function download(path: string): Promise<AsyncIterable<Uint8Array>> {
    const { body } = await send(path, { headers: headers() })
    if (body === null) throw new PlatformError('internal', `${url} answered ${path} with nothing.`)
    return body
  }

  async function upload(path: string, mediaType: string, chunks: AsyncIterable<Uint8Array>): Promise<JsonObject> {
    const init: RequestInit & { readonly duplex: 'half' } = {
      method: 'POST',
      headers: { ...headers(), 'content-type': mediaType },
      body: Readable.toWeb(Readable.from(chunks)) as ReadableStream<Uint8Array>,
      // What undici asks of a body that is a stream: the answer comes when all of it is sent.
      duplex: 'half',
    }
    const body: unknown = await (await send(path, init)).json()
    if (!isJsonObject(body) || !isJsonObject(body['data']))
      throw new PlatformError('internal', `${url} answered ${path} without data.`)
    return body['data']
  }

  function npmOptions(): Readonly<Record<string, string>> {
    const registry = `${url}/npm/`
    return { registry, [`${registry.replace(/^https?:/, '')}:_authToken`]: key.reveal() }
  }

  async function* events(jobId: string, after: number, signal: AbortSignal): AsyncGenerator<ShownEvent, void, void> {
    let cursor = after
    let misses = 0
    while (!signal.aborted) {
      let failure: unknown
      try {
        for await (const event of connect(jobId, cursor, signal)) {
          misses = 0
          if (event.type !== 'delta') {
            if (event.seq <= cursor) continue
            cursor = event.seq
          }
          yield event
        }
        return
      } catch (error) {
        if (signal.aborted) return
        if (!isBrokenConnection(error)) throw error
        failure = error
      }
      const waitMs = RETRY_WAITS_MS[misses]
      if (waitMs === undefined) throw unreachableServer(url, failure)
      misses += 1
      await clock.sleep(waitMs, signal).catch(() => undefined)
    }
  }

  async function* connect(jobId: string, after: number, signal: AbortSignal): AsyncGenerator<ShownEvent, void, void> {
    // Our own loop reconnects, because only it knows the cursor: the library would ask for the same events again.
    const client = createClient({ url: `${url}/graphql`, headers, retryAttempts: 0, fetchFn })
    const stop = () => client.dispose()
    signal.addEventListener('abort', stop, { once: true })
    try {
      for await (const result of client.iterate<{ events: ShownEvent }>({
        query: EVENTS,
        variables: { jobId, after },
      })) {
        if (result.errors !== undefined) throwErrors({ errors: JSON.parse(JSON.stringify(result.errors)) }, 200)
        if (result.data?.events !== undefined) yield result.data.events
      }
    } finally {
      signal.removeEventListener('abort', stop)
      client.dispose()
    }
  }

  return { url, request, mutate, job, published, npmOptions, download, upload, events }
}

/** A job from an answer that asked for JOB_FIELDS. The server's schema is what makes this cast true. */
export function toShownJob(value: JsonObject): ShownJob {
  return value as unknown as ShownJob
}

function unreachableServer(url: string, cause: unknown): PlatformError {
  return new PlatformError('server_unreachable', `No server answers at ${url}.`, { cause })
}

function platformError(code: unknown, message: unknown): PlatformError {
  const text = typeof message === 'string' ? message : 'The server refused without a word.'
  return new PlatformError(typeof code === 'string' && isErrorCode(code) ? code : 'internal', text)
}

function throwErrors(body: JsonObject, status: number): void {
  const errors = body['errors']
  const first = Array.isArray(errors) ? (errors as readonly Json[])[0] : undefined
  if (isJsonObject(first)) {
    const code = isJsonObject(first['extensions']) ? first['extensions']['code'] : undefined
    throw platformError(code ?? byStatus(status), first['message'])
  }
  if (typeof body['code'] === 'string' || status >= 400)
    throw platformError(body['code'] ?? byStatus(status), body['message'] ?? `The server answered ${status}.`)
}

function byStatus(status: number): string {
  if (status === 401) return 'unauthenticated'
  if (status === 403) return 'permission_denied'
  return status === 503 ? 'not_ready' : 'internal'
}

/** True for what another connection may cure; an answer of the server (a 401, a refusal) is final. */
function isBrokenConnection(error: unknown): boolean {
  if (error instanceof PlatformError) return error.code === 'not_ready'
  if (error instanceof NetworkError) return error.response === undefined || error.response.status >= 500
  return error instanceof TypeError
}
