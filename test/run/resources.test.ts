/** The resources of a skill: one tool reads them, and whoever guards calls sees it as the call that it is. */
import { describe, expect, it } from 'vitest'
import type { Json } from '../../schema/json.ts'
import { hashOf } from '../../schema/hash.ts'
import { READ_RESOURCE, resourceTool, servedCallIn } from '../../schema/served-call.ts'
import { leaveFor } from '../../runner/supervisor/skill-line.ts'
import { resultOfList, resultOfRead } from '../../runner/skill/resource.ts'
import { toolResultOf } from '../../runner/skill/result.ts'
import { argumentFault } from '../../schema/json-schema.ts'

const frame = (method: string, params?: Json): Json => ({
  jsonrpc: '2.0',
  id: 1,
  method,
  ...(params === undefined ? {} : { params }),
})

describe('a frame', () => {
  it('that calls a tool, or reads a resource, is a call of the same shape', () => {
    expect(servedCallIn(frame('tools/call', { name: 'a', arguments: { b: 1 } }))).toEqual({ tool: 'a', args: { b: 1 } })
    expect(servedCallIn(frame('resources/read', { uri: 'x:1' }))).toEqual({ tool: READ_RESOURCE, args: { uri: 'x:1' } })
    for (const params of [undefined, {}, { _meta: {} }])
      expect(servedCallIn(frame('resources/list', params))).toEqual({ tool: READ_RESOURCE, args: {} })
    for (const other of [frame('tools/list'), frame('ping'), [], null, 'x', frame('resources/templates/list')])
      expect(servedCallIn(other)).toBeUndefined()
  })

  it('that does not say plainly what it calls is unclear', () => {
    for (const [method, params] of [
      ['tools/call', undefined],
      ['tools/call', { name: ['a'] }],
      ['tools/call', { name: 'a', arguments: [] }],
      ['resources/read', {}],
      ['resources/read', { uri: ['x:1'] }],
      ['resources/list', { cursor: 'next' }],
      ['resources/list', []],
    ] as const)
      expect(servedCallIn(frame(method, params as Json)), method).toBe('unclear')
  })

  it('that reads a resource needs the leave that a rule over the tool asks for, and no other way leads round it', () => {
    const name = { expertKey: 'a@1.0.0', skill: 's' }
    const guard = { rules: [{ tool: 's/readResource', args: { uri: 'secret:*' }, edits: false }], effects: undefined }
    const args = { uri: 'secret:1' }
    const leave = { expertKey: 'a@1.0.0', toolName: 's/readResource', argsHash: hashOf(args) }
    expect(leaveFor(guard, name, frame('resources/read', args))).toEqual(leave)
    expect(leaveFor(guard, name, frame('resources/read', { uri: 'open:1' }))).toBeUndefined()
    expect(leaveFor(guard, name, frame('resources/list', { cursor: 'x' }))).toBe('never')
    // Without a uri it is a list: an argument that is missing is covered.
    expect(leaveFor(guard, name, frame('resources/list'))).toMatchObject({ argsHash: hashOf({}) })
  })
})

describe('a resource', () => {
  const read = (contents: readonly object[]) =>
    toolResultOf(
      { type: 'toolCall', callId: 'c', name: 's/readResource', args: {} },
      resultOfRead({ contents } as Parameters<typeof resultOfRead>[0]),
    ).content

  it('is read as text, as an image, or as word that it is something else', () => {
    expect(
      read([
        { uri: 'a:1', text: 'hello' },
        { uri: 'a:2', mimeType: 'image/png', blob: 'AAAA' },
        { uri: 'a:3', mimeType: 'application/gzip', blob: 'AAAA' },
      ]),
    ).toEqual([
      { type: 'text', text: '[resource a:1]\nhello' },
      { type: 'image', mediaType: 'image/png', base64: 'AAAA' },
      { type: 'text', text: '[resource a:3 of type application/gzip]' },
    ])
    expect(read([])).toEqual([{ type: 'text', text: 'The resource is empty.' }])
  })

  it('is listed on one line, and a list that is cut says so', () => {
    const resources = Array.from({ length: 201 }, (_, i) => ({
      uri: `a:${i}`,
      name: `n${i}`,
      description: 'two\nlines',
    }))
    const [block] = resultOfList({ resources }).content
    const lines = block?.type === 'text' ? block.text.split('\n') : []
    expect(lines).toHaveLength(201)
    expect([lines[0], lines.at(-1)]).toEqual(['a:0 n0: two lines', 'There are more than are listed here.'])
  })

  it('has a tool whose arguments are those of a frame', () => {
    expect(argumentFault(resourceTool.inputSchema, { uri: 'a:1' })).toBeUndefined()
    expect(argumentFault(resourceTool.inputSchema, {})).toBeUndefined()
    for (const args of [{ uri: 1 }, { uri: 'a', cursor: 'b' }])
      expect(argumentFault(resourceTool.inputSchema, args as Json)).toBeTypeOf('string')
  })
})
