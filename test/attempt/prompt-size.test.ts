/** How much a prompt is taken to have, before a provider has counted it. */
import { describe, expect, it } from 'vitest'
import type { PlacedFact } from '../../schema/conversation.ts'
import { sha256 } from '../../schema/hash.ts'
import { rootRunId } from '../../schema/question.ts'
import { noUsage } from '../../schema/usage.ts'
import { inputTokensAtMost, measure, noPrompt } from '../../src/attempt/prompt-size.ts'
import { JOB, LEAD } from '../run/team.ts'

const place = { runId: rootRunId(JOB, 0), expertKey: LEAD, stepNumber: 1 }
const started = (query: string): PlacedFact => ({
  type: 'runStarted',
  data: { query, parent: null, continues: null, depth: 0 },
  ...place,
})
const generated = (text: string, inputTokens: number, outputTokens: number): PlacedFact => ({
  type: 'generated',
  data: {
    parts: [{ type: 'text', text }],
    usage: { ...noUsage, inputTokens, outputTokens },
    model: 'm',
    finishReason: 'stop',
    promptHash: sha256(''),
    durationMs: 1,
  },
  ...place,
})
const returned = (callId: string, text: string): PlacedFact => ({
  type: 'toolReturned',
  data: {
    result: { type: 'toolResult', callId, name: 'files/read', content: [{ type: 'text', text }], isError: false },
    durationMs: 1,
  },
  ...place,
})
const sizeOf = (...facts: readonly PlacedFact[]) => facts.reduce((size, fact) => measure(size, fact), noPrompt)

describe('the size of a prompt', () => {
  it('is a token for every two bytes, and 500 besides, before a provider has counted', () => {
    expect(inputTokensAtMost(sizeOf(started('x'.repeat(998))), 3000)).toBe(500 + 1500 + 500)
  })

  it('is what the provider counted, and the bytes of what came after', () => {
    const size = sizeOf(started('x'.repeat(100_000)), generated('y', 700, 50))
    expect(inputTokensAtMost(size, 3000)).toBe(750 + 500)
    const after = measure(size, returned('call_1_0', 'z'.repeat(2000)))
    expect(inputTokensAtMost(after, 3000)).toBeGreaterThan(750 + 1000 + 500)
    expect(inputTokensAtMost(after, 3000)).toBeLessThan(750 + 1200 + 500)
  })

  it('goes by the bytes when a provider counts nothing', () => {
    const size = sizeOf(started('x'.repeat(998)), generated('y'.repeat(1000), 0, 0))
    expect(inputTokensAtMost(size, 0)).toBeGreaterThan(1000)
  })

  it('counts an image by number and not by size', () => {
    const image = { type: 'image', mediaType: 'image/png', base64: 'A'.repeat(1_000_000) } as const
    const base = returned('call_1_0', '')
    if (base.type !== 'toolReturned') throw new Error('it is')
    const withImage = { ...base, data: { ...base.data, result: { ...base.data.result, content: [image] } } }
    const tokens = inputTokensAtMost(sizeOf(withImage), 0)
    expect(tokens).toBeGreaterThan(3000)
    expect(tokens).toBeLessThan(4000)
  })

  it('is that of the first message, the summary and what was kept, after a compaction', () => {
    const before = sizeOf(
      started('q'),
      generated('x'.repeat(50_000), 90_000, 10),
      returned('call_1_0', 'a'.repeat(1000)),
      returned('call_1_1', 'b'.repeat(1000)),
    )
    const data = {
      summary: 's'.repeat(100),
      kept: 1,
      usage: noUsage,
      model: 'm',
      promptHash: sha256(''),
      durationMs: 1,
    }
    const tokens = inputTokensAtMost(measure(before, { type: 'compacted', data, ...place }), 0)
    expect(tokens).toBeGreaterThan(500 + 1050)
    expect(tokens).toBeLessThan(500 + 1400)
  })
})
