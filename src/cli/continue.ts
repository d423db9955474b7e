/** `senmon continue`: a further query to a job, finished or not, or more for one that ran out of steps or of its budget. */
import { BUDGET_OPTIONS, parseBudget } from './budget.ts'
import { parseCount, type Command } from './command.ts'
import { continueJob, follow, parseJobId } from './follow.ts'

export const goOn: Command = {
  name: 'continue',
  usage: '<job> ["<query>"]',
  summary: 'Puts a further query to a job, or gives more to one that ran out of steps or of its budget.',
  details: `A job that is still open reads the query before its next generation. With --interrupt it gives up what is
under way for it: the generation, the calls of the coordinator, its delegates and its questions. A budget is given
as new totals; it answers every open question of the job about one.`,
  options: {
    interrupt: { type: 'boolean', help: 'Do not wait: give up what is under way.' },
    'max-steps': { type: 'string', value: 'n', help: 'The new, larger limit of steps.' },
    ...BUDGET_OPTIONS,
    detach: { type: 'boolean', help: 'Send it and leave.' },
  },
  arity: [1, 2],
  async perform(call) {
    const jobId = parseJobId(call.positionals[0])
    const maxSteps = parseCount('max-steps', call.text('max-steps'))
    const api = await call.api()
    const before = await api.job(jobId)
    const after = await continueJob(api, {
      jobId,
      ...(call.positionals[1] === undefined ? {} : { query: call.positionals[1] }),
      ...(call.flag('interrupt') ? { mode: 'interrupt' } : {}),
      ...(maxSteps === undefined ? {} : { maxSteps }),
      ...parseBudget(call.text('budget-usd'), call.texts('budget')),
      idempotencyKey: call.makeIdempotencyKey(),
    })
    if (!call.flag('detach')) return follow(call, api, jobId, before.revision)
    call.terminal.write(call.json ? `${JSON.stringify(after)}\n` : `${after.id} ${after.status}\n`)
    return 0
  },
}
