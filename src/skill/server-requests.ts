/**
 * What a server on the network has asked of its client and not heard an answer to. A machine answers for it, and nothing
 * of a machine is trusted: an answer goes out when it is nothing but what its humans said, or a refusal in our words.
 */
import { readElicitation, type Elicitation } from '../../schema/elicitation.ts'
import { hashOf, type Sha256 } from '../../schema/hash.ts'
import { isJsonObject, type Json, type JsonObject } from '../../schema/json.ts'
import { ELICIT, refusalsOf } from '../../schema/server-request.ts'

/** Requests that may be open at once; an answer to one more is refused. */
const OPEN_MAX = 256

export interface ServerReply {
  readonly asked: Elicitation
  /** Over the reply, as MCP has it. */
  readonly replyHash: Sha256
}

export class ServerRequests {
  readonly #open = new Map<string, { readonly method: string; readonly params: Json }>()

  /** Takes what the server says. */
  hear(frame: Json): void {
    if (!isJsonObject(frame)) return
    const { method, id, params = {} } = frame
    if (typeof method !== 'string' || id === undefined || this.#open.size >= OPEN_MAX) return
    this.#open.set(JSON.stringify(id), { method, params })
  }

  /**
   * Takes a machine's answer: why it does not go out, or undefined when it does, or the reply of a human that it claims
   * to bring, for who knows what was said.
   */
  answer(frame: JsonObject): string | ServerReply | undefined {
    const key = JSON.stringify(frame['id'] ?? null)
    const request = this.#open.get(key)
    this.#open.delete(key)
    if (request === undefined) return 'it answers nothing that the server has asked'
    const { method, params } = request
    const { result, error } = frame
    if (error !== undefined)
      return isRefusal(error, refusalsOf(method, params)) ? undefined : 'it is no refusal of ours'
    if (method === 'ping')
      return isJsonObject(result ?? null) && hashOf(result ?? null) === EMPTY ? undefined : NO_ANSWER
    const asked = method === ELICIT ? readElicitation(params) : 'nothing'
    return typeof asked === 'string' || result === undefined ? NO_ANSWER : { asked, replyHash: hashOf(result) }
  }
}

const EMPTY = hashOf({})
const NO_ANSWER = 'it is no answer to what the server has asked'

function isRefusal(error: Json, words: readonly string[]): boolean {
  if (!isJsonObject(error)) return false
  const { code, message, ...more } = error
  return (
    Number.isInteger(code) && typeof message === 'string' && words.includes(message) && Object.keys(more).length === 0
  )
}
