/** What the grant of a lease makes of a job: the events, and the lease itself. Pure. */
import { replay } from '../../schema/decider.ts'
import { isRefusal, refusalError, type Refusal } from '../../schema/error.ts'
import { chain, type JobEvent } from '../../schema/event.ts'
import type { Beginning, LogHead } from './job-log.ts'
import { decide, evolve, type Job, type JobCommand } from './job.ts'
import type { Lease } from './lease.ts'

interface GrantLimits {
  readonly barrenAttemptsMax: number
  readonly leaseMs: number
  readonly quota: number | null
}

/** The lease of a new job, with the events that grant it after those of its creation. */
export function beginningOf(
  created: Job,
  events: readonly JobEvent[],
  at: number,
  holder: string,
  { barrenAttemptsMax, leaseMs, quota }: GrantLimits,
): Beginning {
  const command = { type: 'grant', now: at, holder, lease: null, barrenAttemptsMax } as const
  const granted = grantOf(created, headOf(events), command, leaseMs)
  if (isRefusal(granted)) throw refusalError(granted)
  if (granted.lease === null) throw new TypeError('a job that is new has not ended')
  return { job: granted.job, events: granted.events, lease: granted.lease, quota }
}

/** What a grant makes of a job: its lease, or none where the end was all that was left to write. */
export function grantOf(
  before: Job,
  { revision, hash }: LogHead,
  command: Extract<JobCommand, { readonly type: 'grant' }>,
  leaseMs: number,
): { readonly job: Job; readonly events: readonly JobEvent[]; readonly lease: Lease | null } | Refusal {
  const changes = decide(before, command)
  if (isRefusal(changes)) return changes
  const { now, holder } = command
  const events = chain(before.id, revision, hash, now, changes)
  const job = replay({ initial: before, evolve }, events)
  return { job, events, lease: job.status === 'running' ? { holder, fence: job.fence, until: now + leaseMs } : null }
}

export function headOf(events: readonly JobEvent[]): LogHead {
  const last = events.at(-1)
  if (last === undefined) throw new TypeError('a job begins with an event')
  return { revision: last.seq, hash: last.hash }
}
