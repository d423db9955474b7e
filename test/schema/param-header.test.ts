/** Arguments that a server wants as headers: where a schema may ask for that, and what a header can carry. */
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Json, JsonObject } from '../../schema/json.ts'
import { headersOfCall, paramHeadersIn } from '../../schema/param-header.ts'

const marked = (name: Json = 'A', type: Json = 'string') => ({ type, 'x-mcp-header': name })
const object = (properties: JsonObject, more: JsonObject = {}): JsonObject => ({ type: 'object', properties, ...more })

describe('a schema that marks arguments for headers', () => {
  it('names each by where it stands, at any depth', () => {
    const schema = object({
      a: marked('Region'),
      b: object({ c: marked('Dry-Run', 'boolean') }),
      d: { type: 'number' },
    })
    expect(paramHeadersIn(schema)).toEqual([
      { path: ['a'], name: 'Region' },
      { path: ['b', 'c'], name: 'Dry-Run' },
    ])
    expect(paramHeadersIn(object({}))).toEqual([])
    // What is an example of a value marks nothing.
    expect(paramHeadersIn(object({ a: { type: 'string', default: marked(), enum: [marked()] } }))).toEqual([])
  })

  it('is walked once, however often its tool is called', () => {
    let reads = 0
    const schema = object({})
    const watched = new Proxy(schema, { get: (of, key) => ((reads += 1), Reflect.get(of, key) as unknown) })
    const first = paramHeadersIn(watched)
    const before = reads
    expect([before > 0, paramHeadersIn(watched), reads]).toEqual([true, first, before])
  })

  const deep = (depth: number): JsonObject => (depth === 0 ? marked() : object({ a: deep(depth - 1) }))
  it.each<[string, JsonObject]>([
    ['at its root', marked()],
    ['in a list', object({ a: { type: 'array', items: marked() } })],
    ['in one of several forms', object({}, { anyOf: [object({ a: marked() })] })],
    ['in a definition', object({}, { $defs: { one: object({ a: marked() }) } })],
    ['for whatever else there is', object({}, { additionalProperties: marked() })],
    ['without a name', object({ a: marked('') })],
    ['with a name that would end its header', object({ a: marked('A\r\nHost') })],
    ['with no text for a name', object({ a: marked(7) })],
    ['of a number', object({ a: marked('A', 'number') })],
    ['of an object', object({ a: { ...object({}), 'x-mcp-header': 'A' } })],
    ['twice by one name', object({ a: marked('A'), b: marked('a') })],
    ['deeper than anybody looks', deep(100)],
  ])('is none that MCP allows when it does so %s', (_where, schema) => {
    expect(paramHeadersIn(schema)).toBeTypeOf('string')
  })
})

describe('the headers of a call', () => {
  const headers = [{ path: ['a', 'b'], name: 'A' }]
  it.each<[Json, string | undefined]>([
    ['eu', 'eu'],
    [true, 'true'],
    [12, '12'],
    ['', '=?base64??='],
    [' x', '=?base64?IHg=?='],
    ['a\r\nHost: b', `=?base64?${Buffer.from('a\r\nHost: b').toString('base64')}?=`],
    ['=?base64?x?=', `=?base64?${Buffer.from('=?base64?x?=').toString('base64')}?=`],
    [null, undefined],
    [{ c: 1 }, undefined],
    [2 ** 60, undefined],
  ])('say %j as %j', (value, said) => {
    expect(headersOfCall(headers, { a: { b: value } })).toEqual(said === undefined ? {} : { 'Mcp-Param-A': said })
  })

  it('say nothing of what is missing, or is nobody’s own', () => {
    for (const args of [{}, { a: null }, { a: 'x' }]) expect(headersOfCall(headers, args)).toEqual({})
    expect(headersOfCall([{ path: ['constructor', 'name'], name: 'A' }], {})).toEqual({})
  })

  it('never end before their value does, and come back as they were', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (value) => {
        const said = headersOfCall(headers, { a: { b: value } })['Mcp-Param-A'] ?? ''
        expect(said).toMatch(/^[\t\x20-\x7e]*$/)
        const [, base64] = /^=\?base64\?(.*)\?=$/.exec(said) ?? []
        const read = base64 === undefined ? said : Buffer.from(base64, 'base64').toString('utf8')
        expect(read).toBe(Buffer.from(value, 'utf8').toString('utf8'))
      }),
    )
  })
})
