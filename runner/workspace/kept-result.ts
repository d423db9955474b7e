/**
 * Keeps a tool's long answer as a file of the workspace, while hostile programs may be writing beside it: every
 * directory is opened below an open one, no link is followed, and the file is made anew.
 */
import { closeSync, constants, mkdirSync, openSync, rmdirSync, unlinkSync, writeSync } from 'node:fs'
import { sha256 } from '../../schema/hash.ts'
import { handle } from './capture.ts'

const { O_RDONLY, O_DIRECTORY, O_NOFOLLOW, O_WRONLY, O_CREAT, O_EXCL } = constants

/** Where results are kept, from the workspace's root. */
export const RESULTS_DIRECTORY = ['.senmon', 'results'] as const

export interface KeptResult {
  /** From the workspace's root. */
  readonly path: string
  /** Takes it back. */
  remove(): void
}

/** The same text has the same path, so that a call that is made again leaves one file. Throws what the system says. */
export function keepResult(root: string, text: string): KeptResult {
  const name = `${sha256(text).slice(0, 16)}.txt`
  within(root, (directory) => write(`${directory}/${name}`, Buffer.from(text)))
  return {
    path: [...RESULTS_DIRECTORY, name].join('/'),
    remove() {
      within(root, (directory, above) => {
        unlinkSync(`${directory}/${name}`)
        removeEmpty(above)
      })
    },
  }
}

/** Directories that hold nothing more, from the innermost on. */
function removeEmpty(above: readonly string[]): void {
  for (const [i, name] of [...RESULTS_DIRECTORY.entries()].toReversed())
    try {
      rmdirSync(`${above[i]}/${name}`)
    } catch (error) {
      if (!isCode(error, 'ENOTEMPTY')) throw error
      return
    }
}

/**
 * Calls `act` with a path by which the directory of results is reached, whatever happens to the names above it, and with
 * such paths of those above.
 */
function within(root: string, act: (directory: string, above: readonly string[]) => void): void {
  const open: number[] = []
  const enter = (path: string): string => {
    const fd = openSync(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW)
    open.push(fd)
    return handle(fd, path)
  }
  try {
    let directory = enter(root)
    const above: string[] = []
    for (const name of RESULTS_DIRECTORY) {
      make(`${directory}/${name}`)
      above.push(directory)
      directory = enter(`${directory}/${name}`)
    }
    act(directory, above)
  } finally {
    for (const fd of open) closeSync(fd)
  }
}

function make(path: string): void {
  try {
    mkdirSync(path, { mode: 0o755 })
  } catch (error) {
    if (!isCode(error, 'EEXIST')) throw error
  }
}

function write(path: string, bytes: Uint8Array): void {
  try {
    create(path, bytes)
  } catch (error) {
    if (!isCode(error, 'EEXIST')) throw error
    // Whatever stands there may have been changed since, or be no file at all.
    unlinkSync(path)
    create(path, bytes)
  }
}

function create(path: string, bytes: Uint8Array): void {
  const fd = openSync(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o644)
  try {
    for (let written = 0; written < bytes.length;) written += writeSync(fd, bytes, written)
  } finally {
    closeSync(fd)
  }
}

function isCode(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code
}
