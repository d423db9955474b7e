/** Faults in how a machine is claimed in the commit of a lease. */
import type { Fault } from './fault.ts'

const store = { tests: ['test/adapter/postgres-lease-rider.test.ts'], suite: 'whole' } as const
const jobs = { file: 'src/job/jobs.ts', tests: ['test/job/claim.test.ts'] } as const
const machines = { file: 'src/pool/machines.ts', tests: ['test/pool/pools.test.ts'] } as const

export const faults: readonly Fault[] = [
  {
    name: 'a machine is claimed though the lease went to another',
    file: 'src/postgres/postgres-pool-store.ts',
    find: 'where exists (select from leased) and ${isFree}',
    replace: 'where ${isFree}',
    ...store,
  },
  {
    name: 'a machine is claimed for a job that is queued',
    file: 'src/postgres/begun-job.ts',
    find: "'select from job where revision = $10::int'",
    replace: "'select from job'",
    ...store,
  },
  {
    name: 'a lease fails since its job has a machine',
    file: 'src/postgres/postgres-job-log.ts',
    find: "brokenConstraint(cause)?.startsWith('machines_') !== true",
    replace: 'true',
    ...store,
  },
  {
    name: 'nobody hears that an answer was lost',
    file: 'src/postgres/postgres-job-log.ts',
    find: 'rider?.doubt()',
    replace: 'void 0',
    ...store,
  },
  {
    name: 'an owner whose claim is in doubt claims another machine',
    file: 'src/postgres/postgres-pool-store.ts',
    find: 'attempt > 0 || request.isAgain === true',
    replace: 'attempt > 0',
    ...store,
  },
  {
    name: 'a machine that came with a lease stays where no attempt came of it (V7)',
    find: 'if (ahead.claimed !== undefined) void letGo(ahead.claimed.machine, owner)',
    replace: '',
    ...machines,
  },
  {
    name: 'an attempt claims beside the machine that came with its lease (V7)',
    find: 'if (ahead?.claimed !== undefined) return ahead.claimed',
    replace: '',
    ...machines,
  },
  {
    name: 'an attempt does not look for the machine that may have come with its lease (V7)',
    find: 'isAgain: ahead?.isDoubted === true',
    replace: 'isAgain: false',
    ...machines,
  },
  {
    name: 'a claim that led to no attempt says nothing to what rode along',
    find: 'if (attempt === undefined) rider?.leave()',
    replace: '',
    ...jobs,
  },
  {
    name: 'a job that did not begin says nothing to what would have ridden along',
    find: '        rider?.leave()\n        place.leave()',
    replace: '        place.leave()',
    ...jobs,
  },
]
