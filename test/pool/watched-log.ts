/** A job log that is watched: every commit, whoever makes it, is held against what the log promises (I2 to I6, I18, I19). */
import type { JobEvent } from '../../schema/event.ts'
import type { Sha256 } from '../../schema/hash.ts'
import type { ApplicationId, JobId } from '../../schema/id.ts'
import type { JobLog } from '../../src/job/job-log.ts'
import type { Findings } from './invariant.ts'

export interface WatchedJob {
  readonly id: JobId
  readonly applicationId: ApplicationId
  fence: number
  /** Whom the last lease was granted to. */
  holder: string | null
  /** By the lease that it was given last, renewals counted. */
  until: number
  status: 'queued' | 'running' | 'finished'
  outcome: string | null
  /** By the true clock; null while nobody asked. */
  canceledAt: number | null
  readonly hashes: Sha256[]
}

export interface WatchedLogOptions {
  readonly findings: Findings
  readonly quota: number
  readonly leaseMs: number
  /** How many processes there have been: each may act once on what it saw before it stood still, */
  readonly processes: () => number
  /** and take as many jobs as this by one look. */
  readonly atOnce: number
  /** The true time. */
  readonly now: () => number
}

export interface WatchedLog extends JobLog {
  readonly jobs: ReadonlyMap<JobId, WatchedJob>
  /** Reads all logs again. */
  readAgain(): Promise<void>
}

export function watchedLog(log: JobLog, options: WatchedLogOptions): WatchedLog {
  const { findings, quota, leaseMs } = options
  const jobs = new Map<JobId, WatchedJob>()
  /** Grants to others since an application that has nothing began to wait. */
  const passedOver = new Map<ApplicationId, number>()

  const running = (applicationId: ApplicationId, at: number): number =>
    [...jobs.values()].filter(
      (one) => one.applicationId === applicationId && one.status === 'running' && one.until > at,
    ).length

  /** A lease is about to be granted: whose turn is it? */
  function lookAtShares(job: WatchedJob, at: number): void {
    const late = (options.processes() - 1) * options.atOnce
    const own = running(job.applicationId, at)
    findings.look('I19', own < quota + late, () => `${job.applicationId} has ${own + 1} of ${quota}`)
    const waiting = new Set(
      [...jobs.values()].filter(({ status }) => status === 'queued').map((one) => one.applicationId),
    )
    for (const one of passedOver.keys()) if (!waiting.has(one) || running(one, at) > 0) passedOver.delete(one)
    for (const one of waiting) if (running(one, at) === 0 && !passedOver.has(one)) passedOver.set(one, 0)
    if (own > 0)
      for (const [one, times] of passedOver) {
        passedOver.set(one, times + 1)
        findings.look(
          'I19',
          times <= late + options.atOnce,
          () => `${one} has nothing and was passed over ${times + 1} times`,
        )
      }
    passedOver.delete(job.applicationId)
  }

  function take(job: WatchedJob, event: JobEvent, fence: number | null): void {
    const { id } = job
    findings.look('I6', event.seq === job.hashes.length + 1, () => `${id} has ${event.seq} after ${job.hashes.length}`)
    findings.look('I5', job.status !== 'finished', () => `${event.type} follows the end of ${id}`)
    if (fence !== null)
      findings.look('I3', fence === job.fence, () => `${event.type} of ${id} under ${fence}, not ${job.fence}`)
    job.hashes.push(event.hash)
    switch (event.type) {
      case 'leaseGranted': {
        const rises = event.data.fence === job.fence + 1
        findings.look('I2', rises, () => `the fence of ${id} goes from ${job.fence} to ${event.data.fence}`)
        const isFree = job.status === 'queued' || job.until <= event.at
        findings.look('I2', isFree, () => `${id} is granted though its lease lasts`)
        findings.look('I18', job.canceledAt === null, () => `${id} starts again though it was canceled`)
        lookAtShares(job, event.at)
        const { fence: granted, holder } = event.data
        Object.assign(job, { fence: granted, holder, status: 'running', until: event.at + leaseMs })
        break
      }
      case 'leaseExpired':
      case 'jobRested':
        job.status = 'queued'
        break
      case 'cancelRequested':
        job.canceledAt = options.now()
        break
      case 'jobFinished':
        Object.assign(job, { status: 'finished', outcome: event.data.outcome })
        break
      default:
    }
  }

  return {
    ...log,
    jobs,
    async create(job, events, lockHash, idempotency, beginning = null) {
      const created = await log.create(job, events, lockHash, idempotency, beginning)
      if (!created.isNew) return created
      const { id, applicationId } = job
      const blank = { fence: 0, holder: null, until: 0, status: 'queued' as const, outcome: null, canceledAt: null }
      const watched = { id, applicationId, ...blank, hashes: [] }
      jobs.set(id, watched)
      for (const event of events) take(watched, event, null)
      if (created.job.lease !== null) for (const event of beginning?.events ?? []) take(watched, event, null)
      return created
    },
    async append(expected, job, events, fence, change) {
      const head = await log.append(expected, job, events, fence, change)
      const watched = jobs.get(job.id)
      for (const event of watched === undefined ? [] : events) if (watched !== undefined) take(watched, event, fence)
      return head
    },
    async renew(jobId, fence, until) {
      const isRenewed = await log.renew(jobId, fence, until)
      const watched = jobs.get(jobId)
      if (isRenewed && watched !== undefined) watched.until = until
      return isRenewed
    },
    async readAgain() {
      for (const { id, hashes } of jobs.values()) {
        const events = await log.read(id, 0, hashes.length + 1)
        const isSame = events.length === hashes.length && events.every(({ hash }, i) => hash === hashes[i])
        findings.look('I6', isSame, () => `the log of ${id} is not what was written`)
      }
    },
  }
}
