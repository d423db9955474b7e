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
  const pool = new Pool({ ...server.address, max: connections })
  let isClosing = false
  // A connection that has not quite closed hears the server's last word.
  pool.on('error', (error) => {
    if (!isClosing) throw error
  })
  return {
    pool,
    url: `postgres://${user}@localhost:${port}/${database}?host=${encodeURIComponent(host)}`,
    async close() {
      isClosing = true
      await pool.end()
      await server.close()
      await rm(directory, { recursive: true, force: true })
    },
  }
}
