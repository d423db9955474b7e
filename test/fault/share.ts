/** Faults of shares: whose job is next, and how many of one application may run. */
import type { Fault } from './fault.ts'

const tests = ['test/adapter/postgres-job-log.test.ts']
const suite = 'whole'
const file = 'src/postgres/postgres-job-log.ts'

export const faults: readonly Fault[] = [
  {
    name: 'jobs that run already count for nothing',
    file,
    find: 'select id, coalesce(held, 0) + row_number()',
    replace: 'select id, 0 * coalesce(held, 0) + row_number()',
    tests,
    suite,
  },
  {
    name: 'a job whose lease has ended still counts as running',
    file,
    find: 'count(*) filter (where not ended) as held',
    replace: 'count(*) as held',
    tests,
    suite,
  },
  {
    name: 'one application after another',
    file,
    find: 'over (partition by application_id order by id) - 1',
    replace: 'over (order by id) - 1',
    tests,
    suite,
  },
  {
    name: 'one job more than the quota',
    file,
    find: 'select id, place from ranked where $3::int is null or place < $3::int',
    replace: 'select id, place from ranked where $3::int is null or place <= $3::int',
    tests,
    suite,
  },
  {
    name: 'the quota is not asked for',
    file: 'src/job/jobs.ts',
    find: 'log.claimable(clock.now(), CANDIDATES, limits.quota)',
    replace: 'log.claimable(clock.now(), CANDIDATES, null)',
    tests: ['test/job/claim.test.ts'],
  },
]
