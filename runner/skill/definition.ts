/** Tools as a server lists them → tools as the platform keeps them. */
import type { Tool } from '@modelcontextprotocol/client'
import { canonical } from '../../schema/hash.ts'
import type { JsonObject } from '../../schema/json.ts'
import type { ToolAnnotations, ToolDefinition } from '../../schema/message.ts'

/** More than this is no offer to a model, and no line of the log holds it. */
export const TOOLS_MAX = 1024
export const LISTING_BYTES_MAX = 2 * 1024 * 1024
const NAME_CHARS_MAX = 256
const TITLE_CHARS_MAX = 1024

export function definitionsOf(tools: readonly Tool[]): readonly ToolDefinition[] {
  return tools.map(({ name, title, description, inputSchema, outputSchema, annotations }) => {
    const said = annotationsOf(title, annotations)
    return {
      name,
      description: description ?? '',
      inputSchema: inputSchema as JsonObject, // it came as JSON
      ...(outputSchema === undefined ? {} : { outputSchema: outputSchema as JsonObject }), // as above
      ...(said === undefined ? {} : { annotations: said }),
    }
  })
}

/** Why a listing cannot be used, as the end of a sentence. */
export function faultInListing(
  tools: readonly ToolDefinition[],
): { readonly code: 'skill_garbage' | 'limit_exceeded'; readonly message: string } | undefined {
  if (tools.length > TOOLS_MAX) return { code: 'limit_exceeded', message: `${tools.length} tools, above ${TOOLS_MAX}` }
  if (new Set(tools.map((tool) => tool.name)).size < tools.length)
    return { code: 'skill_garbage', message: 'two tools of one name' }
  if (tools.some(({ name }) => name === '' || name.length > NAME_CHARS_MAX))
    return { code: 'skill_garbage', message: `a tool whose name is empty or above ${NAME_CHARS_MAX} characters` }
  if (Buffer.byteLength(canonical(tools)) > LISTING_BYTES_MAX)
    return { code: 'limit_exceeded', message: `tools whose definitions are above ${LISTING_BYTES_MAX} bytes` }
  return undefined
}

function annotationsOf(title: string | undefined, given: Tool['annotations']): ToolAnnotations | undefined {
  const shown = title ?? given?.title
  const { readOnlyHint, destructiveHint, idempotentHint, openWorldHint } = given ?? {}
  const annotations: ToolAnnotations = {
    ...(shown === undefined ? {} : { title: shown.slice(0, TITLE_CHARS_MAX) }),
    ...(readOnlyHint === undefined ? {} : { readOnlyHint }),
    ...(destructiveHint === undefined ? {} : { destructiveHint }),
    ...(idempotentHint === undefined ? {} : { idempotentHint }),
    ...(openWorldHint === undefined ? {} : { openWorldHint }),
  }
  return Object.keys(annotations).length === 0 ? undefined : annotations
}
