/** MCP messages as `frame` lines: the transport of one compartment's client. */
import { parseJSONRPCMessage, type JSONRPCMessage, type Transport } from '@modelcontextprotocol/client'
import { isJsonObject, type Json, type JsonObject } from '../../schema/json.ts'

export class FrameTransport implements Transport {
  onmessage?: Transport['onmessage']
  onclose?: Transport['onclose']
  onerror?: Transport['onerror']
  readonly #send: (frame: Json) => void
  #isClosed = false

  constructor(send: (frame: Json) => void) {
    this.#send = send
  }

  async start(): Promise<void> {}

  async send(message: JSONRPCMessage): Promise<void> {
    if (this.#isClosed) throw new Error('the compartment is closed')
    // It is JSON but for undefined members, which go when it is printed.
    this.#send(message as Json)
  }

  async close(): Promise<void> {
    if (this.#isClosed) return
    this.#isClosed = true
    this.onclose?.()
  }

  /** Takes a frame from the skill. False when it is no JSON-RPC message: the skill writes garbage. */
  receive(frame: Json): boolean {
    if (this.#isClosed) return true
    let message: JSONRPCMessage
    try {
      message = isPlainAnswer(frame) ? frame : parseJSONRPCMessage(frame)
    } catch {
      return false
    }
    this.onmessage?.(message)
    return true
  }
}

/**
 * To a program. The client library takes one with these members for stdio, and anything else for HTTP: there it leaves out
 * tools that mark their arguments for headers in a way that MCP forbids. A program hears no headers.
 */
export class ProgramTransport extends FrameTransport {
  readonly pid = null
  readonly stderr = null
}

/** The answer that most frames are, for which the client's own parser tries every kind of message in turn. */
function isPlainAnswer(frame: Json): frame is JsonObject & JSONRPCMessage {
  if (!isJsonObject(frame) || frame['jsonrpc'] !== '2.0') return false
  const { id, result } = frame
  const isId = typeof id === 'string' || Number.isSafeInteger(id)
  return isId && isJsonObject(result) && !('_meta' in result) && Object.keys(frame).length === 3
}
