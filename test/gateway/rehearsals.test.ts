/** Proves that recorded turns are played through the gateway, from the package of the expert that generates. */
import { describe, expect, it } from 'vitest'
import { PlatformError } from '../../schema/error.ts'
import type { LockedExpert } from '../../schema/lock.ts'
import type { Generated } from '../../src/gateway/gateway.ts'
import { openGateway } from '../../src/gateway/models.ts'
import { fakeClock } from '../fake/fake-clock.ts'
import { until } from '../support/patience.ts'
import { applicationId, asked, reviewer } from './given.ts'

const FILES: Readonly<Record<string, string>> = {
  'sha512-team rehearsals/demo.toml': `
    [[turns]]
    expert = "reviewer"
    step = 1
    reasoning = "First the file, then a word of it to whoever asked."
    text = "I will read the file."
    calls = [{ tool = "files/read_file", args = { path = "a.js" } }, { tool = "files/find", args = { glob = "*" } }]
    usage = { inputTokens = 12, outputTokens = 5 }
    [[turns]]
    expert = "reviewer"
    step = 2
    pauseMs = 100
    text = "It is fine, all of it, from its first line to its last one."
  `,
  'sha512-other rehearsals/demo.toml': '[[turns]]\ntext = "I am from another package."',
  'sha512-other rehearsals/old.json': '{"turns":[{"text":"from JSON"}]}',
  'sha512-other rehearsals/broken.toml': '[[turns]]\nstep = "one"',
}
const other: LockedExpert = { ...reviewer, package: { name: 'other', version: '2.0.0', integrity: 'sha512-other' } }

function setting() {
  const clock = fakeClock()
  const deltas: string[] = []
  let reads = 0
  const gateway = openGateway({
    experts: {
      readFile: async (integrity, path) => {
        reads += 1
        const text = FILES[`${integrity} ${path}`]
        return text === undefined ? undefined : new TextEncoder().encode(text)
      },
    },
    keyOf: async () => undefined,
    baseUrls: {},
    fetch: async () => {
      throw new Error('a rehearsal needs no network')
    },
    clock,
    log: { info: () => {}, warn: () => {}, error: () => {} },
  })
  const play = async (
    model: string,
    expert = reviewer,
    stepNumber = 1,
    signal = new AbortController().signal,
  ): Promise<Generated> => {
    const prompt = { instruction: '', tools: [] }
    const request = { applicationId, model, expert, stepNumber, prompt, messages: [asked] }
    return await gateway.generate(request, (kind, text) => deltas.push(`${kind}:${text}`), signal)
  }
  return { gateway, clock, deltas, play, reads: () => reads }
}

async function failureOf(playing: Promise<Generated>): Promise<unknown> {
  return await playing.then(
    () => undefined,
    (error: unknown) => error,
  )
}

describe('a rehearsal', () => {
  it('plays a turn: its parts with our call ids, its text in pieces, its usage as recorded', async () => {
    const { play, deltas } = setting()
    const generated = await play('rehearsal/demo')
    expect(generated).toEqual({
      parts: [
        { type: 'reasoning', text: 'First the file, then a word of it to whoever asked.' },
        { type: 'text', text: 'I will read the file.' },
        { type: 'toolCall', callId: 'call_1_0', name: 'files/read_file', args: { path: 'a.js' } },
        { type: 'toolCall', callId: 'call_1_1', name: 'files/find', args: { glob: '*' } },
      ],
      usage: { inputTokens: 12, cachedInputTokens: 0, outputTokens: 5, reasoningTokens: 0, costUsd: 0 },
      finishReason: 'tool-calls',
      contextWindow: null,
    })
    expect(deltas.filter((delta) => delta.startsWith('reasoning:')).length).toBeGreaterThan(1)
  })

  it('reads the package of the expert that generates, TOML before JSON', async () => {
    const { play } = setting()
    expect((await play('rehearsal/demo', other)).parts).toEqual([{ type: 'text', text: 'I am from another package.' }])
    expect((await play('rehearsal/old', other)).parts).toEqual([{ type: 'text', text: 'from JSON' }])
  })

  it('is read once, since published bytes never change', async () => {
    const { play, reads } = setting()
    await play('rehearsal/demo')
    await play('rehearsal/demo')
    expect(reads()).toBe(1)
  })

  it('pauses between pieces, and stops when it is canceled', async () => {
    const { play, clock, deltas } = setting()
    const controller = new AbortController()
    const playing = failureOf(play('rehearsal/demo', reviewer, 2, controller.signal))
    await until(() => clock.sleepers() > 0)
    expect(deltas).toEqual([])
    await clock.advance(100)
    expect(deltas).toHaveLength(1)
    controller.abort(new Error('canceled by the test'))
    expect(await playing).toEqual(new Error('canceled by the test'))
    expect(clock.sleepers()).toBe(0)
  })

  it.each([
    ['rehearsal/demo', reviewer, 3, 'rehearsal_diverged', 'fits @acme/team/reviewer at step 3'],
    ['rehearsal/demo', reviewer, 3, 'rehearsal_diverged', 'the user\'s "Review server.js"'],
    ['rehearsal/none', reviewer, 1, 'model_not_found', '@acme/team@1.0.0 has no rehearsals/none.toml'],
    ['rehearsal/broken', other, 1, 'rehearsal_invalid', 'other@2.0.0: rehearsals/broken.toml, at turns[0].step'],
  ] as const)('%s of %o at step %i fails with %s', async (model, expert, step, code, sentence) => {
    const error = await failureOf(setting().play(model, expert, step))
    expect(error).toBeInstanceOf(PlatformError)
    expect(error).toMatchObject({ code, message: expect.stringContaining(sentence) })
  })
})

describe('knows', () => {
  it('says which names have a provider here', () => {
    const { gateway } = setting()
    const known = ['rehearsal/demo', 'anthropic/claude-sonnet-4-5', 'openai/gpt-4o', 'google/gemini-2.5-flash']
    const unknown = [
      '',
      'demo',
      'rehearsal/a/b',
      'rehearsal/../x',
      'ollama/llama3.2',
      'openai-compatible/m',
      'vercel/x',
    ]
    expect(known.filter((model) => !gateway.knows(model))).toEqual([])
    expect(unknown.filter((model) => gateway.knows(model))).toEqual([])
  })
})
