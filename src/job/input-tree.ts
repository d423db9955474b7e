/** The read-only input of a job as tree objects: what a machine restores under /workspace/input. */
import { refuse, type Refusal } from '../../schema/error.ts'
import { sha256, type Sha256 } from '../../schema/hash.ts'
import { parsePath, printTree, type TreeEntry } from '../../schema/tree.ts'

export interface InputFile {
  readonly path: string
  readonly bytes: Uint8Array
}

export interface InputLimits {
  readonly filesMax: number
  /** Of one file. */
  readonly fileBytesMax: number
  /** Of all files together. */
  readonly filesBytesMax: number
}

export interface InputTree {
  /** null for no files. */
  readonly treeHash: Sha256 | null
  /** Everything that the content store must hold: contents and directories. */
  readonly objects: readonly Uint8Array[]
}

interface Directory {
  readonly files: Map<string, TreeEntry>
  readonly directories: Map<string, Directory>
}

const encoder = new TextEncoder()

/** The tree of some files. Refuses bad, repeated and colliding paths (`input_invalid`) and too much (`input_too_large`). */
export function buildInputTree(files: readonly InputFile[], limits: InputLimits): InputTree | Refusal {
  if (files.length > limits.filesMax)
    return refuse('input_too_large', `${files.length} files are more than the ${limits.filesMax} that a job takes.`)
  const root: Directory = { files: new Map(), directories: new Map() }
  const objects: Uint8Array[] = []
  // Names that differ in case or composition alone would fall together on other file systems.
  const folded = new Set<string>()
  let totalBytes = 0
  for (const [i, { path, bytes }] of files.entries()) {
    const parts = parsePath(path)
    if (parts === undefined) return refuse('input_invalid', `files[${i}].path is not a relative path within the input.`)
    const shown = parts.join('/')
    if (bytes.length > limits.fileBytesMax)
      return refuse('input_too_large', `File ${shown} has ${bytes.length} bytes; the limit is ${limits.fileBytesMax}.`)
    totalBytes += bytes.length
    if (totalBytes > limits.filesBytesMax)
      return refuse('input_too_large', `The files have more than ${limits.filesBytesMax} bytes together.`)
    const name = fold(shown)
    if (folded.has(name)) return refuse('input_invalid', `File ${shown} is given more than once.`)
    folded.add(name)
    place(root, parts, { hash: sha256(bytes), sizeBytes: bytes.length })
    objects.push(bytes)
  }
  for (const name of folded) {
    const inFile = name.split('/').findIndex((_, n, parts) => n > 0 && folded.has(parts.slice(0, n).join('/')))
    if (inFile > 0) return refuse('input_invalid', `File ${name} lies within another file.`)
  }
  return { treeHash: files.length === 0 ? null : print(root, objects), objects }
}

function fold(path: string): string {
  return path.normalize('NFC').toLowerCase()
}

function place(root: Directory, parts: readonly string[], file: { readonly hash: Sha256; sizeBytes: number }): void {
  let directory = root
  for (const part of parts.slice(0, -1)) {
    const next = directory.directories.get(part) ?? { files: new Map(), directories: new Map() }
    directory.directories.set(part, next)
    directory = next
  }
  const name = parts.at(-1) ?? ''
  directory.files.set(name, { type: 'file', name, ...file, executable: false })
}

/** Depth is bounded by parsePath. */
function print(directory: Directory, objects: Uint8Array[]): Sha256 {
  const entries: TreeEntry[] = [...directory.files.values()]
  for (const [name, inner] of directory.directories)
    entries.push({ type: 'directory', name, hash: print(inner, objects) })
  const { text, hash } = printTree(entries)
  objects.push(encoder.encode(text))
  return hash
}
