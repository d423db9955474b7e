/** Writes a tree into an empty directory, before anything else can see it. */
import { closeSync, constants, mkdirSync, openSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { PlatformError } from '../../schema/error.ts'
import { sha256, type Sha256 } from '../../schema/hash.ts'
import { Allowance, type WorkspaceLimits } from './limits.ts'
import { parseTreeObject } from '../../schema/tree-object.ts'

const { O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW } = constants
/** Contents asked for at once, and bytes of them: enough to hide the way to the control plane, few enough to hold. */
const FETCHES_MAX = 64
const FETCHED_BYTES_MAX = 64 * 1024 * 1024

export interface RestoreOptions {
  /** An empty directory of our own. */
  readonly root: string
  /** Names at the root that the tree must not hold: mount points. */
  readonly reserved: ReadonlySet<string>
  readonly limits: WorkspaceLimits
  /** Grows with what was fetched. */
  readonly known: Set<Sha256>
  /** The whole content; unchecked. */
  fetch(hash: Sha256): Promise<Uint8Array>
}

/** What is yet to be restored. */
interface Owed {
  readonly type: 'file' | 'directory'
  /** Below the root; empty for the root. */
  readonly path: string
  readonly hash: Sha256
  /** Of a file as its tree says; a tree is small. */
  readonly sizeBytes: number
  readonly executable: boolean
  readonly depth: number
}

/**
 * Throws `workspace_invalid`, `limit_exceeded` or `content_missing`, when nothing of it is under way any more; the directory
 * is then worthless.
 */
export async function restoreTree(treeHash: Sha256, options: RestoreOptions): Promise<void> {
  const allowance = new Allowance(options.limits)
  // The newest first: what waits is then as much as one directory on each level has.
  const owed: Owed[] = [{ type: 'directory', path: '', hash: treeHash, sizeBytes: 0, executable: false, depth: 0 }]
  const over = Promise.withResolvers<void>()
  const faults: unknown[] = []
  let [fetches, bytes] = [0, 0]

  function goOn(): void {
    while (faults.length === 0 && fetches < FETCHES_MAX && bytes < FETCHED_BYTES_MAX) {
      const one = owed.pop()
      if (one === undefined) break
      fetches += 1
      bytes += one.sizeBytes
      void restore(one, options, allowance).then(
        (more) => settle(one, more),
        (error: unknown) => {
          faults.push(error)
          settle(one, [])
        },
      )
    }
    if (fetches > 0) return
    if (faults.length === 0) over.resolve()
    else over.reject(faults[0])
  }

  function settle(one: Owed, more: readonly Owed[]): void {
    fetches -= 1
    bytes -= one.sizeBytes
    owed.push(...more)
    goOn()
  }

  goOn()
  await over.promise
}

/** Gives what a directory holds. */
async function restore(one: Owed, options: RestoreOptions, allowance: Allowance): Promise<readonly Owed[]> {
  const { type, path, hash, sizeBytes, executable, depth } = one
  if (type === 'directory') {
    allowance.directory(path, depth)
    if (path !== '') mkdirSync(join(options.root, path), { mode: 0o755 })
    const entries = parseTreeObject(await fetchWhole(hash, path, options), path === '' ? 'the root' : path)
    return entries.map((entry): Owed => {
      if (depth === 0 && options.reserved.has(entry.name))
        throw new PlatformError('workspace_invalid', `The tree ${hash} holds ${entry.name}, which is not its own.`)
      const place = { path: join(path, entry.name), depth: depth + 1 }
      return entry.type === 'file' ? { ...place, ...entry } : { ...place, ...entry, sizeBytes: 0, executable: false }
    })
  }
  allowance.file(path, sizeBytes)
  const bytes = await fetchWhole(hash, path, options)
  if (bytes.length !== sizeBytes)
    throw new PlatformError('workspace_invalid', `${path} has not the size that its tree says.`)
  write(join(options.root, path), bytes, executable ? 0o755 : 0o644)
  return []
}

async function fetchWhole(hash: Sha256, path: string, options: RestoreOptions): Promise<Uint8Array> {
  const bytes = await options.fetch(hash)
  if (sha256(bytes) !== hash)
    throw new PlatformError(
      'content_missing',
      `The content ${hash} of ${path || 'the root'} does not hash to its name.`,
    )
  options.known.add(hash)
  return bytes
}

function write(path: string, bytes: Uint8Array, mode: number): void {
  const fd = openSync(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode)
  try {
    let written = 0
    while (written < bytes.length) written += writeSync(fd, bytes, written)
  } finally {
    closeSync(fd)
  }
}
