/** Schemas that come again as new objects: judged as if they had never come before. */
import { describe, expect, it } from 'vitest'
import { argumentFault } from '../../schema/json-schema.ts'
import type { JsonObject } from '../../schema/json.ts'

const object = (properties: JsonObject): JsonObject => ({ type: 'object', properties })
const [a, b] = [{ type: 'string' }, { type: 'integer' }]

describe('a schema', () => {
  it('finds the same faults whenever it comes, in the order of its own members', () => {
    const value = { a: 1, b: 'x' }
    for (let round = 0; round < 2; round++) {
      expect(argumentFault(object({ a, b }), value)).toBe('/a must be string; /b must be integer')
      expect(argumentFault(object({ b, a }), value)).toBe('/b must be integer; /a must be string')
    }
  })

  it('is told from all others, however many came', () => {
    const schemas = Array.from({ length: 100 }, (_, most) => ({ type: 'integer', maximum: most }))
    for (const schema of [...schemas, ...schemas.map((one) => ({ ...one }))]) {
      expect(argumentFault(schema, schema.maximum)).toBeUndefined()
      expect(argumentFault(schema, schema.maximum + 1)).toContain(`<= ${schema.maximum}`)
    }
  })
})
