/**
 * Arguments of a tool that its server wants as HTTP headers, too (MCP 2026-07-28, Streamable HTTP, `x-mcp-header`), so that
 * what stands between can route a call without reading it. Whoever sends the call says them, from the tool's own schema.
 */
import { isJsonObject, type Json, type JsonObject } from './json.ts'

/** One such argument: where it stands in the arguments, and its header's name after the prefix. */
export interface ParamHeader {
  readonly path: readonly string[]
  readonly name: string
}

const MARK = 'x-mcp-header'
const PREFIX = 'Mcp-Param-'
/** RFC 9110, 5.6.2. */
const TOKEN = /^[!#$%&'*+\-.^_`|~\w]+$/
const TYPES: ReadonlySet<Json | undefined> = new Set(['string', 'integer', 'boolean'])
/** Of a schema, and far more than any has. */
const DEPTH_MAX = 64
/** Keywords that hold one schema or a list of them, and those that hold schemas by name. */
const HOLD_SCHEMAS = [
  'items',
  'prefixItems',
  'contains',
  'additionalProperties',
  'unevaluatedProperties',
  'unevaluatedItems',
]
const APPLY_SCHEMAS = ['propertyNames', 'oneOf', 'anyOf', 'allOf', 'not', 'if', 'then', 'else']
const NAME_SCHEMAS = ['patternProperties', 'dependentSchemas', '$defs', 'definitions']

/** By the schema's own object: a tool keeps its schema from call to call. */
const known = new WeakMap<JsonObject, readonly ParamHeader[] | string>()

/** What the schema asks for, or why it is none that MCP allows, as the end of a sentence about its tool. */
export function paramHeadersIn(inputSchema: JsonObject): readonly ParamHeader[] | string {
  const found = known.get(inputSchema) ?? readParamHeaders(inputSchema)
  known.set(inputSchema, found)
  return found
}

function readParamHeaders(inputSchema: JsonObject): readonly ParamHeader[] | string {
  const found: ParamHeader[] = []
  const names = new Set<string>()
  /** `path` is undefined where no chain of properties alone leads. */
  const faultIn = (schema: Json, path: readonly string[] | undefined, depth: number): string | undefined => {
    if (!isJsonObject(schema)) return undefined
    if (depth > DEPTH_MAX) return `nests its input schema deeper than ${DEPTH_MAX}`
    if (Object.hasOwn(schema, MARK)) {
      const name = schema[MARK]
      if (path === undefined || path.length === 0) return `has ${MARK} where no chain of properties leads`
      if (typeof name !== 'string' || !TOKEN.test(name))
        return `has an ${MARK} at ${path.join('.')} that names no header`
      if (!TYPES.has(schema['type'])) return `has ${MARK} at ${path.join('.')}, which is no string, integer or boolean`
      if (names.has(name.toLowerCase())) return `has two arguments with the ${MARK} ${name}`
      names.add(name.toLowerCase())
      found.push({ path, name })
    }
    return (
      firstFault(membersOf(schema['properties']), ([key, one]) =>
        faultIn(one, path === undefined ? undefined : [...path, key], depth + 1),
      ) ?? firstFault(apartIn(schema), (one) => faultIn(one, undefined, depth + 1))
    )
  }
  return faultIn(inputSchema, [], 0) ?? found
}

/** The headers of a call with these arguments; none for what is missing, null, or no plain value. */
export function headersOfCall(headers: readonly ParamHeader[], args: JsonObject): Readonly<Record<string, string>> {
  return Object.fromEntries(
    headers.flatMap(({ path, name }) => {
      let value: Json | undefined = args
      for (const key of path) value = isJsonObject(value ?? null) ? ownMember(value as JsonObject, key) : undefined
      const text = textOf(value)
      return text === undefined ? [] : [[`${PREFIX}${name}`, encoded(text)]]
    }),
  )
}

function firstFault<One>(all: readonly One[], faultIn: (one: One) => string | undefined): string | undefined {
  for (const one of all) {
    const fault = faultIn(one)
    if (fault !== undefined) return fault
  }
  return undefined
}

function membersOf(value: Json | undefined): readonly (readonly [string, Json])[] {
  return value !== undefined && isJsonObject(value) ? Object.entries(value) : []
}

/** Schemas within one that hold for something else than its properties. */
function apartIn(schema: JsonObject): readonly Json[] {
  const held = [...HOLD_SCHEMAS, ...APPLY_SCHEMAS].flatMap((keyword): readonly Json[] => {
    const value = schema[keyword] ?? null
    return Array.isArray(value) ? (value as readonly Json[]) : [value]
  })
  return [...held, ...NAME_SCHEMAS.flatMap((keyword) => membersOf(schema[keyword]).map(([, one]) => one))]
}

function ownMember(value: JsonObject, key: string): Json | undefined {
  return Object.hasOwn(value, key) ? value[key] : undefined
}

function textOf(value: Json | undefined): string | undefined {
  if (typeof value === 'string') return value
  if (typeof value === 'boolean') return String(value)
  if (typeof value !== 'number') return undefined
  return Number.isInteger(value) && !Number.isSafeInteger(value) ? undefined : String(value)
}

/** As it is where a header can carry it; else in base64, marked as such. */
function encoded(text: string): string {
  const isPlain = /^[\t\x20-\x7e]+$/.test(text) && text === text.trim() && !/^=\?base64\?.*\?=$/.test(text)
  return isPlain ? text : `=?base64?${Buffer.from(text, 'utf8').toString('base64')}?=`
}
