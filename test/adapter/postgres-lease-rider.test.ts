/** A lease and its machine in one commit on a real Postgres: the contract, then answers that are lost and rules that break. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { PlatformError } from '../../schema/error.ts'
import { makeId } from '../../schema/id.ts'
import type { Beginning } from '../../src/job/job-log.ts'
import { PostgresJobLog } from '../../src/postgres/postgres-job-log.ts'
import { postgresPoolStore } from '../../src/postgres/postgres-pool-store.ts'
import type { Sql } from '../../src/postgres/sql.ts'
import { leaseRiderContract, riderFor } from '../contract/lease-rider.ts'
import { fakeChance } from '../fake/fake-clock.ts'
import { aLockHash, beginningOf, created, jobIdOf, tell, type Told } from '../job/given.ts'
import { openTestDatabase, realClock, type TestDatabase } from '../support/database.ts'

leaseRiderContract('Postgres', async () => {
  const database = await openTestDatabase()
  return {
    log: new PostgresJobLog(database, realClock),
    store: postgresPoolStore(database, realClock),
    close: async () => database.close(),
  }
})

describe('a lease and its machine in one commit (Postgres)', () => {
  const chance = fakeChance('rider')
  let database: TestDatabase
  beforeEach(async () => (database = await openTestDatabase()))
  afterEach(async () => database.close())

  const ready = async (count: number): Promise<void> => {
    const ids = Array.from({ length: count }, () => makeId('mch', 1, chance.bytes(16)))
    await database.sql.query(
      `insert into machines (id, pool, place, generation, state, version, provider_id, boot_id, boots, tainted, since, uses, tries)
       select id, 'p', 'here', 'g1', 'ready', 1, id, 'b', 1, 0, 0, 0, 0 from unnest($1::text[]) as id`,
      [ids],
    )
  }
  const taken = async (): Promise<readonly string[]> => {
    type Row = { readonly job_id: string }
    return (await database.sql.query<Row>('select job_id from machines where job_id is not null')).map(
      (row) => row.job_id,
    )
  }
  /** A database that fails in the first statement which writes a lease with its machine. */
  function failing(fail: (go: () => Promise<unknown>) => Promise<never>) {
    const ridden: string[] = []
    const sql: Sql = {
      ...database.sql,
      async query<Row>(text: string, values: readonly unknown[] = []) {
        const isFirst = text.includes('left join machine') && ridden.push(text) === 1
        if (isFirst) return await fail(async () => await database.sql.query<Row>(text, values))
        return await database.sql.query<Row>(text, values)
      },
    }
    return new PostgresJobLog({ sql, wakeUps: database.wakeUps }, realClock)
  }
  async function grant(log: PostgresJobLog, told: Told, rider: Beginning['rider']): Promise<Told> {
    const lease = { holder: 'machine-keeper-1', fence: 1, until: 2100 }
    const command = { type: 'grant', now: 2000, holder: lease.holder, lease: null, barrenAttemptsMax: 3 } as const
    const next = tell(told, command)
    await log.append(told.head, next.job, next.events.slice(told.events.length), null, { lease, rider })
    return next
  }
  const lost = (): PlatformError => new PlatformError('database_unavailable', 'lost')
  const ways = {
    'a job that begins': async (log: PostgresJobLog, told: Told, rider: Beginning['rider']) => {
      const { job } = await log.create(told.job, told.events, aLockHash, null, { ...beginningOf(told), rider })
      expect(job.lease?.fence).toBe(1)
    },
    'a lease that is granted': async (log: PostgresJobLog, told: Told, rider: Beginning['rider']) => {
      await new PostgresJobLog(database, realClock).create(told.job, told.events, aLockHash, null)
      await grant(log, told, rider)
    },
  }

  for (const [way, write] of Object.entries(ways)) {
    it(`takes one machine for ${way} when the answer is lost before the statement arrives`, async () => {
      await ready(2)
      const told = created(jobIdOf(1), { now: 2000 })
      const { rider, news } = riderFor(postgresPoolStore(database, realClock), told.job.id)
      await write(
        failing(async () => {
          throw lost()
        }),
        told,
        rider,
      )
      expect(news.claimed).toHaveLength(1)
      expect(await taken()).toEqual([told.job.id])
    })

    it(`takes one machine for ${way} when the answer is lost after it took effect, and says that nobody knows`, async () => {
      await ready(2)
      const store = postgresPoolStore(database, realClock)
      const told = created(jobIdOf(1), { now: 2000 })
      const { rider, news } = riderFor(store, told.job.id)
      const log = failing(async (go) => {
        await go()
        throw lost()
      })
      await write(log, told, rider)
      expect(news).toMatchObject({ claimed: [], doubts: 1 })
      expect(await taken()).toEqual([told.job.id])
      const owner = { jobId: told.job.id, fence: 1, linesUrl: null }
      const request = {
        pool: 'p',
        places: ['here'],
        owner,
        generations: ['g1'],
        now: 2000,
        deadline: 9000,
        holds: true,
      }
      expect((await store.claim({ ...request, isAgain: true }))?.machine.owner).toEqual(owner)
      expect(await taken()).toEqual([told.job.id])
    })

    it(`gives ${way} its lease though the pool's own rules refuse it the machine`, async () => {
      await ready(2)
      const told = created(jobIdOf(1), { now: 2000 })
      const { rider, news } = riderFor(postgresPoolStore(database, realClock), told.job.id)
      // As when an earlier attempt's claim is committed in between: what the statement looked at is no longer so.
      const cause = Object.assign(new Error('duplicate key'), { code: '23505', constraint: 'machines_one_active' })
      const log = failing(async () => {
        throw new PlatformError('internal', 'The database refused a statement.', { cause })
      })
      await write(log, told, rider)
      expect((await log.find(told.job.id))?.lease?.fence).toBe(1)
      expect(news.claimed).toEqual([])
      expect(await taken()).toEqual([])
    })
  }

  it('is one statement for the job, its lease and its machine', async () => {
    await ready(1)
    const written: string[] = []
    const sql: Sql = {
      ...database.sql,
      async query<Row>(text: string, values: readonly unknown[] = []) {
        written.push(text)
        return await database.sql.query<Row>(text, values)
      },
    }
    const told = created(jobIdOf(1), { now: 2000 })
    const { rider, news } = riderFor(postgresPoolStore(database, realClock), told.job.id)
    const log = new PostgresJobLog({ sql, wakeUps: database.wakeUps }, realClock)
    await ways['a job that begins'](log, told, rider)
    expect(news.claimed).toHaveLength(1)
    expect(written).toHaveLength(1)
  })
})
