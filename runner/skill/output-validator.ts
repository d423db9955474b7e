/** What tools answer, against the output schemas that they name: judged for the client library as it is everywhere here. */
import type { JsonSchemaValidator, jsonSchemaValidator } from '@modelcontextprotocol/client'
import type { Json, JsonObject } from '../../schema/json.ts'
import { schemaFault, unusable } from '../../schema/json-schema.ts'

/** In place of the library's own, which would be a second compiler of schemas in every runner. */
export const outputValidator: jsonSchemaValidator = {
  /** Throws for a schema that is none: the library then refuses calls of its tool before they are made. */
  getValidator<Value>(schema: unknown): JsonSchemaValidator<Value> {
    const checked = schema as JsonObject // it came as JSON, and the library has seen that it is an object
    const why = unusable(checked)
    if (why !== undefined) throw new Error(`its schema is ${why}`)
    return (input) => {
      const fault = schemaFault(checked, input as Json) // it came as JSON
      return fault === undefined
        ? { valid: true, data: input as Value, errorMessage: undefined } // it fits the schema of Value
        : { valid: false, data: undefined, errorMessage: fault }
    }
  },
}
