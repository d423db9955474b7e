/** The verbs of jobs: read, decide, append; bounded retries on a conflict. */
import type { Chance, Clock } from '../../schema/clock.ts'
import { editedArgs } from '../../schema/approval.ts'
import { replay } from '../../schema/decider.ts'
import { isRefusal, PlatformError, refuse, type Refusal } from '../../schema/error.ts'
import { chain, genesisHash, type JobEvent, type NewEvent } from '../../schema/event.ts'
import { canonical, type Sha256 } from '../../schema/hash.ts'
import type { Cancellation } from '../../schema/cancellation.ts'
import { makeId, type ApplicationId, type JobId } from '../../schema/id.ts'
import type { JsonObject } from '../../schema/json.ts'
import type { Lock } from '../../schema/lock.ts'
import { NOTHING_STOPPED, OpenWork, type Stopped } from '../../schema/open-work.ts'
import { pinnedInput } from '../../schema/tool-pin.ts'
import type { ExpertSource } from '../expert/expert-source.ts'
import type { ContentStore } from '../workspace/content-store.ts'
import { HeldAttempt, readAll, type Attempt, type AttemptLimits } from './attempt.ts'
import { buildInputTree, type InputFile } from './input-tree.ts'
import {
  hashContinue,
  hashCreate,
  refuseContinue,
  refuseCreate,
  refuseModels,
  type ContinueJob,
  type CreateJob,
  type QueryLimits,
} from './job-input.ts'
import type { Beginning, Idempotency, JobDemand, JobFilter, JobLog, Rider, StoredJob } from './job-log.ts'
import type { JobSummary } from './job-summary.ts'
import { beginningOf, grantOf, headOf } from './grant.ts'
import { blankJob, decide, evolve, type Ending, type Job, type JobCommand } from './job.ts'
import type { Place, Places } from './place.ts'
import { openDeltaHub, watchJob, type Delta } from './watch.ts'

export type { Attempt, ContinueJob, CreateJob, Delta, InputFile, Place, Places }

export interface JobLimits extends QueryLimits, AttemptLimits {
  /** How long a lease lasts unless renewed. */
  readonly leaseMs: number
  /** Jobs of one application that may have a machine at once; null for as many as there are machines. */
  readonly quota: number | null
}

export interface JobsDependencies {
  readonly log: JobLog
  readonly experts: ExpertSource
  readonly content: ContentStore
  readonly models: { knows(model: string): boolean }
  readonly clock: Clock
  readonly chance: Chance
  readonly limits: JobLimits
}

export interface Jobs {
  create(applicationId: ApplicationId, input: CreateJob): Promise<JobSummary | Refusal>
  continue(applicationId: ApplicationId, input: ContinueJob): Promise<JobSummary | Refusal>
  cancel(applicationId: ApplicationId, jobId: JobId): Promise<JobSummary | Refusal>
  find(applicationId: ApplicationId, jobId: JobId): Promise<JobSummary | undefined>
  list(
    applicationId: ApplicationId,
    filter: JobFilter,
    first: number,
    after: JobId | null,
  ): Promise<readonly JobSummary[]>
  /** The lock that the job pins. */
  lock(applicationId: ApplicationId, jobId: JobId): Promise<Lock | undefined>
  /** Throws `job_not_found`. */
  events(applicationId: ApplicationId, jobId: JobId, after: number, limit: number): Promise<readonly JobEvent[]>
  /**
   * Every event after `after`, as it comes, until the job has finished and all is delivered, or the signal aborts.
   * Deltas are mixed in while live. Keeps nothing per subscriber but a cursor. Throws `job_not_found`.
   */
  watch(applicationId: ApplicationId, jobId: JobId, after: number, signal: AbortSignal): AsyncIterable<JobEvent | Delta>

  /** Closes the questions whose time is over, of some jobs at most; gives how many jobs it changed. */
  expireQuestions(): Promise<number>

  // -- for whoever drives machines
  /**
   * Grants leases on the jobs that are next (`JobLog.claimable`), as many as there are places or fewer; none when none may
   * have a machine. It throws only where it has granted nothing. `ride` is asked what goes in the commit of each lease.
   */
  claim(holder: string, places: number, ride?: Place['ride']): Promise<readonly Attempt[]>
  /**
   * Lets jobs that are created here begin with their creation while there is a place and no other job waits: one commit
   * instead of two, and nobody need look for them. The last offer counts. Gives the way to withdraw it.
   */
  offer(places: Places): () => void
  /** How many jobs could be claimed, and how many are. */
  demand(): Promise<JobDemand>
  /**
   * Appends what happened under the lease, in one commit, after whatever others appended meanwhile; gives all events
   * that are new since the attempt last looked, in order, its own included; with no events it only looks. The end of
   * the coordinator's run ends the job with it, so the workspace must have been recorded before. `jobRested` and
   * `jobFinished` among the events count as `rest` and `finish`. Throws `fence_stale`, `protocol_breach`.
   */
  record(attempt: Attempt, events: readonly NewEvent[]): Promise<readonly JobEvent[]>
  /** The machine waits for humans: the job waits, or is queued again when every question has its answer already. */
  rest(attempt: Attempt): Promise<readonly JobEvent[]>
  /** Ends a job that cannot go on. */
  finish(attempt: Attempt, ending: Ending): Promise<readonly JobEvent[]>
  /** Ends a job that was to be canceled, with the receipt of what was stopped. */
  cancelHeld(attempt: Attempt, stopped: Stopped): Promise<readonly JobEvent[]>
  /** False when the lease is lost: stop at once. */
  renew(attempt: Attempt): Promise<boolean>
  /**
   * The machine died: the job is claimable again, canceled when that was asked for, or failed when its attempts are used up.
   * `detail` are its last words, which the job's owner reads.
   */
  abandon(attempt: Attempt, reason: string, detail?: string): Promise<void>
  /** Calls `wake` when someone else may have appended to the attempt's job: an answer, a cancel. Gives the way to stop. */
  onAppend(attempt: Attempt, wake: () => void): () => void
  /** Calls `wake` when a job may have become claimable. Gives the way to stop. */
  onClaimable(wake: () => void): () => void
  /** Shows a delta to live watchers of this process. */
  show(delta: Delta): void
}

/** A new job, before it is written. */
interface Created {
  readonly now: number
  readonly job: Job
  readonly events: readonly JobEvent[]
  readonly lockHash: Sha256
  readonly idempotency: Idempotency | null
}

/** Jobs that one claim looks at, or more: enough that several claimers do not all meet at the first. */
const CANDIDATES = 8
/** Locks that are kept parsed for the jobs to come. */
const LOCKS_MAX = 64

export function openJobs(dependencies: JobsDependencies): Jobs {
  const { log, experts, content, models, clock, chance, limits } = dependencies
  const hub = openDeltaHub()
  const encoder = new TextEncoder()
  const decoder = new TextDecoder()
  /** Locks that are in the content store already: the source gives the same object while nothing was published. */
  const locks = new WeakMap<Lock, Sha256>()
  /** Locks by their hash, which says all of them; those that were asked for last. */
  const parsed = new Map<Sha256, Promise<Lock>>()
  let offered: Places | undefined
  /** Jobs that may have begun here, as far as is known yet: a claim of the same holder must not be taken for that. */
  const beginning = new Set<JobId>()
  const claimers = new Set<() => void>()

  async function create(applicationId: ApplicationId, input: CreateJob): Promise<JobSummary | Refusal> {
    const refused = refuseCreate(input, limits)
    if (refused !== undefined) return refused
    const idempotency = keyed(input.idempotencyKey, () => hashCreate(input))
    const known = await findRequested(applicationId, idempotency)
    if (known !== undefined) return known
    const tree = buildInputTree(input.files, limits)
    if (isRefusal(tree)) return tree
    const lock = await experts.resolve(input.expertKey)
    if (isRefusal(lock)) return lock
    const unfit = refuseModels(lock, input.model, (model) => models.knows(model))
    if (unfit !== undefined) return unfit
    const [lockHash] = await Promise.all([keepLock(lock), ...tree.objects.map((bytes) => content.put(bytes))])
    const now = clock.now()
    const blank = blankJob(makeId('job', now, chance.bytes(16)), applicationId)
    const { query, userId, model, maxSteps, budget } = input
    const bounded = budget === undefined ? {} : { budget }
    const facts = { expertKey: lock.coordinator, query, userId, model, maxSteps, ...bounded }
    const changes = decide(blank, { type: 'create', now, ...facts, lockHash, inputTreeHash: tree.treeHash })
    if (isRefusal(changes)) return changes
    const events = chain(blank.id, 0, genesisHash(blank.id), now, changes)
    const job = replay({ initial: blank, evolve }, events)
    const created: Created = { now, job, events, lockHash, idempotency }
    const places = offered
    const place = places?.take()
    const stored = await (places === undefined || place === undefined
      ? write(created, null)
      : beginAt(place, places.holder, created))
    return isRefusal(stored) ? stored : summarize(stored)
  }

  async function write(created: Created, begun: Beginning | null): Promise<StoredJob | Refusal> {
    const { job, events, lockHash, idempotency } = created
    try {
      return (await log.create(job, events, lockHash, idempotency, begun)).job
    } catch (error) {
      if (error instanceof PlatformError && error.code === 'idempotency_key_reused') return keyReused(error)
      // The commit may have happened though its answer was lost: then the job is there.
      const stored = await log.find(job.id).catch(() => undefined)
      if (stored === undefined) throw error
      return stored
    }
  }

  /** Writes a new job that begins in the place, where no other waits; else it is queued as any other. */
  async function beginAt(
    place: Place,
    holder: string,
    created: Created,
  ): Promise<Pick<StoredJob, 'job' | 'head'> | Refusal> {
    const { job, events, lockHash, now } = created
    let hasBegun = false
    let rider: Rider | undefined
    beginning.add(job.id)
    try {
      // As it is kept: a machine after this one reads the same, member by member, and makes the same prompts of it.
      const lock = await getLock(lockHash)
      const plain = beginningOf(job, events, now, holder, limits)
      rider = place.ride({ jobId: job.id, fence: plain.lease.fence })
      const begun = { ...plain, rider }
      const stored = await write(created, begun)
      if (isRefusal(stored) || stored.job.id !== job.id) return stored
      // A fence of ours on a job that no claim of ours may have taken.
      hasBegun = stored.lease?.holder === holder && stored.lease.fence === begun.lease.fence
      if (hasBegun) {
        const history = [...events, ...begun.events]
        place.begin(new HeldAttempt({ log, clock, limits }, { job: begun.job, head: headOf(history) }, lock, history))
      }
      // Whoever creates a job reads it as its creation left it, and the rest of its log after that.
      return hasBegun ? { job, head: headOf(events) } : stored
    } finally {
      beginning.delete(job.id)
      if (!hasBegun) {
        rider?.leave()
        place.leave()
      }
    }
  }

  /** The job that an idempotent request led to before, or why it cannot be the same request. */
  async function findRequested(
    applicationId: ApplicationId,
    idempotency: Idempotency | null,
  ): Promise<JobSummary | Refusal | undefined> {
    if (idempotency === null) return undefined
    const request = await log.findRequest(applicationId, idempotency.key)
    if (request === undefined) return undefined
    if (request.requestHash !== idempotency.requestHash)
      return refuse('idempotency_key_reused', `Idempotency key ${idempotency.key} was used for another request.`)
    const stored = await log.find(request.jobId)
    return stored === undefined ? notFound(request.jobId) : summarize(stored)
  }

  /** Decides on the newest state, and again when somebody else was faster. */
  async function change(
    applicationId: ApplicationId,
    jobId: JobId,
    commandAt: (now: number, stored: StoredJob) => JobCommand | Promise<JobCommand>,
    idempotency: Idempotency | null = null,
  ): Promise<JobSummary | Refusal> {
    for (let retries = 0; ; retries++) {
      const known = await findRequested(applicationId, idempotency)
      if (known !== undefined) return known
      const stored = await log.find(jobId)
      if (stored?.job.applicationId !== applicationId) return notFound(jobId)
      const now = clock.now()
      const changes = decide(stored.job, await commandAt(now, stored))
      if (isRefusal(changes)) return changes
      if (changes.length === 0) return summarize(stored)
      const events = chain(jobId, stored.head.revision, stored.head.hash, now, changes)
      const job = replay({ initial: stored.job, evolve }, events)
      try {
        return summarize({ job, head: await log.append(stored.head, job, events, null, { idempotency }) })
      } catch (error) {
        if (!(error instanceof PlatformError)) throw error
        if (error.code === 'idempotency_key_reused') return keyReused(error)
        if (error.code !== 'revision_conflict' || retries >= limits.conflictRetriesMax) throw error
      }
    }
  }

  async function getOwned(applicationId: ApplicationId, jobId: JobId): Promise<StoredJob | undefined> {
    const stored = await log.find(jobId)
    return stored?.job.applicationId === applicationId ? stored : undefined
  }

  async function keepLock(lock: Lock): Promise<Sha256> {
    const kept = locks.get(lock)
    if (kept !== undefined) return kept
    const hash = await content.put(encoder.encode(canonical(lock)))
    locks.set(lock, hash)
    return hash
  }

  async function getLock(lockHash: Sha256): Promise<Lock> {
    const known = parsed.get(lockHash)
    if (known !== undefined) return known
    // Written by create, and the content store has checked it against its hash.
    const lock = content.get(lockHash).then((bytes) => JSON.parse(decoder.decode(bytes)) as Lock)
    parsed.set(lockHash, lock)
    lock.catch(() => parsed.delete(lockHash))
    const [oldest] = parsed.keys()
    if (parsed.size > LOCKS_MAX && oldest !== undefined) parsed.delete(oldest)
    return lock
  }

  /** What the tool takes whose call an answer edits; undefined when it edits none, or the lock does not pin it. */
  async function inputOf(job: Job, answer: NonNullable<ContinueJob['answer']>): Promise<JsonObject | undefined> {
    const question = job.questions.find(({ id }) => id === answer.questionId)
    const run = job.runs.find(({ id }) => id === question?.runId)
    if (question === undefined || run === undefined || editedArgs(answer.value) === undefined) return undefined
    return pinnedInput(await getLock(job.lockHash), run.expertKey, question.toolName)
  }

  /** The receipt of a job that nothing holds any more, from its whole log. */
  async function receipt({ job }: Pick<StoredJob, 'job'>, now: number): Promise<Cancellation> {
    const open = new OpenWork()
    for (const event of await readAll(log, job.id, 0)) open.take(event)
    // A job whose lock is lost is canceled all the same.
    const lock = await getLock(job.lockHash).catch(() => locklessOf(job))
    return open.receipt(lock, Math.max(0, now - (open.canceledAt ?? now)), NOTHING_STOPPED)
  }

  /** A lease on this job; undefined when another claimed it first or its end was all that was left to write. */
  async function grant(stored: StoredJob, holder: string, ride?: Place['ride']): Promise<Attempt | undefined> {
    const now = clock.now()
    const { lease } = stored
    const { barrenAttemptsMax } = limits
    const cancellation = stored.job.cancelRequested ? await receipt(stored, now) : undefined
    const command = { type: 'grant', now, holder, lease, barrenAttemptsMax, cancellation } as const
    const outcome = grantOf(stored.job, stored.head, command, limits.leaseMs)
    if (isRefusal(outcome)) return undefined
    const { job, events, lease: granted } = outcome
    const { id, lockHash } = job
    const rider = granted === null ? undefined : ride?.({ jobId: id, fence: job.fence })
    let attempt: Attempt | undefined
    try {
      const appended = log.append(stored.head, job, events, null, { lease: granted, rider })
      if (granted === null) {
        await appended
        return undefined
      }
      // What is before the lease is there already, and never changes: it is read while the lease is written.
      const [head, before, lock] = await Promise.all([
        appended,
        readAll(log, id, 0),
        getLock(lockHash).catch((error: unknown) => (isMissing(error) ? error : Promise.reject(error))),
      ])
      const history = [...before.slice(0, stored.head.revision), ...events]
      return (attempt = await hold({ job, head }, lock, history))
    } catch (error) {
      if (error instanceof PlatformError && error.code === 'revision_conflict') return undefined
      throw error
    } finally {
      if (attempt === undefined) rider?.leave()
    }
  }

  async function hold(
    stored: Pick<StoredJob, 'job' | 'head'>,
    lock: Lock | PlatformError,
    history: readonly JobEvent[],
  ): Promise<Attempt | undefined> {
    const world = { log, clock, limits }
    if (!(lock instanceof PlatformError)) return new HeldAttempt(world, stored, lock, history)
    // A job whose lock is lost can never run; left in the queue it would be claimed for ever.
    const attempt = new HeldAttempt(world, stored, locklessOf(stored.job), history)
    const ending = { outcome: 'failed', reason: lock.code, message: lock.message, result: null } as const
    await attempt.record((now) => [{ type: 'finish', now, fence: attempt.fence, ...ending }])
    return undefined
  }

  async function expireQuestions(): Promise<number> {
    const due = await log.due(clock.now(), CANDIDATES)
    let changed = 0
    for (const stored of due) {
      const now = clock.now()
      const changes = decide(stored.job, { type: 'expireQuestions', now })
      if (isRefusal(changes) || changes.length === 0) continue
      const { id } = stored.job
      const events = chain(id, stored.head.revision, stored.head.hash, now, changes)
      try {
        await log.append(stored.head, replay({ initial: stored.job, evolve }, events), events, null)
        changed += 1
      } catch (error) {
        // Somebody else was faster: an answer, the machine, or another process that saw the same time pass.
        if (!(error instanceof PlatformError) || error.code !== 'revision_conflict') throw error
      }
    }
    return changed
  }

  async function claim(holder: string, places: number, ride?: Place['ride']): Promise<readonly Attempt[]> {
    for (let retries = 0; retries <= limits.conflictRetriesMax; retries++) {
      const found = await log.claimable(clock.now(), Math.max(places, CANDIDATES), limits.quota)
      const candidates = found.filter(({ job }) => !beginning.has(job.id))
      if (candidates.length === 0) return []
      const attempts: Attempt[] = []
      // Where another was faster, the next in line has the place.
      for (let at = 0; at < candidates.length && attempts.length < places;) {
        const few = candidates.slice(at, at + places - attempts.length)
        at += few.length
        const granted = await Promise.allSettled(few.map((stored) => grant(stored, holder, ride)))
        for (const one of granted) if (one.status === 'fulfilled' && one.value !== undefined) attempts.push(one.value)
        const failed = granted.find((one) => one.status === 'rejected')
        // Whoever has a lease needs its keeper, whatever became of the others.
        if (failed !== undefined && attempts.length > 0) return attempts
        if (failed !== undefined) throw failed.reason
      }
      if (attempts.length > 0) return attempts
    }
    return []
  }

  /** Records under a lease. Where there is a quota, an end makes room for a job that was queued long before. */
  async function recordHeld(
    held: HeldAttempt,
    commandsAt: (now: number) => readonly JobCommand[],
  ): Promise<readonly JobEvent[]> {
    const events = await held.record(commandsAt)
    if (limits.quota !== null && held.job.status !== 'running') for (const wake of claimers) wake()
    return events
  }

  return {
    create,
    async continue(applicationId, input) {
      const refused = refuseContinue(input, limits)
      if (refused !== undefined) return refused
      const { jobId, query, answer, maxSteps, budget, mode } = input
      const idempotency = keyed(input.idempotencyKey, () => hashContinue(input))
      const commandAt = async (now: number, { job }: StoredJob): Promise<JobCommand> =>
        answer === null
          ? { type: 'continue', now, query, maxSteps, budget, ...(mode === undefined ? {} : { mode }) }
          : { type: 'answer', now, ...answer, input: await inputOf(job, answer) }
      return change(applicationId, jobId, commandAt, idempotency)
    },
    cancel: async (applicationId, jobId) =>
      change(applicationId, jobId, async (now, stored) => {
        const isUnheld = stored.job.status === 'queued' || stored.job.status === 'waiting'
        return { type: 'cancel', now, cancellation: isUnheld ? await receipt(stored, now) : undefined }
      }),
    async find(applicationId, jobId) {
      const stored = await getOwned(applicationId, jobId)
      return stored === undefined ? undefined : summarize(stored)
    },
    list: async (applicationId, filter, first, after) =>
      (await log.list(applicationId, filter, first, after)).map(summarize),
    async lock(applicationId, jobId) {
      const stored = await getOwned(applicationId, jobId)
      return stored === undefined ? undefined : getLock(stored.job.lockHash)
    },
    async events(applicationId, jobId, after, limit) {
      if ((await getOwned(applicationId, jobId)) === undefined)
        throw new PlatformError('job_not_found', `There is no job ${jobId}.`)
      return log.read(jobId, after, limit)
    },
    watch: (applicationId, jobId, after, signal) => watchJob({ log, hub }, applicationId, jobId, after, signal),

    expireQuestions,
    claim,
    offer(places) {
      offered = places
      return () => {
        if (offered === places) offered = undefined
      }
    },
    demand: async () => log.demand(clock.now(), limits.quota),
    async record(attempt, events) {
      const held = ours(attempt)
      return recordHeld(held, (now) => held.commandsFor(now, events))
    },
    async rest(attempt) {
      const held = ours(attempt)
      return recordHeld(held, (now) => [held.restAt(now)])
    },
    async finish(attempt, ending) {
      const { outcome, reason, message, result } = ending
      const command = { type: 'finish', fence: attempt.fence, outcome, reason, message, result } as const
      return recordHeld(ours(attempt), (now) => [{ ...command, now }])
    },
    async cancelHeld(attempt, stopped) {
      const held = ours(attempt)
      const ending = { outcome: 'canceled', reason: 'canceled_by_user', message: null, result: null } as const
      const { fence } = attempt
      return recordHeld(held, (now) => {
        const cancellation = held.cancellation(now, stopped)
        return [{ type: 'finish', now, fence, ...ending, ...(cancellation === undefined ? {} : { cancellation }) }]
      })
    },
    renew: async (attempt) => log.renew(attempt.jobId, attempt.fence, clock.now() + limits.leaseMs),
    async abandon(attempt, reason, detail) {
      const { fence } = attempt
      const { barrenAttemptsMax } = limits
      try {
        const held = ours(attempt)
        await recordHeld(held, (now) => {
          const cancellation = held.cancellation(now)
          return [{ type: 'abandon', now, fence, reason, detail, barrenAttemptsMax, cancellation }]
        })
      } catch (error) {
        // Whoever holds the job now, or its end, makes this word needless.
        if (!(error instanceof PlatformError) || error.code !== 'fence_stale') throw error
      }
    },
    onAppend(attempt, wake) {
      const held = ours(attempt)
      return log.onAppend(attempt.jobId, (appended) => {
        if (!held.isOwn(appended)) wake()
      })
    },
    onClaimable(wake) {
      const own = (): void => wake()
      claimers.add(own)
      const stop = log.onClaimable(own)
      return () => {
        claimers.delete(own)
        stop()
      }
    },
    show: (delta) => hub.show(delta),
  }
}

/** A job as callers see it. */
export function summarize({ job, head }: Pick<StoredJob, 'job' | 'head'>): JobSummary {
  const {
    fence: _fence,
    barrenAttempts: _barren,
    barrenEnds: _ends,
    progressed: _progressed,
    cancelRequested: _cancel,
    ...summary
  } = job
  return { ...summary, revision: head.revision }
}

function locklessOf({ expertKey }: Pick<Job, 'expertKey'>): Lock {
  return { version: 1, coordinator: expertKey, experts: {} } as Lock // an exact key, as jobCreated has it
}

function isMissing(error: unknown): error is PlatformError {
  return error instanceof PlatformError && error.code === 'content_missing'
}

function ours(attempt: Attempt): HeldAttempt {
  if (!(attempt instanceof HeldAttempt)) throw new TypeError(`the attempt on ${attempt.jobId} was not claimed here`)
  return attempt
}

function keyed(key: string | null, hash: () => Sha256): Idempotency | null {
  return key === null ? null : { key, requestHash: hash() }
}

function keyReused(error: PlatformError): Refusal {
  return refuse('idempotency_key_reused', error.message)
}

/** The same for a job that is another application's and one that never was. */
function notFound(jobId: JobId): Refusal {
  return refuse('job_not_found', `There is no job ${jobId}.`)
}
