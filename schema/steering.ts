/**
 * Queries that people put to a job, from the log alone: what its next run begins with, and what waits to be read by the
 * run that is open. One fold for the job, the runner and whoever judges the runner, so that none of them can differ.
 */
import type { Fact, SteerMode } from './event.ts'

export interface QueuedQuery {
  readonly query: string
  readonly mode: SteerMode
}

export interface Steering {
  /** What the coordinator's next run begins with; null while none is asked for. */
  readonly wanted: string | null
  /** Put while the job was open, in order; a run reads them, or the next run begins with the first. */
  readonly queued: readonly QueuedQuery[]
  /** What the end of the job left unread; the next query comes with them. */
  readonly left: readonly string[]
}

export const noSteering: Steering = { wanted: null, queued: [], left: [] }

/** The queries after `fact`. */
export function steer(steering: Steering, fact: Fact): Steering {
  switch (fact.type) {
    case 'jobCreated':
      return { ...noSteering, wanted: fact.data.query ?? '' }
    case 'jobContinued': {
      const { query, mode } = fact.data
      if (query === null) return steering
      if (mode !== undefined) return { ...steering, queued: [...steering.queued, { query, mode }] }
      return { ...noSteering, wanted: query }
    }
    case 'jobForked':
      return fact.data.query === null ? steering : { ...noSteering, wanted: fact.data.query }
    case 'runStarted':
      if (fact.data.parent !== null) return steering
      if (steering.wanted !== null) return { ...steering, wanted: null }
      return { ...steering, queued: steering.queued.slice(1) }
    case 'steered': {
      const { queries } = fact.data
      return isNext(steering, queries) ? { ...steering, queued: steering.queued.slice(queries.length) } : steering
    }
    case 'jobFinished': {
      const left = fact.data.outcome === 'canceled' ? [] : steering.queued.map(({ query }) => query)
      return { wanted: null, queued: [], left: [...steering.left, ...left] }
    }
    default:
      return steering
  }
}

/** These are the queries that wait, or the first of them. */
export function isNext({ queued }: Steering, queries: readonly string[]): boolean {
  return queries.length > 0 && queries.every((query, i) => query === queued[i]?.query)
}

/** Someone wants what is under way to be given up. */
export function interrupts({ queued }: Steering): boolean {
  return queued.some(({ mode }) => mode === 'interrupt')
}

/** What the coordinator's next run would begin with; undefined when nothing asks for one. */
export function nextQuery({ wanted, queued }: Steering): string | undefined {
  return wanted ?? queued[0]?.query
}
