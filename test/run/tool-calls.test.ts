/** Calls that are made without the client library: it would have given the same answers. */
import { isSpecType, specTypeSchemas } from '@modelcontextprotocol/client'
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Json, JsonObject } from '../../schema/json.ts'
import { ToolCalls } from '../../runner/skill/tool-calls.ts'

function begin() {
  const sent: JsonObject[] = []
  const calls = new ToolCalls((frame) => sent.push(frame))
  const heard: object[] = []
  const make = () => {
    const call = calls.make('read', { path: 'a' }, {}, (progress) => heard.push(progress))
    return { ...call, id: sent.at(-1)?.['id'] ?? null }
  }
  const answer = (id: Json, body: JsonObject) => calls.receive({ jsonrpc: '2.0', id, ...body })
  return { calls, sent, heard, make, answer }
}

/** Nearly what a tool answers: with a member too many, too few, or of another kind. */
const text = fc.record({ type: fc.constant('text'), text: fc.string() })
const block = fc.oneof(
  { weight: 4, arbitrary: text },
  fc.record(
    { type: fc.constantFrom('text', 'image', 'odd'), text: fc.jsonValue(), more: fc.jsonValue() },
    { requiredKeys: [] },
  ),
)
const result = fc.record(
  {
    content: fc.oneof({ weight: 6, arbitrary: fc.array(block, { maxLength: 3 }) }, fc.jsonValue()),
    isError: fc.oneof({ weight: 4, arbitrary: fc.boolean() }, fc.jsonValue()),
    structuredContent: fc.jsonValue(),
    _meta: fc.oneof(fc.dictionary(fc.string(), fc.jsonValue()), fc.jsonValue()),
    extra: fc.jsonValue(),
  },
  { requiredKeys: [] },
)

describe('a call', () => {
  it('is answered with what the shape of the library makes of the answer, and fails where that does', async () => {
    await fc.assert(
      fc.asyncProperty(result, async (said) => {
        const given = JSON.parse(JSON.stringify(said)) as JsonObject
        const { make, answer } = begin()
        const call = make()
        expect(answer(call.id, { result: given })).toBe(true)
        const outcome = await call.result.then(
          (value) => ({ value }),
          (error: Error) => ({ error }),
        )
        const parsed = specTypeSchemas.CallToolResult['~standard'].validate(given)
        expect('value' in outcome).toBe(isSpecType.CallToolResult(given))
        if (parsed.issues === undefined) expect(outcome).toEqual({ value: parsed.value })
        else expect(outcome).toMatchObject({ error: { message: expect.stringContaining('tools/call') } })
      }),
      { numRuns: 300 },
    )
  })

  it.each([{ type: 'odd' }, { type: 'text', text: 1 }, { type: 'text' }, {}, null, 'text'])(
    'fails when a block of its answer is %o, which is none',
    async (odd) => {
      const { make, answer } = begin()
      const call = make()
      expect(answer(call.id, { result: { content: [{ type: 'text', text: 'a' }, odd] } })).toBe(true)
      await expect(call.result).rejects.toMatchObject({ message: expect.stringContaining('tools/call') })
    },
  )

  it('fails with what the server says instead, in its words', async () => {
    const { make, answer } = begin()
    const call = make()
    expect(answer(call.id, { error: { code: -32_602, message: 'no such tool' } })).toBe(true)
    await expect(call.result).rejects.toMatchObject({ code: -32_602, message: 'no such tool' })
  })

  it('takes no answer that is another’s, that comes twice, or that is none', () => {
    const { calls, make, answer } = begin()
    const call = make()
    expect(answer(7, { result: { content: [] } })).toBe(false)
    expect(answer(call.id, { result: 'text' })).toBe(false)
    expect(answer(call.id, { error: { code: 'x', message: 'm' } })).toBe(false)
    expect(calls.receive({ id: call.id, result: { content: [] } })).toBe(false)
    expect(answer(call.id, { method: 'ping' })).toBe(false)
    expect(answer(call.id, { result: { content: [] } })).toBe(true)
    expect(answer(call.id, { result: { content: [] } })).toBe(false)
  })

  it('that is given up is canceled at its server, once, and not after its answer', () => {
    const { sent, make, answer } = begin()
    const [one, other] = [make(), make()]
    answer(other.id, { result: { content: [] } })
    other.giveUp('late')
    one.giveUp('late')
    one.giveUp('late')
    const canceled = {
      jsonrpc: '2.0',
      method: 'notifications/cancelled',
      params: { requestId: one.id, reason: 'late' },
    }
    expect(sent.slice(2)).toEqual([canceled])
  })

  it('hears its own progress while it is open', () => {
    const { calls, heard, make, answer } = begin()
    const call = make()
    const say = (params: Json) => calls.receive({ jsonrpc: '2.0', method: 'notifications/progress', params })
    expect(say({ progressToken: call.id, progress: 1, total: 2, message: 'half' })).toBe(true)
    expect(say({ progressToken: 3, progress: 1 })).toBe(false)
    expect(say({ progressToken: call.id, progress: 'x' })).toBe(false)
    answer(call.id, { result: { content: [] } })
    expect(say({ progressToken: call.id, progress: 2 })).toBe(false)
    expect(heard).toEqual([{ progress: 1, total: 2, message: 'half' }])
  })

  it('fails when its server is gone', async () => {
    const { calls, make } = begin()
    const call = make()
    calls.end()
    await expect(call.result).rejects.toThrow('closed')
  })
})
