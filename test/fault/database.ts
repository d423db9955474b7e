/** Faults of the database of our own, of a disk that is full, and of what is listed of published packages. */
import type { Fault } from './fault.ts'

const embedded = {
  file: 'src/postgres/embedded-server.ts',
  tests: ['test/adapter/postgres-embedded-server.test.ts'],
  suite: 'whole',
} as const
const stores = {
  file: 'src/postgres/postgres-package-store.ts',
  tests: ['test/adapter/postgres-stores.test.ts'],
  suite: 'whole',
} as const

export const faults: readonly Fault[] = [
  {
    name: 'a database that has ended stays so (ES5)',
    find: 'await restart()',
    replace: 'await rest(WATCH_MS)',
    ...embedded,
  },
  {
    name: 'a database that is gone is made anew, empty (ES5)',
    find: 'if (!(await isInitialised(place))) throw',
    replace: 'if (place === undefined) throw',
    ...embedded,
  },
  {
    name: 'a full disk is a fault of ours',
    file: 'src/postgres/sql.ts',
    find: 'cause.code === DISK_FULL',
    replace: "cause.code === ''",
    tests: ['test/adapter/postgres-database.test.ts'],
    suite: 'whole',
  },
  {
    name: 'a NUL in one manifest makes every search for skills fail',
    find: '(?:0000|d[89a-f]',
    replace: '(?:d[89a-f]',
    ...stores,
  },
  {
    name: 'a package that only speaks of skills is listed as one',
    find: "where json_typeof(manifest -> 'mcpName') = 'string'",
    replace: "where manifest -> 'mcpName' is not null",
    ...stores,
  },
]
