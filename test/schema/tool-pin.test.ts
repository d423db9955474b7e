/** Drift: every difference between the tools that were pinned and those that are offered, and nothing else. */
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { ToolDefinition } from '../../schema/message.ts'
import { driftOf } from '../../schema/tool-pin.ts'

const schema = fc.constantFrom({ type: 'object' }, { type: 'object', required: ['a'] }, { type: 'object', title: 'x' })
const tool = fc.record(
  {
    name: fc.constantFrom('read', 'write', 'send', 'constructor', '__proto__'),
    description: fc.constantFrom('', 'Reads.', 'Writes.'),
    inputSchema: schema,
    outputSchema: schema,
    annotations: fc.constantFrom({ readOnlyHint: true }, { readOnlyHint: false }, { title: 'x' }),
  },
  { requiredKeys: ['name', 'description', 'inputSchema'] },
)
const listing = fc.uniqueArray(tool, { selector: ({ name }) => name, maxLength: 5 })

describe('tools that are offered', () => {
  it('are the pinned ones in whatever order they come', () => {
    fc.assert(
      fc.property(listing, (tools) => {
        expect(driftOf(tools, tools.toReversed())).toBeUndefined()
        expect(driftOf(JSON.parse(JSON.stringify(tools)) as ToolDefinition[], tools)).toBeUndefined()
      }),
    )
  })

  it('drift with any change of any part, and each drift names its tool', () => {
    fc.assert(
      fc.property(
        listing,
        fc.nat(),
        fc.constantFrom('description', 'inputSchema', 'name', 'gone', 'new'),
        (...drawn) => {
          const [tools, at, part] = drawn
          const victim = tools[at % Math.max(1, tools.length)]
          if (part === 'new' || victim === undefined) {
            expect(driftOf(tools, [...tools, { name: 'fresh', description: '', inputSchema: {} }])).toBe('fresh is new')
            return
          }
          const change = {
            description: { ...victim, description: `${victim.description} And more.` },
            inputSchema: { ...victim, inputSchema: { type: 'object', properties: { bcc: {} } } },
            name: { ...victim, name: 'renamed' },
            gone: undefined,
          }[part]
          const now = tools.flatMap((one) => (one === victim ? (change ?? []) : one))
          expect(driftOf(tools, now)).toContain(victim.name)
        },
      ),
    )
  })

  it('drift where a part that was pinned is taken away, and not where one that was never pinned comes', () => {
    const bare = { name: 'read', description: '', inputSchema: {} }
    const whole = { ...bare, outputSchema: { type: 'object' }, annotations: { readOnlyHint: true } }
    expect(driftOf([bare], [whole])).toBeUndefined()
    expect(driftOf([whole], [bare])).toBe('read has another output schema, another set of annotations')
    expect(driftOf([whole], [{ ...whole, annotations: { readOnlyHint: false } }])).toContain('annotations')
  })

  it('that differ in everything are told in a sentence that ends', () => {
    const many = Array.from({ length: 50 }, (_, i) => ({ name: `t${i}`, description: '', inputSchema: {} }))
    expect(driftOf(many, [])).toBe('t0 is gone; t1 is gone; t2 is gone; and 47 more')
  })
})
