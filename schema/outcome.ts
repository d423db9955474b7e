/** Calls of which nobody knows what came of them: what their human is asked, and what the model then reads. */
import type { Question } from './event.ts'
import { hashOf } from './hash.ts'
import { deriveId, type JobId, type RunId } from './id.ts'
import type { Json } from './json.ts'
import type { ToolCallPart, ToolResultPart } from './message.ts'
import { titleOf } from './question.ts'

/** What a human says of a call of which nobody knows what came of it. */
export const OUTCOME_ANSWERS = ['done', 'retry', 'abandon'] as const

/** The question after a call that may have taken effect or not; `retries` says how often it was made again. */
export function outcomeQuestionOf(jobId: JobId, runId: RunId, call: ToolCallPart, retries: number): Question {
  const argsHash = hashOf(call.args)
  const words =
    `${call.name} was started, and what came of it is unknown. Look whether it took effect, then answer: ` +
    '"done" if it did, "retry" to make the call once more, "abandon" to go on without knowing.'
  return {
    id: deriveId('que', jobId, runId, call.callId, argsHash, 'outcome', retries),
    runId,
    callId: call.callId,
    kind: 'choose',
    title: titleOf(words, call.args),
    schema: { type: 'string', enum: [...OUTCOME_ANSWERS] },
    toolName: call.name,
    args: call.args,
    argsHash,
    purpose: 'outcome',
  }
}

const DONE =
  'A human has looked: this call took effect. What it returned was lost, so do not make it again; ' +
  'read what it changed if you need to know more.'
const ABANDONED =
  'This call was started, and whether it took effect is unknown. A human decided to leave it so: do not make it again.'

/** What a model reads of a call whose outcome a human told; undefined for `retry`, and for what is no answer. */
export function outcomeResult({ callId, name }: ToolCallPart, answer: Json): ToolResultPart | undefined {
  if (answer !== 'done' && answer !== 'abandon') return undefined
  const text = answer === 'done' ? DONE : ABANDONED
  return { type: 'toolResult', callId, name, content: [{ type: 'text', text }], isError: answer === 'abandon' }
}
