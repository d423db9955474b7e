/** Whether a value answers a question. */
import { describe, expect, it } from 'vitest'
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
