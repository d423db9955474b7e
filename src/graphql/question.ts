/** Questions that a job puts to its human. */
import { isOpen, type QuestionSummary } from '../job/job-summary.ts'
import { builder } from './builder.ts'

const QuestionKindRef = builder.enumType('QuestionKind', { values: ['confirm', 'ask', 'choose', 'schema'] as const })
export const QuestionRef = builder.objectRef<QuestionSummary>('Question').implement({
  description: 'Answer it with continueJob(input: { jobId, answer: { questionId, value, argsHash } }).',
  fields: (t) => ({
    id: t.exposeID('id'),
    runId: t.exposeID('runId'),
    callId: t.exposeString('callId', { description: 'The call that asks, or that is asked about.' }),
    kind: t.expose('kind', { type: QuestionKindRef }),
    title: t.exposeString('title'),
    purpose: t.string({
      nullable: true,
      description:
        "What is asked about a call (`outcome`, `elicitation`) or a `budget`; null for a tool's own question and an approval.",
      resolve: ({ purpose }) => purpose ?? null,
    }),
    schema: t.expose('schema', { type: 'JSON', description: 'JSON Schema that the answer must satisfy.' }),
    toolName: t.exposeString('toolName'),
    args: t.expose('args', { type: 'JSON', description: 'What the expert called the tool with.' }),
    argsHash: t.exposeString('argsHash', { description: 'Send it along to answer exactly what you saw.' }),
    open: t.boolean({ resolve: (question) => isOpen(question) }),
    askedAt: t.expose('askedAt', { type: 'DateTime' }),
    answeredAt: t.expose('answeredAt', { type: 'DateTime', nullable: true }),
    withdrawnAt: t.field({
      type: 'DateTime',
      nullable: true,
      description: 'When the job went on without an answer, because a query interrupted the call that asked.',
      resolve: ({ withdrawnAt }) => withdrawnAt ?? null,
    }),
    answer: t.expose('answer', { type: 'JSON', nullable: true }),
    dueAt: t.field({
      type: 'DateTime',
      nullable: true,
      description: 'From then on it takes no answer; null when it has all the time in the world.',
      resolve: ({ dueAt }) => dueAt ?? null,
    }),
    expired: t.boolean({
      description: 'Its time was over before an answer came: an approval was denied, a tool got no answer.',
      resolve: ({ expired }) => expired === true,
    }),
  }),
})

/** Open ones first, then as they were asked. */
export function openFirst(questions: readonly QuestionSummary[]): readonly QuestionSummary[] {
  return [...questions.filter(isOpen), ...questions.filter((question) => !isOpen(question))]
}
