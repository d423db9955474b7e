/** The tools that look through many files: list, find by name, search by content; all within bounds of count and time. */
import { lstat, opendir } from 'node:fs/promises'
import { matchesGlob } from 'node:path'
import { createContext, Script } from 'node:vm'
import { DEPTH_MAX } from '../../schema/tree.ts'
import { FileRefusal, pathOf, shownName, type WorkspacePath } from './path.ts'
import { errno, kindOf, openFile, statsAt, type Directory, type Root } from './root.ts'
import { readAtMost, sniff } from './reading.ts'

export const ENTRIES_MAX = 1000
/** How many entries one call looks at. */
export const VISITED_MAX = 50_000
export const MATCHES_MAX = 200
/** A larger file is named as not searched. */
export const SEARCHED_BYTES_MAX = 8 * 1024 * 1024
/** All matching of one call together: a pattern that backtracks without end is stopped here. */
export const MATCHING_MS_MAX = 3000
const LINE_CHARS_MAX = 400
/** Walked only when the call names them. */
const SKIPPED = new Set(['.git', 'node_modules'])

interface Entry {
  readonly directory: Directory
  readonly name: string
  readonly path: WorkspacePath
  /** With its article, as kindOf says it. */
  readonly kind: string
}

/** Every entry below, depth first, names in order; a link is an entry and never a way. */
async function* walk(root: Root, directory: Directory, depth: number): AsyncGenerator<Entry> {
  const entries: { name: string; kind: string }[] = []
  for await (const entry of await opendir(directory.at())) {
    entries.push({ name: entry.name, kind: kindOf(entry) })
    if (entries.length > VISITED_MAX)
      throw new FileRefusal(`${directory.path.shown} has more than ${VISITED_MAX} entries.`)
  }
  entries.sort((a, b) => (a.name < b.name ? -1 : 1))
  for (const { name, kind } of entries) {
    const path = directory.entry(name)
    yield { directory, name, path, kind }
    if (kind !== 'a directory' || depth <= 1 || path.parts.length >= DEPTH_MAX) continue
    if (SKIPPED.has(name)) continue
    using child = root.child(directory, name)
    yield* walk(root, child, depth - 1)
  }
}

function relativeTo(start: WorkspacePath, path: WorkspacePath): string {
  return path.parts.slice(start.parts.length).join('/')
}

export async function list(root: Root, path: WorkspacePath, depth: number): Promise<string> {
  using directory = root.directory(path)
  const lines: string[] = []
  for await (const { directory: parent, name, path: entry, kind } of walk(root, directory, depth)) {
    if (lines.length >= ENTRIES_MAX) {
      lines.push(`[more than ${ENTRIES_MAX} entries; list a directory below, or use find]`)
      break
    }
    const shown = shownName(relativeTo(path, entry))
    if (kind === 'a directory') lines.push(`${shown}/`)
    else if (kind === 'a file') lines.push(`${shown}  ${await sizeOf(parent, name)}`)
    else lines.push(`${shown}  (${kind.replace(/^an? /, '')})`)
  }
  return lines.length === 0 ? `[${path.shown} is empty]` : lines.join('\n')
}

async function sizeOf(directory: Directory, name: string): Promise<string> {
  const stats = await lstat(directory.at(name)).catch(() => undefined)
  return stats === undefined ? '(gone)' : `${stats.size} bytes`
}

/** Time that is spent only while `within` runs; V8 stops even a regular expression that has run out of it. */
class Stopwatch {
  #leftMs: number
  readonly #context = createContext({ act: (): unknown => undefined })
  readonly #script = new Script('act()')

  constructor(leftMs: number) {
    this.#leftMs = leftMs
  }

  within<Result>(act: () => Result): Result {
    const startedAt = performance.now()
    let result: { readonly value: Result } | undefined
    this.#context['act'] = (): void => {
      result = { value: act() }
    }
    try {
      this.#script.runInContext(this.#context, { timeout: Math.max(1, Math.ceil(this.#leftMs)) })
    } catch (cause) {
      // The error comes from the script's own realm, so it is no instance of our Error.
      const code = typeof cause === 'object' && cause !== null && 'code' in cause ? cause.code : undefined
      if (code === 'ERR_SCRIPT_EXECUTION_TIMEOUT')
        throw new FileRefusal(
          `Matching took longer than ${MATCHING_MS_MAX} ms; use a simpler pattern, or search less.`,
          { cause },
        )
      throw cause
    } finally {
      this.#leftMs -= performance.now() - startedAt
    }
    if (result === undefined) throw new TypeError('the script ended without its result')
    return result.value
  }
}

/** Those whose name matches, or whose way from `start` does when the glob has a slash. */
function filterByGlob(
  paths: readonly WorkspacePath[],
  start: WorkspacePath,
  glob: string,
  stopwatch: Stopwatch,
): readonly WorkspacePath[] {
  if ((glob.match(/\{/g)?.length ?? 0) > 4) throw new FileRefusal('The glob has more than 4 groups in braces.')
  const candidate = (path: WorkspacePath): string =>
    glob.includes('/') ? relativeTo(start, path) : (path.parts.at(-1) ?? '')
  return stopwatch.within(() => paths.filter((path) => matchesGlob(candidate(path), glob)))
}

interface Visited {
  readonly paths: readonly WorkspacePath[]
  readonly directories: ReadonlySet<WorkspacePath>
  readonly complete: boolean
}

/** Everything below, links and specials left out where only files are wanted. */
async function visit(root: Root, path: WorkspacePath, only: 'files' | 'all'): Promise<Visited> {
  using directory = root.directory(path)
  const paths: WorkspacePath[] = []
  const directories = new Set<WorkspacePath>()
  let visited = 0
  for await (const entry of walk(root, directory, DEPTH_MAX)) {
    visited += 1
    if (visited > VISITED_MAX) return { paths, directories, complete: false }
    if (only === 'all' || entry.kind === 'a file') paths.push(entry.path)
    if (entry.kind === 'a directory') directories.add(entry.path)
  }
  return { paths, directories, complete: true }
}

const INCOMPLETE = `[stopped after ${VISITED_MAX} entries; narrow the path]`

export async function find(root: Root, path: WorkspacePath, glob: string): Promise<string> {
  const { paths, directories, complete } = await visit(root, path, 'all')
  const found = filterByGlob(paths, path, glob, new Stopwatch(MATCHING_MS_MAX))
  const lines = found.slice(0, ENTRIES_MAX).map((entry) => `${entry.shown}${directories.has(entry) ? '/' : ''}`)
  if (found.length > ENTRIES_MAX) lines.push(`[${ENTRIES_MAX} of ${found.length} matches; narrow the path or the glob]`)
  if (found.length === 0) lines.push(`Nothing under ${path.shown} matches ${shownName(glob)}.`)
  if (!complete) lines.push(INCOMPLETE)
  return lines.join('\n')
}

export interface Sought {
  readonly pattern: string
  readonly regex: boolean
  readonly ignoreCase: boolean
  readonly glob?: string | undefined
  readonly context: number
  readonly matchesMax: number
}

/** The numbers of the lines that match, at most `most`. */
type Matcher = (lines: readonly string[], most: number) => readonly number[]

function matcher(sought: Sought, stopwatch: Stopwatch): Matcher {
  const gather = (test: (line: string) => boolean): Matcher => {
    return (lines, most) => {
      const hits: number[] = []
      for (let i = 0; i < lines.length && hits.length < most; i++) if (test(lines[i] ?? '')) hits.push(i)
      return hits
    }
  }
  if (!sought.regex) {
    const needle = sought.ignoreCase ? sought.pattern.toLowerCase() : sought.pattern
    return gather((line) => (sought.ignoreCase ? line.toLowerCase() : line).includes(needle))
  }
  const expression = expressionOf(sought)
  const seek = gather((line) => expression.test(line))
  return (lines, most) => stopwatch.within(() => seek(lines, most))
}

function expressionOf(sought: Sought): RegExp {
  try {
    return new RegExp(sought.pattern, sought.ignoreCase ? 'iu' : 'u')
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : ''
    throw new FileRefusal(`The pattern is not a regular expression: ${shownName(why)}.`, { cause })
  }
}

interface Findings {
  readonly lines: string[]
  matches: number
  unsearched: number
}

export async function search(root: Root, path: WorkspacePath, sought: Sought): Promise<string> {
  const stopwatch = new Stopwatch(MATCHING_MS_MAX)
  const match = matcher(sought, stopwatch)
  const isFile = (await startOf(root, path)) === 'file'
  const { paths, complete } = isFile ? { paths: [path], complete: true } : await visit(root, path, 'files')
  const searched = sought.glob === undefined || isFile ? paths : filterByGlob(paths, path, sought.glob, stopwatch)
  const found: Findings = { lines: [], matches: 0, unsearched: 0 }
  for (const file of searched) {
    if (found.matches >= sought.matchesMax) break
    await searchFile(root, file, sought, match, found)
  }
  if (found.matches === 0) found.lines.push(`Nothing under ${path.shown} matches.`)
  if (found.matches >= sought.matchesMax) found.lines.push(`[stopped at ${found.matches} matches; narrow the search]`)
  if (found.unsearched > 0) found.lines.push(`[${found.unsearched} files were too large to search]`)
  if (!complete) found.lines.push(INCOMPLETE)
  return found.lines.join('\n')
}

async function startOf(root: Root, path: WorkspacePath): Promise<'file' | 'directory'> {
  if (path.parts.length === 0) return 'directory'
  using place = root.place(path)
  const stats = statsAt(place)
  if (stats === undefined) throw new FileRefusal(`There is nothing at ${path.shown}.`)
  return stats.isFile() ? 'file' : 'directory'
}

async function searchFile(root: Root, path: WorkspacePath, sought: Sought, match: Matcher, found: Findings) {
  const bytes = await readWhole(root, path)
  if (bytes === 'too large') found.unsearched += 1
  if (typeof bytes === 'string' || sniff(bytes.subarray(0, 8192)) !== null) return
  const lines = bytes.toString('utf8').replace(/\n$/, '').split('\n')
  const hits = match(lines, sought.matchesMax - found.matches)
  found.matches += hits.length
  found.lines.push(...show(path, lines, hits, sought.context))
}

async function readWhole(root: Root, path: WorkspacePath): Promise<Buffer | 'too large' | 'gone'> {
  try {
    using place = root.place(path)
    using file = openFile(place)
    return file.stats.size > SEARCHED_BYTES_MAX ? 'too large' : Buffer.from(readAtMost(file, SEARCHED_BYTES_MAX))
  } catch (error) {
    // Another tool may have moved it since the walk; a search goes on with the rest.
    if (error instanceof FileRefusal || errno(error) === 'EACCES') return 'gone'
    throw error
  }
}

/** `path:12: line` for a match, `path-11- line` for what surrounds it. */
function show(path: WorkspacePath, lines: readonly string[], hits: readonly number[], context: number): string[] {
  const matched = new Set(hits)
  const near = new Set(hits.flatMap((hit) => Array.from({ length: 2 * context + 1 }, (_, i) => hit - context + i)))
  return [...near]
    .filter((i) => i >= 0 && i < lines.length)
    .toSorted((a, b) => a - b)
    .map((i) => {
      const line = (lines[i] ?? '').replace(/\r$/, '')
      const shown = line.length > LINE_CHARS_MAX ? `${line.slice(0, LINE_CHARS_MAX)}…` : line
      return matched.has(i) ? `${path.shown}:${i + 1}: ${shown}` : `${path.shown}-${i + 1}- ${shown}`
    })
}

/** The workspace itself, where a call names no path. */
export const everywhere = pathOf([])
