/** Faults of shares: whose job is next, and how many of one application may run. */
import type { Fault } from './fault.ts'

const tests = ['test/adapter/postgres-job-log.test.ts']
const suite = 'whole'
const file = 'src/postgres/postgres-job-log.ts'
const rows = 'src/postgres/waiting-jobs.ts'

export const faults: readonly Fault[] = [
  {
    name: 'jobs that run already count for nothing',
    file: rows,
    find: 'select id, coalesce(held, 0) + row_number()',
    replace: 'select id, 0 * coalesce(held, 0) + row_number()',
    tests,
    suite,
  },
  {
    name: 'a job whose lease has ended still counts as running',
    file: rows,
    find: 'count(*) filter (where not ended) as held',
    replace: 'count(*) as held',
    tests,
    suite,
  },
  {
    name: 'one application after another',
    file: rows,
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
    find: 'Math.max(places, CANDIDATES), limits.quota)',
    replace: 'Math.max(places, CANDIDATES), null)',
    tests: ['test/job/claim.test.ts'],
  },
  {
    name: 'leases that were granted are left where another grant failed',
    file: 'src/job/jobs.ts',
    find: '        if (failed !== undefined && attempts.length > 0) return attempts\n',
    replace: '',
    tests: ['test/job/claim.test.ts'],
  },
  {
    name: 'what was appended after a lease is in its history too',
    file: 'src/job/jobs.ts',
    find: 'before.slice(0, stored.head.revision)',
    replace: 'before.filter(({ type }) => type !== events[0]?.type)',
    tests: ['test/job/claim.test.ts'],
  },
  {
    name: 'a claim of several jobs gives more than there are places',
    file: 'src/job/jobs.ts',
    find: 'candidates.slice(at, at + places - attempts.length)',
    replace: 'candidates.slice(at, at + places)',
    tests: ['test/job/claim.test.ts'],
  },
  {
    name: 'a lease is given while another lives',
    file: 'src/postgres/plain-append.ts',
    find: 'lease_until is null or lease_until <= $13::bigint',
    replace: 'lease_until is null or true or lease_until <= $13::bigint',
    tests: ['test/adapter/postgres-job-log.test.ts'],
    suite,
  },
  {
    name: 'a machine of an older generation is taken while a newer one waits',
    file: 'src/postgres/postgres-pool-store.ts',
    find: 'unnest(${p(3)}::text[]) as newest (generation)',
    replace: '(select generation from unnest(${p(3)}::text[]) as given (generation) order by 1) as newest (generation)',
    tests: ['test/adapter/postgres-pool-store.test.ts'],
    suite,
  },
  {
    name: 'the machine that has been idle longest is taken first',
    file: 'src/postgres/postgres-pool-store.ts',
    find: 'order by idle_since desc nulls last',
    replace: 'order by idle_since nulls last',
    tests: ['test/adapter/postgres-pool-store.test.ts'],
    suite,
  },
  {
    name: 'a machine of which something is left counts as gone',
    file: 'src/pool/machines.ts',
    find: "const command = endsWithJob ? { type: 'gone'",
    replace: "const command = cleansByStop || endsWithJob ? { type: 'gone'",
    tests: ['test/pool/pools.test.ts'],
  },
  {
    name: 'orders of jobs that come at once do not count one another',
    file: 'src/pool/machines.ts',
    find: 'ordering.then(() => order(owner))',
    replace: 'order(owner)',
    tests: ['test/pool/pools.test.ts'],
  },
]
