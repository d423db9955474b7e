/**
 * A database per test file, cloned from a template that was migrated once. One server for the whole run: the first
 * process that needs it starts it, a small shell ends it when the run's main process is gone, however that went.
 * DATABASE_URL_TEST names a server to use instead.
 */
import { spawn } from 'node:child_process'
import { mkdir, rmdir } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Client, type ClientConfig } from 'pg'
import type { Clock } from '../../schema/clock.ts'
import { sha256 } from '../../schema/hash.ts'
import { openLog } from '../../src/log.ts'
import { connect, type Database } from '../../src/postgres/database.ts'
import { findEmbeddedPackage, prepareBinary } from '../../src/postgres/embedded-binary.ts'
import { openPlace } from '../../src/postgres/embedded-place.ts'
import { serve } from '../../src/postgres/embedded-server.ts'
import { MIGRATIONS } from '../../src/postgres/migrations/list.ts'

/** The real time: a real server does not wait for a fake one. */
export const realClock: Clock = {
  now: () => performance.timeOrigin + performance.now(),
  sleep: async (ms, signal) => {
    await sleep(ms, undefined, signal === undefined ? {} : { signal })
  },
}

/** Keeps what is worth a look and drops the rest. */
export const quietLog = openLog(
  (line) => {
    if (line.includes('"level":"error"')) process.stderr.write(line)
  },
  () => realClock.now(),
)

/** Of this run: vitest's main process is the parent of all that run tests. */
const RUN = `/tmp/senmon-test-${process.ppid}`
/** Named after what it holds, so that a server that lives on never offers an old one. */
const TEMPLATE = `senmon_${sha256(JSON.stringify(MIGRATIONS.map((each) => [each.name, each.class.toString()]))).slice(0, 12)}`

export interface TestDatabase extends Database {
  /** For a further connection, or a second process: `connect('server', config, ...)`. */
  readonly config: ClientConfig
}

/** One process at a time; a directory is made by one only. */
async function alone<Result>(work: () => Promise<Result>): Promise<Result> {
  const gate = join(RUN, 'gate')
  await mkdir(RUN, { recursive: true })
  for (;;) {
    try {
      await mkdir(gate)
      break
    } catch {
      await sleep(20)
    }
  }
  try {
    return await work()
  } finally {
    await rmdir(gate)
  }
}

/** Waits for the run to end, then ends the server and removes everything of it. */
function endWithRun(pid: number, home: string): void {
  // A zombie that nobody buries would count as running for kill -0.
  const runs = `kill -0 ${process.ppid} 2>/dev/null && ! grep -q '^State:.Z' /proc/${process.ppid}/status 2>/dev/null`
  const lives = `kill -0 ${pid} 2>/dev/null && ! grep -q '^State:.Z' /proc/${pid}/status 2>/dev/null`
  const script = `while ${runs}; do sleep 1; done
    kill -INT ${pid}; while ${lives}; do sleep 0.1; done; rm -rf ${RUN} ${home}`
  spawn('/bin/sh', ['-c', script], { detached: true, stdio: 'ignore', cwd: '/' }).unref()
}

async function serverOfRun(): Promise<ClientConfig> {
  const url = process.env['DATABASE_URL_TEST']
  if (url !== undefined && url !== '') return { connectionString: url }
  const found = await findEmbeddedPackage()
  if (found === undefined) throw new Error('npm installed no embedded Postgres here; set DATABASE_URL_TEST.')
  return alone(async () => {
    const directory = join(RUN, 'postgres')
    await mkdir(directory, { recursive: true })
    const place = await openPlace(directory, quietLog)
    // What a test proves about durability it proves on a server of its own.
    const settings = { fsync: 'off', synchronous_commit: 'off', full_page_writes: 'off', max_connections: '200' }
    const options = { directory, log: quietLog, clock: realClock, settings }
    const server = await serve(await prepareBinary(found, place), place, options)
    if (!server.adopted) endWithRun(server.pid, place.home)
    return { ...server.address }
  })
}

function named(config: ClientConfig, database: string): ClientConfig {
  if (config.connectionString === undefined) return { ...config, database }
  const url = new URL(config.connectionString)
  url.pathname = `/${database}`
  return { connectionString: url.href }
}

function nameOf(config: ClientConfig): string {
  return config.database ?? new URL(config.connectionString ?? '').pathname.slice(1)
}

/** One administrative statement after another, on a connection of its own. */
async function administer<Result>(config: ClientConfig, work: (client: Client) => Promise<Result>): Promise<Result> {
  const client = new Client(named(config, 'postgres'))
  await client.connect()
  try {
    return await work(client)
  } finally {
    await client.end()
  }
}

async function ensureTemplate(server: ClientConfig): Promise<void> {
  await administer(server, async (client) => {
    await client.query('select pg_advisory_lock(1)')
    const { rowCount } = await client.query('select from pg_database where datname = $1', [TEMPLATE])
    if (rowCount !== 0) return
    // Renamed when it is whole: half a template is never cloned.
    const half = `${TEMPLATE}_half`
    await client.query(`drop database if exists ${half} with (force)`)
    await client.query(`create database ${half} template template0 encoding 'UTF8'`)
    const database = await connect('server', named(server, half), { log: quietLog, clock: realClock })
    await database.close()
    await client.query(`alter database ${half} rename to ${TEMPLATE}`)
  })
}

let server: Promise<ClientConfig> | undefined
let count = 0

/** An empty, migrated database of one's own, to which nobody is connected; it goes with the server. */
export async function makeTestDatabase(): Promise<ClientConfig> {
  server ??= serverOfRun().then(async (config) => {
    await ensureTemplate(config)
    return config
  })
  const config = await server
  const name = `test_${process.pid}_${count++}`
  await administer(config, (client) => client.query(`create database ${name} template ${TEMPLATE}`))
  return named(config, name)
}

/** The same with a connection, dropped by `close`. */
export async function openTestDatabase(): Promise<TestDatabase> {
  const own = await makeTestDatabase()
  const database = await connect('server', own, { log: quietLog, clock: realClock, connectionsMax: 6 })
  return {
    ...database,
    config: own,
    async close() {
      await database.close()
      await administer(own, (client) => client.query(`drop database ${nameOf(own)} with (force)`))
    },
  }
}

/** Where this database is, as DATABASE_URL says it. */
export function databaseUrl({ config }: Pick<TestDatabase, 'config'>): string {
  if (config.connectionString !== undefined) return config.connectionString
  const { user, password, host = '', port, database } = config
  const url = new URL(`postgres://localhost/${database}`)
  if (user !== undefined) url.username = user
  if (typeof password === 'string') url.password = password
  url.search = new URLSearchParams({ host, ...(port === undefined ? {} : { port: `${port}` }) }).toString()
  return url.href
}
