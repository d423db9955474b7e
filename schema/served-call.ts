/**
 * What a client's frame asks of a server as a call: of one of its tools, or of `readResource`, the tool that stands for
 * the resources of a server that has some. Whoever guards calls reads them here, so that neither way is unguarded.
 */
import { isJsonObject, type JsonObject, type Json } from './json.ts'
import type { ToolDefinition } from './message.ts'

export const READ_RESOURCE = 'readResource'

/** On offer with a server's own tools when it has resources, and no tool of this name. */
export const resourceTool: ToolDefinition = {
  name: READ_RESOURCE,
  description:
    'Reads a resource of this skill by its uri, such as one that a result links to. ' +
    'Without uri, lists the resources that there are.',
  inputSchema: {
    type: 'object',
    properties: { uri: { type: 'string', description: 'As the link or the list has it.' } },
    additionalProperties: false,
  },
  annotations: { title: 'Read a resource', readOnlyHint: true },
}

export interface ServedCall {
  readonly tool: string
  readonly args: JsonObject
}

/** The call that a frame makes; `unclear` when it makes one and does not say plainly which; undefined when none. */
export function servedCallIn(frame: Json): ServedCall | 'unclear' | undefined {
  if (!isJsonObject(frame)) return undefined
  const { method } = frame
  const params = frame['params'] ?? {}
  if (method === 'tools/call') {
    const tool = isJsonObject(params) ? params['name'] : undefined
    const args = isJsonObject(params) ? (params['arguments'] ?? {}) : undefined
    return typeof tool === 'string' && isJsonObject(args) ? { tool, args } : 'unclear'
  }
  if (method === 'resources/read') {
    const uri = isJsonObject(params) ? params['uri'] : undefined
    return typeof uri === 'string' ? { tool: READ_RESOURCE, args: { uri } } : 'unclear'
  }
  if (method !== 'resources/list') return undefined
  // A further page goes on with a call, and is told by its cursor: see ResourcePages.
  const isFirst = isJsonObject(params) && params['cursor'] === undefined
  return isFirst ? { tool: READ_RESOURCE, args: {} } : 'unclear'
}
