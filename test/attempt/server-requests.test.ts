/** What a machine may answer a server on the network that asks it something. */
import { describe, expect, it } from 'vitest'
import { hashOf } from '../../schema/hash.ts'
import type { Json, JsonObject } from '../../schema/json.ts'
import { cannotDo, MADE_ONCE } from '../../schema/server-request.ts'
import { ServerRequests } from '../../src/skill/server-requests.ts'

const form = { message: 'Who?', requestedSchema: { type: 'object', properties: {} } }
const asked = (...requests: readonly (readonly [id: number, method: string, params?: Json])[]) => {
  const open = new ServerRequests()
  for (const [id, method, params] of requests)
    open.hear({ jsonrpc: '2.0', id, method, ...(params === undefined ? {} : { params }) })
  return (id: number, said: JsonObject) => open.answer({ jsonrpc: '2.0', id, ...said })
}

describe('an answer to a server on the network', () => {
  it('is a refusal in our words, a pong, or the reply that somebody must have given', () => {
    const sampling = 'sampling/createMessage'
    const answer = asked([1, 'ping'], [2, 'elicitation/create', form], [3, 'elicitation/create', form], [4, sampling])
    expect(answer(1, { result: {} })).toBeUndefined()
    const accepted = { action: 'accept', content: {} }
    expect(answer(2, { result: accepted })).toEqual({ asked: form, replyHash: hashOf(accepted) })
    expect(answer(3, { error: { code: -32_600, message: MADE_ONCE } })).toBeUndefined()
    expect(answer(4, { error: { code: -32_601, message: `${cannotDo(sampling)}.` } })).toBeUndefined()
  })

  it('answers what was asked, once, and brings no words of a machine', () => {
    const roots = { roots: [{ uri: 'file:///what-the-machine-knows' }] }
    const answer = asked([1, 'ping'], [2, 'ping'], [3, 'roots/list'], [4, 'elicitation/create', form], [5, 'ping'])
    expect(answer(9, { result: {} })).toContain('answers nothing')
    expect(answer(1, { result: { secret: 'x' } })).toContain('no answer')
    expect(answer(1, { result: {} })).toContain('answers nothing')
    expect(answer(2, { error: { code: 1, message: 'what the machine knows' } })).toContain('no refusal')
    expect(answer(3, { result: roots })).toContain('no answer')
    expect(answer(4, { error: { code: -32_600, message: MADE_ONCE, data: 'more' } })).toContain('no refusal')
    expect(answer(5, { error: { code: 1, message: `${cannotDo('sampling/createMessage')}.` } })).toContain('no refusal')
  })

  it('brings no reply to what no human can be asked', () => {
    const answer = asked([1, 'elicitation/create', { message: '' }], [2, 'elicitation/create', { message: '' }])
    expect(answer(1, { result: { action: 'accept' } })).toContain('no answer')
    expect(answer(2, { error: { code: -32_600, message: 'Nobody can be asked this: the message is missing.' } })).toBe(
      undefined,
    )
  })
})
