/** A Postgres of the benches' own, so that they can look at what a platform stores. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Pool } from 'pg'
import { openLog } from '../src/log.ts'
import { openEmbeddedServer } from '../src/postgres/embedded-server.ts'

export interface BenchDatabase {
  readonly pool: Pool
  /** For DATABASE_URL. */
  readonly url: string
  /** The server's first process. */
  readonly pid: number
  /** Another, empty database of the same server; its pool ends with this one. */
  another(name: string): Promise<{ readonly pool: Pool; readonly url: string }>
  close(): Promise<void>
}

/** The same binaries and settings as a platform's embedded database, fsync on. */
export async function openBenchDatabase(connections: number): Promise<BenchDatabase> {
  const directory = await mkdtemp(join(tmpdir(), 'senmon-bench-'))
  const clock = {
    now: Date.now,
    sleep: async (ms: number) => {
      await sleep(ms)
    },
  }
  const server = await openEmbeddedServer({
    directory: join(directory, 'postgres'),
    log: openLog(() => {}, clock.now),
    clock,
  })
  if (server === undefined) throw new Error('npm installed no Postgres for this platform')
  const { host, port, user, database } = server.address
  let isClosing = false
  const pools: Pool[] = []
  const open = (name: string) => {
    const pool = new Pool({ ...server.address, database: name, max: connections })
    // A connection that has not quite closed hears the server's last word.
    pool.on('error', (error) => {
      if (!isClosing) throw error
    })
    pools.push(pool)
    return { pool, url: `postgres://${user}@localhost:${port}/${name}?host=${encodeURIComponent(host)}` }
  }
  const first = open(database)
  return {
    ...first,
    pid: server.pid,
    async another(name) {
      await first.pool.query(`create database ${name}`)
      return open(name)
    },
    async close() {
      isClosing = true
      await Promise.all(pools.map((pool) => pool.end()))
      await server.close()
      await rm(directory, { recursive: true, force: true })
    },
  }
}
