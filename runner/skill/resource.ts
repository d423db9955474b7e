/** Resources of a server as results of the tool that reads them. */
import type { CallToolResult, ListResourcesResult, ReadResourceResult } from '@modelcontextprotocol/client'

/** Named in one listing, at most. */
const LISTED_MAX = 200

/** Contents as embedded resources: text as it is, images where a model can see them. */
export function resultOfRead({ contents }: ReadResourceResult): CallToolResult {
  if (contents.length === 0) return { content: [{ type: 'text', text: 'The resource is empty.' }] }
  return { content: contents.map((resource) => ({ type: 'resource', resource })) }
}

/** One line for each resource. */
export function resultOfList({ resources, nextCursor }: ListResourcesResult): CallToolResult {
  const lines = resources.slice(0, LISTED_MAX).map(({ uri, name, title, description, mimeType }) => {
    const kind = mimeType === undefined ? '' : ` (${mimeType})`
    const about = description === undefined ? '' : `: ${description}`
    return `${uri} ${title ?? name}${kind}${about}`.replaceAll(/\s+/g, ' ')
  })
  const isCut = nextCursor !== undefined || resources.length > LISTED_MAX
  if (lines.length === 0) lines.push('There are no resources to list; links in results may be read all the same.')
  if (isCut) lines.push('There are more than are listed here.')
  return { content: [{ type: 'text', text: lines.join('\n') }] }
}
