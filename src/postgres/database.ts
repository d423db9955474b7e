/** The database of this process: a server by URL, else the embedded one, else PGlite. */
import { mkdir, realpath, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { Migrator } from '@mikro-orm/migrations'
import type { EntityManager } from '@mikro-orm/sql'
import { Client, type ClientConfig } from 'pg'
import type { Clock } from '../../schema/clock.ts'
import { PlatformError } from '../../schema/error.ts'
import type { Secret } from '../../schema/secret.ts'
import type { Log } from '../log.ts'
import { lockDirectory } from './directory-lock.ts'
import { isSetUp, letServerPass } from './embedded-place.ts'
import { openEmbeddedServer } from './embedded-server.ts'
import { ENTITIES } from './entities.ts'
import { MIGRATIONS } from './migrations/list.ts'
import { classify, pgliteSql, poolSql, type Sql } from './sql.ts'
import { openWakeUps, type WakeUps } from './wake-ups.ts'

export interface Database {
  readonly kind: 'server' | 'embedded' | 'pglite'
  readonly sql: Sql
  /** A fresh one for each use: `database.em()`. On PGlite never nest one use in another's transaction. */
  em(): EntityManager
  readonly wakeUps: WakeUps
  close(): Promise<void>
}

export interface DatabaseOptions {
  readonly databaseUrl: Secret | null
  /** Holds the embedded database, in `postgres` or `pglite`. */
  readonly dataDirectory: string
  readonly log: Log
  readonly clock: Clock
  /** Connections of the pool at most. Default 10. */
  readonly connectionsMax?: number
}

const CONNECTIONS_MAX = 10
/** Any number that nobody else locks. */
const MIGRATION_LOCK = 5_364_110_217

const common = {
  entities: ENTITIES,
  extensions: [Migrator],
  migrations: { migrationsList: MIGRATIONS, snapshot: false, tableName: 'migrations', silent: true },
  allowGlobalContext: false,
}

/** The one who holds the lock migrates; the others find nothing left to do. */
async function migrateAlone(config: ClientConfig, migrate: () => Promise<unknown>): Promise<void> {
  const client = new Client(config)
  client.on('error', () => undefined)
  try {
    await client.connect().catch((cause: unknown) => {
      // Postgres's own word: a wrong password, no such database. It repeats no password.
      const word = cause instanceof Error && cause.message !== '' ? cause.message : 'nobody answers'
      throw new PlatformError('database_unavailable', `The database cannot be opened: ${word}.`, { cause })
    })
    await client.query('select pg_advisory_lock($1)', [MIGRATION_LOCK])
    await migrate()
  } catch (cause) {
    throw classify(cause)
  } finally {
    await client.end().catch(() => undefined)
  }
}

/** MikroORM wants to know it beside the URL. */
function databaseName({ database, connectionString = '' }: ClientConfig): string {
  return database ?? (decodeURIComponent(URL.parse(connectionString)?.pathname.slice(1) ?? '') || 'postgres')
}

/** The database at `config`, migrated. `kind` says whose server it is; `close` does not end the server. */
export async function connect(
  kind: 'server' | 'embedded',
  config: ClientConfig,
  { log, clock, connectionsMax = CONNECTIONS_MAX }: Omit<DatabaseOptions, 'databaseUrl' | 'dataDirectory'>,
): Promise<Database> {
  const { MikroORM } = await import('@mikro-orm/postgresql')
  const orm = await MikroORM.init({
    ...common,
    dbName: databaseName(config),
    pool: { max: connectionsMax, idleTimeoutMillis: 30_000 },
    driverOptions: { ...config, keepAlive: true, connectionTimeoutMillis: 10_000 },
    logger: (message) => log.warn(`MikroORM: ${message}`),
  })
  try {
    await migrateAlone(config, () => orm.migrator.up())
    const pool = await orm.em.getConnection().getNativeClient()
    const sql = poolSql(pool)
    const wakeUps = openWakeUps(config, sql, clock, log)
    return {
      kind,
      sql,
      em: () => orm.em.fork(),
      wakeUps,
      async close() {
        await wakeUps.close()
        await orm.close(true)
      },
    }
  } catch (cause) {
    await orm.close(true)
    throw cause
  }
}

/** PGlite in `directory`, or in memory (null): everything in this process, on one connection. */
export async function openPglite(directory: string | null, log: Log, clock: Clock): Promise<Database> {
  const lock = directory === null ? undefined : await lockDirectory(directory)
  try {
    const { MikroORM } = await import('@mikro-orm/pglite')
    const orm = await MikroORM.init({
      ...common,
      dbName: directory === null ? 'memory://' : join(directory, 'cluster'),
      driverOptions: { postgresqlconf: ['shared_buffers=16MB'] },
      logger: (message) => log.warn(`MikroORM: ${message}`),
    })
    await orm.migrator.up()
    const sql = pgliteSql(await orm.em.getConnection().getNativeClient())
    const wakeUps = openWakeUps(null, sql, clock, log)
    return {
      kind: 'pglite',
      sql,
      em: () => orm.em.fork(),
      wakeUps,
      async close() {
        await wakeUps.close()
        await orm.close(true)
        await lock?.release()
      },
    }
  } catch (cause) {
    await lock?.release()
    throw cause
  }
}

async function openEmbedded(directory: string, options: DatabaseOptions): Promise<Database | undefined> {
  const server = await openEmbeddedServer({ directory, log: options.log, clock: options.clock })
  if (server === undefined) return undefined
  try {
    const database = await connect('embedded', server.address, options)
    return {
      ...database,
      async close() {
        await database.close()
        await server.close()
      },
    }
  } catch (cause) {
    await server.close()
    throw cause
  }
}

/**
 * Opens and migrates the database. Throws `directory_in_use`, `database_unavailable`, `config_invalid`. A data
 * directory stays with the kind of database that it began with, or everything in it would seem to be lost.
 */
export async function openDatabase(options: DatabaseOptions): Promise<Database> {
  const { databaseUrl, dataDirectory, log, clock } = options
  if (databaseUrl !== null) return connect('server', { connectionString: databaseUrl.reveal() }, options)
  const pglite = join(dataDirectory, 'pglite')
  const embedded = join(dataDirectory, 'postgres')
  await mkdir(dataDirectory, { recursive: true })
  const began = await stat(join(pglite, 'cluster')).catch(() => undefined)
  if (began === undefined) {
    await letServerPass(await realpath(dataDirectory))
    const database = await openEmbedded(embedded, options)
    if (database !== undefined) return database
    if (await isSetUp(embedded))
      throw new PlatformError(
        'config_invalid',
        `${embedded} holds a database, but npm installed no Postgres for ${process.platform}-${process.arch}.`,
      )
  }
  log.warn('The database is PGlite, in this process: for trying out. A power cut may lose data; set DATABASE_URL.')
  return openPglite(pglite, log, clock)
}
