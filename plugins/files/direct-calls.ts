/**
 * Calls of tools, heard and answered without the server library, which looks at each message of a call many times over:
 * whoever works with files calls dozens of times in a row. All else is the library's: the handshake, listings, the newer
 * line of MCP, and every call that it would refuse, so that a refusal has its words.
 */
import { PassThrough, type Readable, type Writable } from 'node:stream'
import { isJsonObject, type Json, type JsonObject } from '../../schema/json.ts'
import { LineSplitter } from '../../schema/lines.ts'

/** As long as the library reads. */
const LINE_BYTES_MAX = 10 * 1024 * 1024

/** The answer of a tool, or undefined for a call that the library is to refuse. The promise never rejects. */
export type AnswerCall = (name: string, args: JsonObject) => Promise<object> | undefined

/** What a client says on `input` and is not answered here, byte for byte. */
export function answerDirectly(input: Readable, output: Writable, answer: AnswerCall): Readable {
  const rest = new PassThrough()
  const splitter = new LineSplitter(LINE_BYTES_MAX)
  /** Calls that were not given up. */
  const open = new Set<Json>()
  /** Whoever greeted in the older line stays in it. */
  let isOlder = false

  const take = (text: string): boolean => {
    const isAbout = (method: string): boolean => text.includes(`"${method}"`)
    isOlder ||= isAbout('notifications/initialized')
    if (!isOlder || !(isAbout('tools/call') || isAbout('notifications/cancelled'))) return false
    const message = parse(text)
    if (message === undefined) return false
    const { id = null, method, params } = message
    if (method === 'notifications/cancelled' && isJsonObject(params)) return open.delete(params['requestId'] ?? null)
    if (method !== 'tools/call' || !isPlain(message, params)) return false
    const { name, arguments: args = {} } = params
    const answered = typeof name === 'string' && isJsonObject(args) ? answer(name, args) : undefined
    if (answered === undefined) return false
    open.add(id)
    void answered.then((result) => {
      if (open.delete(id)) output.write(`${JSON.stringify({ jsonrpc: '2.0', id, result })}\n`)
    })
    return true
  }

  input.on('data', (chunk: Buffer) => {
    for (const line of splitter.push(chunk)) {
      // No client says it: the connection ends.
      if (typeof line !== 'string') rest.destroy(new Error(line.message))
      else if (!take(line)) rest.write(`${line}\n`)
    }
    if (!rest.writableNeedDrain) return
    input.pause()
    rest.once('drain', () => input.resume())
  })
  // A line that was not finished is none.
  input.once('end', () => rest.end())
  return rest
}

function parse(text: string): JsonObject | undefined {
  try {
    const value = JSON.parse(text) as Json
    return isJsonObject(value) ? value : undefined
  } catch {
    return undefined
  }
}

/** A request with nothing in it but a call: what says more is for the library to understand. */
function isPlain(message: JsonObject, params: Json | undefined): params is JsonObject {
  const { jsonrpc, id } = message
  if (jsonrpc !== '2.0' || (typeof id !== 'string' && !Number.isSafeInteger(id)) || !isJsonObject(params)) return false
  const { _meta: meta = {} } = params
  const isKnown = Object.keys(params).every((key) => key === 'name' || key === 'arguments' || key === '_meta')
  // A claim to speak another version is made there.
  return isKnown && isJsonObject(meta) && !Object.keys(meta).some((key) => key.startsWith('io.modelcontextprotocol/'))
}
