/**
 * Opens a package tarball that a stranger made, entirely in memory: nothing is written anywhere.
 *
 * TB1 Regular files and directories only, each under `package/`, each path once, case and Unicode twins included.
 * TB2 Bytes, files, depth and compression ratio are counted while they come, and bounded.
 * TB3 What another reader could read otherwise (several gzip members, bytes behind the end, sizes in extended
 *    headers, NUL in names, negative numbers) is refused rather than interpreted.
 */
import { promisify } from 'node:util'
import { inflateRaw } from 'node:zlib'
import { Parser, type ReadEntry } from 'tar'
import { refuse, type Refusal } from '../schema/error.ts'
import { parsePath } from '../schema/tree.ts'

export const TARBALL_BYTES_MAX = 16 * 1024 * 1024
export const UNPACKED_BYTES_MAX = 50 * 1024 * 1024
export const FILES_MAX = 5000
const RATIO_MAX = 200
/** Small archives are mostly padding, which compresses without end. */
const RATIO_FREE_BYTES = 1024 * 1024
const BLOCK = 512

export interface OpenedFile {
  readonly bytes: Uint8Array
  readonly executable: boolean
}

export interface OpenedTarball {
  /** By path, without `package/`. */
  readonly files: ReadonlyMap<string, OpenedFile>
  readonly unpackedBytes: number
}

const FORBIDDEN_PARTS = new Set(['node_modules', '.git', '.hg', '.svn', '.npmrc', 'binding.gyp', 'npm-shrinkwrap.json'])

/** The files of a gzipped tarball, or why it is refused. */
export async function openTarball(packed: Uint8Array): Promise<OpenedTarball | Refusal> {
  if (packed.length > TARBALL_BYTES_MAX)
    return refuse('tarball_too_large', `The tarball is ${packed.length} bytes long; the limit is ${TARBALL_BYTES_MAX}.`)
  const unpacked = await unzip(packed)
  if (!(unpacked instanceof Uint8Array)) return unpacked
  return scanBlocks(unpacked) ?? (await readEntries(unpacked))
}

function invalid(why: string): Refusal {
  return refuse('tarball_invalid', `The tarball ${why}.`)
}

/** One gzip member, whole, with nothing behind it. */
async function unzip(packed: Uint8Array): Promise<Buffer | Refusal> {
  const start = gzipBodyStart(packed)
  if (start === undefined) return invalid('is not gzip')
  const outputMax = UNPACKED_BYTES_MAX + (FILES_MAX + 1) * 4 * BLOCK
  let result: { readonly buffer: Buffer; readonly engine: { readonly bytesWritten: number } }
  try {
    const options = { maxOutputLength: outputMax, info: true }
    // With `info`, zlib answers with the engine besides the bytes; its types do not know.
    result = (await promisify(inflateRaw)(packed.subarray(start), options)) as unknown as typeof result
  } catch (error) {
    if (error instanceof RangeError)
      return refuse('tarball_too_large', `The tarball unpacks to more than ${UNPACKED_BYTES_MAX} bytes.`)
    return invalid('is damaged: it does not unzip to its end')
  }
  const { buffer, engine } = result
  if (start + engine.bytesWritten + 8 !== packed.length) return invalid('holds bytes behind the end of its gzip member')
  if (Buffer.from(packed.buffer, packed.byteOffset, packed.length).readUInt32LE(packed.length - 4) !== buffer.length)
    return invalid('is damaged: its length is not the one it says')
  if (buffer.length > RATIO_FREE_BYTES && buffer.length / packed.length > RATIO_MAX) {
    const ratio = Math.round(buffer.length / packed.length)
    return refuse(
      'tarball_too_large',
      `The tarball unpacks to ${ratio} times its size; the limit is ${RATIO_MAX} times.`,
    )
  }
  return buffer
}

/** Where the deflated bytes begin (RFC 1952); undefined when it is not gzip. */
function gzipBodyStart(packed: Uint8Array): number | undefined {
  if (packed.length < 20 || packed[0] !== 0x1f || packed[1] !== 0x8b || packed[2] !== 8) return undefined
  const flags = packed[3] ?? 0
  if ((flags & 0xe0) !== 0) return undefined
  let at = 10
  if ((flags & 4) !== 0) at += 2 + ((packed[at] ?? 0) | ((packed[at + 1] ?? 0) << 8))
  for (const flag of [8, 16]) {
    if ((flags & flag) === 0) continue
    const end = packed.indexOf(0, at)
    if (end === -1) return undefined
    at = end + 1
  }
  if ((flags & 2) !== 0) at += 2
  return at < packed.length - 8 ? at : undefined
}

/** Walks the 512-byte blocks for what a forgiving reader would overlook (TB3). */
function scanBlocks(archive: Buffer): Refusal | undefined {
  let at = 0
  let entries = 0
  while (at + BLOCK <= archive.length) {
    const header = archive.subarray(at, at + BLOCK)
    if (header.every((byte) => byte === 0)) {
      if (entries === 0) return invalid('is empty')
      return archive.subarray(at).every((byte) => byte === 0) ? undefined : invalid('holds bytes behind its end')
    }
    entries++
    if (entries > FILES_MAX * 2) return refuse('tarball_too_large', `The tarball holds more than ${FILES_MAX} files.`)
    const type = String.fromCharCode(header[156] ?? 0)
    if (!'\u000005xgL'.includes(type)) return invalid(`holds ${TYPES[type] ?? 'an entry of an unknown type'}`)
    const size = octal(header.subarray(124, 136))
    if (size === undefined) return invalid('says a size that is not an octal number')
    if (octal(header.subarray(100, 108)) === undefined) return invalid('says a mode that is not an octal number')
    const body = archive.subarray(at + BLOCK, at + BLOCK + size)
    if (body.length < size) return invalid('is truncated')
    if (type === 'x' || type === 'g') {
      const text = body.toString('utf8')
      if (text.includes('\0')) return invalid('holds NUL in an extended header')
      if (/^\d+ (?:size|linkpath|GNU\.sparse[^=]*|SCHILY\.(?:dev|filetype)[^=]*)=/m.test(text))
        return invalid('says a size or a link in an extended header')
    }
    if (type === 'L' && body.subarray(0, -1).includes(0)) return invalid('holds NUL in a long name')
    at += BLOCK + Math.ceil(size / BLOCK) * BLOCK
  }
  return entries === 0 ? invalid('is empty') : invalid('is truncated')
}

const TYPES: Readonly<Record<string, string>> = {
  1: 'a hard link',
  2: 'a symbolic link',
  3: 'a character device',
  4: 'a block device',
  6: 'a FIFO',
  7: 'a contiguous file',
  K: 'a long link name',
  S: 'a sparse file',
}

function octal(field: Buffer): number | undefined {
  const text = field
    .toString('latin1')
    .replace(/[\0 ]+$/, '')
    .trimStart()
  if (!/^[0-7]{0,12}$/.test(text)) return undefined
  return text === '' ? 0 : Number.parseInt(text, 8)
}

async function readEntries(archive: Buffer): Promise<OpenedTarball | Refusal> {
  const reading = new Reading()
  return new Promise((resolve) => {
    const parser = new Parser({ strict: true, gzip: false, brotli: false, zstd: false })
    let settled = false
    const settle = (result: OpenedTarball | Refusal): void => {
      if (settled) return
      settled = true
      resolve(result)
    }
    parser.on('entry', (entry: ReadEntry) => {
      const refusal = reading.begin(entry)
      if (refusal !== undefined) settle(refusal)
      const chunks: Buffer[] = []
      entry.on('data', (chunk: Buffer) => chunks.push(chunk))
      entry.on('end', () => reading.end(entry, Buffer.concat(chunks)))
    })
    parser.on('error', (error: Error) => settle(invalid(`is damaged: ${error.message}`)))
    parser.on('ignoredEntry', (entry: ReadEntry) => settle(invalid(`holds ${entry.type}, which is not a file`)))
    parser.on('end', () => settle(reading.result()))
    try {
      parser.end(archive)
    } catch (error) {
      settle(invalid(`is damaged: ${error instanceof Error ? error.message : String(error)}`))
    }
  })
}

/** A name as a person may see it: whatever is not plain is shown by its number. */
function quote(path: string): string {
  const unseen = /[\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g
  return JSON.stringify(path.slice(0, 120)).replace(
    unseen,
    (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
}

/** The rules of TB1 over entries as they come. */
class Reading {
  readonly #files = new Map<string, OpenedFile>()
  /** Folded path to the path as first written; directories that files imply included. */
  readonly #seen = new Map<string, { readonly path: string; readonly kind: 'file' | 'directory' }>()
  #bytes = 0
  #refusal: Refusal | undefined

  begin(entry: ReadEntry): Refusal | undefined {
    this.#refusal ??= this.#refuse(entry)
    return this.#refusal
  }

  end(entry: ReadEntry, bytes: Uint8Array): void {
    if (this.#refusal !== undefined || entry.type === 'Directory') return
    const path = parsePath(entry.path)?.slice(1).join('/')
    if (path !== undefined) this.#files.set(path, { bytes, executable: ((entry.mode ?? 0) & 0o100) !== 0 })
  }

  result(): OpenedTarball | Refusal {
    return this.#refusal ?? { files: this.#files, unpackedBytes: this.#bytes }
  }

  #refuse(entry: ReadEntry): Refusal | undefined {
    const path = entry.type === 'Directory' ? entry.path.replace(/\/$/, '') : entry.path
    const quoted = quote(path)
    if (entry.type !== 'File' && entry.type !== 'OldFile' && entry.type !== 'Directory')
      return invalid(`holds ${quoted}, which is neither a file nor a directory`)
    const parts = parsePath(path)
    if (parts === undefined || path.includes('//') || path.startsWith('./') || path.includes('/./'))
      return invalid(`holds ${quoted}, which is not a relative path within the package`)
    if (parts[0] !== 'package' || (parts.length === 1 && entry.type !== 'Directory'))
      return invalid(`holds ${quoted}; every file must be under package/`)
    const odd = parts.find((part) => /[:*?"<>|\ufffd]|[. ]$/.test(part))
    if (odd !== undefined) return invalid(`holds ${quoted}, whose name not every system can hold`)
    const forbidden = parts.slice(1).find((part) => FORBIDDEN_PARTS.has(part.toLowerCase()) || /\.node$/i.test(part))
    if (forbidden !== undefined) return invalid(`holds ${quoted}; ${forbidden} may not be published`)
    if (((entry.mode ?? 0) & 0o7000) !== 0) return invalid(`gives ${quoted} a setuid, setgid or sticky mode`)
    this.#bytes += entry.size
    if (this.#bytes > UNPACKED_BYTES_MAX)
      return refuse('tarball_too_large', `The tarball unpacks to more than ${UNPACKED_BYTES_MAX} bytes.`)
    if (this.#files.size >= FILES_MAX && entry.type !== 'Directory')
      return refuse('tarball_too_large', `The tarball holds more than ${FILES_MAX} files.`)
    return this.#place(parts, entry.type === 'Directory' ? 'directory' : 'file')
  }

  #place(parts: readonly string[], kind: 'file' | 'directory'): Refusal | undefined {
    for (let length = 1; length <= parts.length; length++) {
      const path = parts.slice(0, length).join('/')
      const here = length === parts.length ? kind : 'directory'
      const folded = path.normalize('NFKC').toUpperCase().toLowerCase().normalize('NFKC')
      const twin = this.#seen.get(folded)
      const isSame = twin?.path === path && twin.kind === 'directory' && here === 'directory'
      if (twin !== undefined && !isSame)
        return invalid(`holds ${quote(path)} and ${quote(twin.path)}, which are one path on some systems`)
      this.#seen.set(folded, { path, kind: here })
    }
    return undefined
  }
}
