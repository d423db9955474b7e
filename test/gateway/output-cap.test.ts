/** What a request asks for at most, thoughts included. */
import { describe, expect, it } from 'vitest'
import { capped, cappedFetch } from '../../src/gateway/output-cap.ts'

describe('a request whose output is bounded', () => {
  it('asks for no more than that, thoughts included', () => {
    const thinking = { type: 'enabled', budget_tokens: 20_000 }
    expect(capped({ max_tokens: 52_000, thinking }, 32_000)).toEqual({
      max_tokens: 32_000,
      thinking: { type: 'enabled', budget_tokens: 16_000 },
    })
    expect(capped({ max_tokens: 21_000, thinking }, 1000)).toEqual({ max_tokens: 1000, thinking: { type: 'disabled' } })
    expect(capped({ max_tokens: 5000, thinking: { type: 'adaptive' } }, 1000)).toEqual({
      max_tokens: 1000,
      thinking: { type: 'adaptive' },
    })
    expect(capped({ model: 'm' }, 1000)).toEqual({ model: 'm', max_tokens: 1000 })
  })

  it('is left as it is when it asks for less', () => {
    const body = { max_tokens: 900, thinking: { type: 'enabled', budget_tokens: 500 } }
    expect(capped(body, 1000)).toBe(body)
  })

  it('is sent so, and not at all when nobody can read what it asks for', async () => {
    const sent: unknown[] = []
    const fetch = cappedFetch(async (_input, init) => {
      sent.push(init?.body)
      return new Response()
    }, 1000)
    await fetch('http://x', { method: 'POST', body: '{"max_tokens":4000}' })
    expect(sent).toEqual(['{"max_tokens":1000}'])
    await expect(fetch('http://x', { method: 'POST', body: new Uint8Array(1) })).rejects.toThrow('no body of text')
    expect(sent).toHaveLength(1)
  })
})
