/**
 * The files of installed skills as content under their hashes, for machines that see nothing of this computer: a
 * machine asks for what it lacks and checks what it gets.
 */
import { constants } from 'node:fs'
import { open, readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { BLOB_CHUNK_BYTES, type BlobValue } from '../../schema/control.ts'
import { PlatformError } from '../../schema/error.ts'
import { sha256, type Sha256 } from '../../schema/hash.ts'
import { printTree, type TreeEntry } from '../../schema/tree.ts'

/** Directories read at once. */
const WIDTH = 8

export interface InstalledContent {
  /** The tree of a directory whose content never changes; read once. Symbolic links are left out. */
  treeOf(directory: string): Promise<Sha256>
  /** One chunk, as the reply to a `blob` request; undefined for what no directory that was read holds. */
  chunk(hash: string, offset: number): Promise<BlobValue | undefined>
}

export function openInstalledContent(): InstalledContent {
  const trees = new Map<string, Promise<Sha256>>()
  /** A file by its path, a tree by its text. */
  const known = new Map<string, { readonly path: string } | { readonly text: Buffer }>()

  async function readTree(directory: string): Promise<Sha256> {
    const names = await readdir(directory, { withFileTypes: true })
    const entries: TreeEntry[] = []
    for (let from = 0; from < names.length; from += WIDTH)
      entries.push(
        ...(
          await Promise.all(
            names.slice(from, from + WIDTH).map(async (entry): Promise<readonly TreeEntry[]> => {
              const path = join(directory, entry.name)
              if (entry.isDirectory()) return [{ type: 'directory', name: entry.name, hash: await readTree(path) }]
              return entry.isFile() ? [await readEntry(entry.name, path)] : []
            }),
          )
        ).flat(),
      )
    const { text, hash } = printTree(entries)
    known.set(hash, { text: Buffer.from(text) })
    return hash
  }

  async function readEntry(name: string, path: string): Promise<TreeEntry> {
    const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW)
    try {
      const { mode } = await file.stat()
      const bytes = await file.readFile()
      const hash = sha256(bytes)
      known.set(hash, { path })
      return { type: 'file', name, hash, sizeBytes: bytes.length, executable: (mode & 0o100) !== 0 }
    } finally {
      await file.close()
    }
  }

  return {
    treeOf(directory) {
      const tree =
        trees.get(directory) ??
        readTree(directory).catch((cause: unknown) => {
          trees.delete(directory)
          throw new PlatformError('machine_failed', `The files of ${directory} cannot be read.`, { cause })
        })
      trees.set(directory, tree)
      return tree
    },
    async chunk(hash, offset) {
      const found = known.get(hash)
      if (found === undefined) return undefined
      const bytes = 'text' in found ? found.text : await readFile(found.path)
      const end = offset + BLOB_CHUNK_BYTES
      return { base64: bytes.subarray(offset, end).toString('base64'), last: end >= bytes.length }
    },
  }
}
