/**
 * Calls of tools, said and heard as JSON-RPC without the client library, which looks at each frame of a call many times
 * over, and a step makes one. All else is the library's: the handshake, listings, resources, what a server asks, and calls
 * whose answers it checks by the schema of their tool.
 */
import { ProtocolError, SdkError, SdkErrorCode, type CallToolResult } from '@modelcontextprotocol/client'
import { CallToolResultSchema } from '@modelcontextprotocol/core'
import { isJsonObject, type Json, type JsonObject } from '../../schema/json.ts'
import type { Progress } from './progress.ts'

/** The library counts its own requests from 0. */
const FIRST_ID = 1_000_000

export interface ToolCall {
  /** Rejects with a ProtocolError for what the server says instead of a result, and an SdkError for what is none. */
  readonly result: Promise<CallToolResult>
  /** Tells the server that nobody waits any more; nothing after the answer. */
  readonly giveUp: (reason: string) => void
}

interface OpenCall {
  readonly answered: PromiseWithResolvers<CallToolResult>
  readonly hear: (progress: Progress) => void
}

export class ToolCalls {
  readonly #send: (frame: JsonObject) => void
  readonly #open = new Map<Json, OpenCall>()
  #lastId = FIRST_ID

  constructor(send: (frame: JsonObject) => void) {
    this.#send = send
  }

  /** `meta` is said with the call; `hear` is told how far it has come. */
  make(name: string, args: JsonObject, meta: JsonObject, hear: (progress: Progress) => void): ToolCall {
    const id = (this.#lastId += 1)
    const answered = Promise.withResolvers<CallToolResult>()
    this.#open.set(id, { answered, hear })
    const params = { name, arguments: args, _meta: { ...meta, progressToken: id } }
    this.#send({ method: 'tools/call', params, jsonrpc: '2.0', id })
    return {
      result: answered.promise,
      giveUp: (reason) => {
        if (!this.#open.delete(id)) return
        this.#send({ jsonrpc: '2.0', method: 'notifications/cancelled', params: { requestId: id, reason } })
      },
    }
  }

  /** Takes a frame that is the answer to one of these calls, or its progress; true when it was one. */
  receive(frame: Json): boolean {
    if (!isJsonObject(frame) || frame['jsonrpc'] !== '2.0') return false
    const { id, result, error, method } = frame
    if (method !== undefined) return method === 'notifications/progress' && this.#progress(frame['params'])
    const call = id === undefined ? undefined : this.#open.get(id)
    if (id === undefined || call === undefined) return false
    const { answered } = call
    if (isJsonObject(result)) {
      const read = isPlain(result) ? result : validated(result)
      if (read instanceof SdkError) answered.reject(read)
      else answered.resolve(read)
    } else if (isFault(error)) answered.reject(ProtocolError.fromError(error.code, error.message, error['data']))
    else return false
    this.#open.delete(id)
    return true
  }

  /** Nobody answers any more. */
  end(): void {
    for (const { answered } of this.#open.values())
      answered.reject(new SdkError(SdkErrorCode.ConnectionClosed, 'Connection closed'))
    this.#open.clear()
  }

  #progress(params: Json | undefined): boolean {
    if (!isJsonObject(params)) return false
    const { progressToken, progress, total, message } = params
    const call = progressToken === undefined ? undefined : this.#open.get(progressToken)
    if (call === undefined || typeof progress !== 'number') return false
    const isCounted = total === undefined || typeof total === 'number'
    const isSaid = message === undefined || typeof message === 'string'
    if (!isCounted || !isSaid) return false
    call.hear({ progress, total, message })
    return true
  }
}

function isFault(error: Json | undefined): error is JsonObject & { readonly code: number; readonly message: string } {
  return isJsonObject(error) && Number.isSafeInteger(error['code']) && typeof error['message'] === 'string'
}

/** Text and nothing besides: what most tools answer, and what the library's shape would give back as it is. */
function isPlain(result: JsonObject): result is JsonObject & CallToolResult {
  const { content, isError } = result
  const members = isError === undefined ? 1 : 2
  const hasOnly = Object.keys(result).length === members && (isError === undefined || typeof isError === 'boolean')
  return hasOnly && Array.isArray(content) && content.every(isText)
}

function isText(block: Json): boolean {
  if (!isJsonObject(block) || block['type'] !== 'text' || typeof block['text'] !== 'string') return false
  return Object.keys(block).length === 2
}

function validated(result: JsonObject): CallToolResult | SdkError {
  const parsed = CallToolResultSchema.safeParse(result)
  if (parsed.success) return parsed.data
  const why = parsed.error.issues.map(({ path, message }) => `${path.map(String).join('.')}: ${message}`).join(', ')
  return new SdkError(SdkErrorCode.InvalidResult, `Invalid result for tools/call: ${why}`)
}
