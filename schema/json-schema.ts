/** Values against JSON Schemas that strangers wrote: what is wrong, in words; a schema that cannot be used fits nothing. */
import { Ajv, type ErrorObject, type ValidateFunction } from 'ajv'
import { Ajv2020 } from 'ajv/dist/2020.js'
import type { Json, JsonObject } from './json.ts'

/** More than this helps nobody to correct a value. */
const FAULTS_MAX = 8

/** By the schema's own object, so that a lock's schema is compiled once and forgotten with its lock. */
const compiled = new WeakMap<JsonObject, ValidateFunction | string>()
/**
 * By the schema's text, those that came last: each answer to a question brings the same one as a new object. In the order of
 * its members, since that is the order of the faults that it finds.
 */
const latest = new Map<string, ValidateFunction | string>()
const LATEST_MAX = 32
const LATEST_CHARS_MAX = 16_384

/** What the schema has against the value, at most a few faults of it; undefined when it fits. */
export function schemaFault(schema: JsonObject, value: Json): string | undefined {
  const validate = validatorOf(schema)
  if (typeof validate === 'string') return `cannot be checked, because its schema is ${validate}`
  if (validate(value)) return undefined
  return `does not fit its schema: ${faultsOf(validate, 'the value')}`
}

/** Why nothing can be checked by the schema, as the end of a sentence; undefined when it can be used. */
export function unusable(schema: JsonObject): string | undefined {
  const validate = validatorOf(schema)
  return typeof validate === 'string' ? validate : undefined
}

/**
 * What is wrong with arguments that a model wrote, in a few words; undefined when nothing is, or when the schema is
 * beyond use: it was published so, and the tool itself must judge its arguments then.
 */
export function argumentFault(schema: JsonObject, args: Json): string | undefined {
  const validate = validatorOf(schema)
  return typeof validate === 'string' || validate(args) ? undefined : faultsOf(validate, 'the arguments')
}

function validatorOf(schema: JsonObject): ValidateFunction | string {
  let validate = compiled.get(schema)
  if (validate === undefined) {
    validate = compile(schema)
    compiled.set(schema, validate)
  }
  return validate
}

function faultsOf({ errors }: ValidateFunction, whole: string): string {
  // That none of several forms fits is said by what each has against it.
  const said = (errors ?? []).filter(({ keyword }, _, all) => keyword !== 'anyOf' || all.length === 1)
  const faults = said.slice(0, FAULTS_MAX).map((error) => wordsOf(error, whole))
  return faults.join('; ') || `${whole} are not allowed`
}

function compile(schema: JsonObject): ValidateFunction | string {
  try {
    const text = JSON.stringify(schema)
    if (text.length > LATEST_CHARS_MAX) return compileNew(schema)
    const validate = latest.get(text) ?? compileNew(schema)
    latest.delete(text)
    latest.set(text, validate)
    const [oldest] = latest.keys()
    if (latest.size > LATEST_MAX && oldest !== undefined) latest.delete(oldest)
    return validate
  } catch (error) {
    return `unusable: ${error instanceof Error ? error.message : 'unknown'}`
  }
}

function compileNew(schema: JsonObject): ValidateFunction | string {
  const { $schema: dialect, $id: _, ...checked } = schema
  // An asynchronous schema would answer later, with a rejection that nobody awaits.
  if ('$async' in checked) return 'asynchronous'
  const old = typeof dialect === 'string' && /draft-0[4-7]/.test(dialect)
  if (judgeOf(old).validateSchema(checked, true) !== true) return 'no schema'
  // A fresh instance each time: ajv keeps every schema that it has compiled, and these come from strangers.
  return (old ? new Ajv(JUDGED) : new Ajv2020(JUDGED)).compile(checked)
}

const OPTIONS = { strict: false, logger: false, validateFormats: false, allErrors: true } as const
const JUDGED = { ...OPTIONS, validateSchema: false } as const
let judges: { readonly old: Ajv; readonly current: Ajv2020 } | undefined

/**
 * Says whether a schema is one, and keeps nothing of it. One for all: what it judges by takes tens of milliseconds to
 * compile, many times what a schema of a tool takes.
 */
function judgeOf(old: boolean): Ajv | Ajv2020 {
  judges ??= { old: new Ajv(OPTIONS), current: new Ajv2020(OPTIONS) }
  return old ? judges.old : judges.current
}

function wordsOf({ instancePath, message, keyword, params }: ErrorObject, whole: string): string {
  if (keyword === 'const') return `${instancePath || whole} must be ${JSON.stringify(params['allowedValue'])}`
  const named = keyword === 'additionalProperties' ? `: ${String(params['additionalProperty'])}` : ''
  const allowed: unknown = params['allowedValues']
  const listed = Array.isArray(allowed) ? `: ${JSON.stringify(allowed).slice(0, 400)}` : ''
  return `${instancePath || whole} ${message ?? 'is not allowed'}${named}${listed}`
}

/** Whether a value nests deeper than `max`; looks without recursion, since a hostile one may be deeper than the stack. */
export function isDeeper(value: Json, max: number): boolean {
  const rest: { readonly value: Json; readonly depth: number }[] = [{ value, depth: 0 }]
  for (let next = rest.pop(); next !== undefined; next = rest.pop()) {
    if (next.depth > max) return true
    if (typeof next.value !== 'object' || next.value === null) continue
    for (const member of Object.values(next.value)) rest.push({ value: member as Json, depth: next.depth + 1 })
  }
  return false
}
