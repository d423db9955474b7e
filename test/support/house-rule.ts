/** The house rules: each looks at sources and gives a sentence for every breach. */
import { lineOf, type Node, type Source } from './source.ts'

export type Rule = (sources: readonly Source[]) => readonly string[]

/** What may stand below a path, by name, with why. */
export interface Allowance {
  readonly path: string
  readonly name: string
  readonly reason: string
}

const PARTS = ['schema', 'src', 'runner', 'registry', 'plugins', 'examples', 'test', 'bench']
/** What a part may import besides itself. */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  schema: [],
  src: ['schema'],
  runner: ['schema'],
  registry: ['schema'],
  plugins: ['schema'],
  examples: [],
  test: PARTS,
  bench: PARTS,
}
const NOUNS = ['application', 'expert', 'workspace', 'job', 'pool', 'attempt']
const SIDE_NOUNS = ['secret', 'gateway', 'skill', 'sandbox']
const ADAPTERS = ['postgres', 'fly', 'local', 'docker', 'npm', 's3', 'disk']
const DOORS = ['graphql', 'http', 'cli', 'console']

const partOf = (path: string) => path.split('/')[0] ?? ''
const isMain = (path: string) => /(^|\/)main\.ts$/.test(path)
const isTest = (path: string) => path.startsWith('test/') || path.startsWith('bench/')

export const importDirections: Rule = (sources) =>
  sources.flatMap(({ path, imports }) =>
    imports.flatMap((found) => {
      const breach = found.path === undefined ? undefined : directionBreach(path, found.path)
      return breach === undefined ? [] : [`${path}:${found.line} imports ${found.path}: ${breach}`]
    }),
  )

function directionBreach(from: string, to: string): string | undefined {
  if (isMain(to) && !isTest(from) && from !== to) return 'nothing imports a main.ts'
  const [fromPart, toPart] = [partOf(from), partOf(to)]
  if (fromPart === 'plugins' && toPart === 'plugins' && from.split('/')[1] !== to.split('/')[1])
    return 'a plugin is a package of its own'
  if (fromPart !== toPart) {
    if (from === 'src/main.ts' && toPart === 'registry') return undefined
    return (MAY_IMPORT[fromPart] ?? []).includes(toPart) ? undefined : `${fromPart} may not import ${toPart}`
  }
  return fromPart === 'src' && !isMain(from) ? folderBreach(from, to) : undefined
}

function folderBreach(from: string, to: string): string | undefined {
  const [a, b] = [folderOf(from), folderOf(to)]
  if (b === undefined || a === b) return undefined
  if (a === undefined) return `a file of src itself imports no folder`
  if (DOORS.includes(a)) {
    // One server carries all doors of HTTP; the command line is at the other end of the wire.
    const mayImport = a === 'cli' ? [] : DOORS.filter((door) => door !== 'cli')
    return [...NOUNS, ...SIDE_NOUNS, ...mayImport].includes(b) ? undefined : 'doors import nouns, never adapters'
  }
  if (ADAPTERS.includes(a)) return [...NOUNS, ...SIDE_NOUNS].includes(b) ? undefined : 'adapters import nouns alone'
  if (NOUNS.includes(a)) {
    if (SIDE_NOUNS.includes(b)) return undefined
    if (NOUNS.indexOf(b) === -1) return 'nouns import no door and no adapter'
    return NOUNS.indexOf(b) < NOUNS.indexOf(a) ? undefined : `${NOUNS.join(' <- ')}, never back`
  }
  if (SIDE_NOUNS.includes(a))
    return ['application', 'expert', 'workspace'].includes(b) || SIDE_NOUNS.includes(b)
      ? undefined
      : `${a} stands beside application`
  return `src/${a} is no folder of the design`
}

function folderOf(path: string): string | undefined {
  const parts = path.split('/')
  return parts.length > 2 ? parts[1] : undefined
}

/** Type-only imports count: a cycle of types is a cycle of thoughts. */
export const importCycles: Rule = (sources) => {
  const edges = new Map(
    sources.map(({ path, imports }) => [path, imports.flatMap((one) => (one.path === undefined ? [] : [one.path]))]),
  )
  const done = new Set<string>()
  const found: string[] = []
  const visit = (path: string, trail: readonly string[]): void => {
    const at = trail.indexOf(path)
    if (at !== -1) {
      found.push(`cycle: ${[...trail.slice(at), path].join(' -> ')}`)
      return
    }
    if (done.has(path)) return
    for (const next of edges.get(path) ?? []) visit(next, [...trail, path])
    done.add(path)
  }
  for (const path of edges.keys()) visit(path, [])
  return found
}

export const indexFiles: Rule = (sources) =>
  sources.flatMap(({ path, nodes }) => [
    ...(/(^|\/)index\.ts$/.test(path) ? [`${path}: a name is imported from the file that defines it`] : []),
    ...(nodes.some((node) => node.type === 'ExportAllDeclaration') ? [`${path} exports another file's names`] : []),
  ])

/** verdaccio news a plugin's default export; nobody else needs one. */
export const defaultExports: Rule = (sources) =>
  sources.flatMap(({ path, nodes }) =>
    nodes.some((node) => node.type === 'ExportDefaultDeclaration') && !path.startsWith('registry/plugin/')
      ? [`${path} has a default export`]
      : [],
  )

/** Time, chance and the environment come in by `main.ts` alone; `log.ts` alone writes to the console. */
export const ambientWorld =
  (allowances: readonly Allowance[], used?: Set<Allowance>): Rule =>
  (sources) =>
    sources
      .filter(({ path }) => !isMain(path))
      .flatMap(({ path, text, nodes }) =>
        nodes.flatMap((node) => {
          const what = ambientUse(node)
          if (what === undefined) return []
          const allowance = allowances.find((one) => one.name === what && path.startsWith(one.path))
          if (allowance === undefined) return [`${path}:${lineOf(text, node.start)} uses ${what}`]
          used?.add(allowance)
          return []
        }),
      )

const CHANCES = new Set(['randomUUID', 'randomBytes', 'randomInt', 'getRandomValues', 'randomFillSync', 'randomFill'])

function ambientUse(node: Node): string | undefined {
  if (node.type === 'NewExpression')
    return nameOf(node['callee']) === 'Date' && (node['arguments'] as readonly unknown[]).length === 0
      ? 'new Date()'
      : undefined
  if (node.type === 'MemberExpression') {
    const [object, property] = [nameOf(node['object']), nameOf(node['property'])]
    if (object === 'process' && property === 'env') return 'process.env'
    if (object === 'Date' && property === 'now') return 'Date.now'
    if (object === 'performance' && property === 'now') return 'performance.now'
    if (object === 'Math' && property === 'random') return 'Math.random'
    if (object === 'console') return 'console'
    if (object === 'crypto' && property !== undefined && CHANCES.has(property)) return `crypto.${property}`
  }
  if (node.type === 'ImportSpecifier' && CHANCES.has(nameOf(node['imported']) ?? '')) return nameOf(node['imported'])
  return undefined
}

function nameOf(value: unknown): string | undefined {
  if (typeof value !== 'object' || value === null || !('type' in value) || !('name' in value)) return undefined
  return value.type === 'Identifier' && typeof value.name === 'string' ? value.name : undefined
}

const BANNED_WORDS = new Set(
  (
    'agent bot assistant worker task workflow session tenant organization snapshot phase template dispatch handoff ' +
    'util utils helper helpers common shared misc lib manager handler processor service impl wrapper cancelled'
  ).split(' '),
)
/** Banned as a suffix only: as a whole word they may be somebody's contract (`data` of an event). */
const BANNED_SUFFIXES = new Set(['data', 'info', 'base'])

/** The words of `kebab-case`, `camelCase` and `CONSTANT_CASE`. */
export function wordsOf(name: string): readonly string[] {
  return name
    .replace(/([a-z0-9])([A-Z])/g, '$1 $2')
    .replace(/([A-Z]+)([A-Z][a-z])/g, '$1 $2')
    .split(/[^A-Za-z0-9]+/)
    .filter((word) => word !== '')
    .map((word) => word.toLowerCase())
}

function bannedWord(name: string): string | undefined {
  const words = wordsOf(name)
  const banned = words.find((word) => BANNED_WORDS.has(word))
  if (banned !== undefined) return banned
  const last = words.at(-1) ?? ''
  return words.length > 1 && BANNED_SUFFIXES.has(last) ? last : undefined
}

/** Names that we give: declarations, members of our types, parameters. Names of others may be anything. */
function declaredNames(node: Node): readonly { readonly name: string; readonly start: number }[] {
  const named = (value: unknown) => {
    const name = nameOf(value)
    return name === undefined ? [] : [{ name, start: node.start }]
  }
  const all = (values: unknown) => (Array.isArray(values) ? values.flatMap((value: unknown) => named(value)) : [])
  switch (node.type) {
    case 'VariableDeclarator':
    case 'FunctionDeclaration':
    case 'ClassDeclaration':
    case 'TSInterfaceDeclaration':
    case 'TSTypeAliasDeclaration':
      return [...named(node['id']), ...all(node['params'])]
    case 'FunctionExpression':
    case 'ArrowFunctionExpression':
      return all(node['params'])
    case 'TSPropertySignature':
    case 'TSMethodSignature':
    case 'PropertyDefinition':
    case 'MethodDefinition':
      return named(node['key'])
    default:
      return []
  }
}

export const bannedNames =
  (allowances: readonly Allowance[], used?: Set<Allowance>): Rule =>
  (sources) =>
    sources.flatMap(({ path, text, nodes }) => {
      const folder = folderOf(path)
      const isAdapter = partOf(path) === 'src' && folder !== undefined && ADAPTERS.includes(folder)
      const check = (name: string, where: string) => {
        const word = isAdapter ? undefined : bannedWord(name)
        if (word === undefined) return []
        const allowance = allowances.find((one) => one.name === name && path.startsWith(one.path))
        if (allowance === undefined) return [`${where}: "${name}" holds the word "${word}"`]
        used?.add(allowance)
        return []
      }
      const file =
        path
          .split('/')
          .at(-1)
          ?.replace(/(\.test)?\.ts$/, '') ?? ''
      return [
        ...check(file, path),
        ...nodes.flatMap((node) =>
          declaredNames(node).flatMap(({ name, start }) => check(name, `${path}:${lineOf(text, start)}`)),
        ),
      ]
    })

export const anyTypes: Rule = (sources) =>
  sources.flatMap(({ path, text, nodes }) =>
    nodes
      .filter((node) => node.type === 'TSAnyKeyword')
      .map((node) => `${path}:${lineOf(text, node.start)} says any: say unknown and parse it`),
  )

/** `L1 Events of a job are …` in a file's first comment is a promise; a test's title cites it: `(L1)`. */
export const uncitedInvariants: Rule = (sources) => {
  const titles = sources
    .filter(({ path }) => isTest(path))
    .flatMap(({ nodes }) => nodes.flatMap((node) => titleOf(node)))
    .join('\n')
  return sources
    .filter(({ path }) => !isTest(path))
    .flatMap(({ path, text }) =>
      invariantsOf(text)
        .filter((name) => !new RegExp(`\\b${name}\\b`).test(titles))
        .map((name) => `${path}: no test's title cites ${name}`),
    )
}

/** The letters of an invariant say which file it is of: a title that cites it means that rule and no other. */
export const invariantLetters: Rule = (sources) => {
  const homes = new Map<string, Set<string>>()
  for (const { path, text } of sources.filter((one) => !isTest(one.path)))
    for (const name of invariantsOf(text)) {
      const letters = name.replace(/\d+$/, '')
      homes.set(letters, (homes.get(letters) ?? new Set()).add(path))
    }
  return [...homes]
    .filter(([, paths]) => paths.size > 1)
    .map(([letters, paths]) => `${letters} names invariants of ${[...paths].join(' and ')}`)
}

function invariantsOf(text: string): readonly string[] {
  const header = /^\s*\/\*\*([\s\S]*?)\*\//.exec(text)?.[1] ?? ''
  return [...header.matchAll(/^\s*\*\s+([A-Z]{1,3}\d{1,2})\s+[A-Z]/gm)].flatMap(([, name]) => name ?? [])
}

function titleOf(node: Node): readonly string[] {
  if (node.type !== 'CallExpression') return []
  const [first] = node['arguments'] as readonly Node[]
  if (first?.type === 'Literal' && typeof first['value'] === 'string') return [first['value']]
  if (first?.type === 'TemplateLiteral')
    return (first['quasis'] as readonly { value: { raw: string } }[]).map(({ value }) => value.raw)
  return []
}

/** A file opens with a sentence that says what it is for. */
export const openingSentences: Rule = (sources) =>
  sources
    .filter(({ path }) => !path.startsWith('test/') && !path.startsWith('examples/'))
    .flatMap(({ path, text }) =>
      /^(#!.*\n)?\s*\/(\*\*?|\/)\s*\S/.test(text) ? [] : [`${path} does not say what it is`],
    )

/** `[path, text]` of documents: each has exactly one title. */
export function titleless(documents: readonly (readonly [string, string])[]): readonly string[] {
  return documents.flatMap(([path, text]) => {
    const titles = text.replace(/```[\s\S]*?```/g, '').match(/^# \S/gm) ?? []
    return titles.length === 1 ? [] : [`${path} has ${titles.length} titles`]
  })
}

/** What an error says is a sentence: a capital unless it begins with the name of a field or a program, and an end. */
export const errorSentences: Rule = (sources) =>
  sources
    .filter(({ path }) => !path.startsWith('test/') && !path.startsWith('bench/'))
    .flatMap(({ path, text, nodes }) =>
      nodes.flatMap((node) => {
        const said = errorText(node)
        if (said === undefined || isSentence(said)) return []
        return [`${path}:${lineOf(text, node.start)} says no sentence: ${said}`]
      }),
    )

/** A name is followed by `.`, `[` or `:`, or holds a capital; these are plain words and names all the same. */
const NAMED = /^(bin|files|mode|npm|senmon) /
const LOWER_WORD = /^[a-z]+ /

/** An end within an expression is its own matter. */
function isSentence(said: string): boolean {
  return (/[.!?]$/.test(said) || said.endsWith('}')) && (!LOWER_WORD.test(said) || NAMED.test(said))
}

/** The message of a refusal or a PlatformError where it is written out, without its quotes. */
function errorText({ type, ...node }: Node): string | undefined {
  const isError =
    (type === 'CallExpression' && nameOf(node['callee']) === 'refuse') ||
    (type === 'NewExpression' && nameOf(node['callee']) === 'PlatformError')
  if (!isError) return undefined
  const message = (node['arguments'] as readonly Node[])[1]
  if (message?.type === 'Literal') return typeof message['value'] === 'string' ? message['value'] : undefined
  if (message?.type !== 'TemplateLiteral') return undefined
  const quasis = message['quasis'] as readonly { readonly value: { readonly raw: string } }[]
  return quasis.map(({ value }) => value.raw).join('${}')
}
