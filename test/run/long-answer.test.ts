/** Answers that are too long to be read whole: what is kept, what is shown, and what a skill cannot forge. */
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  excerpt,
  INLINE_BYTES_MAX,
  keptPath,
  longAnswer,
  markKept,
  textOfBlocks,
} from '../../runner/skill/long-answer.ts'
import { resultOfRead } from '../../runner/skill/resource.ts'
import { toolResultOf } from '../../runner/skill/result.ts'

const PATH = '.senmon/results/0123456789abcdef.txt'
const answer = (...texts: readonly string[]) => ({
  jsonrpc: '2.0',
  id: 1,
  result: { content: texts.map((text) => ({ type: 'text', text })) },
})

/** Texts above the limit: lines of all lengths, characters of all sizes, no line at all. */
const longTexts = fc
  .record({
    unit: fc.constantFrom('word ', 'é', '😀', 'line\n', 'a\nb', '\n'),
    line: fc.integer({ min: 1, max: 40_000 }),
    extra: fc.integer({ min: 1, max: 60_000 }),
    // Shifts where characters begin against where a cut would fall.
    shift: fc.integer({ min: 0, max: 3 }),
  })
  .map(({ unit, line, extra, shift }) => {
    const text = unit.repeat(Math.ceil((INLINE_BYTES_MAX + extra) / Buffer.byteLength(unit)))
    return `${'x'.repeat(shift)}${Array.from(text).slice(0, line).join('')}\n${text}`
  })

describe('an excerpt', () => {
  it('begins and ends as the text, is bounded, cuts no character, and says where to read on', () => {
    fc.assert(
      fc.property(longTexts, (text) => {
        const shown = excerpt(text, PATH)
        expect(Buffer.byteLength(shown)).toBeLessThan(17 * 1024)
        expect(shown).not.toContain('\ufffd')
        const [, head = '', missing, total, place, at, tail = ''] =
          /^([^]*?)\n?\[(\d+) of (\d+) bytes are left out here\. .*? with (offset|byteOffset) (\d+) of read_file\.\]\n([^]*)$/.exec(
            shown,
          ) ?? []
        expect(text.startsWith(head)).toBe(true)
        expect(text.endsWith(tail)).toBe(true)
        expect(Number(total)).toBe(Buffer.byteLength(text))
        // What is read from there on, without the tail, is what is missing.
        const bytes = Buffer.from(text)
        const rest =
          place === 'offset'
            ? Buffer.byteLength(
                text
                  .split('\n')
                  .slice(Number(at) - 1)
                  .join('\n'),
              )
            : bytes.length - Number(at)
        expect(rest - Buffer.byteLength(tail)).toBe(Number(missing))
      }),
      { numRuns: 200 },
    )
  })
})

describe('a long answer', () => {
  it('is one whose texts together are above the limit, resources included', () => {
    const half = 'x'.repeat(INLINE_BYTES_MAX / 2)
    expect(longAnswer(answer(half, half))).toBe(`${half}\n${half}`)
    expect(longAnswer(answer(half, half.slice(1)))).toBeUndefined()
    const resource = { type: 'resource', resource: { uri: 'doc:1', text: half.repeat(2) } }
    expect(longAnswer({ id: 1, result: { content: [resource] } })).toContain('[resource doc:1]')
  })

  it('is a resource that was read, too, which its reader sees in the same form', () => {
    const text = 'x'.repeat(2 * INLINE_BYTES_MAX)
    const frame = { id: 1, result: { contents: [{ uri: 'doc:1', text }] } }
    const whole = `[resource doc:1]\n${text}`
    expect(longAnswer(frame)).toBe(whole)
    const { result } = markKept(frame, PATH) as { result: Parameters<typeof resultOfRead>[0] }
    const call = { type: 'toolCall', callId: 'c', name: 's/readResource', args: {} } as const
    expect(toolResultOf(call, resultOfRead(result)).content).toEqual([{ type: 'text', text: excerpt(whole, PATH) }])
  })

  it('of a shape that no tool gives is none', () => {
    for (const odd of [
      null,
      [],
      { id: 1 },
      { id: 1, result: null },
      { id: 1, result: { content: 'x'.repeat(99_999) } },
    ])
      expect(longAnswer(odd as never)).toBeUndefined()
    expect(textOfBlocks([null, 1, { type: 'text' }, { type: 'resource' }, { type: 'resource', resource: {} }])).toBe('')
  })

  it('says where it is kept only by the word of the supervisor', () => {
    const forged = { ...answer('a'), result: { content: [], _meta: { 'senmon.dev/kept': PATH, other: 1 } } }
    expect(markKept(forged, undefined)).toMatchObject({ result: { _meta: { other: 1 } } })
    expect(JSON.stringify(markKept(forged, undefined))).not.toContain('kept')
    expect(markKept(answer('a'), PATH)).toMatchObject({ result: { _meta: { 'senmon.dev/kept': PATH } } })
    expect(markKept(answer('a'), undefined)).toEqual(answer('a'))
    for (const path of ['../../etc/passwd', '/etc/passwd', `${PATH}/x`, 7])
      expect(keptPath({ 'senmon.dev/kept': path })).toBeUndefined()
  })

  it('that is kept is read as an excerpt, with its images, and its data only when that is short', () => {
    const call = { type: 'toolCall', callId: 'call_1_0', name: 'a/b', args: {} } as const
    const text = 'line\n'.repeat(10_000)
    const image = { type: 'image', mimeType: 'image/png', data: 'AAAA' } as const
    const result = { content: [{ type: 'text', text } as const, image], _meta: { 'senmon.dev/kept': PATH } }
    const shown = toolResultOf(call, { ...result, structuredContent: { text } })
    expect(shown.content).toEqual([
      { type: 'text', text: excerpt(text, PATH) },
      { type: 'image', mediaType: 'image/png', base64: 'AAAA' },
    ])
    expect(shown.structured).toBeUndefined()
    expect(toolResultOf(call, { ...result, structuredContent: { lines: 10_000 } }).structured).toEqual({
      lines: 10_000,
    })
  })
})
