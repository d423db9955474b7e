/**
 * The workspace on disk: every name is opened one at a time below the one before, and no symbolic link is followed.
 *
 * F1 No operation reads or changes anything outside the workspace, whatever links are in it and whoever swaps them.
 * F2 Only regular files are read or replaced; a FIFO, socket or device is refused without waiting for it.
 * F3 Nothing under `input/` changes.
 *
 * On Linux a directory is held open and its entries are reached through `/proc/self/fd`, so that swapping a parent
 * for a link between check and use changes nothing. Without /proc each part is opened in the same way by its path, which
 * leaves a moment for a swap by another process of the same job.
 */
import { constants, type Stats } from 'node:fs'
import { lstat, mkdir, open, type FileHandle } from 'node:fs/promises'
import { FileRefusal, pathOf, type WorkspacePath } from './path.ts'

const { O_DIRECTORY, O_NOFOLLOW, O_NONBLOCK, O_RDONLY } = constants

/** A directory, held open while it is used. */
export class Directory implements AsyncDisposable {
  readonly path: WorkspacePath
  readonly #handle: FileHandle
  readonly #reach: string

  constructor(path: WorkspacePath, handle: FileHandle, reach: string) {
    this.path = path
    this.#handle = handle
    this.#reach = reach
  }

  /** What to give to node:fs for an entry, or for the directory itself. */
  at(name?: string): string {
    return name === undefined ? this.#reach : `${this.#reach}/${name}`
  }

  entry(name: string): WorkspacePath {
    return pathOf([...this.path.parts, name])
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#handle.close()
  }
}

/** Where a path's last name is to be found. `name` is never a path. */
export interface Place extends AsyncDisposable {
  readonly directory: Directory
  readonly name: string
  readonly path: WorkspacePath
  /** What to give to node:fs. */
  readonly at: string
}

export function errno(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined
}

export class Root {
  readonly #root: string
  #throughProc: boolean | undefined

  /** `root` must be a real path: an absolute one without links. */
  constructor(root: string) {
    this.#root = root
  }

  async directory(path: WorkspacePath, missing: 'refuse' | 'make' = 'refuse'): Promise<Directory> {
    let directory = await this.#top()
    try {
      for (const [i, name] of path.parts.entries()) {
        const next = await this.#step(directory, name, pathOf(path.parts.slice(0, i + 1)), missing)
        await directory[Symbol.asyncDispose]()
        directory = next
      }
      return directory
    } catch (error) {
      await directory[Symbol.asyncDispose]()
      throw error
    }
  }

  /** The entry of an open directory, opened as a directory. */
  async child(directory: Directory, name: string): Promise<Directory> {
    return await this.#step(directory, name, directory.entry(name), 'refuse')
  }

  /** The place of a path that is not the workspace itself. */
  async place(path: WorkspacePath, missing: 'refuse' | 'make' = 'refuse'): Promise<Place> {
    const name = path.parts.at(-1)
    if (name === undefined) throw new FileRefusal('The workspace itself is a directory.')
    const directory = await this.directory(pathOf(path.parts.slice(0, -1)), missing)
    const close = async (): Promise<void> => await directory[Symbol.asyncDispose]()
    return { directory, name, path, at: directory.at(name), [Symbol.asyncDispose]: close }
  }

  async #top(): Promise<Directory> {
    const handle = await open(this.#root, O_RDONLY | O_DIRECTORY | O_NOFOLLOW)
    const through = `/proc/self/fd/${handle.fd}`
    this.#throughProc ??= await lstat(`${through}/.`).then(
      () => true,
      () => false,
    )
    return new Directory(pathOf([]), handle, this.#throughProc ? through : this.#root)
  }

  async #step(from: Directory, name: string, path: WorkspacePath, missing: 'refuse' | 'make'): Promise<Directory> {
    const at = from.at(name)
    try {
      const handle = await open(at, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NONBLOCK)
      return new Directory(path, handle, this.#throughProc ? `/proc/self/fd/${handle.fd}` : at)
    } catch (error) {
      const code = errno(error)
      if (code === 'ENOENT' && missing === 'make') {
        await mkdir(at).catch((cause: unknown) => {
          if (errno(cause) !== 'EEXIST') throw cause
        })
        return await this.#step(from, name, path, 'refuse')
      }
      if (code === 'ENOENT') throw new FileRefusal(`There is no directory ${path.shown}.`, { cause: error })
      if (code === 'ELOOP' || code === 'ENOTDIR') throw await notADirectory(at, path, error)
      throw error
    }
  }
}

async function notADirectory(at: string, path: WorkspacePath, cause: unknown): Promise<FileRefusal> {
  const kind = await lstat(at).then(kindOf, () => 'not a directory')
  const links = kind === 'a symbolic link' ? ', and links are not followed' : ', not a directory'
  return new FileRefusal(`${path.shown} is ${kind}${links}.`, { cause })
}

/** With its article: `a file`, `a symbolic link`. */
export function kindOf(
  stats: Pick<Stats, 'isFile' | 'isDirectory' | 'isSymbolicLink' | 'isFIFO' | 'isSocket'>,
): string {
  if (stats.isFile()) return 'a file'
  if (stats.isDirectory()) return 'a directory'
  if (stats.isSymbolicLink()) return 'a symbolic link'
  if (stats.isFIFO()) return 'a FIFO'
  return stats.isSocket() ? 'a socket' : 'a device'
}

/** What is at a place, or undefined when nothing is. */
export async function statsAt(place: Place): Promise<Stats | undefined> {
  return await lstat(place.at).catch((error: unknown) => {
    if (errno(error) === 'ENOENT') return undefined
    throw error
  })
}

/** A regular file, open for reading. The caller closes it. */
export async function openFile(place: Place): Promise<{ readonly handle: FileHandle; readonly stats: Stats }> {
  const before = await statsAt(place)
  if (before === undefined) throw new FileRefusal(`There is no file ${place.path.shown}.`)
  assertFile(before, place.path)
  const handle = await open(place.at, O_RDONLY | O_NOFOLLOW | O_NONBLOCK)
  try {
    const stats = await handle.stat()
    assertFile(stats, place.path)
    return { handle, stats }
  } catch (error) {
    await handle.close()
    throw error
  }
}

export function assertFile(stats: Stats, path: WorkspacePath): void {
  if (stats.isFile()) return
  const links = stats.isSymbolicLink() ? ', and links are not followed' : ', not a file'
  throw new FileRefusal(`${path.shown} is ${kindOf(stats)}${links}.`)
}
