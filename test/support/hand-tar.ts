/** Tar archives built by hand, header by header, so that they can say what no packer would. */
import { gzipSync } from 'node:zlib'

export interface HandEntry {
  readonly path: string
  readonly body?: string | Uint8Array
  /** The type flag: '0' file, '1' hard link, '2' symbolic link, '5' directory, 'x' extended header ... */
  readonly type?: string
  readonly mode?: number
  readonly link?: string
  /** Instead of the body's length, octal text or raw bytes. */
  readonly sizeField?: string | Uint8Array
  readonly badChecksum?: boolean
  readonly uid?: number
  readonly uname?: string
}

export function header(entry: HandEntry): Buffer {
  const block = Buffer.alloc(512)
  const body = Buffer.from(entry.body ?? '')
  block.write(entry.path.slice(0, 100), 0, 'utf8')
  block.write(`${(entry.mode ?? 0o644).toString(8).padStart(7, '0')}\0`, 100)
  block.write(`${(entry.uid ?? 0).toString(8).padStart(7, '0')}\0`, 108)
  block.write('0000000\0', 116)
  if (entry.sizeField instanceof Uint8Array) block.set(entry.sizeField, 124)
  else block.write(`${entry.sizeField ?? body.length.toString(8).padStart(11, '0')}\0`, 124)
  block.write('00000000000\0', 136)
  block.write('        ', 148)
  block.write(entry.type ?? '0', 156)
  block.write(entry.link ?? '', 157)
  block.write('ustar\u000000', 257, 'latin1')
  block.write(entry.uname ?? '', 265)
  const sum = block.reduce((total, byte) => total + byte, 0) + (entry.badChecksum === true ? 1 : 0)
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148)
  return block
}

export function handTar(entries: readonly HandEntry[], tail: Uint8Array = Buffer.alloc(1024)): Buffer {
  const blocks = entries.flatMap((entry) => {
    const body = Buffer.from(entry.body ?? '')
    return [header(entry), body, Buffer.alloc((512 - (body.length % 512)) % 512)]
  })
  return Buffer.concat([...blocks, tail])
}

export function handTgz(entries: readonly HandEntry[], tail?: Uint8Array): Buffer {
  return gzipSync(handTar(entries, tail))
}

/** One record of a pax header: its own length, a key, a value. */
export function pax(records: Readonly<Record<string, string>>): string {
  return Object.entries(records)
    .map(([key, value]) => {
      const rest = Buffer.byteLength(` ${key}=${value}\n`)
      let length = rest + String(rest).length
      if (String(length).length + rest !== length) length = rest + String(length).length
      return `${length} ${key}=${value}\n`
    })
    .join('')
}

/** A publishable package: package.json first, then the rest. */
export function packageEntries(manifest: object, files: Readonly<Record<string, string>> = {}): HandEntry[] {
  return [
    { path: 'package/package.json', body: JSON.stringify(manifest) },
    ...Object.entries(files).map(([path, body]) => ({ path: `package/${path}`, body })),
  ]
}
