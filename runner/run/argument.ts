/** Arguments that a model wrote, against the JSON Schema of the tool that it called. */
import { Ajv, type ValidateFunction } from 'ajv'
import type { Json, JsonObject } from '../../schema/json.ts'

const compiled = new WeakMap<JsonObject, ValidateFunction | null>()

/** What is wrong with `args`, in a few words; undefined when nothing is, or when the schema is beyond reading. */
export function faultIn(args: Json, schema: JsonObject): string | undefined {
  let validate = compiled.get(schema)
  if (validate === undefined) {
    validate = compile(schema)
    compiled.set(schema, validate)
  }
  if (validate === null || validate(args)) return undefined
  const [error] = validate.errors ?? []
  return `${error?.instancePath === '' ? 'the arguments' : error?.instancePath} ${error?.message ?? 'do not fit'}`
}

function compile(schema: JsonObject): ValidateFunction | null {
  try {
    return new Ajv({ strict: false, validateSchema: false, logger: false }).compile(schema)
  } catch {
    // A schema that cannot be compiled was published so; the tool itself must judge its arguments then.
    return null
  }
}
