/** `senmon continue`: a further query to a job, finished or not, or more steps for one that ran out. */
import { parseCount, type Command } from './command.ts'
import { continueJob, follow, parseJobId } from './follow.ts'

export const goOn: Command = {
  name: 'continue',
  usage: '<job> ["<query>"]',
  summary: 'Puts a further query to a job, or gives more steps to one that ran out of them.',
  details: `A job that is still open reads the query before its next generation. With --interrupt it gives up what is
under way for it: the generation, the calls of the coordinator, its delegates and its questions.`,
  options: {
    interrupt: { type: 'boolean', help: 'Do not wait: give up what is under way.' },
    'max-steps': { type: 'string', value: 'n', help: 'The new, larger limit of steps.' },
  },
  arity: [1, 2],
  async perform(call) {
    const jobId = parseJobId(call.positionals[0])
    const maxSteps = parseCount('max-steps', call.text('max-steps'))
    const api = await call.api()
    const before = await api.job(jobId)
    await continueJob(api, {
      jobId,
      ...(call.positionals[1] === undefined ? {} : { query: call.positionals[1] }),
      ...(call.flag('interrupt') ? { mode: 'interrupt' } : {}),
      ...(maxSteps === undefined ? {} : { maxSteps }),
      idempotencyKey: call.makeIdempotencyKey(),
    })
    return follow(call, api, jobId, before.revision)
  },
}
