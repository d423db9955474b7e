/** Proves the wire formats of the providers against a mock that speaks them, streaming and tool calls included. */
import { LLMock } from '@copilotkit/aimock'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import type { Message, Prompt } from '../../schema/message.ts'
import type { ModelSettings } from '../../schema/model-settings.ts'
import { Secret } from '../../schema/secret.ts'
import type { Gateway, Generated } from '../../src/gateway/gateway.ts'
import { openGateway } from '../../src/gateway/models.ts'
import { applicationId, asked, reviewer } from '../gateway/given.ts'
import { fakeClock } from '../fake/fake-clock.ts'

const KEY = 'sk-canary-0123456789abcdef'
const PIXEL = 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=='
const prompt: Prompt = {
  instruction: 'You review code.',
  tools: [
    {
      name: 'files/read_file',
      description: 'Reads a file.',
      inputSchema: { type: 'object', properties: { path: { type: 'string' } }, required: ['path'] },
    },
    { name: 'delegate/@acme/licences', description: 'Knows licences.', inputSchema: { type: 'object' } },
  ],
}

const mock = new LLMock({ port: 0, chunkSize: 8 })
let gateway: Gateway
/** What went over the wire, newest last. */
const sent: { readonly url: string; readonly headers: Headers; readonly body: string }[] = []
const usage = {
  input_tokens: 11,
  output_tokens: 7,
  prompt_tokens: 11,
  completion_tokens: 7,
  total_tokens: 18,
  promptTokenCount: 11,
  candidatesTokenCount: 7,
  totalTokenCount: 18,
}

beforeAll(async () => {
  await mock.start()
  gateway = openGateway({
    experts: { readFile: async () => undefined },
    keyOf: async () => new Secret(KEY),
    baseUrls: {
      anthropic: `${mock.url}/v1`,
      openai: `${mock.url}/v1/`,
      google: `${mock.url}/v1beta`,
      'openai-compatible': `${mock.url}/v1`,
      ollama: mock.url,
    },
    fetch: async (input, init) => {
      const body = typeof init?.body === 'string' ? init.body : ''
      sent.push({ url: new Request(input, { method: 'HEAD' }).url, headers: new Headers(init?.headers), body })
      return await fetch(input, init)
    },
    clock: fakeClock(),
    log: { info: () => {}, warn: () => {}, error: () => {} },
    limits: { attemptsMax: 1 },
  })
})
afterAll(async () => await mock.stop())
afterEach(() => {
  mock.clearFixtures()
  mock.clearRequests()
  sent.length = 0
})

interface Heard {
  readonly generated: Generated
  readonly deltas: readonly string[]
}

async function generate(
  model: string,
  messages: readonly Message[],
  stepNumber = 1,
  modelSettings: ModelSettings = {},
): Promise<Heard> {
  const deltas: string[] = []
  const expert = { ...reviewer, modelSettings }
  const request = { applicationId, model, expert, stepNumber, prompt, messages }
  const signal = new AbortController().signal
  const generated = await gateway.generate(request, (kind, text) => deltas.push(`${kind}:${text}`), signal)
  return { generated, deltas }
}

const MODELS = [
  'anthropic/claude-sonnet-4-5',
  'openai/gpt-4o',
  'google/gemini-2.5-flash',
  'openai-compatible/some-model',
  'ollama/llama3.2',
]

describe.each(MODELS)('%s', (model) => {
  it('streams text in pieces that make the whole', async () => {
    mock.onMessage('Review', { content: 'It looks fine to me, all of it.', usage })
    const { generated, deltas } = await generate(model, [asked])
    expect(generated.parts).toEqual([{ type: 'text', text: 'It looks fine to me, all of it.' }])
    expect(generated.finishReason).toBe('stop')
    expect(deltas.length).toBeGreaterThan(1)
    expect(deltas.join('').replaceAll('text:', '')).toBe('It looks fine to me, all of it.')
    expect(generated.usage).toMatchObject({ inputTokens: 11, outputTokens: 7, reasoningTokens: 0, costUsd: null })
  })

  it('gives tool calls our names and our ids, in order', async () => {
    mock.onMessage('Review', {
      toolCalls: [
        { name: 'files__read_file', arguments: '{"path":"input/server.js"}' },
        { name: 'never_offered', arguments: '{}' },
      ],
    })
    const { generated } = await generate(model, [asked], 3)
    const calls = generated.parts.filter((part) => part.type === 'toolCall')
    expect(calls.map(({ callId, name, args }) => ({ callId, name, args }))).toEqual([
      { callId: 'call_3_0', name: 'files/read_file', args: { path: 'input/server.js' } },
      { callId: 'call_3_1', name: 'never_offered', args: {} },
    ])
    expect(generated.finishReason).toBe('tool-calls')
  })

  it('gives malformed arguments on as they are: the model reads what is wrong with them', async () => {
    mock.onMessage('Review', { toolCalls: [{ name: 'files__read_file', arguments: '{"path": "input/ser' }] })
    const { generated } = await generate(model, [asked])
    const [call] = generated.parts.filter((part) => part.type === 'toolCall')
    expect(call).toMatchObject({ callId: 'call_1_0', name: 'files/read_file' })
    // For Gemini, which writes arguments as an object, and for Anthropic the mock has no broken ones to give.
    if (!/^(?:google|anthropic)/.test(model)) expect(call?.args).toBe('{"path": "input/ser')
  })

  it('sends calls and results back under the same ids, errors and images included', async () => {
    mock.on({}, { content: 'done' })
    const { generated } = await generate(model, conversation(), 2)
    expect(generated.parts).toEqual([{ type: 'text', text: 'done' }])
    const body = sent.at(-1)?.body ?? ''
    // Gemini 2.5 has no ids: it tells results by name and order.
    if (!model.startsWith('google')) expect(body.match(/"call_1_0"/g)).toHaveLength(2)
    expect(body.match(/files__read_file/g)?.length).toBeGreaterThanOrEqual(3)
    expect(body).not.toContain('files/read_file')
    expect(body).toContain('no such file')
    expect(body.split(PIXEL)).toHaveLength(3)
    expect(body).toContain('unparsed')
  })

  it('sends the key in a header and nowhere else, and no URL for a provider to fetch (GM1)', async () => {
    mock.on({}, { content: 'done' })
    await generate(model, conversation(), 2)
    const { url, headers, body } = sent.at(-1) ?? { url: '', headers: new Headers(), body: '' }
    expect(url + body).not.toContain(KEY)
    expect([...headers.values()].some((value) => value.includes(KEY))).toBe(!model.startsWith('ollama'))
    expect(body.replaceAll('data:image/png;base64', '')).not.toMatch(/https?:|data:/)
  })
})

describe('a budget for thinking', () => {
  const think = async (model: string, reasoningBudget: ModelSettings['reasoningBudget']) => {
    mock.on({}, { content: 'done' })
    await generate(model, [asked], 1, reasoningBudget === undefined ? {} : { reasoningBudget })
    return JSON.parse(sent.at(-1)?.body ?? '{}') as Record<string, unknown>
  }

  it.each([
    ['anthropic/claude-sonnet-4-5', 4000, { thinking: { type: 'enabled', budget_tokens: 4000 } }],
    ['anthropic/claude-sonnet-4-5', 100, { thinking: { type: 'enabled', budget_tokens: 1024 } }],
    ['anthropic/claude-sonnet-4-5', 'none', { thinking: { type: 'disabled' } }],
    ['anthropic/claude-sonnet-4-5', 0, { thinking: { type: 'disabled' } }],
    ['openai/gpt-5', 'low', { reasoning: { effort: 'low' } }],
    ['openai/gpt-5', 2000, { reasoning: { effort: 'low' } }],
    ['openai/gpt-5', 50_000, { reasoning: { effort: 'high' } }],
    ['google/gemini-2.5-flash', 300, { generationConfig: { thinkingConfig: { thinkingBudget: 300 } } }],
    ['google/gemini-2.5-flash', 0, { generationConfig: { thinkingConfig: { thinkingBudget: 0 } } }],
    ['openai-compatible/some-model', 'medium', { reasoning_effort: 'medium' }],
    ['ollama/llama3.2', 8000, { reasoning_effort: 'medium' }],
  ] as const)('is said to %s as %s', async (model, budget, wire) => {
    expect(await think(model, budget)).toMatchObject(wire)
  })

  it.each(MODELS)('is not mentioned to %s when the expert says nothing', async (model) => {
    expect(JSON.stringify(await think(model, undefined))).not.toMatch(/"thinking|reasoning_effort|"effort"/)
  })

  it.each(['anthropic/claude-sonnet-4-5', 'openai/gpt-5'])(
    'leaves the other options of %s as they are',
    async (model) => {
      const [plain, thinking] = [await think(model, undefined), await think(model, 'low')]
      expect(thinking['store']).toEqual(plain['store'])
      expect(JSON.stringify(thinking).match(/cache_control/g)?.length).toBe(
        JSON.stringify(plain).match(/cache_control/g)?.length,
      )
    },
  )
})

describe('what only one provider has', () => {
  it('gives a thought of Anthropic back with its signature', async () => {
    mock.onMessage('Review', { content: 'Fine.', reasoning: 'I think so.', reasoningSignature: 'c2lnbmVk' })
    const { generated, deltas } = await generate('anthropic/claude-sonnet-4-5', [asked])
    const [thought] = generated.parts
    expect(thought).toEqual({
      type: 'reasoning',
      text: 'I think so.',
      metadata: { anthropic: { signature: 'c2lnbmVk' } },
    })
    expect(deltas.some((delta) => delta.startsWith('reasoning:'))).toBe(true)
    await generate('anthropic/claude-sonnet-4-5', [asked, { role: 'expert', content: generated.parts }, asked], 2)
    const { messages } = JSON.parse(sent.at(-1)?.body ?? '{}') as { messages: { content: unknown[] }[] }
    expect(messages[1]?.content[0]).toEqual({ type: 'thinking', thinking: 'I think so.', signature: 'c2lnbmVk' })
  })

  it("marks what Anthropic may cache, and a failed call's result as an error", async () => {
    mock.on({}, { content: 'done' })
    await generate('anthropic/claude-sonnet-4-5', conversation(), 2)
    const body = sent.at(-1)?.body ?? ''
    expect(body.match(/"cache_control":\{"type":"ephemeral"\}/g)).toHaveLength(2)
    expect(body.match(/"is_error":true/g)).toHaveLength(1)
  })

  it('leaves nothing stored at OpenAI, so that our call ids are the only ones', async () => {
    mock.on({}, { content: 'done' })
    await generate('openai/gpt-4o', conversation(), 2)
    const { url, body } = sent.at(-1) ?? { url: '', body: '{}' }
    expect(url).toMatch(/\/v1\/responses$/)
    expect(JSON.parse(body)).toMatchObject({ store: false })
    expect(body).not.toContain('item_reference')
  })

  it('reaches Ollama under /v1 and without a key', async () => {
    mock.on({}, { content: 'done' })
    await generate('ollama/llama3.2', [asked])
    expect(sent.at(-1)?.url).toBe(`${mock.url}/v1/chat/completions`)
    expect(sent.at(-1)?.headers.has('authorization')).toBe(false)
  })
})

function conversation(): readonly Message[] {
  return [
    { role: 'user', content: [asked.content[0] as never, { type: 'image', mediaType: 'image/png', base64: PIXEL }] },
    {
      role: 'expert',
      content: [
        { type: 'text', text: 'I read it.' },
        { type: 'toolCall', callId: 'call_1_0', name: 'files/read_file', args: { path: 'a.png' } },
        { type: 'toolCall', callId: 'call_1_1', name: 'files/read_file', args: '{"path": ' },
      ],
    },
    {
      role: 'tool',
      content: [
        {
          type: 'toolResult',
          callId: 'call_1_0',
          name: 'files/read_file',
          isError: false,
          content: [
            { type: 'text', text: 'a picture' },
            { type: 'image', mediaType: 'image/png', base64: PIXEL },
          ],
        },
        {
          type: 'toolResult',
          callId: 'call_1_1',
          name: 'files/read_file',
          isError: true,
          content: [{ type: 'text', text: 'no such file' }],
        },
      ],
    },
  ]
}
