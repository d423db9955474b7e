/** The tools that change the workspace. Every change of a file's content is whole or not at all. */
import { constants, type Stats } from 'node:fs'
import { lstat, mkdir, open, readdir, rename, rmdir, unlink } from 'node:fs/promises'
import { assertWritable, FileRefusal, isWithin, type WorkspacePath } from './path.ts'
import { readText } from './reading.ts'
import { assertFile, errno, kindOf, statsAt, type Directory, type Place, type Root } from './root.ts'

/** The largest file that can be edited in place. */
export const EDIT_BYTES_MAX = 8 * 1024 * 1024
const { O_APPEND, O_CREAT, O_EXCL, O_NOFOLLOW, O_NONBLOCK, O_WRONLY } = constants

let written = 0

/** Puts `content` where `place` is by writing beside it and renaming: a reader sees the old file or the new one. */
async function replaceFile(place: Place, content: string | Uint8Array, before: Stats | undefined): Promise<void> {
  const temporary = place.directory.at(`.senmon-${process.pid}-${(written += 1)}.partial`)
  const mode = before === undefined ? 0o644 : before.mode & 0o777
  await unlink(temporary).catch(ignoreMissing)
  const handle = await open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode)
  try {
    await using _ = handle
    await handle.writeFile(content)
    if (before !== undefined) await handle.chmod(mode)
  } catch (error) {
    await unlink(temporary)
    throw error
  }
  await rename(temporary, place.at)
}

function ignoreMissing(error: unknown): void {
  if (errno(error) !== 'ENOENT') throw error
}

export async function writeFile(root: Root, path: WorkspacePath, content: string): Promise<string> {
  assertWritable(path)
  using place = root.place(path, 'make')
  const before = statsAt(place)
  if (before !== undefined) assertFile(before, path)
  await replaceFile(place, content, before)
  const verb = before === undefined ? 'Created' : 'Replaced'
  return `${verb} ${path.shown}: ${Buffer.byteLength(content)} bytes, ${lineCount(content)} lines.`
}

export async function appendFile(root: Root, path: WorkspacePath, content: string): Promise<string> {
  assertWritable(path)
  using place = root.place(path, 'make')
  const before = statsAt(place)
  if (before !== undefined) assertFile(before, path)
  if (before !== undefined && before.nlink > 1) {
    // Another name of the same file may lie outside the workspace: give this one a file of its own.
    await replaceFile(place, (await readText(root, path, EDIT_BYTES_MAX)) + content, before)
  } else {
    const handle = await open(place.at, O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_NONBLOCK, 0o644)
    await using _ = handle
    assertFile(await handle.stat(), path)
    await handle.appendFile(content)
  }
  return `Appended ${Buffer.byteLength(content)} bytes to ${path.shown}.`
}

export interface Edit {
  readonly oldText: string
  readonly newText: string
  readonly replaceAll: boolean
}

/** `text` after all edits, in order; the text of each is exact, and unique unless it replaces all. Throws FileRefusal. */
export function applyEdits(text: string, edits: readonly Edit[], shown: string): { text: string; report: string[] } {
  const crlf = text.includes('\r\n') && !/(^|[^\r])\n/.test(text)
  const report: string[] = []
  let now = text
  for (const [i, edit] of edits.entries()) {
    const which = edits.length === 1 ? 'oldText' : `oldText of edit ${i + 1} of ${edits.length}`
    const native = (part: string): string => (crlf ? part.replaceAll(/\r?\n/g, '\r\n') : part)
    const [from, to] = [native(edit.oldText), native(edit.newText)]
    if (from === '') throw new FileRefusal(`The ${which} is empty; name the text to replace. Nothing was changed.`)
    if (from === to) throw new FileRefusal(`The ${which} equals its newText. Nothing was changed.`)
    const pieces = now.split(from)
    const count = pieces.length - 1
    if (count === 0)
      throw new FileRefusal(`The ${which} does not occur in ${shown}; it must match exactly. Nothing was changed.`)
    if (count > 1 && !edit.replaceAll)
      throw new FileRefusal(
        `The ${which} occurs ${count} times in ${shown} (lines ${linesOf(pieces, from)}); ` +
          'give more of its surroundings, or set replaceAll. Nothing was changed.',
      )
    report.push(`line ${lineCountBefore(pieces[0] ?? '')}: ${count === 1 ? '1 replacement' : `${count} replacements`}`)
    now = pieces.join(to)
  }
  return { text: now, report }
}

function linesOf(pieces: readonly string[], between: string): string {
  const lines: number[] = []
  let before = ''
  for (const piece of pieces.slice(0, Math.min(pieces.length - 1, 8))) {
    before += piece
    lines.push(lineCountBefore(before))
    before += between
  }
  return lines.join(', ') + (pieces.length - 1 > 8 ? ' …' : '')
}

function lineCountBefore(text: string): number {
  return text.split('\n').length
}

function lineCount(text: string): number {
  return text === '' ? 0 : text.split('\n').length - (text.endsWith('\n') ? 1 : 0)
}

export async function editFile(root: Root, path: WorkspacePath, edits: readonly Edit[]): Promise<string> {
  assertWritable(path)
  const text = await readText(root, path, EDIT_BYTES_MAX)
  const edited = applyEdits(text, edits, path.shown)
  using place = root.place(path)
  const before = statsAt(place)
  if (before !== undefined) assertFile(before, path)
  await replaceFile(place, edited.text, before)
  return `Edited ${path.shown}: ${edited.report.join('; ')}.`
}

export async function makeDirectory(root: Root, path: WorkspacePath): Promise<string> {
  assertWritable(path)
  using place = root.place(path, 'make')
  const before = statsAt(place)
  if (before === undefined) await mkdir(place.at)
  else if (before.isDirectory()) return `${path.shown} is there already.`
  else throw new FileRefusal(`${path.shown} is ${kindOf(before)}, so no directory can be made there.`)
  return `Made the directory ${path.shown}.`
}

export async function move(root: Root, from: WorkspacePath, to: WorkspacePath, overwrite: boolean): Promise<string> {
  assertWritable(from)
  assertWritable(to)
  using source = root.place(from)
  const moved = statsAt(source)
  if (moved === undefined) throw new FileRefusal(`There is nothing at ${from.shown}.`)
  if (isWithin(to, from)) throw new FileRefusal(`${from.shown} cannot be moved to ${to.shown}, which is within it.`)
  using target = root.place(to, 'make')
  const there = statsAt(target)
  if (there !== undefined && !overwrite)
    throw new FileRefusal(`${to.shown} is ${kindOf(there)} already; set overwrite to replace it.`)
  if (there !== undefined && (there.isDirectory() || moved.isDirectory()))
    throw new FileRefusal(`${to.shown} is ${kindOf(there)}; only a file can replace a file.`)
  await rename(source.at, target.at)
  return `Moved ${from.shown} to ${to.shown}.`
}

export async function remove(root: Root, path: WorkspacePath, recursive: boolean): Promise<string> {
  assertWritable(path)
  using place = root.place(path)
  const before = statsAt(place)
  if (before === undefined) throw new FileRefusal(`There is nothing at ${path.shown}.`)
  if (!before.isDirectory()) {
    await unlink(place.at)
    return `Deleted ${path.shown}, ${kindOf(before)}.`
  }
  if (recursive) await empty(root, place.directory, place.name)
  await rmdir(place.at).catch((cause: unknown) => {
    if (errno(cause) !== 'ENOTEMPTY') throw cause
    throw new FileRefusal(`${path.shown} is a directory that is not empty; set recursive to delete it whole.`, {
      cause,
    })
  })
  return `Deleted the directory ${path.shown}.`
}

/** Deletes all that is below; a link is deleted itself, never followed. */
async function empty(root: Root, directory: Directory, name: string): Promise<void> {
  using child = root.child(directory, name)
  for (const entry of await readdir(child.at())) {
    if ((await lstat(child.at(entry))).isDirectory()) {
      await empty(root, child, entry)
      await rmdir(child.at(entry))
    } else await unlink(child.at(entry))
  }
}
