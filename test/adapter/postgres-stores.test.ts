/** The small stores on a real Postgres: their contracts. */
import { postgresApplicationStore } from '../../src/postgres/postgres-application-store.ts'
import { postgresPackageStore } from '../../src/postgres/postgres-package-store.ts'
import { postgresSecretStore } from '../../src/postgres/postgres-secret-store.ts'
import { applicationStoreContract } from '../contract/application-store.ts'
import { packageStoreContract } from '../contract/package-store.ts'
import { secretStoreContract } from '../contract/secret-store.ts'
import { openTestDatabase, realClock } from '../support/database.ts'
import { afterEach } from 'vitest'

applicationStoreContract('Postgres', async () => {
  const database = await openTestDatabase()
  return { store: postgresApplicationStore(database, realClock), close: async () => database.close() }
})

secretStoreContract('Postgres', async () => {
  const database = await openTestDatabase()
  return { store: postgresSecretStore(database, realClock), close: async () => database.close() }
})

const open: Awaited<ReturnType<typeof openTestDatabase>>[] = []
afterEach(async () => {
  await Promise.all(open.splice(0).map(async (database) => database.close()))
})
packageStoreContract(async () => {
  const database = await openTestDatabase()
  open.push(database)
  return postgresPackageStore(database, realClock)
})
