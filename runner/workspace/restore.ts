/** Writes a tree into an empty directory, before anything else can see it. */
import { closeSync, constants, mkdirSync, openSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { PlatformError } from '../../schema/error.ts'
import { sha256, type Sha256 } from '../../schema/hash.ts'
import type { TreeFile } from '../../schema/tree.ts'
import { Allowance, type WorkspaceLimits } from './limits.ts'
import { parseTreeObject } from '../../schema/tree-object.ts'

const { O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW } = constants
/** Contents asked for at once: enough to hide the way to the control plane, few enough to hold. */
const FETCHES_MAX = 8

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

/** Throws `workspace_invalid`, `limit_exceeded` or `content_missing`; the directory is then worthless. */
export async function restoreTree(treeHash: Sha256, options: RestoreOptions): Promise<void> {
  await restoreDirectory(treeHash, '', 0, options, new Allowance(options.limits))
}

async function restoreDirectory(
  hash: Sha256,
  path: string,
  depth: number,
  options: RestoreOptions,
  allowance: Allowance,
): Promise<void> {
  allowance.directory(path, depth)
  const entries = parseTreeObject(await fetchWhole(hash, path, options), path === '' ? 'the root' : path)
  const files: TreeFile[] = []
  for (const entry of entries) {
    if (depth === 0 && options.reserved.has(entry.name))
      throw new PlatformError('workspace_invalid', `The tree ${hash} holds ${entry.name}, which is not its own.`)
    if (entry.type === 'file') files.push(entry)
  }
  for (let from = 0; from < files.length; from += FETCHES_MAX) {
    await Promise.all(
      files.slice(from, from + FETCHES_MAX).map(async (file) => {
        const filePath = join(path, file.name)
        allowance.file(filePath, file.sizeBytes)
        const bytes = await fetchWhole(file.hash, filePath, options)
        if (bytes.length !== file.sizeBytes)
          throw new PlatformError('workspace_invalid', `${filePath} has not the size that its tree says.`)
        write(join(options.root, filePath), bytes, file.executable ? 0o755 : 0o644)
      }),
    )
  }
  for (const entry of entries) {
    if (entry.type !== 'directory') continue
    const directory = join(path, entry.name)
    mkdirSync(join(options.root, directory), { mode: 0o755 })
    await restoreDirectory(entry.hash, directory, depth + 1, options, allowance)
  }
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
