/** Resources of a server as results of the tool that reads them. */
import type {
  CallToolResult,
  Client,
  ListResourcesResult,
  ReadResourceResult,
  RequestOptions,
} from '@modelcontextprotocol/client'
import type { JsonObject } from '../../schema/json.ts'
import { INLINE_BYTES_MAX } from './long-answer.ts'

/** Pages of one listing, at most: a server may name a further one for ever. */
const PAGES_MAX = 50
/** For the notice at the end of a listing that is cut. */
const NOTICE_BYTES = 200

type Resource = ListResourcesResult['resources'][number]
type Meta = { readonly _meta?: Record<string, unknown> }

/** One request for one call, or one for each page of a list: whoever guards calls lets no other pass. */
export async function readResource(
  client: Client,
  { uri }: JsonObject,
  meta: Meta,
  options: RequestOptions,
): Promise<CallToolResult> {
  if (uri === undefined)
    return listResources((page) => client.request({ method: 'resources/list', params: { ...meta, ...page } }, options))
  return resultOfRead(
    await client.readResource({ uri: typeof uri === 'string' ? uri : JSON.stringify(uri), ...meta }, options),
  )
}

/** All pages, as far as a model reads them: `ask` asks the server for one. */
export async function listResources(
  ask: (page: { readonly cursor?: string }) => Promise<Pick<ListResourcesResult, 'resources' | 'nextCursor'>>,
): Promise<CallToolResult> {
  const found: Resource[] = []
  const asked = new Set<string>()
  let bytes = 0
  for (let cursor: string | undefined; ;) {
    const { resources, nextCursor } = await ask(cursor === undefined ? {} : { cursor })
    found.push(...resources)
    for (const resource of resources) bytes += Buffer.byteLength(printResource(resource)) + 1
    if (nextCursor === undefined) return resultOfList(found, false)
    if (asked.size + 1 >= PAGES_MAX || bytes > INLINE_BYTES_MAX || asked.has(nextCursor))
      return resultOfList(found, true)
    asked.add(nextCursor)
    cursor = nextCursor
  }
}

/** Contents as embedded resources: text as it is, images where a model can see them. */
export function resultOfRead({ contents, _meta }: ReadResourceResult): CallToolResult {
  if (contents.length === 0) return { content: [{ type: 'text', text: 'The resource is empty.' }] }
  const content = contents.map((resource) => ({ type: 'resource' as const, resource }))
  // It may say where a long text is kept.
  return _meta === undefined ? { content } : { content, _meta }
}

/** One line for each resource, as many as a model reads whole; `isCut` says that there are more. */
export function resultOfList(resources: readonly Resource[], isCut: boolean): CallToolResult {
  const lines: string[] = []
  let room = INLINE_BYTES_MAX - NOTICE_BYTES
  for (const resource of resources) {
    const line = printResource(resource)
    room -= Buffer.byteLength(line) + 1
    if (room < 0) break
    lines.push(line)
  }
  const shown = lines.length
  if (resources.length === 0) lines.push('There are no resources to list; links in results may be read all the same.')
  if (isCut || shown < resources.length)
    lines.push(`There are more than the ${shown} that are listed here; they can be read by their uri all the same.`)
  return { content: [{ type: 'text', text: lines.join('\n') }] }
}

function printResource({ uri, name, title, description, mimeType }: Resource): string {
  const kind = mimeType === undefined ? '' : ` (${mimeType})`
  const about = description === undefined ? '' : `: ${description}`
  return `${uri} ${title ?? name}${kind}${about}`.replaceAll(/\s+/g, ' ')
}
