/** A typed answer becomes the value that a question asks for, or a sentence. */
import { describe, expect, it } from 'vitest'
import { parseAnswer } from '../../src/cli/answer-value.ts'

const confirm = { kind: 'confirm', schema: { type: 'boolean' } }
const choose = { kind: 'choose', schema: { enum: ['red', 'green', '1'] } }
const ask = { kind: 'ask', schema: { type: 'string' } }
const schema = { kind: 'schema', schema: { type: 'object' } }

describe('an answer', () => {
  it.each([
    ['yes', true],
    [' Y ', true],
    ['はい', true],
    ['no', false],
    ['False', false],
  ])('to a confirm reads %j as %j', (text, value) => {
    expect(parseAnswer(confirm, text, false)).toEqual({ value })
  })

  it.each(['', 'yeah', '1', 'null'])('to a confirm refuses %j: absent is never yes', (text) => {
    expect(parseAnswer(confirm, text, false)).toMatchObject({ refused: 'answer_invalid' })
  })

  it('to a choose is an option, or its number when no option is spelt like that', () => {
    expect(parseAnswer(choose, 'green', false)).toEqual({ value: 'green' })
    expect(parseAnswer(choose, '2', false)).toEqual({ value: 'green' })
    expect(parseAnswer(choose, '1', false)).toEqual({ value: '1' })
    expect(parseAnswer(choose, '0', false)).toMatchObject({ refused: 'answer_invalid' })
    expect(parseAnswer(choose, 'blue', false)).toMatchObject({ message: '"blue" is not one of: red, green, 1.' })
  })

  it('to an ask is the text as typed', () => {
    expect(parseAnswer(ask, ' 42 ', false)).toEqual({ value: ' 42 ' })
  })

  it('to anything else is JSON, as it is for all with --json-value', () => {
    expect(parseAnswer(schema, '{"a":1}', false)).toEqual({ value: { a: 1 } })
    expect(parseAnswer(schema, 'a', false)).toMatchObject({ refused: 'answer_invalid' })
    expect(parseAnswer(ask, '"x"', true)).toEqual({ value: 'x' })
  })
})
