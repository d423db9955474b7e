/**
 * Calls whose skill asks a human: the call is given up while the question is open, and made again with the answer ready.
 *
 * EL1 A call whose question is open is not made; once every question is closed it is owed again.
 * EL2 Questions that came together are handed back together: where a crash left some of them, the rest are asked first.
 */
import { elicitationReply, wholeRounds, type ElicitationReply, type Elicited } from '../../schema/elicitation.ts'
import type { Question, Resumption } from '../../schema/event.ts'
import type { QuestionId } from '../../schema/id.ts'
import type { Json } from '../../schema/json.ts'
import type { Call } from './run-state.ts'

/** The call has put the question. */
export function putsQuestion(call: Call, question: Question, resumption: Resumption | null): Call {
  const isKnown = call.elicited.some((one) => one.question.id === question.id)
  if (isKnown || call.path.to !== 'skill') return call
  return { ...call, elicited: [...call.elicited, { question, reply: null, resumption }] }
}

/** The call once a question of its skill is closed; undefined when the question is another's. */
export function hearsReply(
  call: Call,
  questionId: QuestionId,
  answer: { readonly value: Json } | null,
): Call | undefined {
  const asked = call.elicited.find(({ question }) => question.id === questionId)
  if (asked === undefined) return undefined
  if (asked.reply !== null) return call
  const reply: ElicitationReply = answer === null ? { action: 'cancel' } : elicitationReply(answer.value)
  const closed = (one: Elicited): Elicited => (one === asked ? { ...one, reply } : one)
  return { ...call, elicited: call.elicited.map(closed) }
}

export function waitsForHuman({ elicited }: Call): boolean {
  return wholeRounds(elicited).some(({ reply }) => reply === null)
}
