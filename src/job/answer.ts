/** Whether a value answers a question. */
import { editedArgs } from '../../schema/approval.ts'
import { refuse, type Refusal } from '../../schema/error.ts'
import type { Question } from '../../schema/event.ts'
import { argumentFault, isDeeper, schemaFault } from '../../schema/json-schema.ts'
import type { Json, JsonObject } from '../../schema/json.ts'

/** The longest answer, as JSON text in UTF-16 units, and the deepest. */
export const ANSWER_LENGTH_MAX = 65_536
export const ANSWER_DEPTH_MAX = 32

/**
 * Why `value` does not answer the question; undefined when it does. A question that cannot be checked takes no answer.
 * `input` is what the tool takes whose call is to be approved, where that is known: arguments that a human gives in
 * place of the call's must fit it. One that is beyond use judges nothing: the tool itself does, as of its model's calls.
 */
export function refuseAnswer(question: Question, value: Json, input?: JsonObject): Refusal | undefined {
  const refused = refuseSize(question.id, value)
  if (refused !== undefined) return refused
  const no = (why: string): Refusal => refuse('answer_invalid', `The answer to question ${question.id} ${why}.`)
  switch (question.kind) {
    case 'confirm':
      // An approval may allow edits; its schema says so.
      if (typeof value !== 'boolean' && !isEditable(question)) return no('is neither true nor false')
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
  const fault = schemaFault(question.schema, value)
  if (fault !== undefined) return no(fault)
  const edited = isEditable(question) ? editedArgs(value) : undefined
  const unfit = edited === undefined || input === undefined ? undefined : argumentFault(input, edited)
  return unfit === undefined ? undefined : no(`gives arguments that ${question.toolName} does not take: ${unfit}`)
}

/** Whether it asks about a call that may be approved with other arguments: the only confirmation of several forms. */
export function isEditable({ purpose, kind, schema }: Pick<Question, 'purpose' | 'kind' | 'schema'>): boolean {
  return purpose === undefined && kind === 'confirm' && 'anyOf' in schema
}

/** Why a value is too long or too deep for any question. */
export function refuseSize(questionId: string, value: Json): Refusal | undefined {
  const no = (why: string): Refusal => refuse('answer_invalid', `The answer to question ${questionId} ${why}.`)
  if (isDeeper(value, ANSWER_DEPTH_MAX)) return no(`is nested deeper than ${ANSWER_DEPTH_MAX}`)
  if (JSON.stringify(value).length > ANSWER_LENGTH_MAX) return no(`is longer than ${ANSWER_LENGTH_MAX} characters`)
  return undefined
}
