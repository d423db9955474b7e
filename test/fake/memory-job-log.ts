/** A job log in memory: a second real implementation, which passes the same contract. */
import { PlatformError } from '../../schema/error.ts'
import type { JobEvent } from '../../schema/event.ts'
import type { ApplicationId, JobId } from '../../schema/id.ts'
import type { Idempotency, JobFilter, JobLog, StoredJob } from '../../src/job/job-log.ts'
import { nextDueAt } from '../../src/job/job-fold.ts'
import type { Job } from '../../src/job/job.ts'
import { isLive } from '../../src/job/lease.ts'
import { assign, type Waiting } from '../../src/pool/assign.ts'
import { rideWith } from './memory-rider.ts'

export interface MemoryJobLog extends JobLog {
  /** Called at the start of every verb but the wake-ups; what it throws, the verb throws. Tests make the world fail here. */
  before: (verb: string) => Promise<void>
  /** Called when a verb has written, before it answers: an answer may be lost after the commit. */
  after: (verb: string) => Promise<void>
  readonly calls: Map<string, number>
  /** How many wake-ups are subscribed: what is left open shows here. */
  listeners(): number
}

type Wakes = Set<{ readonly wake: (appended?: readonly JobEvent[]) => void }>

/** A copy that nobody can change, neither who gave it nor whoever is given it: no reader needs one of its own. */
function kept<Value>(value: Value): Value {
  return frozen(structuredClone(value))
}

function frozen<Value>(value: Value): Value {
  if (typeof value !== 'object' || value === null) return value
  for (const member of Object.values(value)) frozen(member)
  return Object.freeze(value)
}

export function memoryJobLog(): MemoryJobLog {
  const rows = new Map<JobId, StoredJob>()
  const events = new Map<JobId, JobEvent[]>()
  const requests = new Map<string, Idempotency & { readonly jobId: JobId }>()
  const appendWakes = new Map<JobId, Wakes>()
  const claimWakes: Wakes = new Set()
  const calls = new Map<string, number>()
  const requestName = (applicationId: ApplicationId, key: string): string => `${applicationId} ${key}`

  const wakeAll = (wakes: Wakes | undefined, appended?: readonly JobEvent[]): void => {
    for (const { wake } of wakes ?? []) queueMicrotask(() => wake(appended))
  }
  const listen = (wakes: Wakes, wake: (appended?: readonly JobEvent[]) => void): (() => void) => {
    const entry = { wake }
    wakes.add(entry)
    return () => wakes.delete(entry)
  }
  const keep = (stored: StoredJob, added: readonly JobEvent[], idempotency: Idempotency | null | undefined): void => {
    const { id, applicationId } = stored.job
    rows.set(id, kept(stored))
    events.set(id, [...(events.get(id) ?? []), ...added.map((event) => kept(event))])
    if (idempotency) requests.set(requestName(applicationId, idempotency.key), { ...idempotency, jobId: id })
    wakeAll(appendWakes.get(id), added)
    if (stored.job.status === 'queued') wakeAll(claimWakes)
  }
  const row = (id: JobId): StoredJob => {
    const stored = rows.get(id)
    if (stored === undefined) throw new PlatformError('job_not_found', `there is no job ${id}`)
    return stored
  }

  const log: MemoryJobLog = {
    before: async () => {},
    after: async () => {},
    calls,
    listeners: () => [...appendWakes.values(), claimWakes].reduce((sum, wakes) => sum + wakes.size, 0),

    async create(job, added, lockHash, idempotency, beginning = null) {
      await enter('create')
      if (idempotency !== null) {
        const known = requests.get(requestName(job.applicationId, idempotency.key))
        if (known !== undefined && known.requestHash !== idempotency.requestHash) throw reused(idempotency.key)
        if (known !== undefined) return { job: row(known.jobId), isNew: false }
      }
      const last = added.at(-1)
      if (last === undefined || rows.has(job.id)) throw new Error(`job ${job.id} exists, or has no event`)
      const begun = beginning !== null && mayBegin(job, last.at, beginning.quota) ? beginning : null
      const all = [...added, ...(begun?.events ?? [])]
      const { seq: revision, hash } = all.at(-1) ?? last
      const stored = { job: begun?.job ?? job, head: { revision, hash }, lockHash, lease: begun?.lease ?? null }
      keep(stored, all, idempotency)
      if (begun !== null) rideWith(begun.rider)
      await log.after('create')
      return { job: row(job.id), isNew: true }
    },

    async append(expected, job, added, fence, change = {}) {
      await enter('append')
      const before = row(job.id)
      if (fence !== null && before.lease?.fence !== fence)
        throw new PlatformError('fence_stale', `fence ${fence} no longer holds job ${job.id}`)
      const { revision, hash } = before.head
      if (revision !== expected.revision || hash !== expected.hash)
        throw new PlatformError('revision_conflict', `job ${job.id} is at ${revision}, not ${expected.revision}`)
      const last = added.at(-1)
      if (last === undefined || last.seq !== revision + added.length) throw new Error(`bad events for job ${job.id}`)
      if (change.lease && isLive(before.lease, last.at))
        throw new PlatformError('revision_conflict', `job ${job.id} is held by ${before.lease.holder}`)
      if (change.idempotency && requests.has(requestName(job.applicationId, change.idempotency.key)))
        throw reused(change.idempotency.key)
      const head = { revision: last.seq, hash: last.hash }
      const lease = change.lease === undefined ? before.lease : change.lease
      keep({ job, head, lockHash: before.lockHash, lease }, added, change.idempotency)
      if (change.lease) rideWith(change.rider)
      await log.after('append')
      return head
    },

    async findRequest(applicationId, key) {
      await enter('findRequest')
      const known = requests.get(requestName(applicationId, key))
      return known === undefined ? undefined : { jobId: known.jobId, requestHash: known.requestHash }
    },

    async find(jobId) {
      await enter('find')
      return rows.get(jobId)
    },

    async list(applicationId, filter, first, after) {
      await enter('list')
      return [...rows.values()]
        .filter(({ job }) => job.applicationId === applicationId && (after === null || job.id < after))
        .filter((stored) => fits(stored, filter))
        .toSorted((a, b) => (a.job.id < b.job.id ? 1 : -1))
        .slice(0, first)
    },

    async read(jobId, after, limit) {
      await enter('read')
      return (events.get(jobId) ?? []).filter((event) => event.seq > after).slice(0, limit)
    },

    async claimable(now, limit, quota) {
      await enter('claimable')
      return next(now, limit, quota).map(({ jobId }) => row(jobId))
    },

    async demand(now, quota) {
      await enter('demand')
      const running = [...rows.values()].filter((stored) => isHeld(stored, now)).length
      return { queued: next(now, 10_000, quota).length, running }
    },

    async due(now, limit) {
      await enter('due')
      return [...rows.values()]
        .flatMap((stored) => ({ stored, dueAt: nextDueAt(stored.job) }))
        .filter(({ dueAt }) => dueAt !== null && dueAt <= now)
        .toSorted((a, b) => (a.dueAt ?? 0) - (b.dueAt ?? 0))
        .slice(0, limit)
        .map(({ stored }) => stored)
    },

    async renew(jobId, fence, until) {
      await enter('renew')
      const stored = rows.get(jobId)
      if (stored?.lease?.fence !== fence) return false
      rows.set(jobId, kept({ ...stored, lease: { ...stored.lease, until } }))
      return true
    },

    onAppend(jobId, wake) {
      const wakes = appendWakes.get(jobId) ?? new Set()
      appendWakes.set(jobId, wakes)
      return listen(wakes, wake)
    },
    onClaimable: (wake) => listen(claimWakes, wake),
  }

  function isHeld({ job, lease }: StoredJob, now: number): boolean {
    return job.status === 'running' && isLive(lease, now)
  }

  /** L7. */
  function mayBegin({ applicationId }: Job, now: number, quota: number | null): boolean {
    const own = [...rows.values()].filter((one) => one.job.applicationId === applicationId && isHeld(one, now))
    return next(now, 1, quota).length === 0 && (quota === null || own.length < quota)
  }

  function next(now: number, places: number, quota: number | null): readonly Waiting[] {
    const running = new Map<ApplicationId, number>()
    const waiting: Waiting[] = []
    for (const stored of rows.values()) {
      const { id, applicationId, status } = stored.job
      if (isHeld(stored, now)) running.set(applicationId, (running.get(applicationId) ?? 0) + 1)
      // One age for all: ids sort by when jobs were made.
      else if (status === 'queued' || status === 'running') waiting.push({ jobId: id, applicationId, since: 0 })
    }
    return assign(waiting, { places, quota, running })
  }

  async function enter(verb: string): Promise<void> {
    calls.set(verb, (calls.get(verb) ?? 0) + 1)
    await log.before(verb)
  }
  return log
}

function reused(key: string): PlatformError {
  return new PlatformError('idempotency_key_reused', `idempotency key ${key} named another request`)
}

function fits({ job }: StoredJob, filter: JobFilter): boolean {
  return (
    (filter.status === undefined || job.status === filter.status) &&
    (filter.userId === undefined || job.userId === filter.userId) &&
    (filter.expertName === undefined || nameOf(job.expertKey) === filter.expertName)
  )
}

/** An exact key's name: what stands before the last @. */
function nameOf(expertKey: string): string {
  return expertKey.slice(0, expertKey.lastIndexOf('@'))
}
