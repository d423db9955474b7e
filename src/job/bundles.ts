/**
 * The verbs that carry a job out of the platform as a bundle, and one in.
 *
 * BE1 A bundle holds the log up to one moment, as the log holds it, and all content that it names.
 * BE2 An import believes nothing: all of the bundle is checked, and all content must be in it, whatever the store has.
 * BE3 What was imported is history: it ends with jobImported, under the importer's application, and runs nowhere.
 */
import { replay } from '../../schema/decider.ts'
import type { Clock } from '../../schema/clock.ts'
import {
  BUNDLE_FORMAT,
  bundlePrinter,
  contentIn,
  contentLines,
  contentOf,
  readBundle,
  type BundleHead,
  type BundleLimits,
  type ContentUse,
} from '../../schema/bundle.ts'
import { PlatformError, refuse, type Refusal } from '../../schema/error.ts'
import { chain, type JobEvent, type NewEvent } from '../../schema/event.ts'
import type { Sha256 } from '../../schema/hash.ts'
import type { ApplicationId, JobId } from '../../schema/id.ts'
import { storedEvent } from '../../schema/upgrade.ts'
import type { ContentStore } from '../workspace/content-store.ts'
import type { JobLog, StoredJob } from './job-log.ts'
import type { JobSummary } from './job-summary.ts'
import { blankJob, evolve, type Job } from './job.ts'
import { summarize } from './jobs.ts'

export interface BundlesDependencies {
  readonly log: JobLog
  readonly content: ContentStore
  readonly clock: Clock
  readonly limits?: BundleLimits
}

/** What one import may weigh. A job of 10,000 steps with results of 1 kB has about 35 MB of events. */
export const IMPORT_LIMITS: BundleLimits = {
  eventBytes: 64 * 1024 * 1024,
  bytes: 1024 * 1024 * 1024,
  unknownEvents: false,
}

export interface Bundles {
  /** The lines of the job's bundle, up to where its log ends now. Throws `job_not_found`, and `content_missing` midway. */
  export(
    applicationId: ApplicationId,
    jobId: JobId,
    options: { readonly files: boolean },
  ): Promise<AsyncGenerator<string, void, void>>
  /** Throws `bundle_invalid`, `input_too_large`; refuses `job_exists`. Nothing of the log is kept unless all of it is. */
  import(applicationId: ApplicationId, chunks: AsyncIterable<Uint8Array>): Promise<JobSummary | Refusal>
}

const PAGE_EVENTS = 500

export function openBundles({ log, content, clock, limits = IMPORT_LIMITS }: BundlesDependencies): Bundles {
  /** The events up to a head, in pages. */
  async function* eventsOf(jobId: JobId, revision: number): AsyncGenerator<JobEvent, void, void> {
    for (let cursor = 0; cursor < revision;) {
      const page = await log.read(jobId, cursor, Math.min(PAGE_EVENTS, revision - cursor))
      if (page.length === 0) throw new Error(`the log of ${jobId} ends at ${cursor}, before ${revision}`)
      yield* page
      cursor = page.at(-1)?.seq ?? revision
    }
  }

  async function* linesOf({ job, head }: StoredJob, files: boolean): AsyncGenerator<string, void, void> {
    const { revision: events, hash: headHash } = head
    const first: BundleHead = { type: 'bundle', format: BUNDLE_FORMAT, jobId: job.id, events, headHash, files }
    const printer = bundlePrinter()
    yield printer.print(first)
    const wanted: Record<ContentUse, Sha256[]> = { lock: [], prompt: [], tree: [], file: [] }
    const seen = new Set<Sha256>()
    for await (const event of eventsOf(job.id, events)) {
      yield printer.print({ type: 'event', event: storedEvent(event) })
      for (const [hash, use] of contentOf(event)) want(hash, use)
    }
    function want(hash: Sha256, use: ContentUse): void {
      if (seen.has(hash) || (!files && (use === 'tree' || use === 'file'))) return
      seen.add(hash)
      wanted[use].push(hash)
    }
    // Trees before files, since a tree names what is wanted after it.
    for (const use of ['lock', 'prompt', 'tree', 'file'] as const)
      for (const hash of wanted[use]) {
        const bytes = await content.get(hash)
        for (const line of contentLines(hash, bytes)) yield printer.print(line)
        for (const [below, its] of contentIn(use, bytes)) want(below, its)
      }
    yield printer.end(seen.size)
  }

  async function take(applicationId: ApplicationId, chunks: AsyncIterable<Uint8Array>): Promise<JobSummary | Refusal> {
    const events: JobEvent[] = []
    let head: BundleHead | undefined
    for await (const part of readBundle(chunks, limits)) {
      if (part.type === 'bundle') {
        head = part
        if ((await log.find(part.jobId)) !== undefined) return exists(part.jobId)
      } else if (part.type === 'event') events.push(part.event)
      else if (part.type === 'content') await content.put(part.bytes)
    }
    if (head === undefined) throw new PlatformError('bundle_invalid', 'The bundle is empty.')
    const { jobId, headHash } = head
    const blank = blankJob(jobId, applicationId)
    const fault = faultInLog(events) ?? faultInFiles(head, events)
    if (fault !== undefined) throw new PlatformError('bundle_invalid', fault)
    const now = clock.now()
    const place = { runId: null, expertKey: null, stepNumber: null, v: 1 } as const
    const fact: NewEvent = { type: 'jobImported', data: { headHash }, ...place }
    const all = [...events, ...chain(jobId, events.length, headHash, now, [fact])]
    const job = replay({ initial: blank, evolve }, all)
    try {
      return summarize((await log.create(job, all, job.lockHash, null)).job)
    } catch (error) {
      const stored = await log.find(jobId).catch(() => undefined)
      if (stored === undefined) throw error
      // Ours, when the commit happened though its answer was lost.
      return isOurs(stored, job, all) ? summarize(stored) : exists(jobId)
    }
  }

  return {
    async export(applicationId, jobId, { files }) {
      const stored = await log.find(jobId)
      if (stored?.job.applicationId !== applicationId)
        throw new PlatformError('job_not_found', `There is no job ${jobId}.`)
      return linesOf(stored, files)
    },
    import: take,
  }
}

function isOurs(stored: StoredJob, job: Job, events: readonly JobEvent[]): boolean {
  return stored.job.applicationId === job.applicationId && stored.head.hash === events.at(-1)?.hash
}

/** A job without its files could never be forked: it is no whole history. */
function faultInFiles({ files, jobId }: BundleHead, events: readonly JobEvent[]): string | undefined {
  if (files || !events.some((event) => contentOf(event).some(([, use]) => use === 'tree'))) return undefined
  return `The bundle of ${jobId} was made without its files: it can be verified and replayed, not imported.`
}

function exists(jobId: JobId): Refusal {
  return refuse('job_exists', `There is a job ${jobId} here already.`)
}

/** What no decider would have written, though every hash is right; what goes on from this log counts on it. */
function faultInLog(events: readonly JobEvent[]): string | undefined {
  let fence = 0
  for (const { seq, type, data } of events) {
    if (type !== 'leaseGranted') continue
    if (data.fence !== fence + 1) return `Event ${seq} grants fence ${data.fence} after fence ${fence}.`
    fence = data.fence
  }
  return undefined
}
