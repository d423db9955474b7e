/** The tools that read one file: text by lines, images as they are, PDFs and the rest by what they are. */
import { setImmediate as breath } from 'node:timers/promises'
import { FileRefusal, type WorkspacePath } from './path.ts'
import { kindOf, openFile, statsAt, type OpenFile, type Root } from './root.ts'

/** What one call returns at most, so that a result fits into a model's context: a runtime cuts what is longer. */
export const READ_LINES_MAX = 2000
export const READ_BYTES_MAX = 28 * 1024
/** The number of a line and its tab. */
const NUMBER_BYTES = 9
/** Above this a file is not scanned for its lines. */
export const SCAN_BYTES_MAX = 256 * 1024 * 1024
/** 5 MiB as base64, which is what the strictest provider takes. */
export const IMAGE_BYTES_MAX = 3_932_160
const SNIFF_BYTES = 8192
const CHUNK_BYTES = 256 * 1024
const CHUNKS_AT_ONCE = 16

/** What a file's first bytes say it is; null for text. */
export function sniff(head: Uint8Array): string | null {
  const starts = (...bytes: readonly number[]): boolean => bytes.every((byte, i) => head[i] === byte)
  const ascii = (from: number, to: number): string => String.fromCharCode(...head.subarray(from, to))
  if (starts(0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a)) return 'image/png'
  if (starts(0xff, 0xd8, 0xff)) return 'image/jpeg'
  if (ascii(0, 6) === 'GIF87a' || ascii(0, 6) === 'GIF89a') return 'image/gif'
  if (ascii(0, 4) === 'RIFF' && ascii(8, 12) === 'WEBP') return 'image/webp'
  if (ascii(0, 5) === '%PDF-') return 'application/pdf'
  if (head.includes(0)) return 'application/octet-stream'
  try {
    new TextDecoder('utf-8', { fatal: true }).decode(head, { stream: true })
    return null
  } catch {
    return 'application/octet-stream'
  }
}

export function headOf(file: OpenFile): Uint8Array {
  const buffer = new Uint8Array(Math.min(SNIFF_BYTES, file.stats.size))
  return buffer.subarray(0, file.read(buffer, 0))
}

/** Refuses what is not text, and says which tool reads it. */
export function assertText(mediaType: string | null, path: WorkspacePath): void {
  if (mediaType === null) return
  if (mediaType.startsWith('image/')) throw new FileRefusal(`${path.shown} is an image; use read_image.`)
  if (mediaType === 'application/pdf') throw new FileRefusal(`${path.shown} is a PDF; use read_pdf.`)
  throw new FileRefusal(`${path.shown} is a binary file, not text.`)
}

/** A text file of at most `bytesMax` bytes, whole. */
export async function readText(root: Root, path: WorkspacePath, bytesMax: number): Promise<string> {
  using place = root.place(path)
  using file = openFile(place)
  const { stats } = file
  if (stats.size > bytesMax)
    throw new FileRefusal(`${path.shown} has ${stats.size} bytes, above the ${bytesMax} that this tool takes.`)
  const bytes = readAtMost(file, bytesMax)
  assertText(sniff(bytes.subarray(0, SNIFF_BYTES)), path)
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
  } catch (cause) {
    throw new FileRefusal(`${path.shown} is not UTF-8 text.`, { cause })
  }
}

/** The first `bytesMax` bytes: a file may grow while it is read. */
export function readAtMost(file: OpenFile, bytesMax: number): Uint8Array {
  const chunks: Uint8Array[] = []
  let total = 0
  // One byte more than it said that it has: the read that finds none is the end.
  let wanted = file.stats.size + 1
  for (;;) {
    const buffer = new Uint8Array(Math.min(wanted, bytesMax - total))
    const count = buffer.length === 0 ? 0 : file.read(buffer, total)
    if (count === 0) return chunks.length === 1 ? (chunks[0] ?? buffer) : Buffer.concat(chunks)
    chunks.push(buffer.subarray(0, count))
    total += count
    wanted = 64 * 1024
  }
}

/** All bytes in chunks, the event loop left to others between some of them. A chunk holds until the next is asked for. */
async function* chunksOf(file: OpenFile): AsyncGenerator<Uint8Array> {
  const buffer = new Uint8Array(Math.min(CHUNK_BYTES, file.stats.size))
  let position = 0
  for (let chunk = 1; ; chunk++) {
    const count = file.read(buffer, position)
    if (count === 0) return
    position += count
    yield buffer.subarray(0, count)
    if (chunk % CHUNKS_AT_ONCE === 0) await breath()
  }
}

export interface Range {
  /** First line, 1 for the first of the file. */
  readonly offset: number
  readonly limit: number
  readonly numbered: boolean
  /** First byte, in place of lines. */
  readonly byteOffset?: number | undefined
}

/** Lines of a text file, with a last line in brackets when there is more. */
export async function readLines(root: Root, path: WorkspacePath, range: Range): Promise<string> {
  using place = root.place(path)
  using file = openFile(place)
  const { stats } = file
  assertText(sniff(headOf(file)), path)
  if (stats.size > SCAN_BYTES_MAX)
    throw new FileRefusal(
      `${path.shown} has ${stats.size} bytes, above the ${SCAN_BYTES_MAX} that can be read by lines.`,
    )
  if (stats.size === 0) return `[${path.shown} is empty]`
  if (range.byteOffset !== undefined) return readBytes(file, path, range.byteOffset)
  const { lines, total, cut } = await gather(file, range)
  if (lines.length === 0)
    throw new FileRefusal(`${path.shown} has ${total} lines; line ${range.offset} is past its end.`)
  const last = range.offset + lines.length - 1
  const width = String(last).length
  const shown = range.numbered
    ? lines.map((line, i) => `${String(range.offset + i).padStart(width)}\t${line}`)
    : [...lines]
  if (cut) shown.push(`[line ${last} is longer than what is shown; read such a file by byteOffset]`)
  if (last < total) shown.push(`[lines ${range.offset} to ${last} of ${total}; go on with offset ${last + 1}]`)
  return shown.join('\n')
}

/** Text from a byte on, from the first whole character to the last that there is room for. */
function readBytes(file: OpenFile, path: WorkspacePath, byteOffset: number): string {
  const { size } = file.stats
  if (byteOffset >= size) throw new FileRefusal(`${path.shown} has ${size} bytes; byte ${byteOffset} is past its end.`)
  const buffer = new Uint8Array(Math.min(READ_BYTES_MAX, size - byteOffset))
  const bytes = buffer.subarray(0, file.read(buffer, byteOffset))
  const isWithin = (at: number): boolean => ((bytes[at] ?? 0) & 0xc0) === 0x80
  let start = 0
  while (start < 3 && isWithin(start)) start += 1
  let end = bytes.length
  if (byteOffset + end < size) {
    end -= 1
    while (end > start && isWithin(end)) end -= 1
  }
  const text = new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes.subarray(start, end))
  const next = byteOffset + end
  if (next >= size) return text
  return `${text}\n[bytes ${byteOffset + start} to ${next} of ${size}; go on with byteOffset ${next}]`
}

async function gather(file: OpenFile, range: Range): Promise<{ lines: string[]; total: number; cut: boolean }> {
  const lines: string[] = []
  const state = { total: 0, bytes: 0, full: false, cut: false }
  const take = (line: string): void => {
    state.total += 1
    if (state.total < range.offset || lines.length >= range.limit || state.full) return
    const room = READ_BYTES_MAX - state.bytes
    const sizeBytes = Buffer.byteLength(line)
    if (lines.length > 0 && sizeBytes > room) {
      state.full = true
      return
    }
    state.cut = sizeBytes > room
    state.bytes += sizeBytes + 1 + (range.numbered ? NUMBER_BYTES : 0)
    lines.push((state.cut ? beginning(line, room) : line).replace(/\r$/, ''))
  }
  const decoder = new TextDecoder('utf-8')
  let rest = ''
  let restFull = false
  for await (const chunk of chunksOf(file)) {
    const pieces = decoder.decode(chunk, { stream: true }).split('\n')
    const first = pieces.shift() ?? ''
    // One endless line must not be held whole: what is past the cap is never shown.
    if (!restFull) rest += first
    restFull = rest.length > READ_BYTES_MAX + 1
    for (const piece of pieces) {
      take(rest)
      rest = piece
      restFull = false
    }
  }
  rest += decoder.decode()
  if (rest !== '') take(rest)
  return { lines, total: state.total, cut: state.cut }
}

/** As much of a text as fits into `room` bytes without cutting a character. */
function beginning(text: string, room: number): string {
  const buffer = new Uint8Array(Math.max(0, room))
  return text.slice(0, new TextEncoder().encodeInto(text, buffer).read)
}

export interface Picture {
  readonly mediaType: string
  readonly base64: string
  readonly sizeBytes: number
}

export async function readImage(root: Root, path: WorkspacePath): Promise<Picture> {
  using place = root.place(path)
  using file = openFile(place)
  const { stats } = file
  const mediaType = sniff(headOf(file))
  if (mediaType === null || !mediaType.startsWith('image/'))
    throw new FileRefusal(`${path.shown} is not a PNG, JPEG, GIF or WebP image.`)
  if (stats.size > IMAGE_BYTES_MAX)
    throw new FileRefusal(`${path.shown} has ${stats.size} bytes, above the ${IMAGE_BYTES_MAX} that an image may have.`)
  const bytes = readAtMost(file, IMAGE_BYTES_MAX)
  return { mediaType, base64: Buffer.from(bytes).toString('base64'), sizeBytes: bytes.length }
}

/** What a PDF is, by reference: its path, its size, its version, how many pages it seems to have. */
export async function describePdf(root: Root, path: WorkspacePath): Promise<string> {
  using place = root.place(path)
  using file = openFile(place)
  const { stats } = file
  if (sniff(headOf(file)) !== 'application/pdf') throw new FileRefusal(`${path.shown} is not a PDF.`)
  const text = Buffer.from(readAtMost(file, 32 * 1024 * 1024)).toString('latin1')
  const pages = text.match(/\/Type\s{0,8}\/Page(?![A-Za-z])/g)?.length
  const version = /^%PDF-(\d\.\d)/.exec(text)?.[1] ?? 'unknown'
  return [
    `path: ${path.shown}`,
    'mediaType: application/pdf',
    `sizeBytes: ${stats.size}`,
    `pdfVersion: ${version}`,
    `pages: ${pages ?? 'not visible without unpacking'}`,
  ].join('\n')
}

export async function describe(root: Root, path: WorkspacePath): Promise<string> {
  if (path.parts.length === 0) return 'path: .\ntype: a directory (the workspace)'
  using place = root.place(path)
  const stats = statsAt(place)
  if (stats === undefined) throw new FileRefusal(`There is nothing at ${path.shown}.`)
  const lines = [`path: ${path.shown}`, `type: ${kindOf(stats)}`]
  if (stats.isFile()) {
    using file = openFile(place)
    lines.push(`sizeBytes: ${stats.size}`, `mediaType: ${sniff(headOf(file)) ?? 'text/plain; charset=utf-8'}`)
    lines.push(`executable: ${(stats.mode & 0o111) !== 0}`)
  }
  lines.push(`modifiedAt: ${stats.mtime.toISOString()}`, `readOnly: ${path.parts[0] === 'input'}`)
  return lines.join('\n')
}
