/** `senmon jobs`: the newest jobs, a line each. */
import { isJsonObject, type Json } from '../../schema/json.ts'
import { toShownJob, JOB_FIELDS, type Api, type ShownJob } from './api.ts'
import { printShare } from './budget.ts'
import { parseCount, type Command } from './command.ts'
import { shownLine } from './terminal.ts'

const JOBS = `query ($first: Int!, $status: JobStatus, $expertName: String, $userId: String) {
  jobs(first: $first, status: $status, expertName: $expertName, userId: $userId) {
    nodes { ${JOB_FIELDS} }
  } }`

export const jobs: Command = {
  name: 'jobs',
  usage: '',
  summary: 'Lists jobs, newest first.',
  options: {
    first: { type: 'string', value: 'n', help: 'How many (default 20).' },
    status: { type: 'string', value: 'status', help: 'queued, running, waiting or finished.' },
    expert: { type: 'string', value: 'name', help: 'Only jobs of this expert.' },
    user: { type: 'string', value: 'id', help: 'Only jobs of this end user.' },
  },
  arity: [0, 0],
  async perform(call) {
    const found = await listJobs(await call.api(), {
      first: parseCount('first', call.text('first')) ?? 20,
      status: call.text('status') ?? null,
      expertName: call.text('expert') ?? null,
      userId: call.text('user') ?? null,
    })
    if (call.json) for (const job of found) call.terminal.write(`${JSON.stringify(job)}\n`)
    else for (const line of printJobs(found)) call.terminal.write(`${line}\n`)
    return 0
  },
}

/** Newest first. */
export async function listJobs(
  api: Api,
  filter: { readonly first: number; readonly [name: string]: Json },
): Promise<readonly ShownJob[]> {
  const data = await api.request(JOBS, filter)
  const page = isJsonObject(data['jobs']) ? data['jobs']['nodes'] : []
  return Array.isArray(page) ? page.filter(isJsonObject).map(toShownJob) : []
}

function printJobs(found: readonly ShownJob[]): readonly string[] {
  return found.map((job) => {
    const status = (job.outcome ?? job.status).padEnd(9)
    const cost = job.usage.costUsd === null ? '' : ` $${job.usage.costUsd.toFixed(4)}`
    const share = job.context?.share ?? null
    const full = share === null ? '' : ` ${printShare(share)} full`
    const query = shownLine(job.query ?? '', 50)
    return `${job.id}  ${status}  ${job.createdAt}  ${shownLine(job.expertKey, 40)}  ${job.steps} ${job.steps === 1 ? 'step' : 'steps'}${cost}${full}  ${query}`
  })
}
