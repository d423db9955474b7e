/** What became of a job's questions, as its log says. */
import type { QuestionId } from '../../schema/id.ts'
import type { Json } from '../../schema/json.ts'

export class AnswerBook {
  readonly #answers = new Map<QuestionId, Json>()
  readonly #expired = new Set<QuestionId>()

  answer(questionId: QuestionId, value: Json): void {
    this.#answers.set(questionId, value)
  }

  expire(questionId: QuestionId): void {
    this.#expired.add(questionId)
  }

  /** What its human said; undefined when nobody did, or nobody was asked. */
  answerTo(questionId: QuestionId | undefined): Json | undefined {
    return questionId === undefined ? undefined : this.#answers.get(questionId)
  }

  isExpired(questionId: QuestionId): boolean {
    return this.#expired.has(questionId)
  }

  isClosed(questionId: QuestionId): boolean {
    return this.#answers.has(questionId) || this.#expired.has(questionId)
  }
}
