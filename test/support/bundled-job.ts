/** A job of a team that ran on fakes, with delegates, a question, tools and files; and its bundle. */
import { isRefusal } from '../../schema/error.ts'
import type { JobEvent } from '../../schema/event.ts'
import type { JobId } from '../../schema/id.ts'
import { openBundles, type Bundles } from '../../src/job/bundles.ts'
import { sayWorkspace } from '../fake/fake-machine-host.ts'
import type { MemoryContentStore } from '../fake/memory-content-store.ts'
import type { MemoryJobLog } from '../fake/memory-job-log.ts'
import { anApplication } from '../job/given.ts'
import { attemptWorld, type Process, type Scenario } from '../attempt/attempt-world.ts'
import { team } from '../run/team.ts'

export const LOCK = team()

const script: Readonly<Record<string, ReturnType<Scenario['turnOf']>>> = {
  'lead 1': {
    text: 'I look and ask. Ünïcode, too: 日本',
    calls: [
      { name: 'files/read', args: { path: 'a' } },
      { name: 'delegate/reader', args: { query: 'read c' } },
      // Not in the order of the alphabet: a person reads them as they were written.
      { name: 'human/approve', args: { zone: 'z', change: 'c', also: 'a' } },
    ],
  },
  'lead 2': { text: 'I write.', calls: [{ name: 'files/write', args: { path: 'report' } }] },
  'reader 1': { text: 'I read.', calls: [{ name: 'files/read', args: { path: 'c' } }] },
}

export interface BundledJob {
  readonly jobId: JobId
  readonly events: readonly JobEvent[]
  readonly log: MemoryJobLog
  readonly content: MemoryContentStore
  readonly bundles: Bundles
  readonly process: Process
  readonly world: ReturnType<typeof attemptWorld>
  /** The bundle's text. */
  readonly text: (options?: { readonly files: boolean }) => Promise<string>
}

/** The answer to its question is yes; `keep` is called with what started, to be closed. */
export async function runBundledJob(keep: (process: Process) => void): Promise<BundledJob> {
  const world = attemptWorld({
    lock: LOCK,
    turnOf: ({ expert, stepNumber }) => script[`${expert.name} ${stepNumber}`] ?? { text: `${expert.name} is done` },
    async call(tool, args, callId, say) {
      if (tool === 'write') sayWorkspace(say, 'report.md', `# A report\n\nAs ${callId} says.\n`)
      return `${tool} ${JSON.stringify(args)}`
    },
  })
  const process = world.start()
  keep(process)
  const jobId = await world.create(process)
  const asked = await world.until(jobId, (job) => job.status === 'waiting')
  for (const event of asked) {
    if (event.type !== 'questionAsked') continue
    const { id: questionId, argsHash } = event.data.question
    const answer = { questionId, value: true, argsHash }
    const told = await process.jobs.continue(anApplication, {
      jobId,
      query: null,
      answer,
      maxSteps: null,
      idempotencyKey: null,
    })
    if (isRefusal(told)) throw new Error(told.message)
  }
  const events = await world.until(jobId, (job) => job.status === 'finished')
  const { store: log, content, clock } = world
  const bundles = openBundles({ log, content, clock })
  return {
    jobId,
    events,
    log,
    content,
    bundles,
    process,
    world,
    async text(options = { files: true }) {
      let text = ''
      for await (const line of await bundles.export(anApplication, jobId, options)) text += line
      return text
    },
  }
}

/** A text as a stream of bytes in pieces. */
export async function* chunksOf(text: string | Uint8Array, size = 1000): AsyncGenerator<Uint8Array, void, void> {
  const bytes = typeof text === 'string' ? new TextEncoder().encode(text) : text
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size)
}
