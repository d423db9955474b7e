/**
 * What a skill's server may ask of us, and the words with which it is refused all else: one text for the client that
 * says them and for the control plane, which lets no other words of a machine out of it.
 */
import { ELICITATIONS_MAX, readElicitation } from './elicitation.ts'
import type { Json } from './json.ts'

export const ELICIT = 'elicitation/create'

export const MADE_ONCE = 'A call that may be made only once cannot stop to ask a human.'
export const tooManyQuestions = `One call may ask ${ELICITATIONS_MAX} times; its words must be the same when it is made again.`
export const ONLY_IN_CALL = 'A human is asked only in the course of a call.'
export const ASKS_ALONE =
  'Other calls of this skill are under way, so nobody knows which one asks: make this call alone.'

/** `fault` is what `readElicitation` says. */
export function cannotBeAsked(fault: string): string {
  return `Nobody can be asked this: ${fault}.`
}

/** What a server may not ask of us, in words for its author and for a model. */
export function cannotDo(method: string): string {
  switch (method) {
    case 'sampling/createMessage':
      return 'A skill may not ask for generations (sampling): what a model costs is bounded by the budget of its expert'
    case 'roots/list':
      return 'A skill has no roots: its working directory is the workspace'
    default:
      return `A skill may ask a human (elicitation) and nothing else, so not ${method.slice(0, 100)}`
  }
}

/** Every sentence that refuses a request of this method with these params. */
export function refusalsOf(method: string, params: Json): readonly string[] {
  if (method !== ELICIT) return [`${cannotDo(method)}.`]
  const asked = readElicitation(params)
  return typeof asked === 'string' ? [cannotBeAsked(asked)] : [MADE_ONCE, tooManyQuestions, ONLY_IN_CALL, ASKS_ALONE]
}
