/**
 * The workspace on disk: every name is opened one at a time below the one before, and no symbolic link is followed.
 *
 * FR1 No operation reads or changes anything outside the workspace, whatever links are in it and whoever swaps them.
 * FR2 Only regular files are read or replaced; a FIFO, socket or device is refused without waiting for it.
 * FR3 Nothing under `input/` changes.
 *
 * On Linux a directory is held open and its entries are reached through `/proc/self/fd`, so that swapping a parent
 * for a link between check and use changes nothing. Without /proc each part is opened in the same way by its path, which
 * leaves a moment for a swap by another process of the same job.
 *
 * Everything here is synchronous: each system call takes microseconds, and a way through the thread pool ten times
 * that, six of which are most of what a small read costs.
 */
import { closeSync, constants, fstatSync, lstatSync, mkdirSync, openSync, readSync, type Stats } from 'node:fs'
import { FileRefusal, pathOf, type WorkspacePath } from './path.ts'

const { O_DIRECTORY, O_NOFOLLOW, O_NONBLOCK, O_RDONLY } = constants

/** A directory, held open while it is used. */
export class Directory implements Disposable {
  readonly path: WorkspacePath
  readonly #fd: number
  readonly #reach: string

  constructor(path: WorkspacePath, fd: number, reach: string) {
    this.path = path
    this.#fd = fd
    this.#reach = reach
  }

  /** What to give to node:fs for an entry, or for the directory itself. */
  at(name?: string): string {
    return name === undefined ? this.#reach : `${this.#reach}/${name}`
  }

  entry(name: string): WorkspacePath {
    return pathOf([...this.path.parts, name])
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd)
  }
}

/** Where a path's last name is to be found. `name` is never a path. */
export interface Place extends Disposable {
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

  directory(path: WorkspacePath, missing: 'refuse' | 'make' = 'refuse'): Directory {
    let directory = this.#top()
    try {
      for (const [i, name] of path.parts.entries()) {
        const next = this.#step(directory, name, pathOf(path.parts.slice(0, i + 1)), missing)
        directory[Symbol.dispose]()
        directory = next
      }
      return directory
    } catch (error) {
      directory[Symbol.dispose]()
      throw error
    }
  }

  /** The entry of an open directory, opened as a directory. */
  child(directory: Directory, name: string): Directory {
    return this.#step(directory, name, directory.entry(name), 'refuse')
  }

  /** The place of a path that is not the workspace itself. */
  place(path: WorkspacePath, missing: 'refuse' | 'make' = 'refuse'): Place {
    const name = path.parts.at(-1)
    if (name === undefined) throw new FileRefusal('The workspace itself is a directory.')
    const directory = this.directory(pathOf(path.parts.slice(0, -1)), missing)
    return { directory, name, path, at: directory.at(name), [Symbol.dispose]: () => directory[Symbol.dispose]() }
  }

  #top(): Directory {
    const fd = openSync(this.#root, O_RDONLY | O_DIRECTORY | O_NOFOLLOW)
    const through = `/proc/self/fd/${fd}`
    this.#throughProc ??= kindAt(`${through}/.`) !== undefined
    return new Directory(pathOf([]), fd, this.#throughProc ? through : this.#root)
  }

  #step(from: Directory, name: string, path: WorkspacePath, missing: 'refuse' | 'make'): Directory {
    const at = from.at(name)
    try {
      const fd = openSync(at, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NONBLOCK)
      return new Directory(path, fd, this.#throughProc ? `/proc/self/fd/${fd}` : at)
    } catch (error) {
      const code = errno(error)
      if (code === 'ENOENT' && missing === 'make') {
        make(at)
        return this.#step(from, name, path, 'refuse')
      }
      if (code === 'ENOENT') throw new FileRefusal(`There is no directory ${path.shown}.`, { cause: error })
      if (code === 'ELOOP' || code === 'ENOTDIR') throw notADirectory(at, path, error)
      throw error
    }
  }
}

function make(at: string): void {
  try {
    mkdirSync(at)
  } catch (error) {
    if (errno(error) !== 'EEXIST') throw error
  }
}

/** Undefined when nothing is there, or what is there may not be looked at. */
function kindAt(at: string): string | undefined {
  try {
    return kindOf(lstatSync(at))
  } catch {
    return undefined
  }
}

function notADirectory(at: string, path: WorkspacePath, cause: unknown): FileRefusal {
  const kind = kindAt(at) ?? 'not a directory'
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
export function statsAt(place: Place): Stats | undefined {
  return lstatSync(place.at, { throwIfNoEntry: false })
}

/** A regular file, open for reading. */
export class OpenFile implements Disposable {
  readonly stats: Stats
  readonly #fd: number

  constructor(fd: number, stats: Stats) {
    this.#fd = fd
    this.stats = stats
  }

  /** Fills `buffer` from `position` on; gives how many bytes there were, 0 at the end. */
  read(buffer: Uint8Array, position: number): number {
    return readSync(this.#fd, buffer, 0, buffer.length, position)
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd)
  }
}

export function openFile(place: Place): OpenFile {
  const before = statsAt(place)
  if (before === undefined) throw new FileRefusal(`There is no file ${place.path.shown}.`)
  assertFile(before, place.path)
  const fd = openSync(place.at, O_RDONLY | O_NOFOLLOW | O_NONBLOCK)
  try {
    const stats = fstatSync(fd)
    assertFile(stats, place.path)
    return new OpenFile(fd, stats)
  } catch (error) {
    closeSync(fd)
    throw error
  }
}

export function assertFile(stats: Stats, path: WorkspacePath): void {
  if (stats.isFile()) return
  const links = stats.isSymbolicLink() ? ', and links are not followed' : ', not a file'
  throw new FileRefusal(`${path.shown} is ${kindOf(stats)}${links}.`)
}
