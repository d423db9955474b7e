/** What a step costs beyond its model and its tool: time, commits, bytes, CPU and memory, at four lengths of job. */
import { randomBytes } from 'node:crypto'
import { readdir, rm, stat } from 'node:fs/promises'
import { loadavg } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Pool } from 'pg'
import { startPlatform, type Platform } from '../test/support/platform.ts'
import { CostMeter, ROLES } from './cost.ts'
import { openBenchDatabase, type BenchDatabase } from './database.ts'
import { measureFloor } from './floor.ts'
import { openLangGraph, type Peer } from './peers.ts'
import { createRehearsed, PAGES, publishRehearsed, readEvents, runRehearsed } from './rehearsed.ts'

const LENGTHS = [10, 100, 300, 1000]
/** The length that goals are set for, and at which syncs are counted. */
const GOAL_LENGTH = 300
/** The peer keeps the whole conversation with each step: a thousand steps of 1 kB would be more than a gigabyte. */
const PEER_LENGTH_MAX = 300
/** Runs of which the median counts. */
const RUNS = 3
const EDGE = 10
/** An idle backend reports its statistics after ten seconds. */
const STATISTICS_MS = 10_500
const LOOK_MS = 20

/** What the tool answers, one after the other and again: too far apart for Postgres to find what repeats. */
const RESULTS = {
  tiny: () => Array.from({ length: PAGES }, () => 'ok'),
  /** Text that does not compress. */
  '1 kB': () => Array.from({ length: PAGES }, () => randomBytes(768).toString('base64')),
} as const
type ResultName = keyof typeof RESULTS

interface Measured {
  readonly msPerStep: number
  /** The last ten steps over the first ten. */
  readonly flat: number
  readonly jobMs: number
  readonly storedKb: number
  readonly contentKb: number
  readonly walKb: number
  readonly commits: number
  readonly syncs: number | undefined
  readonly cpu: readonly (number | undefined)[]
  readonly peakMb: number
}

const pad = (cells: readonly (string | number)[], widths: readonly number[]) =>
  cells.map((cell, i) => String(cell).padStart(widths[i] ?? 8)).join('  ')
const fixed = (value: number | undefined, digits: number) => (value === undefined ? '-' : value.toFixed(digits))

const WIDTHS = [9, 6, 6, 5, 8, 10, 7, 11, 10, 8, 7, 6]
const HEADER = pad(
  [
    'who',
    'result',
    'delay',
    'steps',
    'ms/step',
    'last/first',
    'job ms',
    'Postgres kB',
    'content kB',
    'WAL kB',
    'commits',
    'syncs',
  ],
  WIDTHS,
)

function row(who: string, result: ResultName, delay: string, steps: number, one: Measured): string {
  const times = [fixed(one.msPerStep, 2), fixed(one.flat, 2), fixed(one.jobMs, 0)]
  const bytes = [fixed(one.storedKb, 0), fixed(one.contentKb, 1), fixed(one.walKb, 0)]
  return pad([who, result, delay, steps, ...times, ...bytes, fixed(one.commits, 2), fixed(one.syncs, 2)], WIDTHS)
}

/** All that the tables of a database take, indexes and TOAST included, as they were left. */
async function storedBytes(pool: Pool): Promise<number> {
  const { rows } = await pool.query<{ bytes: string }>(
    `select coalesce(sum(pg_total_relation_size(oid)), 0) as bytes from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace`,
  )
  return Number(rows[0]?.bytes)
}

interface Counters {
  readonly wal: number
  /** Transactions that wrote, of the whole server. */
  readonly commits: number
  readonly syncs: number
}

async function counters(pool: Pool): Promise<Counters> {
  const { rows } = await pool.query<Record<keyof Counters, string>>(
    `select pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0') as wal,
       pg_snapshot_xmax(pg_current_snapshot())::text as commits,
       (select sum(fsyncs) from pg_stat_io where object = 'wal') as syncs`,
  )
  return { wal: Number(rows[0]?.wal), commits: Number(rows[0]?.commits), syncs: Number(rows[0]?.syncs) }
}

async function bytesUnder(directory: string): Promise<number> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true })
  const sizes = await Promise.all(
    entries
      .filter((entry) => entry.isFile())
      .map(async (entry) => (await stat(join(entry.parentPath, entry.name))).size),
  )
  return sizes.reduce((sum, size) => sum + size, 0)
}

/** What `work` of so many steps leaves and costs in the database of `pool`. */
async function counted<Result>(pool: Pool, steps: number, isExact: boolean, work: () => Promise<Result>) {
  if (isExact) await sleep(STATISTICS_MS)
  const [stored, before] = [await storedBytes(pool), await counters(pool)]
  const result = await work()
  const after = await counters(pool)
  const storedKb = ((await storedBytes(pool)) - stored) / 1000
  if (isExact) await sleep(STATISTICS_MS)
  const { syncs } = isExact ? await counters(pool) : before
  return {
    result,
    storedKb,
    walKb: (after.wal - before.wal) / 1000,
    commits: (after.commits - before.commits) / steps,
    syncs: isExact ? (syncs - before.syncs) / steps : undefined,
  }
}

/** The mean gap between moments, and how the last ones compare with the first. */
function gaps(moments: readonly number[]): Pick<Measured, 'msPerStep' | 'flat'> {
  const last = moments.length - 1
  const mean = (from: number, to: number) => ((moments[to] ?? 0) - (moments[from] ?? 0)) / (to - from)
  const edge = Math.min(EDGE, last)
  return { msPerStep: mean(0, last), flat: mean(last - edge, last) / mean(0, edge) }
}

async function finished(pool: Pool, jobId: string): Promise<void> {
  for (;;) {
    const { rows } = await pool.query<{ status: string }>('select status from jobs where id = $1', [jobId])
    if (rows[0]?.status === 'finished') return
    await sleep(LOOK_MS)
  }
}

async function measureOurs(
  database: BenchDatabase,
  platform: Platform,
  steps: number,
  result: ResultName,
  isExact: boolean,
): Promise<Measured> {
  const content = join(platform.dataDirectory, 'content')
  const contentBefore = await bytesUnder(content)
  const meter = new CostMeter(platform.child.pid ?? 0, database.pid)
  const { result: job, ...counts } = await counted(database.pool, steps, isExact, async () => {
    const created = await createRehearsed(platform, `bench-${steps}`, RESULTS[result]())
    await finished(database.pool, created.id)
    return created
  })
  meter.stop()
  const events = await readEvents(platform, job.id)
  const ends = events.filter((event) => event.type === 'stepFinished').map((event) => Date.parse(event.at))
  const cpu = meter.perStep(ends)
  return {
    ...counts,
    ...gaps(ends),
    jobMs: Date.parse(events.at(-1)?.at ?? '') - job.createdAt,
    contentKb: ((await bytesUnder(content)) - contentBefore) / 1000,
    cpu: ROLES.map((role) => cpu?.[role]),
    peakMb: meter.runnerPeakKb / 1024,
  }
}

async function measurePeer(
  pool: Pool,
  peer: Peer,
  steps: number,
  result: ResultName,
  isExact: boolean,
): Promise<Measured> {
  const { result: run, ...counts } = await counted(pool, steps, isExact, () => peer.run(steps, RESULTS[result]()))
  const { ticks, wallMs, cpuMs } = run
  return { ...counts, ...gaps(ticks), jobMs: wallMs, contentKb: 0, cpu: [cpuMs / steps], peakMb: 0 }
}

async function median(runs: number, measure: (isLast: boolean) => Promise<Measured>): Promise<Measured> {
  const all: Measured[] = []
  for (let i = 0; i < runs; i++) all.push(await measure(i === runs - 1))
  const middle = (value: (one: Measured) => number) =>
    all.map(value).toSorted((a, b) => a - b)[Math.floor(runs / 2)] ?? Number.NaN
  const last = all[runs - 1]
  if (last === undefined) throw new TypeError('a median of nothing')
  return {
    ...last,
    msPerStep: middle((one) => one.msPerStep),
    flat: middle((one) => one.flat),
    jobMs: middle((one) => one.jobMs),
  }
}

/** Every WAL flush waits a millisecond first, as on a slower disk; commits that come together still go together. */
async function delayCommits(pool: Pool, microseconds: number): Promise<void> {
  await pool.query(`alter system set commit_delay = ${microseconds}`)
  await pool.query('alter system set commit_siblings = 0')
  await pool.query('select pg_reload_conf()')
  await sleep(100)
}

interface StepOptions {
  readonly peer: boolean
  readonly short: boolean
  readonly environment: Readonly<Record<string, string>>
}

export async function* benchStep(options: StepOptions): AsyncGenerator<string> {
  const lengths = options.short ? [GOAL_LENGTH] : LENGTHS
  const delays = options.short ? ['0'] : ['0', '1 ms']
  const database = await openBenchDatabase(2)
  const platform = await startPlatform({ env: { DATABASE_URL: database.url } })
  const beside = options.peer ? await database.another('peer') : undefined
  const peer = beside === undefined ? undefined : await openLangGraph(beside.url, options.environment)
  try {
    for (const steps of lengths) await publishRehearsed(platform, `bench-${steps}`, steps)
    await runRehearsed(platform, `bench-${GOAL_LENGTH}`, RESULTS.tiny())
    await peer?.run(GOAL_LENGTH, RESULTS.tiny())
    const { rows } = await database.pool.query<{ version: string }>(
      `select current_setting('server_version') as version`,
    )
    yield `Postgres ${rows[0]?.version}, fsync on; Node ${process.version}; load before ${loadavg()[0]?.toFixed(2)}; medians of ${RUNS}`
    const floor = await measureFloor(database.pool)
    yield `floor: ${floor.toFixed(2)} ms for the hops between processes and the two commits of a step with nothing done in it`
    yield HEADER
    const costs: string[] = []
    for (const delay of delays) {
      await delayCommits(database.pool, delay === '0' ? 0 : 1000)
      for (const result of Object.keys(RESULTS) as ResultName[]) {
        for (const steps of lengths) {
          const isGoal = steps === GOAL_LENGTH
          const runs = steps > GOAL_LENGTH ? 1 : RUNS
          const ours = await median(runs, (isLast) => measureOurs(database, platform, steps, result, isGoal && isLast))
          yield row('senmon', result, delay, steps, ours)
          if (delay === '0') yield `  senmon / floor: ms/step ${(ours.msPerStep / floor).toFixed(2)}`
          const total = ours.cpu.reduce<number>((sum, ms) => sum + (ms ?? 0), 0)
          if (steps >= GOAL_LENGTH)
            costs.push(
              pad(
                [result, delay, steps, ...[...ours.cpu, total].map((ms) => fixed(ms, 2)), fixed(ours.peakMb, 0)],
                COST_WIDTHS,
              ),
            )
          if (peer === undefined || beside === undefined || steps > PEER_LENGTH_MAX) continue
          const theirs = await median(RUNS, (isLast) => measurePeer(beside.pool, peer, steps, result, isGoal && isLast))
          yield row('LangGraph', result, delay, steps, theirs)
          const ratio = (of: (one: Measured) => number) => (of(theirs) / of(ours)).toFixed(2)
          yield `  LangGraph / senmon: ms/step ${ratio((one) => one.msPerStep)}, Postgres kB ${ratio((one) => one.storedKb)}, WAL kB ${ratio((one) => one.walKb)}`
        }
      }
    }
    yield ''
    yield 'CPU ms per step, by process; the most memory that the runner held'
    yield pad(['result', 'delay', 'steps', ...ROLES, 'all', 'runner MB'], COST_WIDTHS)
    yield* costs
    yield `load after ${loadavg()[0]?.toFixed(2)}`
  } finally {
    await peer?.close()
    await platform.stop()
    await database.close()
    await rm(platform.dataDirectory, { recursive: true, force: true })
  }
}

const COST_WIDTHS = [6, 6, 5, 8, 10, 8, 8, 8, 8, 9]
