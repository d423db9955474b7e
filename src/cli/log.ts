/** `senmon log`: what happened in a job; with --verify, whether the log still hashes to what it says. */
import { CATALOGUE, KINDS, PlatformError } from '../../schema/error.ts'
import { firstBroken, genesisHash, type JobEvent } from '../../schema/event.ts'
import { parseId } from '../../schema/id.ts'
import type { Api, ShownEvent } from './api.ts'
import { openBundle } from './bundle-source.ts'
import { parseCount, type Command } from './command.ts'
import { follow, parseJobId, showJson, showText } from './follow.ts'
import { listJobs } from './jobs.ts'
import { showPrompts } from './prompts.ts'

export const log: Command = {
  name: 'log',
  usage: '[job]',
  summary: 'Shows what happened in a job, the newest when none is named, from its first event.',
  options: {
    after: { type: 'string', value: 'seq', help: 'Only events after this one.' },
    follow: { type: 'boolean', help: 'Stay with the job until it has finished or asks.' },
    prompts: { type: 'boolean', help: 'Show what each generation was asked with: instruction, tools, messages.' },
    verify: { type: 'boolean', help: 'Check the hash of every event against the one before it.' },
  },
  arity: [0, 1],
  async perform(call) {
    const api = await call.api()
    const jobId = call.positionals.length === 0 ? await findNewest(api) : parseJobId(call.positionals[0])
    if (call.flag('prompts')) return showPrompts(call, await openBundle(call, jobId, { files: false }))
    const after = call.flag('verify') ? 0 : (parseCount('after', call.text('after')) ?? 0)
    if (call.flag('follow') && !call.flag('verify')) return follow(call, api, jobId, after)
    const events = await readLog(api, jobId, after)
    if (!call.flag('verify')) {
      // Here the lines are what was asked for, not news on the way to a result.
      const all = { ...call.terminal, note: (text: string) => call.terminal.write(text) }
      const show = call.json ? showJson(call.terminal) : showText(all)
      for (const event of events) show(event)
      return 0
    }
    const broken = findBroken(jobId, events)
    const verdict = { jobId, events: events.length, headHash: events.at(-1)?.hash ?? null, firstBroken: broken ?? null }
    if (call.json) call.terminal.write(`${JSON.stringify(verdict)}\n`)
    else if (broken === undefined)
      call.terminal.write(`${jobId}: ${events.length} events, the chain holds, its head is ${verdict.headHash}\n`)
    else call.terminal.note(`${jobId}: event ${broken} does not hash to what it says.\n`)
    return broken === undefined ? 0 : KINDS[CATALOGUE.log_tampered.kind].exitCode
  },
}

async function findNewest(api: Api): Promise<string> {
  const [newest] = await listJobs(api, { first: 1 })
  if (newest === undefined) throw new PlatformError('job_not_found', 'There is no job yet.')
  return newest.id
}

/** The log up to where it ends now. */
async function readLog(api: Api, jobId: string, after: number): Promise<readonly ShownEvent[]> {
  const { revision } = await api.job(jobId)
  const events: ShownEvent[] = []
  if (revision <= after) return events
  const stop = new AbortController()
  for await (const event of api.events(jobId, after, stop.signal)) {
    if (event.type === 'delta') continue
    events.push(event)
    if (event.seq >= revision) break
  }
  stop.abort()
  return events
}

/** The API leaves out what follows from the rest (job, version, the hash before); this puts it back and checks all. */
export function findBroken(jobId: string, events: readonly ShownEvent[]): number | undefined {
  const id = parseId('job', jobId)
  if (id === undefined) return 1
  const whole = events.map((event, i) => {
    const { seq, type, runId, expertKey, stepNumber, data, hash } = event
    const prevHash = events[i - 1]?.hash ?? genesisHash(id)
    return { v: 1, jobId: id, seq, type, runId, expertKey, stepNumber, at: Date.parse(event.at), data, prevHash, hash }
  })
  // Whatever these are, the check is whether they hash to what they say.
  return firstBroken(id, whole as unknown as readonly JobEvent[])
}
