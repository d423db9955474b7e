/** The store of pools on a real Postgres: its contract, and what the table itself refuses. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { makeId } from '../../schema/id.ts'
import { orderMachine } from '../../src/pool/machine.ts'
import { postgresPoolReportStore } from '../../src/postgres/postgres-pool-report-store.ts'
import { postgresTurnStore } from '../../src/postgres/postgres-turn-store.ts'
import { postgresPoolStore } from '../../src/postgres/postgres-pool-store.ts'
import { poolReportStoreContract } from '../contract/pool-report-store.ts'
import { turnStoreContract } from '../contract/turn-store.ts'
import { poolStoreContract } from '../contract/pool-store.ts'
import { fakeChance } from '../fake/fake-clock.ts'
import { openTestDatabase, realClock, type TestDatabase } from '../support/database.ts'

poolStoreContract('Postgres', async () => {
  const database = await openTestDatabase()
  return { store: postgresPoolStore(database, realClock), close: async () => database.close() }
})

describe('the table of machines, whatever is written', () => {
  const chance = fakeChance('table')
  let database: TestDatabase
  beforeAll(async () => (database = await openTestDatabase()))
  afterAll(() => database.close())

  async function machine(): Promise<string> {
    const id = makeId('mch', 0, chance.bytes(16))
    const order = orderMachine({ id, pool: 'p', place: 'here', generation: 'g', now: 1 }, null)
    await postgresPoolStore(database, realClock).add([order], null)
    return id
  }
  const write = async (id: string, set: string) => database.sql.query(`update machines set ${set} where id = '${id}'`)
  let jobs = 0
  const busy = (job: string) => `state = 'busy', tainted = boots, job_id = '${job}', fence = 1`

  it.each([
    ['busy and without an owner', `state = 'busy', tainted = boots`],
    ['waking and without an owner', `state = 'waking'`],
    ['owned and without a job', `job_id = 'j', fence = 1`],
    ['busy and clean', `state = 'busy', job_id = 'j', fence = 1`],
    ['hot with what a job left in it', `state = 'hot', tainted = boots`],
    ['ready with what a job left in it', `state = 'ready', tainted = boots`],
    ['in reserve with what a job left in it', `state = 'reserve', tainted = boots`],
  ])('has no machine that is %s (D4)', async (_what, set) => {
    await expect(write(await machine(), set)).rejects.toMatchObject({ code: 'internal' })
  })

  it('has no second machine for an attempt, nor a second busy one for a job (D2, D3)', async () => {
    const job = `job ${++jobs}`
    const [one, two] = [await machine(), await machine()]
    await write(one, busy(job))
    await expect(write(two, busy(job))).rejects.toMatchObject({ code: 'internal' })
    await expect(write(two, busy(job).replace('fence = 1', 'fence = 2'))).rejects.toMatchObject({ code: 'internal' })
    await write(two, busy(`${job} too`))
  })

  it.each([
    ['by forgetting its job', `tainted = 0`],
    ['by a boot that it did not have', `boots = boots + 1`],
    ['by going straight to the reserve', `state = 'reserve', job_id = null, fence = null, boots = boots + 1`],
    ['by being made ready', `state = 'ready', job_id = null, fence = null`],
  ])('has no used machine that becomes clean %s (D4)', async (_what, set) => {
    const id = await machine()
    const job = `job ${++jobs}`
    await write(id, busy(job))
    await expect(write(id, set)).rejects.toMatchObject({ code: 'internal' })
    await write(id, `state = 'stopping', job_id = null, fence = null`)
    await write(id, `state = 'reserve', boots = boots + 1`)
  })

  it('has no machine that comes back once it is gone (D4)', async () => {
    const id = await machine()
    await write(id, `state = 'gone'`)
    await expect(write(id, `state = 'ready'`)).rejects.toMatchObject({ code: 'internal' })
  })
})

turnStoreContract('Postgres', async () => {
  const database = await openTestDatabase()
  return { store: postgresTurnStore(database), close: async () => database.close() }
})

poolReportStoreContract('Postgres', async () => {
  const database = await openTestDatabase()
  return { store: postgresPoolReportStore(database, realClock), close: async () => database.close() }
})
