/** Proves the classes of failure, the waits between attempts, and that no key gets into a message. */
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { classify, delayBefore, StreamFailure } from '../../src/gateway/model-failure.ts'

const NOW = 1_700_000_000_000
const KEY = 'sk-canary-0123456789abcdef'
const backoff = { attemptsMax: 4, firstDelayMs: 1000, delayMaxMs: 10_000 }

function failed(status: number, more: object = {}) {
  return classify('openai/m', Object.assign(new Error('no'), { statusCode: status, ...more }), [KEY], NOW)
}

describe('classify', () => {
  it.each([
    [400, 'model_refused', false],
    [401, 'model_key_refused', false],
    [403, 'model_key_refused', false],
    [404, 'model_not_found', false],
    [408, 'model_error', true],
    [413, 'model_refused', false],
    [429, 'model_overloaded', true],
    [500, 'model_error', true],
    [502, 'model_error', true],
    [503, 'model_overloaded', true],
    [529, 'model_overloaded', true],
  ] as const)('calls status %i %s, retryable %s', (status, code, retryable) => {
    expect(failed(status)).toMatchObject({ code, retryable })
  })

  it('does not try again when the quota of the key is used up', () => {
    const spent = failed(429, { responseBody: '{"error":{"code":"insufficient_quota"}}' })
    expect(spent).toMatchObject({ code: 'model_refused', retryable: false })
  })

  it.each([
    [400, '{"error":{"code":"context_length_exceeded","message":"too long"}}'],
    [
      400,
      '{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 215000 tokens > 200000 maximum"}}',
    ],
    [
      400,
      '{"error":{"message":"The input token count (1200000) exceeds the maximum number of tokens allowed (1048576)."}}',
    ],
    [400, '{"error":{"message":"This model\'s maximum context length is 32768 tokens."}}'],
    [413, '{"error":{"message":"the request exceeds the available context size"}}'],
    [undefined, '{"error":{"message":"Your input exceeds the context window of this model."}}'],
  ])('knows by the words of its provider that a conversation is too long: %s %s', (statusCode, responseBody) => {
    const error = Object.assign(new Error('no'), { responseBody }, statusCode === undefined ? {} : { statusCode })
    expect(classify('openai/m', error, [], NOW)).toMatchObject({ code: 'context_exceeded', retryable: false })
  })

  it('takes no other refusal for a conversation that is too long', () => {
    for (const responseBody of [
      'max_tokens is too large',
      'the context of the image is missing',
      'rate limit exceeded',
    ])
      expect(failed(400, { responseBody }).code).toBe('model_refused')
    expect(failed(429, { responseBody: 'rate limit exceeded' }).code).toBe('model_overloaded')
    expect(failed(500, { responseBody: 'context_length_exceeded' }).code).toBe('model_error')
  })

  it('reads errors that arrive within a stream', () => {
    const error = { message: 'Overloaded', type: 'overloaded_error', statusCode: 529, isRetryable: true }
    expect(classify('anthropic/m', error, [], NOW)).toMatchObject({ code: 'model_overloaded', retryable: true })
    expect(classify('m', 'plain words', [], NOW).message).toContain('plain words')
    expect(classify('m', undefined, [], NOW).code).toBe('model_error')
  })

  it('keeps what our own reading of a stream says', () => {
    const failure = new StreamFailure('model_stalled', 'The model was silent.', false)
    expect(classify('m', failure, [], NOW)).toBe(failure.failure)
  })

  it('puts no key into a message, whole or masked in its middle, on whatever line (GM1)', () => {
    const words = fc.constantFrom(KEY, `${KEY}.`, `Bearer ${KEY}`, 'sk-can***********cdef', 'wrong', '\n', '\u001b[31m')
    fc.assert(
      fc.property(fc.array(words, { maxLength: 8 }), fc.constantFrom(400, 404, 429, 500, 418), (said, status) => {
        const { message } = classify('m', { statusCode: status, message: said.join(' ') }, [KEY], NOW)
        expect(message).not.toContain('canary')
        expect(message).not.toContain('cdef')
        expect(message).not.toMatch(/[\u0000-\u001f]/)
      }),
    )
  })
})

describe('delayBefore', () => {
  it('doubles, spreads over the upper half, and never passes the longest delay', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 3 }), fc.double({ min: 0, max: 1, noNaN: true }), (attempt, jitter) => {
        const whole = Math.min(10_000, 1000 * 2 ** (attempt - 1))
        const delay = delayBefore(failed(500), attempt, backoff, jitter)
        expect(delay).toBeGreaterThanOrEqual(whole / 2)
        expect(delay).toBeLessThanOrEqual(whole)
      }),
    )
  })

  it('is null after the last attempt, and for what is final (GM2)', () => {
    expect(delayBefore(failed(500), 4, backoff, 0)).toBeNull()
    expect(delayBefore(failed(400), 1, backoff, 0)).toBeNull()
  })

  it('honours Retry-After in seconds, in milliseconds and as a date, and gives up when it is too long', () => {
    const after = (headers: object) => delayBefore(failed(429, { responseHeaders: headers }), 1, backoff, 0)
    expect(after({ 'retry-after': '7' })).toBe(7000)
    expect(after({ 'retry-after-ms': '1500' })).toBe(1500)
    expect(after({ 'retry-after': new Date(NOW + 3000).toUTCString() })).toBe(3000)
    expect(after({ 'retry-after': '3600' })).toBeNull()
    expect(after({ 'retry-after': 'soon' })).toBe(500)
  })
})
