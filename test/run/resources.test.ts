/** The resources of a skill: one tool reads them, and whoever guards calls sees it as the call that it is. */
import type { CallToolResult } from '@modelcontextprotocol/client'
import { describe, expect, it } from 'vitest'
import type { Json } from '../../schema/json.ts'
import { hashOf } from '../../schema/hash.ts'
import { ResourcePages } from '../../schema/resource-pages.ts'
import { READ_RESOURCE, resourceTool, servedCallIn } from '../../schema/served-call.ts'
import { leaveFor } from '../../runner/supervisor/skill-line.ts'
import { listResources, resultOfRead } from '../../runner/skill/resource.ts'
import { INLINE_BYTES_MAX } from '../../runner/skill/long-answer.ts'
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

describe('a page of a list', () => {
  const list = (id: number, cursor?: string) => listing(id, cursor === undefined ? {} : { cursor })
  const listing = (id: number, params: Json): Json => ({ jsonrpc: '2.0', id, method: 'resources/list', params })
  const answer = (id: number, nextCursor?: string): Json => ({
    jsonrpc: '2.0',
    id,
    result: { resources: [], ...(nextCursor === undefined ? {} : { nextCursor }) },
  })

  it('is part of the call that asked for the first, once, and only with the words of the server', () => {
    const pages = new ResourcePages()
    expect(pages.goesOn(list(1, 'two'))).toBe(false)
    pages.ask(list(1))
    pages.hear(answer(1, 'two'))
    expect(pages.goesOn(list(2, 'three'))).toBe(false)
    expect(pages.goesOn(list(2))).toBe(false)
    expect(pages.goesOn(list(2, 'two'))).toBe(true)
    expect(pages.goesOn(list(2, 'two'))).toBe(false)
    pages.ask(list(2, 'two'))
    pages.hear(answer(2, 'three'))
    expect(pages.goesOn(list(3, 'three'))).toBe(true)
  })

  it('is not named by an answer to something else, nor by an answer that comes twice', () => {
    const pages = new ResourcePages()
    pages.ask({ jsonrpc: '2.0', id: 1, method: 'tools/list' })
    pages.hear(answer(1, 'a'))
    pages.hear(answer(7, 'b'))
    pages.ask(list(2))
    pages.hear({ jsonrpc: '2.0', id: 2, method: 'roots/list', result: { nextCursor: 'c' } })
    pages.hear(answer(2))
    pages.hear(answer(2, 'd'))
    for (const cursor of ['a', 'b', 'c', 'd']) expect(pages.goesOn(list(3, cursor)), cursor).toBe(false)
    pages.ask(list(4))
    pages.hear(answer(4, 'e'))
    expect(pages.goesOn({ jsonrpc: '2.0', method: 'resources/list', params: { cursor: 'e' } })).toBe(false)
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

  const resource = (i: number) => ({ uri: `a:${i}`, name: `n${i}`, description: 'two\nlines' })
  const linesOf = ({ content: [block] }: CallToolResult) => (block?.type === 'text' ? block.text.split('\n') : [])

  it('is listed on one line, all pages together', async () => {
    const asked: unknown[] = []
    const listing = await listResources(async (page) => {
      asked.push(page)
      const at = Number(page.cursor ?? 0)
      return { resources: [resource(2 * at), resource(2 * at + 1)], ...(at < 4 ? { nextCursor: String(at + 1) } : {}) }
    })
    expect(asked).toEqual([{}, { cursor: '1' }, { cursor: '2' }, { cursor: '3' }, { cursor: '4' }])
    expect(linesOf(listing)).toEqual(Array.from({ length: 10 }, (_, i) => `a:${i} n${i}: two lines`))
  })

  it.each([
    ['turns in circles', (at: number) => ({ resources: [resource(at)], nextCursor: String(at % 3) }), 4],
    ['never ends', (at: number) => ({ resources: [], nextCursor: `page ${at}` }), 50],
    [
      'is longer than a model reads',
      (at: number) => ({
        resources: Array.from({ length: 100 }, (_, i) => resource(at * 100 + i)),
        nextCursor: `${at}`,
      }),
      15,
    ],
  ] as const)('whose list %s is listed as far as that goes, and says so', async (_name, pageOf, pages) => {
    let asked = 0
    const listing = await listResources(async () => pageOf(asked++))
    expect(asked).toBe(pages)
    const lines = linesOf(listing)
    expect(lines.at(-1)).toMatch(/^There are more than the \d+ that are listed here/)
    expect(Buffer.byteLength(lines.join('\n'))).toBeLessThanOrEqual(INLINE_BYTES_MAX)
  })

  it('has a tool whose arguments are those of a frame', () => {
    expect(argumentFault(resourceTool.inputSchema, { uri: 'a:1' })).toBeUndefined()
    expect(argumentFault(resourceTool.inputSchema, {})).toBeUndefined()
    for (const args of [{ uri: 1 }, { uri: 'a', cursor: 'b' }])
      expect(argumentFault(resourceTool.inputSchema, args as Json)).toBeTypeOf('string')
  })
})
