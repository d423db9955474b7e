/** Which text is a structured result, and what is said about one that is not. */
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { canonical } from '../../schema/hash.ts'
import type { Json } from '../../schema/json.ts'
import { isOutputFault, readOutput, rejectionOwed, type OutputRule } from '../../schema/output.ts'

const rule: OutputRule = {
  schema: {
    type: 'object',
    properties: { severity: { enum: ['low', 'high'] }, findings: { type: 'array', items: { type: 'string' } } },
    required: ['severity'],
    additionalProperties: false,
  },
  retries: 2,
}
const anything: OutputRule = { schema: {}, retries: 0 }
const good = '{"severity":"low"}'

describe('a structured result', () => {
  it.each([
    ['JSON alone', good],
    ['JSON between blanks', `\n  ${good}\n`],
    ['one fenced block', `\`\`\`json\n${good}\n\`\`\``],
    ['one fenced block with words around it', `Here it is:\n\n\`\`\`json\n${good}\n\`\`\`\nI hope it helps.`],
    ['a fence without a language', `\`\`\`\n${good}\n\`\`\``],
    ['an indented fence', `  \`\`\`json\n  ${good}\n  \`\`\``],
  ])('is read from %s', (_name, text) => {
    expect(readOutput(rule, text)).toEqual({ value: { severity: 'low' } })
  })

  it.each([
    ['nothing', '', 'it is not JSON'],
    ['prose', 'All is well.', 'it is not JSON'],
    ['JSON with words around it', `Here: ${good}`, 'it is not JSON'],
    ['two fenced blocks', `\`\`\`\n${good}\n\`\`\`\n\`\`\`\n${good}\n\`\`\``, 'it is not JSON'],
    ['a fence that is not closed', `\`\`\`json\n${good}`, 'it is not JSON'],
    ['a missing member', '{}', "it does not fit its schema: the value must have required property 'severity'"],
    [
      'a value outside an enum',
      '{"severity":"huge"}',
      'it does not fit its schema: /severity must be equal to one of the allowed values: ["low","high"]',
    ],
    [
      'several faults at once',
      '{"severity":"huge","findings":[1],"more":1}',
      'it does not fit its schema: the value must NOT have additional properties: more; /severity must be equal to one of the allowed values: ["low","high"]; /findings/0 must be string',
    ],
    ['a text beyond all bounds', JSON.stringify('x'.repeat(300_000)), 'it is longer than 262144 characters'],
    ['a value that nests too deep', '['.repeat(40) + ']'.repeat(40), 'it is nested deeper than 32'],
  ])('is not %s', (_name, text, fault) => {
    expect(readOutput(rule, text)).toEqual({ fault })
  })

  it('holds the very value that was written, whatever fence is around it', () => {
    const value = fc.jsonValue({ maxDepth: 6 }).map((one) => JSON.parse(JSON.stringify(one)) as Json)
    const wraps = fc.constantFrom(
      (text: string) => text,
      (text: string) => `\`\`\`json\n${text}\n\`\`\``,
      (text: string) => `Look:\n\`\`\`\n${text}\n\`\`\`\nThat is all.`,
    )
    fc.assert(
      fc.property(value, wraps, fc.constantFrom(0, 2), (one, wrap, indent) => {
        const output = readOutput(anything, wrap(JSON.stringify(one, null, indent)))
        expect(isOutputFault(output)).toBe(false)
        if (!isOutputFault(output)) expect(canonical(output.value)).toBe(canonical(one))
      }),
    )
  })

  it('is never one by a schema that cannot be used', () => {
    for (const schema of [{ $async: true }, { type: 'nonsense' }, { $ref: '#/nowhere' }])
      expect(readOutput({ schema, retries: 0 }, good)).toHaveProperty('fault')
  })
})

describe('a rejection', () => {
  it('is owed while tries are left, of a text that does not fit, by an expert that owes something', () => {
    expect(rejectionOwed(rule, 'no', 0)).toContain('it is not JSON')
    expect(rejectionOwed(rule, 'no', 1)).toContain('it is not JSON')
    expect(rejectionOwed(rule, 'no', 2)).toBeUndefined()
    expect(rejectionOwed(rule, good, 0)).toBeUndefined()
    expect(rejectionOwed(undefined, 'no', 0)).toBeUndefined()
    expect(rejectionOwed({ ...rule, retries: 0 }, 'no', 0)).toBeUndefined()
  })
})
