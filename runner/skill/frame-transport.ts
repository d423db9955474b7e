/** MCP messages as `frame` lines: the transport of one compartment's client. */
import { parseJSONRPCMessage, type JSONRPCMessage, type Transport } from '@modelcontextprotocol/client'
import type { Json } from '../../schema/json.ts'

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
    // A JSON-RPC message is JSON once its undefined members are gone.
    this.#send(JSON.parse(JSON.stringify(message)) as Json)
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
      message = parseJSONRPCMessage(frame)
    } catch {
      return false
    }
    this.onmessage?.(message)
    return true
  }
}
