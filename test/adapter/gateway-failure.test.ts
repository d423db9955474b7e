/** Proves what the gateway does when a provider refuses, is busy, breaks off, goes silent or talks nonsense. */
import type { ServerResponse } from 'node:http'
import { describe, expect, it, onTestFinished, vi } from 'vitest'
import { PlatformError } from '../../schema/error.ts'
import type { ModelSettings } from '../../schema/model-settings.ts'
import { Secret } from '../../schema/secret.ts'
import type { Generated } from '../../src/gateway/gateway.ts'
import { openGateway, type GatewayLimits } from '../../src/gateway/models.ts'
import { openLog } from '../../src/log.ts'
import { applicationId, asked as query, reviewer } from '../gateway/given.ts'
import { fakeChance, fakeClock, type FakeClock } from '../fake/fake-clock.ts'
import { chatChunks, openModelServer, status, stream, type ModelServer } from '../support/model-server.ts'
import { until } from '../support/patience.ts'

const KEY = 'sk-canary-0123456789abcdef'
const CHAT = 'openai-compatible/some-model'
const MODELS = [CHAT, 'anthropic/claude-sonnet-4-5', 'openai/gpt-4o', 'google/gemini-2.5-flash']

interface Setting {
  readonly server: ModelServer
  readonly clock: FakeClock
  /** How long the gateway waited between attempts. */
  readonly waited: number[]
  readonly deltas: string[]
  readonly logged: string[]
  /** The secrets that the gateway asked for. */
  readonly asked: string[]
  readonly generate: (model?: string, signal?: AbortSignal, modelSettings?: ModelSettings) => Promise<Generated>
}

const limits: GatewayLimits = {
  attemptsMax: 3,
  firstDelayMs: 1000,
  delayMaxMs: 30_000,
  stallMs: 100_000,
  deadlineMs: 1_000_000,
  outputCharsMax: 10_000,
}

/** Waits between attempts pass at once; the watch over a silent stream goes by the fake clock. */
async function setting(key = KEY, fetch = globalThis.fetch): Promise<Setting> {
  const server = await openModelServer()
  onTestFinished(async () => await server[Symbol.asyncDispose]())
  const clock = fakeClock()
  const waited: number[] = []
  const deltas: string[] = []
  const logged: string[] = []
  const asked: string[] = []
  const url = server.url
  const gateway = openGateway({
    experts: { readFile: async () => undefined },
    keyOf: async (_, name) => {
      asked.push(name)
      return new Secret(key)
    },
    baseUrls: { anthropic: url, openai: url, google: url, 'openai-compatible': url },
    fetch,
    clock: {
      now: () => clock.now(),
      sleep: async (ms, signal) => {
        if (ms > limits.delayMaxMs) return await clock.sleep(ms, signal)
        waited.push(ms)
        return undefined
      },
    },
    chance: fakeChance(),
    log: openLog(
      (line) => logged.push(line),
      () => clock.now(),
    ),
    limits,
  })
  return {
    server,
    clock,
    waited,
    deltas,
    logged,
    asked,
    generate: async (model = CHAT, signal = new AbortController().signal, modelSettings = {}) => {
      const prompt = { instruction: 'You review.', tools: [] }
      const expert = { ...reviewer, modelSettings }
      const request = { applicationId, model, expert, stepNumber: 1, prompt, messages: [query] }
      return await gateway.generate(request, (_, text) => deltas.push(text), signal)
    },
  }
}

async function failureOf(generating: Promise<Generated>): Promise<PlatformError> {
  const error = await generating.then(
    () => new Error('it generated'),
    (error: unknown) => error,
  )
  if (!(error instanceof PlatformError)) throw error
  return error
}

describe.each(MODELS)('%s', (model) => {
  it.each([
    [400, 'model_refused', 1],
    [401, 'model_key_refused', 1],
    [403, 'model_key_refused', 1],
    [404, 'model_not_found', 1],
    [429, 'model_overloaded', 3],
    [500, 'model_error', 3],
    [503, 'model_overloaded', 3],
    [529, 'model_overloaded', 3],
  ] as const)(
    'status %i becomes %s after %i attempts, each of which is shown, and no key is told (GM1, GM2)',
    async (code, expected, attempts) => {
      const { server, logged, deltas, generate } = await setting()
      const message = `Incorrect API key provided: ${KEY}. You can find it at example.test.`
      server.play(status(code, { type: 'error', error: { type: 'some_error', message, code: 'bad', status: 'BAD' } }))
      const error = await failureOf(generate(model))
      expect(error.code).toBe(expected)
      expect(server.requests()).toBe(attempts)
      expect(
        `${error.message} ${error.stack} ${JSON.stringify(error)} ${logged.join('')} ${deltas.join('')}`,
      ).not.toContain('canary')
      expect(deltas).toEqual(
        Array.from({ length: attempts - 1 }, (_, i) => expect.stringContaining(`attempt ${i + 2}: The`)),
      )
      expect(error.cause).toBeUndefined()
    },
  )

  it('a page of HTML, or events that are no JSON, become model_error', async () => {
    const { server, generate } = await setting()
    server.play(status(200, '<html>login</html>', { 'content-type': 'text/html' }))
    expect((await failureOf(generate(model))).code).toBe('model_error')
    server.play(stream(['{"not": json', 'rubbish']))
    expect((await failureOf(generate(model))).code).toBe('model_error')
    server.play(stream([]))
    expect((await failureOf(generate(model))).code).toBe('model_error')
  })

  it('a connection that is refused becomes model_error after all attempts', async () => {
    const { server, waited, generate } = await setting()
    await server[Symbol.asyncDispose]()
    expect((await failureOf(generate(model))).code).toBe('model_error')
    expect(waited).toHaveLength(2)
  })

  it('a redirect is not followed: it would carry the key to another host', async () => {
    const { server, generate } = await setting()
    const other = await openModelServer()
    onTestFinished(async () => await other[Symbol.asyncDispose]())
    other.play(stream(chatChunks(['stolen'])))
    server.play(status(307, '', { location: `${other.url}/v1` }))
    expect((await failureOf(generate(model))).code).toBe('model_error')
    expect(other.requests()).toBe(0)
  })

  it('silence before the first byte is cut, and the question put again (GM2, GM3)', async () => {
    const { server, clock, generate } = await setting()
    server.play(() => {})
    const generating = failureOf(generate(model))
    for (let attempt = 1; attempt <= limits.attemptsMax; attempt++) {
      await until(() => server.requests() === attempt)
      await clock.advance(limits.stallMs)
    }
    expect((await generating).code).toBe('model_stalled')
    await server.hungUp
    expect(server.requests()).toBe(limits.attemptsMax)
  })

  it('a generation that is not done in time is cut, retries included (GM5)', async () => {
    const { server, clock, generate } = await setting()
    server.play(() => {})
    const generating = failureOf(generate(model, undefined, { maxRetries: 100, timeoutMs: 150_000 }))
    await until(() => server.requests() === 1)
    await clock.advance(limits.stallMs)
    await until(() => server.requests() === 2)
    await clock.advance(50_000)
    const error = await generating
    expect(error).toMatchObject({ code: 'model_timeout', message: `${model} did not answer within 150000 ms.` })
    await server.hungUp
    expect(clock.sleepers()).toBe(0)
  })

  it('an abort closes the connection to the provider and throws its reason (GM3)', async () => {
    const { server, generate } = await setting()
    const controller = new AbortController()
    const reason = new Error('canceled by the test')
    server.play(() => controller.abort(reason))
    await expect(generate(model, controller.signal)).rejects.toBe(reason)
    await server.hungUp
  })
})

describe('a busy provider', () => {
  it('is left alone for as long as its Retry-After says, then asked again', async () => {
    const { server, waited, generate } = await setting()
    server.play(status(429, { error: { message: 'slow down' } }, { 'retry-after': '7' }), stream(chatChunks(['Fine.'])))
    expect((await generate()).parts).toEqual([{ type: 'text', text: 'Fine.' }])
    expect(waited).toEqual([7000])
  })

  it('is not waited for when it asks for longer than the longest delay', async () => {
    const { server, waited, generate } = await setting()
    server.play(status(429, { error: { message: 'tomorrow' } }, { 'retry-after': '86400' }))
    expect((await failureOf(generate())).code).toBe('model_overloaded')
    expect(waited).toEqual([])
  })

  it('is asked as often as the expert says, and no more (GM2)', async () => {
    for (const maxRetries of [0, 1, 6]) {
      const { server, generate } = await setting()
      server.play(status(503, {}))
      const error = await failureOf(generate(CHAT, undefined, { maxRetries }))
      expect(error.code).toBe('model_overloaded')
      expect(server.requests()).toBe(maxRetries + 1)
    }
  })

  it('is asked again after delays that grow', async () => {
    const { server, waited, generate } = await setting()
    server.play(status(500, {}))
    await failureOf(generate())
    expect(waited[0]).toBeGreaterThanOrEqual(500)
    expect(waited[0]).toBeLessThanOrEqual(1000)
    expect(waited[1]).toBeGreaterThanOrEqual(1000)
    expect(waited[1]).toBeLessThanOrEqual(2000)
  })

  it('may say so within a stream', async () => {
    const { server, generate } = await setting()
    const busy = { type: 'error', error: { type: 'overloaded_error', message: 'Overloaded' } }
    server.play(stream([busy]))
    expect((await failureOf(generate('anthropic/claude-sonnet-4-5'))).code).toBe('model_overloaded')
    expect(server.requests()).toBe(3)
  })
})

describe('a stream', () => {
  it('that goes silent is cut, and its connection with it (GM3)', async () => {
    const { server, clock, deltas, generate } = await setting()
    server.play(stream(chatChunks(['Well', ' now'], null), 'silence'))
    const generating = failureOf(generate())
    await until(() => deltas.length === 2)
    await clock.advance(limits.stallMs - 1)
    expect(server.requests()).toBe(1)
    await clock.advance(1)
    await server.hungUp
    await until(() => server.requests() === 2 && deltas.length === 5)
    expect(deltas[2]).toContain('begins again')
    server.play(status(400, {}))
    await clock.advance(limits.stallMs)
    expect((await generating).code).toBe('model_refused')
  })

  it('that says only that it is at work is not silent (GM3)', async () => {
    let heard = Promise.withResolvers<void>()
    const { server, clock, generate } = await setting(KEY, async (input, init) => {
      const response = await fetch(input, init)
      const seen = new TransformStream<Uint8Array, Uint8Array>({
        transform(chunk, controller) {
          controller.enqueue(chunk)
          setImmediate(() => heard.resolve())
        },
      })
      return new Response(response.body?.pipeThrough(seen) ?? null, response)
    })
    const opened = Promise.withResolvers<ServerResponse>()
    server.play((response) => {
      response.writeHead(200, { 'content-type': 'text/event-stream' })
      opened.resolve(response)
    })
    const generating = generate()
    const response = await opened.promise
    for (let i = 0; i < 5; i++) {
      heard = Promise.withResolvers()
      response.write(': at work\n\n')
      await heard.promise
      await new Promise((next) => setImmediate(next))
      await clock.advance(limits.stallMs - 1)
    }
    for (const chunk of chatChunks(['Done.']))
      response.write(`data: ${typeof chunk === 'string' ? chunk : JSON.stringify(chunk)}\n\n`)
    response.end()
    expect((await generating).parts).toEqual([{ type: 'text', text: 'Done.' }])
    expect(server.requests()).toBe(1)
  })

  it.each(['cut', 'end'] as const)('that breaks off (%s) is begun again, and whoever watches is told', async (how) => {
    const { server, deltas, generate } = await setting()
    server.play(stream(chatChunks(['Hel'], null), how), stream(chatChunks(['Hello'])))
    expect((await generate()).parts).toEqual([{ type: 'text', text: 'Hello' }])
    expect(deltas).toEqual(['Hel', expect.stringContaining('begins again'), 'Hello'])
  })

  it('that is stopped by a content filter becomes model_refused', async () => {
    const { server, generate } = await setting()
    server.play(stream(chatChunks(['I '], 'content_filter')))
    expect((await failureOf(generate())).code).toBe('model_refused')
    expect(server.requests()).toBe(1)
  })

  it('that never ends is cut at its limit', async () => {
    const { server, generate } = await setting()
    server.play(
      stream(
        chatChunks(
          Array.from({ length: 30 }, () => 'x'.repeat(500)),
          null,
        ),
        'silence',
      ),
    )
    const error = await failureOf(generate())
    expect(error).toMatchObject({ code: 'model_error', message: expect.stringContaining('10000 characters') })
    await server.hungUp
  })

  it('keeps malformed arguments of a call as the text they are, cut off at the limit of Anthropic as well', async () => {
    const { server, generate } = await setting()
    const usage = { input_tokens: 1, output_tokens: 1 }
    const message = { id: 'm', type: 'message', role: 'assistant', model: 'm', content: [], stop_reason: null, usage }
    const block = { type: 'tool_use', id: 't', name: 'files__read', input: {} }
    server.play(
      stream([
        { type: 'message_start', message },
        { type: 'content_block_start', index: 0, content_block: block },
        { type: 'content_block_delta', index: 0, delta: { type: 'input_json_delta', partial_json: '{"path": "a' } },
        { type: 'content_block_stop', index: 0 },
        { type: 'message_delta', delta: { stop_reason: 'max_tokens', stop_sequence: null }, usage },
        { type: 'message_stop' },
      ]),
    )
    expect(await generate('anthropic/claude-sonnet-4-5')).toMatchObject({
      parts: [{ type: 'toolCall', callId: 'call_1_0', name: 'files__read', args: '{"path": "a' }],
      finishReason: 'length',
    })
  })

  it('keeps malformed arguments of a call as the text they are', async () => {
    const { server, generate } = await setting()
    const call = { index: 0, id: 'x', type: 'function', function: { name: 'files__read', arguments: '{"path": "a' } }
    const [chunk] = chatChunks([''], null) as [{ choices: [{ delta: object }] }]
    chunk.choices[0].delta = { role: 'assistant', tool_calls: [call] }
    server.play(stream([chunk, ...chatChunks([], 'tool_calls')]))
    expect((await generate()).parts).toEqual([
      { type: 'toolCall', callId: 'call_1_0', name: 'files__read', args: '{"path": "a' },
    ])
  })
})

describe('before anything is sent', () => {
  it('no environment variable and no secret says where a provider is or what its key is (GM4)', async () => {
    vi.stubEnv('OPENAI_API_KEY', 'sk-ambient')
    onTestFinished(() => void vi.unstubAllEnvs())
    const other = await openModelServer()
    onTestFinished(async () => await other[Symbol.asyncDispose]())
    other.play(stream(chatChunks(['stolen'])))
    for (const name of ['ANTHROPIC', 'OPENAI', 'GOOGLE_GENERATIVE_AI', 'OPENAI_COMPATIBLE'])
      vi.stubEnv(`${name}_BASE_URL`, other.url)
    const { server, asked, generate } = await setting()
    server.play(status(400, {}))
    for (const model of MODELS) await failureOf(generate(model))
    expect(server.requests()).toBe(MODELS.length)
    expect(other.requests()).toBe(0)
    expect(asked.filter((name) => !name.endsWith('_API_KEY'))).toEqual([])
    const keyless = await setting('')
    expect((await failureOf(keyless.generate('openai/gpt-4o'))).code).toBe('model_key_missing')
  })

  it.each(['anthropic/claude-sonnet-4-5', 'openai/gpt-4o', 'google/gemini-2.5-flash'])(
    '%s needs its key',
    async (model) => {
      const { server, generate } = await setting('')
      const error = await failureOf(generate(model))
      expect(error.code).toBe('model_key_missing')
      expect(error.message).toMatch(/_API_KEY/)
      expect(server.requests()).toBe(0)
    },
  )

  it.each(['gpt-4o', 'nobody/x', 'ollama/llama', 'openai/', '/x', 'openai/../x y', 'rehearsal/../x', 'rehearsal/'])(
    'the model %j is not known',
    async (model) => {
      const { server, generate } = await setting()
      expect((await failureOf(generate(model))).code).toBe('model_not_found')
      expect(server.requests()).toBe(0)
    },
  )
})
