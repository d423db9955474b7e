/** `senmon cancel`: ends a job, and says what that ended. */
import { isJsonObject, type JsonObject } from '../../schema/json.ts'
import type { Api, ShownJob } from './api.ts'
import type { Call, Command } from './command.ts'
import { cancelJob, parseJobId } from './follow.ts'
import { printReceipt, RECEIPT_FIELDS } from './receipt.ts'

/** A machine is gone within two seconds; after this it is for the log to say. */
const END_MS_MAX = 10_000

export const cancel: Command = {
  name: 'cancel',
  usage: '<job>',
  summary: 'Cancels a job and says what was ended and what is unknown; what it has written so far stays readable.',
  options: {},
  arity: [1, 1],
  async perform(call) {
    const api = await call.api()
    const canceled = await cancelJob(api, parseJobId(call.positionals[0]))
    if (canceled.status !== 'finished') await untilFinished(call, api, canceled)
    const job = await api.job(canceled.id)
    const cancellation = await receiptOf(api, job.id)
    call.terminal.write(
      call.json
        ? `${JSON.stringify({ ...job, cancellation })}\n`
        : `${job.id} ${job.outcome ?? job.status}\n${printReceipt(cancellation)}`,
    )
    return 0
  },
}

async function untilFinished({ clock }: Call, api: Api, job: ShownJob): Promise<void> {
  const enough = new AbortController()
  void clock.sleep(END_MS_MAX, enough.signal).then(
    () => enough.abort(),
    () => {},
  )
  try {
    for await (const event of api.events(job.id, job.revision, enough.signal)) if (event.type === 'jobFinished') return
  } finally {
    enough.abort()
  }
}

async function receiptOf(api: Api, jobId: string): Promise<JsonObject | null> {
  const { job } = await api.request(`query ($id: ID!) { job(id: $id) { ${RECEIPT_FIELDS} } }`, { id: jobId })
  return isJsonObject(job) && isJsonObject(job['cancellation']) ? job['cancellation'] : null
}
