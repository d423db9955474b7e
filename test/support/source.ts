/** The sources of this repository as the house rules read them: syntax trees by path. */
import { readdirSync, readFileSync, existsSync } from 'node:fs'
import { join, relative, dirname, posix } from 'node:path'
import { parseAst } from 'vitest/node'

export const ROOT = join(import.meta.dirname, '..', '..')
const HOMES = ['schema', 'src', 'runner', 'registry', 'plugins', 'examples', 'test', 'bench', 'bin']
const SKIPPED = new Set(['node_modules', 'dist', '.senmon'])

/** A node of the syntax tree, as far as rules look. */
export interface Node {
  readonly type: string
  readonly start: number
  readonly [member: string]: unknown
}

export interface Source {
  /** From the repository's root, with `/`. */
  readonly path: string
  readonly text: string
  readonly nodes: readonly Node[]
  readonly imports: readonly Import[]
}

export interface Import {
  /** As written. */
  readonly specifier: string
  /** The path it means, for a relative one. */
  readonly path: string | undefined
  readonly line: number
}

/** Every file of the repository below `home` (a folder or a file) whose name ends in one of `endings`. */
export function listFiles(home: string, endings: readonly string[]): readonly string[] {
  const start = join(ROOT, home)
  if (!existsSync(start)) return []
  return readdirSync(start, { withFileTypes: true }).flatMap((entry) => {
    if (SKIPPED.has(entry.name)) return []
    const path = relative(ROOT, join(start, entry.name)).replaceAll('\\', '/')
    if (entry.isDirectory()) return listFiles(path, endings)
    return endings.some((ending) => entry.name.endsWith(ending)) ? [path] : []
  })
}

export function readSources(): readonly Source[] {
  return HOMES.flatMap((home) => listFiles(home, ['.ts'])).map((path) =>
    parseSource(path, readFileSync(join(ROOT, path), 'utf8')),
  )
}

/** A source from its text: rules are tried on planted snippets this way. */
export function parseSource(path: string, text: string): Source {
  const nodes: Node[] = []
  collect(parseAst(text, { lang: 'ts' }), nodes)
  const imports = nodes.flatMap((node): readonly Import[] => {
    const specifier = specifierOf(node)
    if (specifier === undefined) return []
    const target = specifier.startsWith('.') ? posix.join(dirname(path), specifier) : undefined
    return [{ specifier, path: target, line: lineOf(text, node.start) }]
  })
  return { path, text, nodes, imports }
}

export function lineOf(text: string, offset: number): number {
  return text.slice(0, offset).split('\n').length
}

function isNode(value: unknown): value is Node {
  return typeof value === 'object' && value !== null && 'type' in value && typeof value.type === 'string'
}

function collect(value: unknown, into: Node[]): void {
  if (Array.isArray(value)) {
    for (const item of value) collect(item, into)
    return
  }
  if (!isNode(value)) return
  into.push(value)
  for (const member of Object.values(value)) if (typeof member === 'object' && member !== null) collect(member, into)
}

function specifierOf(node: Node): string | undefined {
  const IMPORTING = [
    'ImportDeclaration',
    'ExportNamedDeclaration',
    'ExportAllDeclaration',
    'ImportExpression',
    'TSImportType',
  ]
  if (!IMPORTING.includes(node.type)) return undefined
  const source = node['source'] ?? node['argument']
  const literal = isNode(source) ? (isNode(source['literal']) ? source['literal'] : source) : undefined
  return typeof literal?.['value'] === 'string' ? literal['value'] : undefined
}
