/** Proves which recorded turn is played, and what is said about a file or a run that does not fit. */
import { readFile } from 'node:fs/promises'
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { isRefusal } from '../../schema/error.ts'
import type { Message } from '../../schema/message.ts'
import { describeNewest, nextTurn, parseRehearsal, piecesOf, type Rehearsal } from '../../src/gateway/rehearsal.ts'

function parsed(text: string): Rehearsal {
  const rehearsal = parseRehearsal('rehearsals/x.toml', text)
  if (isRefusal(rehearsal)) throw new Error(rehearsal.message)
  return rehearsal
}

function parsedJson(document: object): Rehearsal {
  const rehearsal = parseRehearsal('rehearsals/x.json', JSON.stringify(document))
  if (isRefusal(rehearsal)) throw new Error(rehearsal.message)
  return rehearsal
}

const asked: Message = { role: 'user', content: [{ type: 'text', text: 'Review server.js' }] }

function returned(name: string, text: string, isError = false): Message {
  return {
    role: 'tool',
    content: [{ type: 'toolResult', callId: 'call_1_0', name, isError, content: [{ type: 'text', text }] }],
  }
}

describe('the rehearsal of the guide', () => {
  it('is read, and goes the way that the answer decides', async () => {
    const guide = await readFile(new URL('../../docs/rehearsals.md', import.meta.url), 'utf8')
    const rehearsal = parsed(/```toml\n([^]*?)```/.exec(guide)?.[1] ?? '')
    const turn = (step: number, ...messages: Message[]) => nextTurn(rehearsal, '@acme/team/coordinator', step, messages)
    expect(turn(1, asked)?.calls[0]?.tool).toBe('files/read_file')
    expect(turn(2, returned('files/read_file', 'code'))?.calls[0]?.tool).toBe('delegate/security-analyst')
    expect(turn(4, returned('human/confirm', 'true'))?.calls[0]?.tool).toBe('files/write_file')
    expect(turn(4, returned('human/confirm', 'false'))?.text).toBe('Nothing was written, as you wished.')
    expect(turn(5, returned('files/write_file', 'no', true))).toBeUndefined()
  })
})

describe('nextTurn', () => {
  it('takes the first turn that fits, by expert, step and conditions', () => {
    const rehearsal = parsed(`
      [[turns]]
      expert = "other"
      text = "other"
      [[turns]]
      step = 2
      text = "second"
      [[turns]]
      when = { userContains = "server.js", noResult = true }
      text = "asked"
      [[turns]]
      when = { resultEquals = "yes", resultIsError = false }
      text = "equal"
      [[turns]]
      text = "else"
    `)
    const text = (step: number, ...messages: Message[]) => nextTurn(rehearsal, 'coordinator', step, messages)?.text
    expect(text(1, asked)).toBe('asked')
    expect(text(2, asked)).toBe('second')
    expect(text(3, asked, returned('t/t', ' yes\n'))).toBe('equal')
    expect(text(3, asked, returned('t/t', 'yes', true))).toBe('else')
    expect(text(3, asked, returned('t/t', 'yes, but'))).toBe('else')
  })

  it('takes the one that a look at each in turn finds', () => {
    const given = <Value>(value: fc.Arbitrary<Value>) => fc.option(value, { nil: undefined, freq: 2 })
    const turn = fc.record({
      step: given(fc.integer({ min: 1, max: 2 })),
      expert: given(fc.constantFrom('lead', 'lead', 'other')),
      compaction: fc.constantFrom(false, false, true),
      when: fc.constantFrom(undefined, undefined, undefined, { noResult: true }),
    })
    fc.assert(
      fc.property(
        fc.array(turn, { minLength: 1, maxLength: 8 }),
        fc.integer({ min: 1, max: 2 }),
        fc.constantFrom(false, false, true),
        (turns, step, sums) => {
          const rehearsal = parsedJson({ turns: turns.map((one, i) => ({ ...one, text: `${i}` })) })
          const found = rehearsal.turns.find(
            (one) =>
              one.compaction === sums &&
              (one.step ?? step) === step &&
              one.expert !== 'other' &&
              one.when === undefined,
          )
          const results = [returned('t/t', 'x')]
          expect(nextTurn(rehearsal, 'lead', step, results, sums)).toBe(found)
          expect(nextTurn(rehearsal, 'lead', step, results, sums)).toBe(found)
        },
      ),
    )
  })

  it('asks one and the same result for all conditions on a result', () => {
    const rehearsal = parsed(`
      [[turns]]
      when = { tool = "a/a", resultContains = "here" }
      text = "fits"
    `)
    const both: Message = {
      role: 'tool',
      content: [...returned('a/a', 'nothing').content, ...returned('b/b', 'here').content] as never,
    }
    expect(nextTurn(rehearsal, 'x', 1, [both])).toBeUndefined()
  })

  it('does not take an expert whose name only ends alike', () => {
    const rehearsal = parsed('[[turns]]\nexpert = "analyst"\ntext = "t"')
    expect(nextTurn(rehearsal, 'security-analyst', 1, [])).toBeUndefined()
    expect(nextTurn(rehearsal, '@acme/team/analyst', 1, [])?.text).toBe('t')
  })
})

describe('parseRehearsal', () => {
  it.each([
    ['[[turns', 'rehearsals/x.toml:1:3 cannot be read'],
    ['', 'turns'],
    ['turns = []', 'turns'],
    ['[[turns]]\nstep = 0', 'turns[0].step'],
    ['[[turns]]\nexpret = "x"', 'turns[0]'],
    ['[[turns]]\ncalls = [{ tol = "x" }]', 'turns[0].calls[0].tool'],
    ['[[turns]]\nwhen = { contains = "x" }', 'turns[0].when'],
    ['[[turns]]\nusage = { inputTokens = -1 }', 'turns[0].usage.inputTokens'],
    ['[[turns]]\npauseMs = 60000', 'turns[0].pauseMs'],
  ])('refuses %j and names the place', (text, place) => {
    const refusal = parseRehearsal('rehearsals/x.toml', text)
    expect(refusal).toMatchObject({ refused: 'rehearsal_invalid' })
    expect(isRefusal(refusal) && refusal.message).toContain(place)
  })

  it('reads JSON of the same shape', () => {
    expect(parseRehearsal('x.json', '{"turns":[{"text":"t"}]}')).toMatchObject({ turns: [{ text: 't', calls: [] }] })
    expect(parseRehearsal('x.json', '{')).toMatchObject({ refused: 'rehearsal_invalid' })
  })
})

describe('what is shown', () => {
  it('loses nothing of the text, in pieces that are short', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string({ maxLength: 200 }), fc.lorem({ maxCount: 40 })), (text) => {
        expect(piecesOf(text).join('')).toBe(text)
      }),
    )
  })

  it('names the newest results when nothing fits', () => {
    expect(describeNewest([asked, returned('human/confirm', 'false')])).toBe(
      'the newest results are human/confirm "false"',
    )
    expect(describeNewest([asked])).toBe('the newest message is the user\'s "Review server.js"')
    expect(describeNewest([])).toBe('there is no message')
  })
})
