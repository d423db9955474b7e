/** `senmon cancel`: ends a job. */
import type { Command } from './command.ts'
import { cancelJob, parseJobId } from './follow.ts'

export const cancel: Command = {
  name: 'cancel',
  usage: '<job>',
  summary: 'Cancels a job; what it has written so far stays readable.',
  options: {},
  arity: [1, 1],
  async perform(call) {
    const job = await cancelJob(await call.api(), parseJobId(call.positionals[0]))
    call.terminal.write(call.json ? `${JSON.stringify(job)}\n` : `${job.id} ${job.outcome ?? job.status}\n`)
    return 0
  },
}
