/**
 * The verbs of a job's workspace as its owner sees it after the fact: what is in the current trees, and the bytes
 * of one file. Everything is read from the content store by hash; no path of the host's disk is ever made.
 *
 * The expert's files are at their own paths; the read-only input files are under `input/`.
 */
import { PlatformError } from '../../schema/error.ts'
import type { Sha256 } from '../../schema/hash.ts'
import { parsePath, type Tree, type TreeEntry } from '../../schema/tree.ts'
import { isJsonObject } from '../../schema/json.ts'
import type { ContentStore } from './content-store.ts'

/** The trees of a workspace; null for an empty one. A job's summary is one of these. */
export interface WorkspaceTrees {
  readonly treeHash: Sha256 | null
  readonly inputTreeHash: Sha256 | null
}

export interface WorkspaceItem {
  /** Names the item within its job: base64url of its path. */
  readonly id: string
  readonly path: string
  readonly type: 'file' | 'directory'
  /** Who put it there: `user` is read-only input, `expert` what the job made. */
  readonly owner: 'user' | 'expert'
  readonly hash: Sha256
  /** null for a directory. */
  readonly sizeBytes: number | null
  readonly executable: boolean
}

export interface Workspaces {
  /**
   * Items in path order, at most `first`, after the path `after`; `under` keeps a directory's own subtree.
   * Directories come before what they hold.
   */
  list(
    trees: WorkspaceTrees,
    page: { readonly under: string | null; readonly first: number; readonly after: string | null },
  ): Promise<readonly WorkspaceItem[]>
  /** The item at a path; undefined when there is none, or when the path climbs or is absolute. */
  find(trees: WorkspaceTrees, path: string): Promise<WorkspaceItem | undefined>
  /** The bytes of a file that `find` or `list` gave. */
  read(item: WorkspaceItem): Promise<Uint8Array>
}

const INPUT = 'input'

export function openWorkspaces(dependencies: { readonly content: ContentStore }): Workspaces {
  const { content } = dependencies

  const getTree = async (hash: Sha256): Promise<Tree> => parseTree(hash, await content.get(hash))

  /** The entries of a directory's tree, each with its whole path and owner. */
  async function entries(trees: WorkspaceTrees, directory: WorkspaceItem | null): Promise<readonly WorkspaceItem[]> {
    if (directory !== null) {
      const tree = await getTree(directory.hash)
      return tree.entries.map((entry) => itemOf(entry, `${directory.path}/${entry.name}`, directory.owner))
    }
    const made = trees.treeHash === null ? [] : (await getTree(trees.treeHash)).entries
    const own = made.filter((entry) => entry.name !== INPUT).map((entry) => itemOf(entry, entry.name, 'expert'))
    if (trees.inputTreeHash === null) return own
    const input = itemOf({ type: 'directory', name: INPUT, hash: trees.inputTreeHash }, INPUT, 'user')
    return [...own, input].toSorted((a, b) => (a.path < b.path ? -1 : 1))
  }

  async function* walk(trees: WorkspaceTrees, directory: WorkspaceItem | null): AsyncGenerator<WorkspaceItem> {
    for (const item of await entries(trees, directory)) {
      yield item
      if (item.type === 'directory') yield* walk(trees, item)
    }
  }

  async function find(trees: WorkspaceTrees, path: string): Promise<WorkspaceItem | undefined> {
    let found: WorkspaceItem | null = null
    for (const part of parsePath(path) ?? []) {
      if (found?.type === 'file') return undefined
      const children: readonly WorkspaceItem[] = await entries(trees, found)
      const next = children.find((item) => item.path === (found === null ? part : `${found.path}/${part}`))
      if (next === undefined) return undefined
      found = next
    }
    return found ?? undefined
  }

  return {
    find,
    async list(trees, { under, first, after }) {
      const root = under === null ? null : await find(trees, under)
      if (root === undefined) return []
      if (root?.type === 'file') return [root]
      const page: WorkspaceItem[] = []
      let passed = after === null
      for await (const item of walk(trees, root)) {
        if (page.length >= first) break
        if (passed) page.push(item)
        else passed = item.path === after
      }
      return page
    },
    async read(item) {
      if (item.type === 'directory')
        throw new PlatformError('workspace_invalid', `"${item.path}" is a directory; only a file has bytes.`)
      return content.get(item.hash)
    },
  }
}

/** The id of the item at a path. */
export function printItemId(path: string): string {
  return Buffer.from(path, 'utf8').toString('base64url')
}

/** The path that an item id stands for; undefined for anything that is not one. */
export function parseItemId(id: string): string | undefined {
  const path = Buffer.from(id, 'base64url').toString('utf8')
  return printItemId(path) === id && parsePath(path) !== undefined ? path : undefined
}

function itemOf(entry: TreeEntry, path: string, owner: WorkspaceItem['owner']): WorkspaceItem {
  const id = printItemId(path)
  return entry.type === 'file'
    ? { id, path, type: 'file', owner, hash: entry.hash, sizeBytes: entry.sizeBytes, executable: entry.executable }
    : { id, path, type: 'directory', owner, hash: entry.hash, sizeBytes: null, executable: false }
}

function parseTree(hash: Sha256, bytes: Uint8Array): Tree {
  const value: unknown = JSON.parse(new TextDecoder().decode(bytes))
  if (!isJsonObject(value) || !Array.isArray(value['entries']))
    throw new PlatformError('content_missing', `${hash} is not a tree.`)
  // The store gives back only bytes that hash to their name, and whoever named this hash a tree printed it.
  return value as unknown as Tree
}
