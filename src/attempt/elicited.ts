/** What a skill asks its human in the middle of a call: which answers the call waits for, and what it may hand back. */
import {
  ELICITATIONS_MAX,
  elicitationQuestionOf,
  elicitationReply,
  handedBackOf,
  inputResponsesOf,
  readElicitation,
  sameWords,
  wholeRounds,
  type Elicitation,
  type ElicitationReply,
} from '../../schema/elicitation.ts'
import type { Question, Resumption } from '../../schema/event.ts'
import { hashOf, type Sha256 } from '../../schema/hash.ts'
import type { JobId, QuestionId, RunId } from '../../schema/id.ts'
import type { ToolCallPart } from '../../schema/message.ts'
import type { AnswerBook } from './answer-book.ts'

/** A question that a skill put in a call. */
export interface Put {
  readonly question: Question
  readonly resumption: Resumption | null
}

/** The open question that keeps a call from being made and from returning. */
export function waitsFor(elicited: readonly Put[], book: AnswerBook): Question | undefined {
  return wholeRounds(elicited).find(({ question }) => !book.isClosed(question.id))?.question
}

/** What a call may hand back to its server: what its humans said, and nothing else (A3). */
export function handsBack(elicited: readonly Put[], book: AnswerBook): Sha256 | undefined {
  const replied = wholeRounds(elicited).map(({ question: { id }, resumption }) => {
    return { resumption, reply: replyTo(id, book) }
  })
  const owed = inputResponsesOf(replied)
  return owed === undefined ? undefined : handedBackOf(owed)
}

/** Whether a human gave this reply to what a call asked (A3). */
export function isReply(elicited: readonly Put[], asked: Elicitation, replyHash: Sha256, book: AnswerBook): boolean {
  const closed = sameWords(elicited, asked).filter(({ question }) => book.isClosed(question.id))
  return closed.some(({ question }) => hashOf(replyTo(question.id, book)) === replyHash)
}

function replyTo(questionId: QuestionId, book: AnswerBook): ElicitationReply {
  const answer = book.answerTo(questionId)
  return answer === undefined ? { action: 'cancel' } : elicitationReply(answer)
}

/**
 * Why a call that is under way cannot put this question after those that it put; undefined when it can. What is asked
 * is the server's word; for which call and how often is checked.
 */
export function faultInElicitation(
  { question, resumption }: Put,
  call: {
    readonly jobId: JobId
    readonly runId: RunId
    readonly part: ToolCallPart
    readonly elicited: readonly Put[]
    readonly timeoutSeconds: number | undefined
  },
  book: AnswerBook,
): string | undefined {
  const { jobId, runId, part, elicited, timeoutSeconds } = call
  if (elicited.length >= ELICITATIONS_MAX) return `call ${part.callId} has asked ${ELICITATIONS_MAX} times`
  if (waitsFor(elicited, book) !== undefined) return `call ${part.callId} waits for an answer already`
  const from = wholeRounds(elicited).length
  const together = elicited.slice(from)
  if (resumption === null ? together.length > 0 : !isNextOf(resumption, from, together))
    return `call ${part.callId} has asked ${from} questions before these, and ${together.length} of these`
  const asked = readElicitation(question.args)
  if (typeof asked === 'string') return `call ${part.callId} asks what nobody can be asked: ${asked}`
  const nth = sameWords(elicited, asked).length
  const owed = elicitationQuestionOf(jobId, runId, part, asked, nth, timeoutSeconds)
  return hashOf(owed) === hashOf(question) ? undefined : `question ${question.id} is not what call ${part.callId} asks`
}

/** Whether a question is one of those that come together, `together` of which have been asked. */
function isNextOf({ from, of, key }: Resumption, before: number, together: readonly Put[]): boolean {
  const isNew = together.every(({ resumption }) => resumption?.of === of && resumption.key !== key)
  return from === before && of > together.length && isNew
}
