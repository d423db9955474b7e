/** JSON Schemas that strangers write for interactive tools: what may be in one, so that checking a value is cheap and final. */
import { Ajv } from 'ajv'
import { isJsonObject, type Json, type JsonObject } from './json.ts'
import { unusable } from './json-schema.ts'

const TEXT_MAX = 64 * 1024
const DEPTH_MAX = 24
const ENUM_MAX = 500
const PATTERN_MAX = 200
/** A repeated group that repeats inside, or alternatives repeated: such patterns can take exponential time. */
const PATTERN_SLOW = /\([^()]*(?:[+*}]|\|)[^()]*\)[+*{]/

let ajv: Ajv | undefined

/** Made when it is first needed: what reads this file in a machine may never need it. */
function judge(): Ajv {
  return (ajv ??= new Ajv({ strict: false, validateFormats: false, logger: false }))
}

/**
 * The schema that a JSON text holds, or why not, in words that follow the field's name. Arguments of a tool are
 * always an object; an answer may be anything.
 */
export function parseToolSchema(text: string, of: 'arguments' | 'answer'): JsonObject | string {
  if (text.length > TEXT_MAX) return `is ${text.length} characters long; keep it within ${TEXT_MAX}`
  let value: Json
  try {
    // JSON.parse gives exactly what Json describes.
    value = JSON.parse(text) as Json
  } catch (error) {
    return `is not valid JSON: ${(error as Error).message.replace(/\.$/, '')}`
  }
  if (!isJsonObject(value)) return 'must hold a JSON object: a JSON Schema'
  const { $schema: _, ...schema } = value
  if (of === 'arguments' && schema['type'] !== 'object')
    return 'must be a schema of an object: give it "type": "object"'
  const refused = refuseDeep(schema, 0)
  if (refused !== undefined) return refused
  const by = judge()
  if (by.validateSchema(schema) !== true) return `is not a valid JSON Schema: ${by.errorsText(by.errors)}`
  // A pattern that is no regular expression is a valid string to the schema of schemas.
  const why = unusable(schema)
  return why === undefined ? schema : `is ${why}`
}

function refuseDeep(value: Json, depth: number): string | undefined {
  if (depth > DEPTH_MAX) return `is nested deeper than ${DEPTH_MAX}; flatten it`
  if (Array.isArray(value)) return first(value, (item: Json) => refuseDeep(item, depth + 1))
  if (!isJsonObject(value)) return undefined
  return first(Object.entries(value), ([key, member]) => {
    if (key === '__proto__' || key === 'constructor' || key === 'prototype') return `may not have a member named ${key}`
    if (/^\$(ref|dynamicRef|recursiveRef)$/.test(key)) return `may not use ${key}; write the schema out`
    if (key === 'enum' && Array.isArray(member) && member.length > ENUM_MAX)
      return `has an enum of ${member.length} values; keep it within ${ENUM_MAX}`
    const patterns = key === 'patternProperties' && isJsonObject(member) ? Object.keys(member) : []
    const slow = (key === 'pattern' && typeof member === 'string' ? [member] : patterns).find(
      (pattern) => pattern.length > PATTERN_MAX || PATTERN_SLOW.test(pattern),
    )
    if (slow !== undefined)
      return `has a pattern that may take exponential time: ${JSON.stringify(slow.slice(0, 60))}; simplify it`
    return refuseDeep(member, depth + 1)
  })
}

function first<T>(items: readonly T[], find: (item: T) => string | undefined): string | undefined {
  for (const item of items) {
    const found = find(item)
    if (found !== undefined) return found
  }
  return undefined
}
