/** Machines for jobs: warm beside cold in one run, many at once, what a ready machine holds, and what a claim costs. */
import { readFileSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { availableParallelism } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Pool } from 'pg'
import { descendants, listProcesses, type Process } from '../src/local/processes.ts'
import { startPlatform, type Platform } from '../test/support/platform.ts'
import { benchClaims } from './claims.ts'
import { openBenchDatabase } from './database.ts'
import { percentile } from './load.ts'
import { createRehearsed, publishRehearsed, readEvents, type BenchEvent } from './rehearsed.ts'
import { benchWarm } from './warm.ts'

const EXPERT = 'bench-pool'
const AT_ONCE = 16
/** Jobs that nobody measures: a server that has been up for a while has compiled what they take, and prepared its statements. */
const WARM_UP = 20

const LOOK_MS = 20
const WAIT_MS = 120_000

async function countReady(pool: Pool): Promise<number> {
  const { rows } = await pool.query<{ count: number }>(
    `select count(*)::int as count from machines where state = 'ready'`,
  )
  return rows[0]?.count ?? 0
}

async function ready(pool: Pool, count: number): Promise<void> {
  for (const until = Date.now() + WAIT_MS; (await countReady(pool)) < count;) {
    if (Date.now() > until) throw new Error(`there were never ${count} machines ready`)
    await sleep(LOOK_MS)
  }
}

interface Start {
  readonly resume: string
  /** From the moment that the job was accepted to the first event of its runner, in ms, by the log. */
  readonly waitMs: number
  /** From the grant of its lease until its runner said that it is there. */
  readonly dispatchMs: number
  readonly phases: { readonly claim: number; readonly start: number; readonly wake: number } | null
}

function momentOf(events: readonly BenchEvent[], type: string): number {
  const found = events.find((event) => event.type === type)
  if (found === undefined) throw new Error(`the job has no ${type}`)
  return Date.parse(found.at)
}

async function started(platform: Platform, jobId: string): Promise<Start> {
  const events = await readEvents(platform, jobId)
  const { job } = await platform.graphql<{ job: { machine: Omit<Start, 'waitMs'> } }>(
    'query ($id: ID!) { job(id: $id) { machine { resume dispatchMs phases { claim start wake } } } }',
    { id: jobId },
  )
  return { ...job.machine, waitMs: momentOf(events, 'runStarted') - momentOf(events, 'jobCreated') }
}

function figures(name: string, starts: readonly Start[]): string {
  const sorted = starts.map(({ waitMs }) => waitMs).toSorted((a, b) => a - b)
  const ms = (share: number) => String(percentile(sorted, share)).padStart(4)
  const middle = (part: 'claim' | 'start' | 'wake') => {
    const values = starts.map(({ phases }) => phases?.[part] ?? 0).toSorted((a, b) => a - b)
    return percentile(values, 0.5).toFixed(1)
  }
  const phases = `claim ${middle('claim')}, start ${middle('start')}, wake ${middle('wake')}`
  return `${name.padEnd(40)} n=${starts.length}  p50 ${ms(0.5)} ms  p95 ${ms(0.95)} ms  p99 ${ms(0.99)} ms  (p50 of ${phases})`
}

/** What no other process shares of the memory of these, in MiB. */
function privateMib(pids: readonly number[]): number {
  let kb = 0
  for (const pid of pids) {
    try {
      const text = readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8')
      for (const [, value] of text.matchAll(/^Private_(?:Clean|Dirty):\s+(\d+) kB/gm)) kb += Number(value)
    } catch {
      // It ended meanwhile, and holds nothing.
    }
  }
  return kb / 1024
}

async function withPlatform<Result>(
  ready: number,
  url: string,
  work: (platform: Platform) => Promise<Result>,
): Promise<Result> {
  const env = { DATABASE_URL: url, SENMON_READY: String(ready), SENMON_CONCURRENCY: String(AT_ONCE) }
  const platform = await startPlatform({ env })
  try {
    return await work(platform)
  } finally {
    await platform.stop()
    await rm(platform.dataDirectory, { recursive: true, force: true })
  }
}

export async function* benchPool(options: {
  readonly short: boolean
  readonly environment: Readonly<Record<string, string>>
}): AsyncGenerator<string> {
  const jobs = options.short ? 10 : 50
  const server = await openBenchDatabase(2)
  try {
    const run = async (platform: Platform): Promise<Start> =>
      started(platform, (await createRehearsed(platform, EXPERT, ['page'])).id)
    const cold = await withPlatform(0, server.url, async (platform) => {
      await publishRehearsed(platform, EXPERT, 1)
      for (let i = 0; i < WARM_UP; i++) await run(platform)
      const starts: Start[] = []
      for (let i = 0; i < jobs; i++) starts.push(await run(platform))
      return starts.filter(({ resume }) => resume === 'created')
    })
    const second = await server.another('warm')
    const { warm, burst, burstMs, slotMib, perSecond, sustainedMs } = await withPlatform(
      AT_ONCE,
      second.url,
      async (platform) => {
        await publishRehearsed(platform, EXPERT, 1)
        for (let i = 0; i < WARM_UP; i++) await run(platform)
        await ready(second.pool, AT_ONCE)
        await sleep(1000) // what a start leaves to do is done
        const server = platform.child.pid ?? 0
        // What the server forks with is its own, and one for all machines.
        const isOfMachine = ({ pid, parent }: Process): boolean => pid !== server && parent !== server
        const own = descendants(server, listProcesses()).filter(isOfMachine)
        const slotMib = privateMib(own.map(({ pid }) => pid)) / (await countReady(second.pool))
        const warm: Start[] = []
        for (let i = 0; i < jobs; i++) {
          await ready(second.pool, AT_ONCE - 1)
          warm.push(await run(platform))
        }
        await ready(second.pool, AT_ONCE)
        const from = Date.now()
        const all = await Promise.all(
          Array.from({ length: AT_ONCE }, async () => (await createRehearsed(platform, EXPERT, ['page'])).id),
        )
        const burst = await Promise.all(all.map((jobId) => started(platform, jobId)))
        const burstMs = Date.now() - from
        const began = Date.now()
        const sustained = jobs * 2
        let next = 0
        await Promise.all(
          Array.from({ length: 8 }, async () => {
            while (next++ < sustained) await run(platform)
          }),
        )
        const sustainedMs = Date.now() - began
        const perSecond = (sustained * 1000) / sustainedMs
        return {
          warm: warm.filter(({ resume }) => resume === 'resumed'),
          burst,
          burstMs,
          slotMib,
          perSecond,
          sustainedMs,
        }
      },
    )
    yield `accepted → first event of the runner, one job after the other, on a server that has had ${WARM_UP}`
    yield figures('cold: a machine is made for the job', cold)
    yield figures('warm: a ready machine is resumed', warm)
    const middle = (starts: readonly Start[]) =>
      percentile(
        starts.map(({ waitMs }) => waitMs).toSorted((a, b) => a - b),
        0.5,
      )
    const answers = warm.map(({ dispatchMs, phases }) => dispatchMs - (phases?.claim ?? 0)).toSorted((a, b) => a - b)
    yield `resume → its runner answers: p50 ${percentile(answers, 0.5)} ms, p99 ${percentile(answers, 0.99)} ms`
    yield `warm over cold, p50: ${(middle(warm) / middle(cold)).toFixed(2)}; goal 0.20`
    yield figures(`${AT_ONCE} jobs at once, ${AT_ONCE} ready`, burst)
    const found = burst.filter(({ resume }) => resume === 'resumed').length
    yield `${found} of ${AT_ONCE} found a ready machine; all ended after ${burstMs} ms`
    yield `a ready machine holds ${slotMib.toFixed(1)} MiB of its own; goal 30`
    yield `${perSecond.toFixed(1)} whole jobs per second through sandboxes for ${(sustainedMs / 1000).toFixed(0)} s, 8 callers, ${availableParallelism()} cores`
  } finally {
    await server.close()
  }
  yield* benchClaims(options)
  yield* benchWarm(options)
}
