/**
 * What a machine's keeper holds while it drives a job. It knows the log's head and the job's state, so that a step
 * costs one append and no read; what others appended meanwhile is read only when an append collides with it.
 *
 * T1 Every recorded fact is in the log once, after all that others appended before it, also when an answer of the store is lost.
 * T2 A record, and a look, gives every event that is new since the last, in order, each once.
 * T3 After another lease, or the end of this one, nothing is recorded: `fence_stale`.
 */
import type { Clock } from '../../schema/clock.ts'
import { replay } from '../../schema/decider.ts'
import { isRefusal, PlatformError, refusalError } from '../../schema/error.ts'
import { chain, type JobEvent, type NewEvent } from '../../schema/event.ts'
import type { Sha256 } from '../../schema/hash.ts'
import type { Cancellation } from '../../schema/cancellation.ts'
import type { ApplicationId, JobId } from '../../schema/id.ts'
import { NOTHING_STOPPED, OpenWork, type Stopped } from '../../schema/open-work.ts'
import type { Lock } from '../../schema/lock.ts'
import type { JobLog, LogHead, StoredJob } from './job-log.ts'
import { decide, evolve, type Job, type JobChange, type JobCommand } from './job.ts'

/** The right to append to a job until its lease ends. */
export interface Attempt {
  readonly jobId: JobId
  readonly applicationId: ApplicationId
  readonly fence: number
  readonly lock: Lock
  readonly model: string | null
  readonly inputTreeHash: Sha256 | null
  readonly treeHash: Sha256 | null
  /** The log up to and with the grant of the lease. */
  readonly history: readonly JobEvent[]
  /** The end of the log as far as this attempt has seen it. */
  readonly head: LogHead
  /** The job as far as this attempt has seen it. */
  readonly job: Job
}

export interface AttemptLimits {
  readonly barrenAttemptsMax: number
  readonly conflictRetriesMax: number
}

const PAGE_EVENTS = 500

/** All events with seq > after. */
export async function readAll(log: Pick<JobLog, 'read'>, jobId: JobId, after: number): Promise<readonly JobEvent[]> {
  const events: JobEvent[] = []
  for (let cursor = after; ;) {
    const page = await log.read(jobId, cursor, PAGE_EVENTS)
    events.push(...page)
    if (page.length < PAGE_EVENTS) return events
    cursor = page.at(-1)?.seq ?? cursor
  }
}

export class HeldAttempt implements Attempt {
  readonly jobId: JobId
  readonly applicationId: ApplicationId
  readonly fence: number
  readonly lock: Lock
  readonly model: string | null
  readonly inputTreeHash: Sha256 | null
  readonly treeHash: Sha256 | null
  readonly history: readonly JobEvent[]
  readonly #log: JobLog
  readonly #clock: Clock
  readonly #limits: AttemptLimits
  readonly #open = new OpenWork()
  #job: Job
  #head: LogHead
  /** Records wait for one another: each needs the head that the one before it leaves. */
  #queue: Promise<unknown> = Promise.resolve()
  /** What the append that is under way appends. */
  #appending: readonly JobEvent[] | undefined

  constructor(
    world: { readonly log: JobLog; readonly clock: Clock; readonly limits: AttemptLimits },
    stored: Pick<StoredJob, 'job' | 'head'>,
    lock: Lock,
    history: readonly JobEvent[],
  ) {
    const { job, head } = stored
    this.#log = world.log
    this.#clock = world.clock
    this.#limits = world.limits
    this.#job = job
    this.#head = head
    this.jobId = job.id
    this.applicationId = job.applicationId
    this.fence = job.fence
    this.lock = lock
    this.model = job.model
    this.inputTreeHash = job.inputTreeHash
    this.treeHash = job.treeHash
    this.history = history
    for (const event of history) this.#open.take(event)
  }

  get head(): LogHead {
    return this.#head
  }

  get job(): Job {
    return this.#job
  }

  /** Appends what the commands lead to, in one commit; no commands only looks. Gives all events new to this attempt. */
  record(commandsAt: (now: number) => readonly JobCommand[]): Promise<readonly JobEvent[]> {
    const turn = this.#queue.then(() => this.#record(commandsAt))
    this.#queue = turn.catch(() => undefined)
    return turn
  }

  async #record(commandsAt: (now: number) => readonly JobCommand[]): Promise<readonly JobEvent[]> {
    const now = this.#clock.now()
    if (commandsAt(now).length === 0) return this.#catchUp()
    const seen: JobEvent[] = []
    for (let retries = 0; ; retries++) {
      const changes = decideAll(this.#job, commandsAt(now))
      const events = chain(this.jobId, this.#head.revision, this.#head.hash, now, changes)
      const last = events.at(-1)
      if (last === undefined) return seen
      const job = replay({ initial: this.#job, evolve }, events)
      const change = job.status === 'running' ? {} : { lease: null }
      this.#appending = events
      try {
        this.#head = await this.#log.append(this.#head, job, events, this.fence, change)
        this.#job = job
        for (const event of events) this.#open.take(event)
        return [...seen, ...events]
      } catch (error) {
        const others = await this.#look(error)
        // The commit may have happened though its answer was lost: then the log holds these very events.
        const isOurs = others[events.length - 1]?.hash === last.hash
        this.#accept(others)
        seen.push(...others)
        if (isOurs) return seen
        const isConflict = error instanceof PlatformError && error.code === 'revision_conflict'
        if (!isConflict || retries >= this.#limits.conflictRetriesMax) throw error
      }
    }
  }

  /** True for the very events that this attempt appends: it needs no look to see them. */
  isOwn(appended: readonly JobEvent[] | undefined): boolean {
    return appended !== undefined && appended === this.#appending
  }

  /** What is in the log beyond the head; when that cannot be read either, the first error counts. */
  async #look(error: unknown): Promise<readonly JobEvent[]> {
    try {
      return await readAll(this.#log, this.jobId, this.#head.revision)
    } catch {
      throw error
    }
  }

  async #catchUp(): Promise<readonly JobEvent[]> {
    const events = await readAll(this.#log, this.jobId, this.#head.revision)
    this.#accept(events)
    return events
  }

  #accept(events: readonly JobEvent[]): void {
    const last = events.at(-1)
    if (last === undefined) return
    this.#job = replay({ initial: this.#job, evolve }, events)
    for (const event of events) this.#open.take(event)
    this.#head = { revision: last.seq, hash: last.hash }
  }

  /** The receipt of a job that is to be canceled and ends now; undefined of any other. */
  cancellation(now: number, stopped: Stopped = NOTHING_STOPPED): Cancellation | undefined {
    const { canceledAt } = this.#open
    if (canceledAt === undefined) return undefined
    return this.#open.receipt(this.lock, Math.max(0, now - canceledAt), stopped)
  }

  restAt(now: number): JobCommand {
    const { barrenAttemptsMax } = this.#limits
    return { type: 'rest', now, fence: this.fence, barrenAttemptsMax, cancellation: this.cancellation(now) }
  }

  /** What a keeper's events ask of the job: its facts are recorded, an end or a rest is decided. */
  commandsFor(now: number, events: readonly NewEvent[]): readonly JobCommand[] {
    const { fence } = this
    const facts = events.filter((event) => event.type !== 'jobRested' && event.type !== 'jobFinished')
    const commands: JobCommand[] = facts.length > 0 ? [{ type: 'record', now, fence, events: facts }] : []
    for (const event of events) {
      if (event.type === 'jobRested') commands.push(this.restAt(now))
      if (event.type === 'jobFinished') commands.push({ type: 'finish', now, fence, ...event.data })
    }
    return commands
  }
}

/** The changes that follow from commands, one after the other; what comes after the job's end is left out. */
function decideAll(job: Job, commands: readonly JobCommand[]): readonly JobChange[] {
  const all: JobChange[] = []
  let state = job
  for (const [i, command] of commands.entries()) {
    if (i > 0 && state.status !== 'running') break
    const changes = decide(state, command)
    if (isRefusal(changes)) throw refusalError(changes)
    all.push(...changes)
    state = replay({ initial: state, evolve }, changes)
  }
  return all
}
