/** What a step costs beyond its model and its tool: time, and bytes kept, at three lengths of job. */
import { randomBytes } from 'node:crypto'
import { readdir, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { openBenchDatabase, type BenchDatabase } from './database.ts'
import { startPlatform } from '../test/support/platform.ts'
import { publishRehearsed, runRehearsed, type BenchEvent } from './rehearsed.ts'

const LENGTHS = [10, 100, 300]
/** 1 kB that does not compress, as text. */
const makePage = () => randomBytes(768).toString('base64')

async function bytesUnder(directory: string): Promise<number> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true })
  const sizes = await Promise.all(
    entries
      .filter((entry) => entry.isFile())
      .map(async (entry) => (await stat(join(entry.parentPath, entry.name))).size),
  )
  return sizes.reduce((sum, size) => sum + size, 0)
}

const between = (events: readonly BenchEvent[], from: number, to: number) =>
  (Date.parse(events[to]?.at ?? '') - Date.parse(events[from]?.at ?? '')) / (to - from)

/** All that Postgres keeps, indexes and TOAST included. */
async function storedBytes(database: BenchDatabase): Promise<number> {
  await database.pool.query('vacuum full')
  const { rows } = await database.pool.query<{ bytes: string }>(
    `select coalesce(sum(pg_total_relation_size(oid)), 0) as bytes from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace`,
  )
  return Number(rows[0]?.bytes)
}

/** Where the write-ahead log stands. */
async function walPosition(database: BenchDatabase): Promise<string> {
  const { rows } = await database.pool.query<{ lsn: string }>('select pg_current_wal_lsn() as lsn')
  return rows[0]?.lsn ?? ''
}

export async function* benchStep(): AsyncGenerator<string> {
  const database = await openBenchDatabase(2)
  const platform = await startPlatform({ env: { DATABASE_URL: database.url } })
  const content = join(platform.dataDirectory, 'content')
  try {
    yield 'steps   ms/step   last ten / first ten   events   Postgres kB   content kB   WAL kB'
    let tenMs = 0
    for (const steps of LENGTHS) {
      await publishRehearsed(platform, `bench-${steps}`, steps)
      await runRehearsed(platform, `bench-${steps}`, makePage())
      const [content0, stored0, wal0] = [
        await bytesUnder(content),
        await storedBytes(database),
        await walPosition(database),
      ]
      const { events } = await runRehearsed(platform, `bench-${steps}`, makePage())
      const wal1 = await walPosition(database)
      const walBytes = await database.pool.query<{ bytes: string }>('select pg_wal_lsn_diff($1, $2) as bytes', [
        wal1,
        wal0,
      ])
      const ends = events.filter((event) => event.type === 'stepFinished')
      const ms = between(ends, 0, ends.length - 1)
      const edge = Math.min(10, ends.length - 1)
      const flat = between(ends, ends.length - 1 - edge, ends.length - 1) / between(ends, 0, edge)
      const cells = [
        [steps, 5],
        [ms.toFixed(2), 7],
        [flat.toFixed(2), 20],
        [events.length, 6],
        [(((await storedBytes(database)) - stored0) / 1000).toFixed(0), 11],
        [(((await bytesUnder(content)) - content0) / 1000).toFixed(1), 10],
        [(Number(walBytes.rows[0]?.bytes) / 1000).toFixed(0), 6],
      ] as const
      yield cells.map(([value, width]) => String(value).padStart(width)).join('   ')
      if (tenMs === 0) tenMs = ms
      if (steps === LENGTHS.at(-1))
        yield `ms/step at ${steps} steps against ${LENGTHS[0]} steps: ${(ms / tenMs).toFixed(2)}`
    }
  } finally {
    await platform.stop()
    await database.close()
    await rm(platform.dataDirectory, { recursive: true, force: true })
  }
}
