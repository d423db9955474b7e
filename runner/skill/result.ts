/** What a tool answered → what a model reads of it: bounded, and with nothing that has to be fetched. */
import type { CallToolResult } from '@modelcontextprotocol/client'
import { canonical } from '../../schema/hash.ts'
import type { Json } from '../../schema/json.ts'
import { excerpt, INLINE_BYTES_MAX, keptPath, textOfBlocks } from './long-answer.ts'
import type { ImagePart, TextPart, ToolCallPart, ToolResultPart } from '../../schema/message.ts'

/** All text of one result that could not be kept as a file. */
export const TEXT_BYTES_MAX = 64 * 1024
/** All images of one result, in base64: a line holds 8 MiB, and providers take about 5 MB an image. */
export const IMAGE_BYTES_MAX = 5 * 1024 * 1024
const IMAGE_TYPES: ReadonlySet<string> = new Set(['image/png', 'image/jpeg', 'image/gif', 'image/webp'])
const BASE64 = /^[A-Za-z0-9+/]*={0,2}$/

/**
 * Text in order, and images that a model can see. Of a long text that is kept as a file, the beginning, the end and the
 * way to read on; of one that is not, what there is room for, with a notice of how much is missing.
 */
export function toolResultOf(call: ToolCallPart, result: CallToolResult): ToolResultPart {
  const path = keptPath(result._meta)
  const content: (TextPart | ImagePart)[] = []
  if (path !== undefined) content.push({ type: 'text', text: excerpt(textOfBlocks(result.content), path) })
  let textRoom = TEXT_BYTES_MAX
  let imageRoom = IMAGE_BYTES_MAX
  let missing = 0
  for (const block of result.content) {
    const part = partOf(block)
    if (part.type === 'image' && part.base64.length <= imageRoom) {
      imageRoom -= part.base64.length
      content.push(part)
      continue
    }
    if (path !== undefined && textOfBlocks([block]) !== '') continue
    const text = part.type === 'text' ? part.text : `[an image of ${part.base64.length} base64 bytes is too large]`
    const kept = cut(text, textRoom)
    textRoom -= bytesOf(kept)
    missing += bytesOf(text) - bytesOf(kept)
    if (kept !== '') content.push({ type: 'text', text: kept })
  }
  const structured = structuredOf(result, path === undefined ? TEXT_BYTES_MAX : INLINE_BYTES_MAX)
  if (content.length === 0 && structured !== undefined) content.push({ type: 'text', text: JSON.stringify(structured) })
  if (missing > 0) content.push({ type: 'text', text: `[${missing} bytes of text are left out; ask for less at once]` })
  const { callId, name } = call
  const isError = result.isError === true
  const part = { type: 'toolResult', callId, name, content, isError } as const
  return structured === undefined ? part : { ...part, structured }
}

function partOf(block: CallToolResult['content'][number]): TextPart | ImagePart {
  switch (block.type) {
    case 'text':
      return text(block.text)
    case 'image':
      return image(block.mimeType, block.data) ?? text(`[an image of type ${block.mimeType} that cannot be shown]`)
    case 'audio':
      return text(`[audio of type ${block.mimeType}]`)
    case 'resource_link':
      return text(`[resource ${block.uri}: ${block.name}]`)
    case 'resource': {
      const { resource } = block
      if ('text' in resource) return text(`[resource ${resource.uri}]\n${resource.text}`)
      const shown = resource.mimeType === undefined ? undefined : image(resource.mimeType, resource.blob)
      return shown ?? text(`[resource ${resource.uri} of type ${resource.mimeType ?? 'unknown'}]`)
    }
    default:
      return text('[content of a kind that cannot be shown]')
  }
}

function text(text: string): TextPart {
  return { type: 'text', text }
}

function image(mediaType: string, base64: string): ImagePart | undefined {
  if (!IMAGE_TYPES.has(mediaType) || !BASE64.test(base64)) return undefined
  return { type: 'image', mediaType, base64 }
}

/** Data larger than the text limit is left to the text: it would be recorded and read twice. */
function structuredOf(result: CallToolResult, bytesMax: number): Json | undefined {
  if (result.structuredContent === undefined) return undefined
  const structured = result.structuredContent as Json // it came as JSON
  return bytesOf(canonical(structured)) <= bytesMax ? structured : undefined
}

function bytesOf(text: string): number {
  return Buffer.byteLength(text)
}

/** The longest beginning of `text` within `room` bytes that cuts no character. */
function cut(text: string, room: number): string {
  const bytes = Buffer.from(text)
  if (bytes.length <= room) return text
  let end = Math.max(0, room)
  while (end > 0 && ((bytes[end] ?? 0) & 0xc0) === 0x80) end -= 1
  return bytes.toString('utf8', 0, end)
}
