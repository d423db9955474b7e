/**
 * One skill's connection: MCP messages in both directions over Streamable HTTP, or over the older protocol (an event
 * stream and posts), which a server is asked by when it refuses the newer one.
 *
 * RC1 A connection that ends says so once, with a code and a sentence; what it was asked and has not answered ends with it.
 * RC2 No secret comes back: wherever a server repeats one, in an answer or in a failure, it reads ***.
 * RC3 What a server says is bounded in size and rate.
 */
import {
  isJSONRPCRequest,
  parseJSONRPCMessage,
  SdkHttpError,
  SSEClientTransport,
  StreamableHTTPClientTransport,
  type JSONRPCMessage,
} from '@modelcontextprotocol/client'
import { FRAME_BYTES_MAX } from '../../schema/control.ts'
import type { Clock } from '../../schema/clock.ts'
import { PlatformError, type ErrorCode } from '../../schema/error.ts'
import { isJsonObject, type Json } from '../../schema/json.ts'
import { Rate } from '../../schema/rate.ts'
import { masked } from './mask.ts'

const FRAMES_PER_SECOND = 1000
const FRAMES_AT_ONCE = 5000
const BYTES_PER_SECOND = 8 * 1024 * 1024
const BYTES_AT_ONCE = 32 * 1024 * 1024
/** How long a server may take to hear that its calls are canceled and its session is over. */
const FAREWELL_MS_MAX = 1000
const WORDS_MAX = 300
/** What a server that only knows the older protocol answers to the first message of the newer one. */
const NOT_STREAMABLE = new Set([400, 404, 405])

export interface ConnectionOptions {
  /** How a person knows it: `Skill github of …`. */
  readonly title: string
  readonly type: 'mcpHttpSkill' | 'mcpSseSkill'
  readonly endpoint: URL
  /** With secrets in their places. */
  readonly headers: Readonly<Record<string, string>>
  readonly secrets: readonly string[]
  readonly fetch: typeof globalThis.fetch
  readonly clock: Clock
  /** Hears each message, until `ended`. */
  hear(frame: Json): void
  /** Hears once that nothing more will come. */
  ended(code: ErrorCode, message: string): void
}

/** What a request that is open is: one that greets the server, in one of MCP's two lines, or any other. */
type Asked = 'initialize' | 'server/discover' | 'other'

type RemoteTransport = StreamableHTTPClientTransport | SSEClientTransport

export class RemoteConnection {
  readonly #options: ConnectionOptions
  readonly #frames: Rate
  readonly #bytes: Rate
  readonly #open = new Map<string, Asked>()
  #transport: RemoteTransport | undefined
  #spoke = false
  #isOver = false

  constructor(options: ConnectionOptions) {
    this.#options = options
    const now = options.clock.now()
    this.#frames = new Rate(FRAMES_PER_SECOND, FRAMES_AT_ONCE, now)
    this.#bytes = new Rate(BYTES_PER_SECOND, BYTES_AT_ONCE, now)
  }

  /** Resolves when messages can be sent, or it has ended. */
  async start(): Promise<void> {
    try {
      await this.#connect(this.#options.type)
    } catch (error) {
      this.#end(error)
    }
  }

  /** Sends one message, with these headers besides; resolves when the server has taken it, or it has ended. */
  async send(frame: Json, headers: Readonly<Record<string, string>> = {}): Promise<void> {
    if (this.#isOver || this.#transport === undefined) return
    let message: JSONRPCMessage
    try {
      message = parseJSONRPCMessage(frame)
    } catch {
      return this.#over('skill_garbage', 'It was sent what is not MCP.')
    }
    const id = isJSONRPCRequest(message) ? JSON.stringify(message.id) : undefined
    if (id !== undefined && isJSONRPCRequest(message))
      this.#open.set(
        id,
        message.method === 'initialize' || message.method === 'server/discover' ? message.method : 'other',
      )
    try {
      await this.#post(message, id, headers)
    } catch (error) {
      if (this.#isOver) return
      if (id !== undefined && this.#isRefusedAlone(error, this.#open.get(id))) return this.#answerFor(id, frame, error)
      // A notification that a server does not want changes nothing.
      if (id === undefined && error instanceof SdkHttpError && this.#spoke) return
      this.#end(error)
    }
  }

  /** Ends it, and the server's session with it; idempotent. */
  async close(): Promise<void> {
    const transport = this.#transport
    const wasOver = this.#isOver
    this.#isOver = true
    if (transport !== undefined && !wasOver) {
      const enough = new AbortController()
      const { clock } = this.#options
      const late = clock.sleep(FAREWELL_MS_MAX, enough.signal).catch(() => {})
      await Promise.race([this.#sayFarewell(transport).catch(() => {}), late])
      enough.abort()
    }
    await transport?.close().catch(() => {})
  }

  async #sayFarewell(transport: RemoteTransport): Promise<void> {
    const calls = [...this.#open].flatMap(([id, what]) => (what === 'other' ? [JSON.parse(id) as string | number] : []))
    const cancels = calls.map((requestId) => {
      const params = { requestId, reason: 'The job no longer waits for it.' }
      return transport.send({ jsonrpc: '2.0', method: 'notifications/cancelled', params })
    })
    await Promise.allSettled(cancels)
    if (transport instanceof StreamableHTTPClientTransport) await transport.terminateSession()
  }

  async #post(
    message: JSONRPCMessage,
    id: string | undefined,
    headers: Readonly<Record<string, string>>,
  ): Promise<void> {
    const transport = this.#transport
    if (!(transport instanceof StreamableHTTPClientTransport)) return transport?.send(message)
    const lost = (): void => {
      if (id !== undefined && this.#open.has(id)) this.#over('skill_died', 'Its server ended an answer before its end.')
    }
    try {
      return await transport.send(message, { onRequestStreamEnd: lost, headers })
    } catch (error) {
      const isFirst = id !== undefined && this.#open.get(id) === 'initialize' && !this.#spoke
      if (!isFirst || !(error instanceof SdkHttpError) || !NOT_STREAMABLE.has(error.data.status ?? 0)) throw error
      await transport.close()
      await this.#connect('mcpSseSkill')
      return this.#transport?.send(message)
    }
  }

  async #connect(type: ConnectionOptions['type']): Promise<void> {
    const { endpoint, headers, fetch } = this.#options
    const options = { fetch, requestInit: { headers } }
    const transport =
      type === 'mcpHttpSkill'
        ? new StreamableHTTPClientTransport(endpoint, options)
        : new SSEClientTransport(endpoint, options)
    this.#transport = transport
    let isStarted = false
    const onerror = (error: Error): void => {
      if (this.#transport !== transport) return
      // The older protocol has one stream, and a new one would be another session. The newer one resumes by itself;
      // what it cannot resume ends the request that it belongs to.
      if (transport instanceof SSEClientTransport ? isStarted : isTooLong(error)) this.#end(error)
    }
    // A message came as JSON, and is JSON again once its undefined members are gone.
    const onmessage = (message: JSONRPCMessage): void => this.#hear(JSON.parse(JSON.stringify(message)) as Json)
    Object.assign(transport, { onmessage, onerror })
    await transport.start()
    isStarted = true
  }

  #hear(frame: Json): void {
    if (this.#isOver) return
    const { clock } = this.#options
    const size = JSON.stringify(frame).length
    const now = clock.now()
    if (size > FRAME_BYTES_MAX) return this.#over('skill_garbage', `It said a message above ${FRAME_BYTES_MAX} bytes.`)
    if (!this.#frames.take(now))
      return this.#over('limit_exceeded', `It says more than ${FRAMES_PER_SECOND} messages a second.`)
    if (!this.#bytes.take(now, size))
      return this.#over('limit_exceeded', `It says more than ${BYTES_PER_SECOND} bytes a second.`)
    this.#settle(frame)
    this.#options.hear(masked(frame, this.#options.secrets))
  }

  /** What an answer settles: that the server has begun, and a version that both agreed on, which goes into all headers. */
  #settle(frame: Json): void {
    const id = isJsonObject(frame) && frame['method'] === undefined ? JSON.stringify(frame['id'] ?? null) : undefined
    if (id === undefined) return void (this.#spoke = true)
    const asked = this.#open.get(id)
    this.#open.delete(id)
    // A server of the older line refuses the look of the newer: it has not begun by that.
    if (asked !== 'server/discover' || !isJsonObject(frame) || frame['error'] === undefined) this.#spoke = true
    const result = isJsonObject(frame) ? frame['result'] : undefined
    const version = result !== undefined && isJsonObject(result) ? result['protocolVersion'] : undefined
    if (asked === 'initialize' && typeof version === 'string' && /^[\x21-\x7e]{1,64}$/.test(version))
      this.#transport?.setProtocolVersion(version)
  }

  /** The server understood and refused one request; it was not carried out, and the next may do better. */
  #isRefusedAlone(error: unknown, asked: Asked | undefined): boolean {
    if (!(error instanceof SdkHttpError)) return false
    const status = error.data.status ?? 0
    // Servers of the older line refuse the look of the newer in many ways; only a closed door is closed to both.
    if (asked === 'server/discover') return ![401, 403, 407].includes(status)
    if (!this.#spoke) return false
    return status >= 400 && status < 500 && ![401, 403, 404, 407].includes(status)
  }

  #answerFor(id: string, frame: Json, error: unknown): void {
    this.#open.delete(id)
    const message = `The server of the skill answered: ${this.#words(error)}`
    const answer = { jsonrpc: '2.0', id: isJsonObject(frame) ? (frame['id'] ?? null) : null }
    this.#options.hear({ ...answer, error: { code: -32_000, message } })
  }

  #end(error: unknown): void {
    const code = error instanceof PlatformError ? error.code : isTooLong(error) ? 'limit_exceeded' : undefined
    this.#over(code ?? (this.#spoke ? 'skill_died' : 'skill_start_failed'), `Its server failed: ${this.#words(error)}`)
  }

  #over(code: ErrorCode, sentence: string): void {
    if (this.#isOver) return
    this.#isOver = true
    void this.#transport?.close().catch(() => {})
    this.#options.ended(code, `${this.#options.title}: ${sentence}`)
  }

  /** What went wrong, on one line, cut, and without a secret. */
  #words(error: unknown): string {
    const status = error instanceof SdkHttpError ? `HTTP ${error.data.status ?? '?'}. ` : ''
    const text = error instanceof Error ? error.message : String(error)
    const said = masked(
      `${status}${text}`.replace(/[\s\u0000-\u001f\u007f-\u009f]+/g, ' ').trim(),
      this.#options.secrets,
    )
    const line = typeof said === 'string' ? said : ''
    return line.length > WORDS_MAX ? `${line.slice(0, WORDS_MAX)}…` : line
  }
}

/** The limit of an answer, as the transport tells of it: in words. */
function isTooLong(error: unknown): boolean {
  return error instanceof Error && /is above \d+ bytes/.test(error.message)
}
