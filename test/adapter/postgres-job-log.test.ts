/** The job log on a real Postgres: the contract, then what connections that break must not do. */
import { describe, expect, it } from 'vitest'
import { connect } from '../../src/postgres/database.ts'
import { PostgresJobLog } from '../../src/postgres/postgres-job-log.ts'
import { jobLogContract } from '../contract/job-log.ts'
import { openTestDatabase, quietLog, realClock } from '../support/database.ts'

jobLogContract('Postgres', async () => {
  const database = await openTestDatabase()
  const second = await connect('server', database.config, { log: quietLog, clock: realClock, connectionsMax: 4 })
  return {
    log: new PostgresJobLog(database, realClock),
    other: new PostgresJobLog(second, realClock),
    async close() {
      await second.close()
      await database.close()
    },
  }
})
