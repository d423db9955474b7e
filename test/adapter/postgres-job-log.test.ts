/** The job log on a real Postgres: the contract, then what connections that break must not do. */
import * as fc from 'fast-check'
import { Client } from 'pg'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { Clock } from '../../schema/clock.ts'
import { PlatformError } from '../../schema/error.ts'
import { chain, firstBroken, genesisHash, rechain } from '../../schema/event.ts'
import type { ApplicationId, JobId } from '../../schema/id.ts'
import type { Upgrade } from '../../schema/upgrade.ts'
import { assign } from '../../src/pool/assign.ts'
import { connect, type Database } from '../../src/postgres/database.ts'
import { PostgresJobLog } from '../../src/postgres/postgres-job-log.ts'
import type { Sql } from '../../src/postgres/sql.ts'
import { jobLogContract } from '../contract/job-log.ts'
import {
  aLockHash,
  anotherApplication,
  beginningOf,
  created,
  jobIdOf,
  nothingTold,
  runIdOf,
  runStarted,
  stepFinished,
  tell,
  type Told,
} from '../job/given.ts'
import { openTestDatabase, quietLog, realClock, type TestDatabase } from '../support/database.ts'

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

/** Real time, but the slow poll never comes: what wakes is the notification. */
const withoutPoll: Clock = {
  now: () => realClock.now(),
  sleep: async (ms, signal) => realClock.sleep(ms === 2000 ? 3_600_000 : ms, signal),
}

describe('the job log (Postgres)', () => {
  let database: TestDatabase
  let second: Database
  beforeEach(async () => {
    database = await openTestDatabase()
    second = await connect('server', database.config, { log: quietLog, clock: withoutPoll, connectionsMax: 4 })
  })
  afterEach(async () => {
    await second.close()
    await database.close()
  })

  it('reads what an older version wrote as this one would have written it, and hashes what is stored (U1)', async () => {
    const older = new PostgresJobLog(database, realClock)
    const told = await running(older)
    const titled: Upgrade = ({ type, data }) => ({ type, data: { ...(data as object), title: 'none then' } })
    const newer = new PostgresJobLog(second, realClock, [titled])
    const read = await newer.read(told.job.id, 0, 100)
    expect(read).toHaveLength(told.events.length)
    for (const event of read) expect(event).toMatchObject({ v: 2, data: { title: 'none then' }, stored: { v: 1 } })
    expect(firstBroken(told.job.id, read)).toBeUndefined()
    expect(await older.read(told.job.id, 0, 100)).toEqual(told.events)

    // A fork keeps the form that its parent has, and the older version can still read all of it.
    const copy = jobIdOf(2)
    const copied = rechain(copy, read)
    await newer.create({ ...told.job, id: copy }, copied, aLockHash, null)
    expect(firstBroken(copy, await older.read(copy, 0, 100))).toBeUndefined()
    expect(await newer.read(copy, 0, 100)).toEqual(copied)
  })

  it('refuses to read what a later version wrote (U2)', async () => {
    const log = new PostgresJobLog(database, realClock)
    const told = created(jobIdOf(1))
    const later = chain(told.job.id, 0, genesisHash(told.job.id), 1000, [{ ...told.events[0], v: 2 } as never])
    await log.create(told.job, later, aLockHash, null)
    await expect(log.read(told.job.id, 0, 100)).rejects.toMatchObject({ code: 'log_too_new' })
  })

  /** A job with a lease and a run, in which steps can be recorded. */
  async function running(log: PostgresJobLog): Promise<Told> {
    const told = created(jobIdOf(1))
    await log.create(told.job, told.events, aLockHash, null)
    const grant = { type: 'grant', now: 2000, holder: 'keeper', lease: null, barrenAttemptsMax: 3 } as const
    const held = tell(told, grant)
    await log.append(told.head, held.job, held.events.slice(-1), null, {
      lease: { holder: 'keeper', fence: 1, until: 1e13 },
    })
    const record = { type: 'record', now: 2001, fence: 1, events: [runStarted(runIdOf(told.job.id))] } as const
    const started = tell(held, record)
    await log.append(held.head, started.job, started.events.slice(-1), 1)
    return started
  }
  const step = (told: Told, number: number): Told =>
    tell(told, { type: 'record', now: 3000 + number, fence: 1, events: [stepFinished(runIdOf(told.job.id), number)] })

  async function terminate(where: string): Promise<void> {
    await database.sql.query(
      `select pg_terminate_backend(pid) from pg_stat_activity
       where datname = current_database() and pid <> pg_backend_pid() and ${where}`,
    )
  }

  it('gives jobs in the order of the pure rule, whatever waits, runs and has lost its lease (G1, G2, G3, G4)', async () => {
    const log = new PostgresJobLog(database, realClock)
    const [now, ids] = [5000, Array.from({ length: 24 }, (_, n) => jobIdOf(n))]
    const rows = fc.array(
      fc.record({
        applicationId: fc.constantFrom(...['a', 'b', 'c', 'd'].map((name) => `app_${name}` as ApplicationId)),
        status: fc.constantFrom('queued', 'queued', 'running', 'finished', 'waiting'),
        until: fc.constantFrom(null, now - 1, now, now + 1, now + 1000),
      }),
      { maxLength: ids.length },
    )
    const quotas = fc.option(fc.integer({ min: 1, max: 4 }))
    await fc.assert(
      fc.asyncProperty(rows, fc.integer({ min: 1, max: 10 }), quotas, async (given, places, quota) => {
        const jobs = given.map((row, n) => ({ ...row, jobId: ids[n] ?? jobIdOf(n), since: 0 }))
        await database.sql.query('delete from jobs')
        await database.sql.query(
          `insert into jobs (id, application_id, status, lease_until, expert_name, state, revision, head_hash, lock_hash)
           select id, application_id, status, until, 'x', json_build_object('id', id), 1, '', ''
           from json_to_recordset($1) as row (id text, application_id text, status text, until bigint)`,
          [
            JSON.stringify(
              jobs.map(({ jobId, applicationId, ...row }) => ({ ...row, id: jobId, application_id: applicationId })),
            ),
          ],
        )
        const isHeld = ({ status, until }: (typeof jobs)[number]) =>
          status === 'running' && until !== null && until > now
        const running = new Map<ApplicationId, number>()
        for (const { applicationId } of jobs.filter(isHeld))
          running.set(applicationId, (running.get(applicationId) ?? 0) + 1)
        const waiting = jobs.filter((job) => ['queued', 'running'].includes(job.status) && !isHeld(job))
        const idsOf = (some: readonly { readonly jobId: JobId }[]) => some.map(({ jobId }) => jobId)
        const expected = idsOf(assign(waiting, { places, quota, running }))
        expect((await log.claimable(now, places, quota)).map(({ job }) => job.id)).toEqual(expected)
        expect(await log.demand(now, quota)).toEqual({
          queued: assign(waiting, { places: Infinity, quota, running }).length,
          running: jobs.filter(isHeld).length,
        })
      }),
      { numRuns: 60 },
    )
  })

  it('lets a job begin exactly where no other could be claimed and its quota has room, whatever there is (L7)', async () => {
    const log = new PostgresJobLog(database, realClock)
    const now = 5000
    const rows = fc.array(
      fc.record({
        mine: fc.boolean(),
        status: fc.constantFrom('queued', 'running', 'running', 'running', 'finished', 'waiting'),
        until: fc.constantFrom(null, now, now + 1, now + 1, now + 1000, now + 1000),
      }),
      { maxLength: 5 },
    )
    let begun = 0
    await fc.assert(
      fc.asyncProperty(rows, fc.option(fc.integer({ min: 1, max: 3 })), async (given, quota) => {
        const told = created(jobIdOf(99), { now })
        await database.sql.query('delete from jobs')
        await database.sql.query('delete from job_events')
        await database.sql.query(
          `insert into jobs (id, application_id, status, lease_until, expert_name, state, revision, head_hash, lock_hash)
           select id, application_id, status, until, 'x', json_build_object('id', id), 1, '', ''
           from json_to_recordset($1) as row (id text, application_id text, status text, until bigint)`,
          [
            JSON.stringify(
              given.map(({ mine, ...row }, n) => ({
                ...row,
                id: jobIdOf(n),
                application_id: mine ? told.job.applicationId : anotherApplication,
              })),
            ),
          ],
        )
        const isFree = (await log.claimable(now, 1, quota)).length === 0
        const held = given.filter(
          ({ mine, status, until }) => mine && status === 'running' && (until ?? 0) > now,
        ).length
        const { job } = await log.create(told.job, told.events, aLockHash, null, beginningOf(told, quota))
        expect(job.lease !== null).toBe(isFree && (quota === null || held < quota))
        expect(await log.read(told.job.id, 0, 10)).toHaveLength(job.lease === null ? 1 : 2)
        begun += job.lease === null ? 0 : 1
      }),
      { numRuns: 100 },
    )
    expect(begun).toBeGreaterThan(10)
    expect(begun).toBeLessThan(90)
  })

  it('wakes a watcher whose LISTEN connection was dropped while something was appended (WU2)', async () => {
    const writer = new PostgresJobLog(database, realClock)
    const reader = new PostgresJobLog(second, realClock)
    let told = await running(writer)
    for (let number = 1; number <= 3; number++) {
      const woken = new Promise<void>((resolve, reject) => {
        reader.onAppend(told.job.id, () => {
          reader.read(told.job.id, told.head.revision, 10).then((events) => {
            if (events.length > 0) resolve()
          }, reject)
        })
      })
      await terminate(`query like 'listen%'`)
      const next = step(told, number)
      await writer.append(told.head, next.job, next.events.slice(-1), 1)
      await woken
      told = next
    }
  })

  it('tells other processes of many appends by few NOTIFYs, of the last one too (WU3)', async () => {
    const writer = new PostgresJobLog(database, realClock)
    const reader = new PostgresJobLog(second, realClock)
    let told = await running(writer)
    let heard = 0
    const { promise: heardAll, resolve } = Promise.withResolvers<void>()
    const last = told.head.revision + 60
    const stop = reader.onAppend(told.job.id, () => {
      heard += 1
      void reader.read(told.job.id, last - 1, 1).then((events) => events.length > 0 && resolve())
    })
    const startedAt = realClock.now()
    for (let number = 1; number <= 60; number++) {
      const next = step(told, number)
      await writer.append(told.head, next.job, next.events.slice(-1), 1)
      told = next
    }
    await heardAll
    stop()
    expect(heard).toBeLessThan((realClock.now() - startedAt) / 20 + 3)
  })

  it('keeps announcements to itself while it is alone, and tells whoever says a word all of them at once', async () => {
    let now = realClock.now()
    let atRest = Promise.withResolvers<void>()
    const clock: Clock = {
      now: () => now,
      // Neither the poll nor what is said while alone comes in the time of this test.
      async sleep(ms, signal) {
        if (ms === 4000) atRest.resolve() // nothing is left to say until the next hello
        await realClock.sleep(ms > 1000 ? 3_600_000 : ms, signal)
      },
    }
    await Promise.all([database, second].map(({ wakeUps }) => wakeUps.close())) // who else would be heard
    const other = new Client(database.config)
    await other.connect()
    const heard: string[] = []
    let hear = Promise.withResolvers<void>()
    other.on('notification', ({ payload = '' }) => {
      heard.push(payload)
      hear.resolve()
    })
    await other.query('listen senmon_appended')
    const lonely = await connect('server', database.config, { log: quietLog, clock, connectionsMax: 2 })
    try {
      await hear.promise
      expect(heard).toEqual(['']) // hello
      // Others may hear a word before its speaker knows that it is said, and from then its times count.
      await atRest.promise
      now += 20_000
      const log = new PostgresJobLog(lonely, clock)
      const [first, next] = [created(jobIdOf(1)), created(jobIdOf(2))]
      hear = Promise.withResolvers()
      atRest = Promise.withResolvers()
      await log.create(first.job, first.events, aLockHash, null)
      await hear.promise
      await atRest.promise
      hear = Promise.withResolvers()
      await log.create(next.job, next.events, aLockHash, null)
      now += 100
      await other.query('notify senmon_appended')
      await hear.promise // one's own word, which comes first
      hear = Promise.withResolvers()
      if (heard.length < 4) await hear.promise
      expect(heard).toEqual(['', `${first.job.id},!`, '', `${next.job.id},!`])
    } finally {
      await lonely.close()
      await other.end()
    }
  })

  it('closes though its last announcement is never answered', async ({ skip }) => {
    if (database.config.connectionString !== undefined) skip('the server is not of this computer')
    const clock: Clock = {
      now: () => realClock.now(),
      sleep: async (ms, signal) => realClock.sleep(ms === 1000 ? 50 : ms, signal),
    }
    await Promise.all([database, second].map(({ wakeUps }) => wakeUps.close()))
    const { resolve, promise } = Promise.withResolvers<number>()
    const other = new Client(database.config)
    await other.connect()
    other.on('notification', ({ processId }) => resolve(processId))
    await other.query('listen senmon_appended')
    const mute = await connect('server', database.config, { log: quietLog, clock, connectionsMax: 2 })
    // Whose hello it is: others that announced, and are ending, look the same from elsewhere.
    const backend = await promise
    process.kill(backend, 'SIGSTOP')
    try {
      const told = created(jobIdOf(1))
      await new PostgresJobLog(mute, clock).create(told.job, told.events, aLockHash, null)
      const closed = mute.close().then(() => 'closed')
      // However this ends, nothing stays stopped.
      expect(await Promise.race([closed, realClock.sleep(50_000).then(() => 'still open')])).toBe('closed')
    } finally {
      process.kill(backend, 'SIGCONT')
      await other.end()
    }
  })

  it('loses and doubles nothing while backends are terminated in the middle of appends', async () => {
    const log = new PostgresJobLog(database, realClock)
    let told = await running(log)
    const done = new AbortController()
    const hits = { count: 0 }
    const killing = (async () => {
      let hit: typeof told | undefined
      while (!done.signal.aborted) {
        // One hit for each append: what is killed at every try must fail in the end.
        if (hit !== told) {
          const during = told
          const rows = await second.sql.query(
            `select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database()
             and pid <> pg_backend_pid() and (query ilike '%update jobs%' or query ilike 'listen%')`,
          )
          hits.count += rows.length
          if (rows.length > 0) hit = during
        }
        await realClock.sleep(7)
      }
    })()
    try {
      // Enough of them, however quick appends are and however seldom one is hit.
      for (let number = 1; number <= 150 || hits.count <= 10; number++) {
        const next = step(told, number)
        await log.append(told.head, next.job, next.events.slice(-1), 1)
        told = next
      }
    } finally {
      done.abort()
      await killing
    }
    const events = await log.read(told.job.id, 0, told.head.revision)
    expect(events).toEqual(told.events)
    expect(firstBroken(told.job.id, events)).toBeUndefined()
  })

  /** A database whose `nth` writing answer is lost: before the statement arrives, or after it took effect. */
  function losing(nth: number, when: 'before' | 'after', meanwhile = async (): Promise<void> => {}) {
    let writes = 0
    const sql: Sql = {
      ...database.sql,
      async query<Row>(text: string, values: readonly unknown[] = []) {
        const isLost = text.includes('insert into job_events') && ++writes === nth
        if (isLost && when === 'before') throw new PlatformError('database_unavailable', 'lost')
        const rows = await database.sql.query<Row>(text, values)
        if (!isLost) return rows
        await meanwhile()
        throw new PlatformError('database_unavailable', 'lost')
      },
    }
    return new PostgresJobLog({ sql, wakeUps: database.wakeUps }, realClock)
  }

  for (const when of ['before', 'after'] as const) {
    it(`creates one job when the connection breaks ${when} the statement takes effect`, async () => {
      for (const idempotency of [null, { key: 'k', requestHash: aLockHash }]) {
        const told = created(jobIdOf(idempotency === null ? 1 : 2))
        const { job, isNew } = await losing(1, when).create(told.job, told.events, aLockHash, idempotency)
        expect({ id: job.job.id, isNew }).toEqual({ id: told.job.id, isNew: true })
        expect(await new PostgresJobLog(database, realClock).read(told.job.id, 0, 10)).toEqual(told.events)
      }
    })

    it(`lets a job begin once when the connection breaks ${when} the statement takes effect, and knows whether it did (L7)`, async () => {
      const log = new PostgresJobLog(database, realClock)
      for (const [n, idempotency] of [null, { key: 'k', requestHash: aLockHash }].entries()) {
        const told = created(jobIdOf(n))
        const beginning = beginningOf(told)
        const { job, isNew } = await losing(1, when).create(told.job, told.events, aLockHash, idempotency, beginning)
        expect({ job: job.job, lease: job.lease, isNew }).toEqual({
          job: beginning.job,
          lease: beginning.lease,
          isNew: true,
        })
        expect(await log.read(told.job.id, 0, 10)).toEqual([...told.events, ...beginning.events])
      }
      const waiting = created(jobIdOf(2))
      await log.create(waiting.job, waiting.events, aLockHash, null)
      for (const [n, idempotency] of [null, { key: 'k2', requestHash: aLockHash }].entries()) {
        const told = created(jobIdOf(3 + n))
        const { job } = await losing(1, when).create(told.job, told.events, aLockHash, idempotency, beginningOf(told))
        expect({ job: job.job, lease: job.lease }).toEqual({ job: told.job, lease: null })
        expect(await log.read(told.job.id, 0, 10)).toEqual(told.events)
      }
    })

    it(`appends once when the connection breaks ${when} the statement takes effect`, async () => {
      const log = new PostgresJobLog(database, realClock)
      const told = await running(log)
      const next = step(told, 1)
      expect(await losing(1, when).append(told.head, next.job, next.events.slice(-1), 1)).toEqual(next.head)
      expect(await log.read(told.job.id, 0, 100)).toEqual(next.events)
    })
  }

  it('knows its own append although others have appended since', async () => {
    const log = new PostgresJobLog(database, realClock)
    const told = await running(log)
    const mine = step(told, 1)
    const theirs = step(mine, 2)
    const meanwhile = async (): Promise<void> => {
      await log.append(mine.head, theirs.job, theirs.events.slice(-1), 1)
    }
    expect(await losing(1, 'after', meanwhile).append(told.head, mine.job, mine.events.slice(-1), 1)).toEqual(mine.head)
    expect(await log.read(told.job.id, 0, 100)).toEqual(theirs.events)
  })

  it('keeps to the letter what JSON can hold, NUL and lone surrogates included', async () => {
    const log = new PostgresJobLog(database, realClock)
    const query = '\0 \u{1f600} \ud800 "\\u0000" \u2028 {"a":[1]}'
    const told = tell(nothingTold(jobIdOf(1)), {
      type: 'create',
      now: 1000,
      expertKey: 'hello-expert@1.0.0',
      query,
      userId: 'user\0',
      model: null,
      maxSteps: null,
      lockHash: aLockHash,
      inputTreeHash: null,
    })
    await log.create(told.job, told.events, aLockHash, null)
    expect(await log.read(told.job.id, 0, 10)).toEqual(told.events)
    expect((await log.find(told.job.id))?.job).toEqual(told.job)
    expect(await log.list(told.job.applicationId, { userId: 'user\0' }, 10, null)).toHaveLength(1)
  })

  it('commits once for an append, and never notifies in that transaction (WU1)', async () => {
    const log = new PostgresJobLog(database, realClock)
    let told = await running(log)
    const written: string[] = []
    const counting: Sql = {
      ...database.sql,
      async query<Row>(text: string, values: readonly unknown[] = []) {
        written.push(text)
        return database.sql.query<Row>(text, values)
      },
    }
    const counted = new PostgresJobLog({ sql: counting, wakeUps: database.wakeUps }, realClock)
    for (let number = 1; number <= 5; number++) {
      const next = step(told, number)
      await counted.append(told.head, next.job, next.events.slice(-1), 1)
      told = next
    }
    expect(written).toHaveLength(5)
    expect(written.some((text) => text.includes('notify'))).toBe(false)
  })
})
