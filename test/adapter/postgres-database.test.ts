/** Opening a database: which one, in what state, by how many at once. */
import { chmod, mkdir, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { Secret } from '../../schema/secret.ts'
import { openLog } from '../../src/log.ts'
import { connect, openDatabase, openPglite, type Database } from '../../src/postgres/database.ts'
import { ENTITIES } from '../../src/postgres/entities.ts'
import { MIGRATIONS } from '../../src/postgres/migrations/list.ts'
import { openTestDatabase, quietLog, realClock, type TestDatabase } from '../support/database.ts'
import { scratchDirectory } from '../support/scratch.ts'

const options = { log: quietLog, clock: realClock }

describe('a database', () => {
  let directory: string
  const open: { close(): Promise<void> }[] = []
  const keep = <Kept extends { close(): Promise<void> }>(kept: Kept): Kept => {
    open.push(kept)
    return kept
  }
  beforeEach(async () => {
    directory = scratchDirectory('database')
  })
  afterEach(async () => {
    for (const each of open.splice(0).toReversed()) await each.close()
    await rm(directory, { recursive: true, force: true })
  })

  it('has the tables that the entities say', async () => {
    const { MikroORM } = await import('@mikro-orm/postgresql')
    const { config } = keep(await openTestDatabase())
    const orm = await MikroORM.init({
      entities: ENTITIES,
      dbName: 'in the driver options',
      driverOptions: { ...config },
      schemaGenerator: { skipTables: ['migrations'] },
    })
    try {
      expect(await orm.schema.getUpdateSchemaSQL({ wrap: false })).toBe('')
    } finally {
      await orm.close()
    }
  })

  it('is migrated once when several processes open it at once', async () => {
    const { config } = keep(await openTestDatabase())
    const admin = keep(await connect('server', config, options))
    await admin.sql.query('drop schema public cascade')
    await admin.sql.query('create schema public')
    const all = await Promise.all(Array.from({ length: 4 }, async () => connect('server', config, options)))
    all.forEach(keep)
    expect(await admin.sql.query('select name from migrations')).toEqual(MIGRATIONS.map(({ name }) => ({ name })))
  })

  it('says that its disk is full, and not which of its files did not fit', async () => {
    const database = keep(await openTestDatabase())
    const words = `could not extend file "base/16384/2613"`
    const full = `do $$ begin raise exception using errcode = '53100', message = '${words}'; end $$`
    await expect(database.sql.query(full)).rejects.toMatchObject({
      code: 'storage_full',
      message: 'The disk of the database is full.',
    })
  })

  it('outlives connections that are cut while idle and while busy', async () => {
    const database = keep(await openTestDatabase())
    const admin = keep(await connect('server', database.config, options))
    const cut = `select pg_terminate_backend(pid) from pg_stat_activity
      where datname = current_database() and pid <> pg_backend_pid()`
    const sleepers = `select pid from pg_stat_activity
      where datname = current_database() and query = 'select pg_sleep(60)' and state = 'active'`
    const cutBefore = new Set<number>()
    for (let round = 0; round < 5; round++) {
      const over = new AbortController()
      const busy = expect(database.sql.query('select pg_sleep(60)').finally(() => over.abort())).rejects.toMatchObject({
        code: 'database_unavailable',
      })
      // It may be over at once: the pool need not have heard yet that the last cut took all of its connections.
      while (!over.signal.aborted) {
        // One that was cut before is seen until it has ended, and is not the one that is to be cut now.
        const pids = (await admin.sql.query<{ readonly pid: number }>(sleepers)).map(({ pid }) => pid)
        const isAsleep = pids.some((pid) => !cutBefore.has(pid))
        for (const pid of pids) cutBefore.add(pid)
        if (isAsleep) break
        await realClock.sleep(5)
      }
      await admin.sql.query(cut)
      await busy
    }
    expect(await database.sql.query('select 1 as one')).toEqual([{ one: 1 }])
  })

  it('rolls a transaction back, and says what the database refused', async () => {
    const databases: (Database | TestDatabase)[] = [keep(await openTestDatabase())]
    databases.push(keep(await openPglite(null, quietLog, realClock)))
    for (const { sql } of databases) {
      const insert = `insert into applications (id, name, created_at) values ($1, $2, 1)`
      const failing = sql.transaction(async (sql) => {
        await sql.query(insert, ['app_1', 'one'])
        await sql.query(insert, ['app_1', 'two'])
      })
      await expect(failing).rejects.toMatchObject({ code: 'internal' })
      expect(await sql.query('select id from applications')).toEqual([])
    }
  })

  it('comes along by itself, without a word about PGlite, and lets the server through', async () => {
    const lines: string[] = []
    const log = openLog(
      (line) => lines.push(line),
      () => 0,
    )
    const dataDirectory = join(directory, 'data')
    const first = await openDatabase({ databaseUrl: null, dataDirectory, log, clock: realClock })
    expect(first.kind).toBe('embedded')
    await first.sql.query(`insert into applications (id, name, created_at) values ('app_1', 'kept', 1)`)
    const again = openDatabase({ databaseUrl: null, dataDirectory, log, clock: realClock })
    await expect(again).rejects.toMatchObject({ code: 'directory_in_use' })
    await first.close()
    const second = keep(await openDatabase({ databaseUrl: null, dataDirectory, log, clock: realClock }))
    expect(await second.sql.query('select name from applications')).toEqual([{ name: 'kept' }])
    expect(lines.filter((line) => line.includes('"warn"'))).toEqual([])
  })

  it.runIf(process.getuid?.() === 0)('stays in a data directory that is closed to others but its own', async () => {
    await chmod(directory, 0o711)
    const dataDirectory = join(directory, 'data')
    await mkdir(dataDirectory, { mode: 0o700 })
    await writeFile(join(dataDirectory, 'dev-key'), 'secret', { mode: 0o600 })
    keep(await openDatabase({ databaseUrl: null, dataDirectory, ...options }))
    expect((await stat(dataDirectory)).mode & 0o777).toBe(0o701)
    expect((await stat(join(dataDirectory, 'postgres', 'server', 'cluster'))).isDirectory()).toBe(true)
  })

  it('is PGlite where it began as PGlite, with a warning, and has one owner', async () => {
    const lines: string[] = []
    const log = openLog(
      (line) => lines.push(line),
      () => 0,
    )
    const pglite = join(directory, 'pglite')
    const first = await openPglite(pglite, quietLog, realClock)
    await first.sql.query(`insert into applications (id, name, created_at) values ('app_1', 'kept', 1)`)
    await expect(openPglite(pglite, quietLog, realClock)).rejects.toMatchObject({ code: 'directory_in_use' })
    await first.close()
    const second = keep(await openDatabase({ databaseUrl: null, dataDirectory: directory, log, clock: realClock }))
    expect(second.kind).toBe('pglite')
    expect(await second.sql.query('select name from applications')).toEqual([{ name: 'kept' }])
    expect(lines.join('')).toContain('for trying out')
  })

  it('says that it is out of reach when nobody answers at its URL', async () => {
    const databaseUrl = new Secret('postgres://nobody:secret-password@127.0.0.1:1/none')
    const opening = openDatabase({ databaseUrl, dataDirectory: directory, ...options })
    await expect(opening).rejects.toMatchObject({ code: 'database_unavailable' })
    await expect(opening).rejects.not.toThrow('secret-password')
  })
})
