/**
 * Which of the jobs that wait are next, so that no application waits because another asks for more. Pure.
 *
 * G1 The next job is of the application that has the fewest running: shares are equal, as far as there is demand (max-min).
 * G2 Within an application the job that has waited longest is next.
 * G3 An application never has more running than its quota.
 * G4 While a job waits whose application is below its quota, no place is left empty.
 */
import type { ApplicationId, JobId } from '../../schema/id.ts'

export interface Waiting {
  readonly jobId: JobId
  readonly applicationId: ApplicationId
  /** Epoch ms since when. */
  readonly since: number
}

export interface Share {
  /** How many more may run. */
  readonly places: number
  /** Jobs of an application that may run at once; null for as many as there are places. */
  readonly quota: number | null
  /** Jobs that each application has running; none when it is not named. */
  readonly running: ReadonlyMap<ApplicationId, number>
}

/** The jobs to start, in this order. */
export function assign(waiting: readonly Waiting[], { places, quota, running }: Share): readonly Waiting[] {
  const queues = new Map<ApplicationId, Waiting[]>()
  for (const one of waiting.toSorted(byAge)) {
    const queue = queues.get(one.applicationId)
    if (queue === undefined) queues.set(one.applicationId, [one])
    else queue.push(one)
  }
  const shares = [...queues].map(([applicationId, queue]) => ({
    queue,
    at: 0,
    running: running.get(applicationId) ?? 0,
  }))
  const next: Waiting[] = []
  while (next.length < places) {
    let chosen: (typeof shares)[number] | undefined
    for (const share of shares) {
      const head = share.queue[share.at]
      if (head === undefined || (quota !== null && share.running >= quota)) continue
      const best = chosen?.queue[chosen.at]
      if (chosen === undefined || best === undefined || share.running < chosen.running) chosen = share
      else if (share.running === chosen.running && byAge(head, best) < 0) chosen = share
    }
    const head = chosen?.queue[chosen.at]
    if (chosen === undefined || head === undefined) break
    next.push(head)
    chosen.at += 1
    chosen.running += 1
  }
  return next
}

function byAge(one: Waiting, other: Waiting): number {
  return one.since - other.since || (one.jobId < other.jobId ? -1 : 1)
}
