/** Paths as a model writes them, and what is said when one is refused. Pure: nothing here looks at a disk. */
import { DEPTH_MAX, parsePath, PATH_BYTES_MAX } from '../../schema/tree.ts'

/** An expected "no": its message is one sentence for the model, which becomes the tool's error result. */
export class FileRefusal extends Error {
  override readonly name = 'FileRefusal'
}

/** A path within the workspace: its parts, [] for the workspace itself, and the text that messages show. */
export interface WorkspacePath {
  readonly parts: readonly string[]
  readonly shown: string
}

const UNPRINTABLE = /[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u202a-\u202e\u2066-\u2069]/

/** A name from a disk, quoted and escaped when it could otherwise forge a line or a terminal sequence. */
export function shownName(name: string): string {
  if (!UNPRINTABLE.test(name)) return name
  const escaped = JSON.stringify(name)
  return escaped.replace(new RegExp(UNPRINTABLE, 'g'), (char) => {
    const code = char.codePointAt(0) ?? 0
    return `\\u${code.toString(16).padStart(4, '0')}`
  })
}

export function pathOf(parts: readonly string[]): WorkspacePath {
  return { parts, shown: parts.length === 0 ? '.' : shownName(parts.join('/')) }
}

/** The path in `text`, which is relative to the workspace or lies under one of `roots`. Throws FileRefusal. */
export function parseWorkspacePath(text: string, roots: readonly string[]): WorkspacePath {
  const shown = shownName(text.length > 200 ? `${text.slice(0, 200)}…` : text)
  const root = roots.find((root) => text === root || text.startsWith(`${root}/`))
  const relative = root === undefined ? text : text.slice(root.length).replace(/^\/+/, '')
  const trimmed = relative.replace(/\/+$/, '')
  if (text === '') throw new FileRefusal('The path is empty; use "." for the workspace itself.')
  if (root === undefined && (text.startsWith('/') || /^[A-Za-z]:/.test(text)))
    throw new FileRefusal(`${shown} is outside the workspace; use a path relative to the workspace.`)
  if (trimmed === '' || /^(\.\/)*\.$/.test(trimmed)) return pathOf([])
  if (trimmed.split('/').includes('..'))
    throw new FileRefusal(`${shown} climbs with ".."; use a path relative to the workspace, without "..".`)
  const parts = parsePath(trimmed)
  if (parts === undefined)
    throw new FileRefusal(
      `${shown} is not a usable path: at most ${PATH_BYTES_MAX} bytes, ${DEPTH_MAX} levels, 255 bytes a name, ` +
        'without empty names, backslashes or control characters.',
    )
  return pathOf(parts)
}

/** Refuses what lies under `input/`, which holds what the job was given. */
export function assertWritable(path: WorkspacePath): void {
  if (path.parts.length === 0) throw new FileRefusal('The workspace itself cannot be written, moved or deleted.')
  if (path.parts[0] === 'input')
    throw new FileRefusal(`${path.shown} is read-only: input/ holds what the job was given; write elsewhere.`)
}

/** True when `inner` is `outer` or lies below it. */
export function isWithin(inner: WorkspacePath, outer: WorkspacePath): boolean {
  return outer.parts.every((part, i) => inner.parts[i] === part)
}
