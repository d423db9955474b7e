/**
 * Turns a directory that hostile programs write to into a tree, while they may still be writing.
 *
 * WC1 Only regular files with one name are read: opened below an open directory, last part not followed, never blocking.
 * WC2 What is sent is what was hashed: a file is read once, into memory, and then hashed and sent from there.
 * WC3 A file whose inode, size and times are as before is not read again.
 * WC4 Content goes out once, before the tree that names it.
 */
import { closeSync, constants, fstatSync, lstatSync, openSync, readdirSync, readSync, type BigIntStats } from 'node:fs'
import type { Clock } from '../../schema/clock.ts'
import { BLOB_CHUNK_BYTES, type BlobLine } from '../../schema/control.ts'
import { PlatformError } from '../../schema/error.ts'
import { sha256, type Sha256 } from '../../schema/hash.ts'
import { PATH_BYTES_MAX, printTree, type TreeEntry, type TreeFile } from '../../schema/tree.ts'
import { Allowance, type WorkspaceLimits } from './limits.ts'
import { isEntryName } from '../../schema/tree-object.ts'

const { O_RDONLY, O_DIRECTORY, O_NOFOLLOW, O_NONBLOCK } = constants
/** A file changed this recently may change again within one tick of the file system's clock, unseen. */
const SETTLED_MS = 100
/** So many left-out entries are named for each capture; the rest are counted. */
const NAMED_MAX = 10

export interface CaptureOptions {
  readonly root: string
  /** Names at the root that are not the workspace's: mount points. */
  readonly reserved: ReadonlySet<string>
  readonly limits: WorkspaceLimits
  /** Content that the control plane has; grows with what is sent. */
  readonly known: Set<Sha256>
  readonly clock: Clock
  send(line: BlobLine): Promise<void>
  /** Hears what was left out and why. */
  report(text: string): void
}

interface Remembered {
  readonly stamp: string
  readonly file: TreeFile
}

/** A directory as it was printed last. */
interface Printed {
  readonly entries: readonly TreeEntry[]
  readonly hash: Sha256
}

export class WorkspaceCapture {
  readonly #options: CaptureOptions
  #remembered = new Map<string, Remembered>()
  #printed: ReadonlyMap<string, Printed> = new Map()

  constructor(options: CaptureOptions) {
    this.#options = options
  }

  /** The tree as it is now, all its content sent. Throws `limit_exceeded`; then the tree before still stands. */
  async capture(): Promise<Sha256> {
    const pass = new Pass(this.#options, this.#remembered, this.#printed)
    const root = openSync(this.#options.root, O_RDONLY | O_DIRECTORY | O_NOFOLLOW)
    try {
      const hash = await pass.directory(root, this.#options.root, '', 0)
      this.#remembered = pass.seen
      this.#printed = pass.printed
      return hash
    } finally {
      closeSync(root)
      pass.reportLeftOut()
    }
  }
}

/** One walk over the workspace. */
class Pass {
  readonly seen = new Map<string, Remembered>()
  readonly printed = new Map<string, Printed>()
  readonly #options: CaptureOptions
  readonly #before: ReadonlyMap<string, Remembered>
  readonly #printedBefore: ReadonlyMap<string, Printed>
  readonly #allowance: Allowance
  readonly #leftOut: string[] = []

  constructor(
    options: CaptureOptions,
    before: ReadonlyMap<string, Remembered>,
    printedBefore: ReadonlyMap<string, Printed>,
  ) {
    this.#options = options
    this.#before = before
    this.#printedBefore = printedBefore
    this.#allowance = new Allowance(options.limits)
  }

  async directory(fd: number, realPath: string, path: string, depth: number): Promise<Sha256> {
    this.#allowance.directory(path, depth)
    const here = handle(fd, realPath)
    const entries: TreeEntry[] = []
    for (const bytes of readdirSync(here, { encoding: 'buffer' })) {
      const name = readName(bytes)
      if (depth === 0 && this.#options.reserved.has(name ?? '')) continue
      const entryPath = path === '' ? (name ?? '') : `${path}/${name}`
      if (name === undefined || Buffer.byteLength(entryPath) > PATH_BYTES_MAX) {
        this.#leave(`${path}/${bytes.toString('latin1')}`, 'its name cannot be kept')
        continue
      }
      const found = await this.#entry(here, realPath, name, entryPath, depth)
      if (found !== undefined) entries.push(found)
    }
    const before = this.#printedBefore.get(path)
    const { hash } = before !== undefined && isSame(before.entries, entries) ? before : await this.#print(entries)
    this.printed.set(path, { entries, hash })
    return hash
  }

  async #print(entries: readonly TreeEntry[]): Promise<{ readonly hash: Sha256 }> {
    const { text, hash } = printTree(entries)
    await this.#send(hash, Buffer.from(text))
    return { hash }
  }

  async #entry(
    parent: string,
    realParent: string,
    name: string,
    path: string,
    depth: number,
  ): Promise<TreeEntry | undefined> {
    try {
      const stats = lstatSync(`${parent}/${name}`, { bigint: true })
      if (stats.isFile()) return await this.#file(parent, name, path, stats)
      if (!stats.isDirectory()) return this.#leave(path, 'it is neither a file nor a directory')
      const fd = openSync(`${parent}/${name}`, O_RDONLY | O_DIRECTORY | O_NOFOLLOW)
      try {
        const hash = await this.directory(fd, `${realParent}/${name}`, path, depth + 1)
        return { type: 'directory', name, hash }
      } finally {
        closeSync(fd)
      }
    } catch (error) {
      if (error instanceof PlatformError) throw error
      const code = error instanceof Error && 'code' in error ? String(error.code) : String(error)
      // It went while we looked: then it is not there.
      if (code !== 'ENOENT') this.#leave(path, `it cannot be read (${code})`)
      return undefined
    }
  }

  async #file(parent: string, name: string, path: string, found: BigIntStats): Promise<TreeFile | undefined> {
    const remembered = this.#before.get(path)
    if (remembered !== undefined && remembered.stamp === stampOf(found)) {
      this.#allowance.file(path, remembered.file.sizeBytes)
      this.seen.set(path, remembered)
      return remembered.file
    }
    const fd = openSync(`${parent}/${name}`, O_RDONLY | O_NOFOLLOW | O_NONBLOCK)
    try {
      const stats = fstatSync(fd, { bigint: true })
      if (!stats.isFile()) return this.#leave(path, 'it is not a regular file')
      if (stats.nlink !== 1n) return this.#leave(path, 'it has several names')
      this.#allowance.file(path, Number(stats.size))
      const bytes = read(fd, Number(stats.size))
      const hash = sha256(bytes)
      const file: TreeFile = {
        type: 'file',
        name,
        hash,
        sizeBytes: bytes.length,
        executable: (stats.mode & 0o100n) !== 0n,
      }
      await this.#send(hash, bytes)
      this.#remember(path, file, stats, fstatSync(fd, { bigint: true }))
      return file
    } finally {
      closeSync(fd)
    }
  }

  #remember(path: string, file: TreeFile, before: BigIntStats, after: BigIntStats): void {
    const stamp = stampOf(after)
    if (stamp !== stampOf(before) || this.#options.clock.now() - Number(after.ctimeMs) < SETTLED_MS) return
    this.seen.set(path, { stamp, file })
  }

  async #send(hash: Sha256, bytes: Uint8Array): Promise<void> {
    if (this.#options.known.has(hash)) return
    let offset = 0
    do {
      const chunk = bytes.subarray(offset, offset + BLOB_CHUNK_BYTES)
      const last = offset + chunk.length === bytes.length
      await this.#options.send({ type: 'blob', hash, offset, last, base64: Buffer.from(chunk).toString('base64') })
      offset += chunk.length
    } while (offset < bytes.length)
    this.#options.known.add(hash)
  }

  #leave(path: string, why: string): undefined {
    this.#leftOut.push(`${path} is left out of the workspace: ${why}.`)
  }

  reportLeftOut(): void {
    for (const text of this.#leftOut.slice(0, NAMED_MAX)) this.#options.report(text)
    const more = this.#leftOut.length - NAMED_MAX
    if (more > 0) this.#options.report(`${more} more entries are left out of the workspace.`)
  }
}

/** A path by which an open directory is reached whatever happens to its name; where there is none, its name. */
export function handle(fd: number, realPath: string): string {
  return process.platform === 'linux' ? `/proc/self/fd/${fd}` : realPath
}

/** What is printed of a directory is the same: a file that was not read again is the one from before. */
function isSame(before: readonly TreeEntry[], now: readonly TreeEntry[]): boolean {
  return before.length === now.length && before.every((entry, i) => isSameEntry(entry, now[i]))
}

function isSameEntry(before: TreeEntry, now: TreeEntry | undefined): boolean {
  if (before === now) return true
  return (
    before.type === 'directory' && now?.type === 'directory' && before.name === now.name && before.hash === now.hash
  )
}

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** The name when it is UTF-8 and one that a tree may hold. */
function readName(bytes: Buffer): string | undefined {
  try {
    const name = decoder.decode(bytes)
    return isEntryName(name) ? name : undefined
  } catch {
    return undefined
  }
}

function stampOf(stats: BigIntStats): string {
  return [stats.dev, stats.ino, stats.size, stats.mode, stats.nlink, stats.mtimeNs, stats.ctimeNs].join(' ')
}

/** At most `size` bytes: a file that grows meanwhile is cut where it ended when we looked. */
function read(fd: number, size: number): Uint8Array {
  const bytes = new Uint8Array(size)
  let length = 0
  while (length < size) {
    const count = readSync(fd, bytes, length, size - length, length)
    if (count === 0) break
    length += count
  }
  return bytes.subarray(0, length)
}
