/** Calls that the files skill answers by itself, and what it leaves to the server library. */
import { PassThrough } from 'node:stream'
import { setImmediate as breath } from 'node:timers/promises'
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { answerDirectly } from '../../plugins/files/direct-calls.ts'
import type { JsonObject } from '../../schema/json.ts'

const GREETED = JSON.stringify({ jsonrpc: '2.0', method: 'notifications/initialized' })
const call = (id: number | string, params: JsonObject = { name: 'echo', arguments: { id } }): string =>
  JSON.stringify({ jsonrpc: '2.0', id, method: 'tools/call', params })

/** A client's words; what was answered, and what was left. Calls of `echo` are answered with their arguments. */
async function say(lines: readonly string[], cut = Infinity) {
  const [input, output] = [new PassThrough(), new PassThrough()]
  const called: JsonObject[] = []
  const held = Promise.withResolvers<object>()
  const rest = answerDirectly(input, output, (name, args) => {
    if (name !== 'echo' && name !== 'held') return undefined
    called.push(args)
    return name === 'held' ? held.promise : Promise.resolve({ content: [], args })
  })
  const bytes = Buffer.from(lines.map((line) => `${line}\n`).join(''))
  for (let at = 0; at < bytes.length; at += Math.min(cut, bytes.length)) input.write(bytes.subarray(at, at + cut))
  await breath()
  held.resolve({ content: [] })
  input.end()
  let left = ''
  for await (const chunk of rest) left += String(chunk)
  const answers = String(output.read() ?? '')
    .split('\n')
    .slice(0, -1)
  return { called, left: left.split('\n').slice(0, -1), answers: answers.map((line) => JSON.parse(line) as JsonObject) }
}

describe('a call of a tool', () => {
  it('is answered once its client has greeted in the older line, however its bytes are cut', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.uniqueArray(fc.nat(), { maxLength: 5 }),
        fc.integer({ min: 1, max: 90 }),
        async (ids, cut) => {
          const { answers, left } = await say([GREETED, ...ids.map((id) => call(id))], cut)
          expect(left).toEqual([GREETED])
          expect(answers).toEqual(ids.map((id) => ({ jsonrpc: '2.0', id, result: { content: [], args: { id } } })))
        },
      ),
      { numRuns: 30 },
    )
  })

  it('is left to the library before, and where anything in it is more than a call', async () => {
    const claims = { name: 'echo', _meta: { 'io.modelcontextprotocol/protocolVersion': '2026-07-28' } }
    const lines = [
      call(1, claims),
      call(2, { name: 'echo', inputResponses: {} }),
      call(3, { name: 'nobody' }),
      call(4, { name: 'echo', arguments: [] }),
      call(5, { name: 'echo', _meta: 'none' }),
      '{"jsonrpc":"2.0","method":"tools/call","params":{"name":"echo"}}',
      '{"id":6,"method":"tools/call","params":{"name":"echo"}}',
      '[{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"echo"}}]',
      '{"jsonrpc":"2.0","id":8,"method":"tools/call","params":{"name":"echo"}',
      '{"jsonrpc":"2.0","id":9,"method":"ping","params":{"name":"tools/call"}}',
    ]
    const { called, left, answers } = await say([call(0), GREETED, ...lines])
    expect({ called, answers }).toEqual({ called: [], answers: [] })
    expect(left).toEqual([call(0), GREETED, ...lines])
  })

  it('is answered with a token for progress, and not at all once it was given up', async () => {
    const giveUp = (requestId: number): string =>
      JSON.stringify({ jsonrpc: '2.0', method: 'notifications/cancelled', params: { requestId } })
    const params = { name: 'held', _meta: { progressToken: 1 } }
    const { called, answers, left } = await say([GREETED, call(1, params), call(2, params), giveUp(2), giveUp(3)])
    expect(called).toHaveLength(2)
    expect(answers).toEqual([{ jsonrpc: '2.0', id: 1, result: { content: [] } }])
    expect(left).toEqual([GREETED, giveUp(3)])
  })
})
