/**
 * Answers that are too long for a model to read whole: what is kept of them, and what the model reads instead. The
 * supervisor keeps the text as a file and says so in the answer; the runner cuts it.
 */
import { isJsonObject, type Json, type JsonObject } from '../../schema/json.ts'

/** Text of one result that a model reads whole, about 8,000 tokens. Every later step pays for it again. */
export const INLINE_BYTES_MAX = 32 * 1024
/** What is shown of a longer one. */
const HEAD_BYTES = 12 * 1024
const TAIL_BYTES = 4 * 1024
/** Says in an answer where its text is kept. What a skill itself says there is taken out. */
const KEPT = 'senmon.dev/kept'
const KEPT_PATH = /^\.senmon\/results\/[0-9a-f]{16}\.txt$/

/** The text blocks of an answer as one text, whatever else it holds. */
export function textOfBlocks(content: unknown): string {
  if (!Array.isArray(content)) return ''
  return content.flatMap((block) => textOfBlock(block)).join('\n')
}

function textOfBlock(block: unknown): readonly string[] {
  if (!isObject(block)) return []
  if (block['type'] === 'text' && typeof block['text'] === 'string') return [block['text']]
  const resource = block['resource']
  if (block['type'] !== 'resource' || !isObject(resource) || typeof resource['text'] !== 'string') return []
  return [`[resource ${String(resource['uri'])}]\n${resource['text']}`]
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null
}

/** The text of an answer that is too long to be read whole; undefined for any other frame. */
export function longAnswer(frame: Json): string | undefined {
  const result = resultOf(frame)
  if (result === undefined) return undefined
  const text = textOfBlocks(blocksIn(result))
  return Buffer.byteLength(text) > INLINE_BYTES_MAX ? text : undefined
}

/** Of a tool's answer, or of a resource that was read, which its reader sees in the same form. */
function blocksIn(result: JsonObject): unknown {
  const { contents } = result
  return Array.isArray(contents)
    ? contents.map((resource: Json) => ({ type: 'resource', resource }))
    : result['content']
}

/** The frame with the path under which its text is kept, and no other. */
export function markKept(frame: Json, path: string | undefined): Json {
  const result = resultOf(frame)
  if (result === undefined || !isJsonObject(frame)) return frame
  const meta = isJsonObject(result['_meta']) ? result['_meta'] : {}
  if (path === undefined && !Object.hasOwn(meta, KEPT)) return frame
  const { [KEPT]: _said, ...others } = meta
  const _meta = path === undefined ? others : { ...others, [KEPT]: path }
  return { ...frame, result: { ...result, _meta } }
}

function resultOf(frame: Json): JsonObject | undefined {
  const result = isJsonObject(frame) ? frame['result'] : undefined
  return isJsonObject(result) ? result : undefined
}

/** Where the supervisor kept the text of an answer; undefined when it did not. */
export function keptPath(meta: Readonly<Record<string, unknown>> | undefined): string | undefined {
  const path = meta?.[KEPT]
  return typeof path === 'string' && KEPT_PATH.test(path) ? path : undefined
}

/** The beginning and the end of a long text, and between them what is missing and how to read on. */
export function excerpt(text: string, path: string): string {
  const bytes = Buffer.from(text)
  const head = headOf(bytes)
  const tail = tailOf(bytes)
  const lines = text.split('\n').length
  const headLines = head.split('\n').length - 1
  const from = head.endsWith('\n') ? `offset ${headLines + 1}` : `byteOffset ${Buffer.byteLength(head)}`
  const missing = bytes.length - Buffer.byteLength(head) - Buffer.byteLength(tail)
  const notice =
    `[${missing} of ${bytes.length} bytes are left out here. The whole result is the file ${path} of the workspace, ` +
    `${lines} lines. Search it, or read on from here with ${from} of read_file.]`
  return `${head}${head.endsWith('\n') ? '' : '\n'}${notice}\n${tail}`
}

/** Whole lines, when there are any. */
function headOf(bytes: Buffer): string {
  const newline = bytes.lastIndexOf(0x0a, HEAD_BYTES - 1)
  return bytes.toString('utf8', 0, newline > 0 ? newline + 1 : startOfCharacter(bytes, HEAD_BYTES))
}

function tailOf(bytes: Buffer): string {
  const from = bytes.length - TAIL_BYTES
  const newline = bytes.indexOf(0x0a, from)
  const start = newline === -1 || newline === bytes.length - 1 ? startOfCharacter(bytes, from) : newline + 1
  return bytes.toString('utf8', start)
}

/** The place at or before `at` where a character begins. */
function startOfCharacter(bytes: Buffer, at: number): number {
  let start = at
  while (start > 0 && ((bytes[start] ?? 0) & 0xc0) === 0x80) start -= 1
  return start
}
