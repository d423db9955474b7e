/** Whether a value answers a question. */
import { describe, expect, it } from 'vitest'
import { approvalSchema } from '../../schema/approval.ts'
import type { Question } from '../../schema/event.ts'
import type { Json, JsonObject } from '../../schema/json.ts'
import { ANSWER_LENGTH_MAX, refuseAnswer } from '../../src/job/answer.ts'
import { aQuestion, jobIdOf, runIdOf } from './given.ts'

const jobId = jobIdOf(1)
const ask = (kind: Question['kind'], schema: JsonObject): Question =>
  aQuestion(jobId, runIdOf(jobId), 'q', { kind, schema })

const confirm = ask('confirm', { type: 'boolean' })
const open = ask('ask', { type: 'string', minLength: 2 })
const choose = ask('choose', { enum: ['red', 'green'] })
const form: JsonObject = {
  type: 'object',
  properties: { name: { type: 'string' }, age: { type: 'integer', minimum: 0 } },
  required: ['name'],
  additionalProperties: false,
}

function nested(depth: number): Json {
  let value: Json = 'deep'
  for (let n = 0; n < depth; n++) value = [value]
  return value
}

const GOOD: readonly [string, Question, Json][] = [
  ['true to a confirmation', confirm, true],
  ['false to a confirmation', confirm, false],
  ['text', open, 'because'],
  ['an option', choose, 'green'],
  ['an object that fits its schema', ask('schema', form), { name: 'Mia', age: 3 }],
  ['null where the schema allows it', ask('schema', { type: 'null' }), null],
  [
    'what an older draft allows',
    ask('schema', { $schema: 'http://json-schema.org/draft-07/schema#', items: [{ type: 'string' }] }),
    ['a', 1],
  ],
]

const BAD: readonly [string, Question, Json][] = [
  ['yes to a confirmation', confirm, 'yes'],
  ['1 to a confirmation', confirm, 1],
  ['null to a confirmation', confirm, null],
  ['a list of true', confirm, [true]],
  ['a number as text', open, 17],
  ['text that is shorter than the schema asks', open, 'x'],
  ['an option that was not offered', choose, 'blue'],
  ['an option with a look-alike letter', choose, 'r\u0435d'],
  ['an option in another case', choose, 'Red'],
  ['an option to a question without any', ask('choose', { type: 'string' }), 'red'],
  ['a missing member', ask('schema', form), { age: 3 }],
  ['a further member', ask('schema', form), { name: 'Mia', admin: true }],
  ['a member of another type', ask('schema', form), { name: 'Mia', age: '3' }],
  ['a megabyte of text', open, 'x'.repeat(1_000_000)],
  ['text beyond the limit by its quotes', open, 'x'.repeat(ANSWER_LENGTH_MAX - 1)],
  ['a value 20,000 levels deep', ask('schema', {}), nested(20_000)],
  ['anything to a schema that is none', ask('schema', { type: 'nonsense' }), 1],
  ['anything to a schema elsewhere', ask('schema', { $ref: 'https://example.com/schema.json' }), 1],
  ['anything to a schema that answers later', ask('schema', { $async: true, type: 'string' }), 1],
  ['anything to a kind that nobody knows', ask('guess' as Question['kind'], {}), 1],
]

const input: JsonObject = {
  type: 'object',
  properties: { path: { type: 'string' }, mode: { enum: ['add', 'replace'] } },
  required: ['path'],
  additionalProperties: false,
}
const editable = ask('confirm', approvalSchema({ edits: true }))
const editing = (args: JsonObject): Json => ({ approved: true, args })

describe('an answer that edits the arguments of a call', () => {
  it('is one when they fit what the tool takes, and so is a plain yes or no (J5)', () => {
    for (const value of [true, false, editing({ path: 'a' }), editing({ path: 'a', mode: 'add' })])
      expect([value, refuseAnswer(editable, value, input)]).toEqual([value, undefined])
  })

  it.each<[JsonObject, string]>([
    [{ path: 7 }, '/path must be string'],
    [{}, "the arguments must have required property 'path'"],
    [{ path: 'a', mode: 'eat' }, '/mode must be equal to one of the allowed values: ["add","replace"]'],
    [{ path: 'a', force: true }, 'the arguments must NOT have additional properties: force'],
  ])('is refused for %j in a sentence that names the field (J5)', (args, fault) => {
    expect(refuseAnswer(editable, editing(args), input)).toEqual({
      refused: 'answer_invalid',
      message: `The answer to question ${editable.id} gives arguments that human/approve_fix does not take: ${fault}.`,
    })
  })

  it('is left to the tool where nobody knows what it takes, or it was published beyond use', () => {
    expect(refuseAnswer(editable, editing({ path: 7 }))).toBeUndefined()
    for (const useless of [{ type: 'nonsense' }, { $ref: 'https://example.com/schema.json' }, { $async: true }])
      expect(refuseAnswer(editable, editing({ path: 7 }), useless)).toBeUndefined()
  })

  it('is refused where the call may not be edited, whatever the tool takes', () => {
    expect(refuseAnswer(confirm, editing({ path: 'a' }), input)).toMatchObject({ refused: 'answer_invalid' })
  })

  it('is told from what fills in a form of a skill, which may look the same', () => {
    const asked = ask('schema', { anyOf: [{ type: 'object' }, { const: false }] })
    expect(refuseAnswer({ ...asked, purpose: 'elicitation' }, editing({ path: 7 }), input)).toBeUndefined()
  })
})

describe('an answer', () => {
  it.each(GOOD)('may be %s', (_, question, value) => {
    expect(refuseAnswer(question, value)).toBeUndefined()
  })

  it.each(BAD)('is refused when it is %s', (_, question, value) => {
    expect(refuseAnswer(question, value)).toMatchObject({ refused: 'answer_invalid' })
  })

  it('is not repeated in the refusal', () => {
    expect(JSON.stringify(refuseAnswer(open, { password: 'hunter2' }))).not.toContain('hunter2')
    expect(JSON.stringify(refuseAnswer(ask('schema', form), { name: 'Mia', age: 'hunter2' }))).not.toContain('hunter2')
  })
})
