/** What a step leaves behind, counted and not timed: its commits and its bytes, at the first step as at the last. */
import { rm } from 'node:fs/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { openBenchDatabase, type BenchDatabase } from '../../bench/database.ts'
import { PAGES, publishRehearsed, runRehearsed } from '../../bench/rehearsed.ts'
import { sha256 } from '../../schema/hash.ts'
import { startPlatform, type Platform } from '../support/platform.ts'
import { sandboxMissing } from '../support/sandbox.ts'

const missing = await sandboxMissing()
const STEPS = 40
/** Commits of a job besides those of its steps: its creation, its lease, its machine, its runs' first and last words. */
const OTHER_COMMITS_MAX = 10
const RESULT_BYTES = 1024

/** As long as a result is, and of little that repeats. */
function textOf(page: number): string {
  return Array.from({ length: RESULT_BYTES / 64 }, (_, line) => sha256(`${page} ${line}`)).join('')
}

describe.skipIf(missing !== undefined)(`a step${missing === undefined ? '' : ` (${missing})`}`, () => {
  let database: BenchDatabase
  let platform: Platform
  let jobId = ''

  beforeAll(async () => {
    database = await openBenchDatabase(2)
    platform = await startPlatform({ env: { DATABASE_URL: database.url } })
    await publishRehearsed(platform, 'step-cost', STEPS)
    const pages = Array.from({ length: PAGES }, (_, page) => textOf(page))
    jobId = (await runRehearsed(platform, 'step-cost', pages)).jobId
  })
  afterAll(async () => {
    await platform.stop()
    await database.close()
    await rm(platform.dataDirectory, { recursive: true, force: true })
  })

  it('is two commits', async () => {
    const { rows } = await database.pool.query<{ commits: string }>(
      'select count(distinct xmin::text) as commits from job_events where job_id = $1',
      [jobId],
    )
    const commits = Number(rows[0]?.commits)
    expect(commits).toBeGreaterThanOrEqual(2 * STEPS)
    expect(commits).toBeLessThanOrEqual(2 * STEPS + OTHER_COMMITS_MAX)
  })

  it('leaves its result and at most 1.6 kB more in the log, the last like the first', async () => {
    const { rows } = await database.pool.query<{ step: number; bytes: string }>(
      `select step_number as step, sum(pg_column_size(job_events.*)) as bytes from job_events
       where job_id = $1 and step_number between 2 and $2 group by step_number order by step_number`,
      [jobId, STEPS],
    )
    const bytes = rows.map((row) => Number(row.bytes))
    expect(bytes).toHaveLength(STEPS - 1)
    expect(Math.max(...bytes)).toBeLessThanOrEqual(RESULT_BYTES + 1600)
    // A step's number has a digit more in the later ones, and so has its call's id, wherever it stands.
    expect(Math.max(...bytes) - Math.min(...bytes)).toBeLessThanOrEqual(32)
  })

  it('rewrites a job row that does not grow with the steps', async () => {
    const { rows } = await database.pool.query<{ bytes: number }>(
      'select pg_column_size(jobs.*) as bytes from jobs where id = $1',
      [jobId],
    )
    expect(rows[0]?.bytes).toBeLessThanOrEqual(2000)
  })
})
