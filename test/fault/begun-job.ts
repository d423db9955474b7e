/** Faults in how a job begins with its creation. */
import type { Fault } from './fault.ts'

const store = { tests: ['test/adapter/postgres-job-log.test.ts'], suite: 'whole' } as const
const jobs = { file: 'src/job/jobs.ts', tests: ['test/job/claim.test.ts'] } as const
const places = { file: 'src/attempt/places.ts', tests: ['test/attempt/attempts.test.ts'] } as const

export const faults: readonly Fault[] = [
  {
    name: 'a job begins though another is queued (L7)',
    file: 'src/postgres/begun-job.ts',
    find: "select not exists (select from jobs where status = 'queued') and not exists (",
    replace: 'select not exists (',
    ...store,
  },
  {
    name: 'a job begins though another has lost its lease (L7)',
    file: 'src/postgres/begun-job.ts',
    find: '(lease_until is null or lease_until <= $19::bigint)',
    replace: 'lease_until is null',
    ...store,
  },
  {
    name: 'a job begins though its application has its quota (L7)',
    file: 'src/postgres/begun-job.ts',
    find: ', 0) < $22::int as may',
    replace: ', 0) < $22::int + 1 as may',
    ...store,
  },
  {
    name: 'a job has begun though it was queued and only the answer was lost',
    file: 'src/postgres/postgres-job-log.ts',
    find: '(written === 0 && (await this.#began(id, begun.head)))',
    replace: 'written === 0',
    ...store,
  },
  {
    name: 'a job that began is taken for a queued one when the answer was lost',
    file: 'src/postgres/postgres-job-log.ts',
    find: '(written === 0 && (await this.#began(id, begun.head)))',
    replace: 'false',
    ...store,
  },
  {
    name: 'a claim takes a job whose creation by the same process is in doubt',
    find: 'found.filter(({ job }) => !beginning.has(job.id))',
    replace: 'found',
    ...jobs,
  },
  {
    name: 'a place that was not needed is lost',
    find: '        rider?.leave()\n        place.leave()',
    replace: '        rider?.leave()',
    ...jobs,
  },
  {
    name: 'nobody hears that an end made room under a quota',
    find: "if (limits.quota !== null && held.job.status !== 'running') for (const wake of claimers) wake()",
    replace: '',
    ...jobs,
  },
  {
    name: 'jobs begin beyond the places that there are',
    find: 'if (free() <= 0 || closing.signal.aborted) return undefined',
    replace: 'if (closing.signal.aborted) return undefined',
    ...places,
  },
  {
    name: 'a job that waits for a place is forgotten when one is free',
    find: 'if (!isQuiet) ring()',
    replace: '',
    ...places,
  },
]
