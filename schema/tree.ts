/**
 * A workspace's content at one moment, as content hashes: one small object per directory, so that a change
 * stores only the directories above it again (git's idea). Objects and file contents live in the content store.
 */
import { canonical, sha256, type Sha256 } from './hash.ts'

/** The longest path that a tree may hold, and its deepest; more is refused where trees are made. */
export const PATH_BYTES_MAX = 1024
export const DEPTH_MAX = 32

/** What a workspace may hold, counted path by path: content that several paths share counts for each. */
export const TREE_LIMITS = {
  files: 20_000,
  bytes: 256 * 1024 * 1024,
  fileBytes: 64 * 1024 * 1024,
  depth: DEPTH_MAX,
}

export interface TreeFile {
  readonly type: 'file'
  readonly name: string
  readonly hash: Sha256
  readonly sizeBytes: number
  readonly executable: boolean
}

export interface TreeDirectory {
  readonly type: 'directory'
  readonly name: string
  readonly hash: Sha256
}

export type TreeEntry = TreeFile | TreeDirectory

/** One directory: entries sorted by name, names unique. */
export interface Tree {
  readonly entries: readonly TreeEntry[]
}

/** A tree object's canonical text, which is what the content store keeps, and its hash. */
export function printTree(entries: readonly TreeEntry[]): { readonly text: string; readonly hash: Sha256 } {
  const text = canonical({ entries: entries.toSorted((a, b) => (a.name < b.name ? -1 : 1)) })
  return { text, hash: sha256(text) }
}

const NAME_BAD = /[\u0000-\u001f\u007f\u202a-\u202e\u2066-\u2069\\]/

/**
 * The parts of a relative POSIX path, or undefined when it is absolute, climbs (`..`), is empty, too long,
 * too deep, or holds control, direction or backslash characters.
 */
export function parsePath(path: string): readonly string[] | undefined {
  if (path === '' || path.startsWith('/') || /^[A-Za-z]:/.test(path)) return undefined
  if (new TextEncoder().encode(path).length > PATH_BYTES_MAX || NAME_BAD.test(path)) return undefined
  const parts = path.split('/').filter((part) => part !== '.')
  if (parts.length === 0 || parts.length > DEPTH_MAX) return undefined
  if (parts.some((part) => part === '' || part === '..' || new TextEncoder().encode(part).length > 255))
    return undefined
  return parts
}
