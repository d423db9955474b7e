/** PGlite runs the same statements: every contract again. A statement that waits for another one hangs here. */
import { afterAll, beforeAll, beforeEach } from 'vitest'
import { openPglite, type Database } from '../../src/postgres/database.ts'
import { postgresApplicationStore } from '../../src/postgres/postgres-application-store.ts'
import { PostgresJobLog } from '../../src/postgres/postgres-job-log.ts'
import { postgresPackageStore } from '../../src/postgres/postgres-package-store.ts'
import { postgresPoolStore } from '../../src/postgres/postgres-pool-store.ts'
import { postgresSecretStore } from '../../src/postgres/postgres-secret-store.ts'
import { applicationStoreContract } from '../contract/application-store.ts'
import { jobLogContract } from '../contract/job-log.ts'
import { leaseRiderContract } from '../contract/lease-rider.ts'
import { packageStoreContract } from '../contract/package-store.ts'
import { secretStoreContract } from '../contract/secret-store.ts'
import { quietLog, realClock } from '../support/database.ts'

// One for all: it takes seconds to make.
let database: Database
beforeAll(async () => {
  database = await openPglite(null, quietLog, realClock)
})
afterAll(async () => database.close())
beforeEach(async () => {
  const tables = await database.sql.query<{ tablename: string }>(
    `select tablename from pg_tables where schemaname = 'public' and tablename <> 'migrations'`,
  )
  await database.sql.query(`truncate ${tables.map((table) => table.tablename).join(', ')}`)
})
const close = async (): Promise<void> => {}

jobLogContract('PGlite', async () => {
  const log = new PostgresJobLog(database, realClock)
  return { log, other: log, close }
})
leaseRiderContract('PGlite', async () => {
  const log = new PostgresJobLog(database, realClock)
  return { log, store: postgresPoolStore(database, realClock), close }
})
applicationStoreContract('PGlite', async () => ({ store: postgresApplicationStore(database, realClock), close }))
secretStoreContract('PGlite', async () => ({ store: postgresSecretStore(database, realClock), close }))
packageStoreContract(async () => postgresPackageStore(database, realClock))
