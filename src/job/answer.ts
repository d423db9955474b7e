/** Whether a value answers a question. */
import { Ajv } from 'ajv'
import { Ajv2020 } from 'ajv/dist/2020.js'
import { refuse, type Refusal } from '../../schema/error.ts'
import type { Question } from '../../schema/event.ts'
import type { Json } from '../../schema/json.ts'

/** The longest answer, as JSON text in UTF-16 units, and the deepest. */
export const ANSWER_LENGTH_MAX = 65_536
export const ANSWER_DEPTH_MAX = 32

/** Why `value` does not answer the question; undefined when it does. A question that cannot be checked takes no answer. */
export function refuseAnswer(question: Question, value: Json): Refusal | undefined {
  const refused = refuseSize(question.id, value)
  if (refused !== undefined) return refused
  const no = (why: string): Refusal => refuse('answer_invalid', `the answer to question ${question.id} ${why}`)
  switch (question.kind) {
    case 'confirm':
      // An approval may allow edits; its schema says so.
      if (typeof value !== 'boolean' && !('anyOf' in question.schema)) return no('is neither true nor false')
      break
    case 'ask':
      if (typeof value !== 'string') return no('is not a string')
      break
    case 'choose':
      if (!Array.isArray(question.schema['enum']) || !question.schema['enum'].includes(value))
        return no('is none of the options')
      break
    case 'schema':
      break
    default:
      return no('belongs to a question of an unknown kind')
  }
  const fault = schemaFault(question, value)
  return fault === undefined ? undefined : no(fault)
}

/** Why a value is too long or too deep for any question. */
export function refuseSize(questionId: string, value: Json): Refusal | undefined {
  const no = (why: string): Refusal => refuse('answer_invalid', `the answer to question ${questionId} ${why}`)
  if (isDeeper(value, ANSWER_DEPTH_MAX)) return no(`is nested deeper than ${ANSWER_DEPTH_MAX}`)
  if (JSON.stringify(value).length > ANSWER_LENGTH_MAX) return no(`is longer than ${ANSWER_LENGTH_MAX} characters`)
  return undefined
}

/** What the question's JSON Schema has against the value. */
function schemaFault(question: Question, value: Json): string | undefined {
  try {
    const { $schema: dialect, $id: _, ...schema } = question.schema
    // An asynchronous schema would answer later, with a rejection that nobody awaits.
    if ('$async' in schema) return 'cannot be checked, because its schema is asynchronous'
    // A fresh instance each time: ajv keeps every schema that it has compiled, and these come from strangers.
    const options = { strict: false, logger: false, validateFormats: false } as const
    const old = typeof dialect === 'string' && /draft-0[4-7]/.test(dialect)
    const validate = (old ? new Ajv(options) : new Ajv2020(options)).compile(schema)
    if (validate(value)) return undefined
    const [error] = validate.errors ?? []
    return `does not fit its schema: ${error?.instancePath || 'the value'} ${error?.message ?? 'is not allowed'}`
  } catch (error) {
    return `cannot be checked, because its schema is unusable: ${error instanceof Error ? error.message : 'unknown'}`
  }
}

/** Looks without recursion, since a hostile value may be deeper than the stack. */
function isDeeper(value: Json, max: number): boolean {
  const rest: { readonly value: Json; readonly depth: number }[] = [{ value, depth: 0 }]
  for (let next = rest.pop(); next !== undefined; next = rest.pop()) {
    if (next.depth > max) return true
    if (typeof next.value !== 'object' || next.value === null) continue
    for (const member of Object.values(next.value)) rest.push({ value: member as Json, depth: next.depth + 1 })
  }
  return false
}
