/** The tools that a server has listed in the newer line of MCP, as whoever relays frames sees them. */
import { isJsonObject, type Json, type JsonObject } from '../../schema/json.ts'

/** In `_meta` of what a client of the newer line asks; the older has no such member. */
const VERSION = 'io.modelcontextprotocol/protocolVersion'
const LIST = 'tools/list'
const ASKED_MAX = 64
const TOOLS_MAX = 2048

export class ListedTools {
  readonly #asked = new Set<string>()
  readonly #schemas = new Map<string, JsonObject>()

  /** Takes a frame that is passed on to the server. */
  ask(frame: Json): void {
    if (isJsonObject(frame) && frame['method'] === LIST && isOfNewerLine(frame) && this.#asked.size < ASKED_MAX)
      this.#asked.add(JSON.stringify(frame['id'] ?? null))
  }

  /** Takes what the server says; gives the tools that it lists by that. */
  hear(frame: Json): readonly { readonly name: string; readonly inputSchema: JsonObject }[] {
    if (!isJsonObject(frame) || frame['method'] !== undefined) return []
    if (!this.#asked.delete(JSON.stringify(frame['id'] ?? null))) return []
    const listed = isJsonObject(frame['result'] ?? null) ? (frame['result'] as JsonObject)['tools'] : undefined
    const tools = (Array.isArray(listed) ? (listed as readonly Json[]) : []).flatMap((tool) => {
      if (!isJsonObject(tool)) return []
      const { name, inputSchema = null } = tool
      return typeof name === 'string' && isJsonObject(inputSchema) ? [{ name, inputSchema }] : []
    })
    for (const { name, inputSchema } of tools)
      if (this.#schemas.size < TOOLS_MAX || this.#schemas.has(name)) this.#schemas.set(name, inputSchema)
    return tools
  }

  schemaOf(tool: string): JsonObject | undefined {
    return this.#schemas.get(tool)
  }
}

/** Whether a client's frame is of the newer line: headers say again there what stands in a frame. */
export function isOfNewerLine(frame: JsonObject): boolean {
  const { params = null } = frame
  const meta = isJsonObject(params) ? (params['_meta'] ?? null) : null
  return isJsonObject(meta) && typeof meta[VERSION] === 'string'
}
