/** `senmon answer`: the human's word to a waiting job. */
import { isRefusal, PlatformError, refusalError } from '../../schema/error.ts'
import type { ShownJob, ShownQuestion } from './api.ts'
import { parseAnswer } from './answer-value.ts'
import type { Command } from './command.ts'
import { continueJob, follow, openQuestions, parseJobId } from './follow.ts'

export const answer: Command = {
  name: 'answer',
  usage: '<job> [<question>] <value>',
  summary: 'Answers a question of a waiting job, and shows how it goes on.',
  details: `The question may be left out when only one is open. confirm takes yes or no; choose takes an option or its
number; ask takes text; one about a budget takes stop, or new
totals such as "costUsd=5 steps=none"; any other takes JSON. Where an approval
may be given for other arguments: --json-value '{"approved":true,"args":{…}}'.`,
  options: {
    'json-value': { type: 'boolean', help: 'Read the value as JSON.' },
    detach: { type: 'boolean', help: 'Send the answer and leave.' },
  },
  arity: [2, 3],
  async perform(call) {
    const jobId = parseJobId(call.positionals[0])
    const text = call.positionals.at(-1) ?? ''
    const api = await call.api()
    const job = await api.job(jobId)
    const question = findQuestion(job, call.positionals.length === 3 ? call.positionals[1] : undefined)
    const parsed = parseAnswer(question, text, call.flag('json-value'))
    if (isRefusal(parsed)) throw refusalError(parsed)
    const after = await continueJob(api, {
      jobId,
      answer: { questionId: question.id, value: parsed.value, argsHash: question.argsHash },
      idempotencyKey: call.makeIdempotencyKey(),
    })
    if (!call.flag('detach')) return follow(call, api, jobId, job.revision)
    call.terminal.write(call.json ? `${JSON.stringify(after)}\n` : `${after.id} ${after.status}\n`)
    return 0
  },
}

function findQuestion(job: ShownJob, questionId: string | undefined): ShownQuestion {
  const open = openQuestions(job)
  if (questionId !== undefined) {
    const question = job.questions.find(({ id }) => id === questionId)
    if (question === undefined)
      throw new PlatformError('question_not_found', `Job ${job.id} has no question ${questionId}.`)
    return question
  }
  const [only] = open
  if (only === undefined) throw new PlatformError('question_not_found', `Job ${job.id} asks nothing.`)
  if (open.length > 1) {
    const ids = open.map(({ id }) => id).join(', ')
    throw new PlatformError('input_invalid', `Job ${job.id} asks ${open.length} questions; name one of: ${ids}.`)
  }
  return only
}
