/** What a claim costs beside the machine itself: real Postgres with fsync, and machines that are there at once. */
import { randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Clock } from '../schema/clock.ts'
import { isRefusal } from '../schema/error.ts'
import { makeId, type ApplicationId, type MachineId } from '../schema/id.ts'
import type { Lock } from '../schema/lock.ts'
import { attemptLimits } from '../src/attempt/attempts.ts'
import { openPlaces } from '../src/attempt/places.ts'
import { openJobs, type Jobs } from '../src/job/jobs.ts'
import { openLog } from '../src/log.ts'
import { openErrands } from '../src/pool/errands.ts'
import type { MachineHost } from '../src/pool/machine-host.ts'
import { machinesLimits, openMachines } from '../src/pool/machines.ts'
import { connect, type Database } from '../src/postgres/database.ts'
import { PostgresJobLog } from '../src/postgres/postgres-job-log.ts'
import { postgresPoolStore } from '../src/postgres/postgres-pool-store.ts'
import { fakeExpertSource, lockedExpert, lockOf } from '../test/fake/fake-expert-source.ts'
import { memoryContentStore } from '../test/fake/memory-content-store.ts'
import { LOCAL_LIKE, virtualProvider, type VirtualProvider } from '../test/fake/virtual-provider.ts'
import { openBenchDatabase } from './database.ts'
import { measureAt, percentile } from './load.ts'
import { openGraphile } from './peers.ts'

const PER_SECOND = 200
const BOOT = 'boot-1'
/** Machines that are there at once: what is left of having one is the pool's own work. */
const INSTANT = { ...LOCAL_LIKE, typical: { createMs: 0, bootMs: 0, suspendMs: 0, resumeMs: 0, stopMs: 0 } }
/** Jobs at once, ours and the peer's. */
const AT_ONCE = 16

const clock: Clock = {
  now: Date.now,
  sleep: async (ms, signal) => {
    // A timer takes a millisecond at least, and what is there at once takes none.
    if (ms > 0) await sleep(ms, undefined, signal === undefined ? {} : { signal })
  },
}
const chance = { bytes: (count: number) => new Uint8Array(randomBytes(count)) }
const log = openLog(
  () => {},
  () => clock.now(),
)
const LOCK = lockOf(lockedExpert('bench'))
const application = makeId('app', 1, new Uint8Array(randomBytes(16))) as ApplicationId

const limits = {
  queryBytesMax: 1024,
  filesMax: 1,
  fileBytesMax: 1024,
  filesBytesMax: 1024,
  leaseMs: 15_000,
  barrenAttemptsMax: 5,
  conflictRetriesMax: 20,
  quota: null,
}

function figures(name: string, sorted: readonly number[]): string {
  const ms = (share: number) => percentile(sorted, share).toFixed(1).padStart(7)
  return `${name.padEnd(62)} p50 ${ms(0.5)} ms  p95 ${ms(0.95)} ms  p99 ${ms(0.99)} ms`
}

/** Ready machines in the table, as many as the run will take. */
async function fillPool({ sql }: Database, provider: VirtualProvider, count: number): Promise<void> {
  const ids = Array.from({ length: count }, (): MachineId => makeId('mch', clock.now(), chance.bytes(16)))
  await sql.query(
    `insert into machines (id, pool, place, generation, state, version, provider_id, boot_id, boots, tainted, since, uses, tries)
     select id, 'bench', 'here', 'g1', 'ready', 1, id, $2, 1, 0, 0, 0, 0 from unnest($1::text[]) as id`,
    [ids, BOOT],
  )
  for (const id of ids) provider.adopt(id, BOOT)
  await sql.query('analyze machines')
}

function hostOn(database: Database, provider: VirtualProvider): MachineHost {
  const store = postgresPoolStore(database, clock)
  const errands = openErrands({ store, provider, clock, log, onOutcome: () => {} })
  return openMachines({
    pool: 'bench',
    store,
    provider,
    errands,
    clock,
    chance,
    log,
    linesUrl: null,
    onChange: () => {},
    generations: () => ['g1'],
    onAction: () => {},
    limits: machinesLimits,
  })
}

async function claimAndLetGo(host: MachineHost, lock: Lock, onOpen: () => void): Promise<void> {
  const machine = await host.open({ jobId: makeId('job', clock.now(), chance.bytes(16)), fence: 1 }, lock)
  onOpen()
  await machine.destroy()
}

/** Has a machine for each job as attempts have, and ends it; `started` hears of each that has its machine. */
function consume(jobs: Jobs, host: MachineHost, started: (jobId: string) => void): () => Promise<void> {
  const places = openPlaces({
    jobs,
    clock,
    log,
    holder: 'bench',
    ride: (owner) => host.ahead?.(owner),
    async drive(attempt) {
      const machine = await host.open(attempt, attempt.lock)
      started(attempt.jobId)
      await jobs.finish(attempt, { outcome: 'completed', reason: 'completed', message: null, result: '' })
      await machine.destroy()
    },
    limits: { concurrent: AT_ONCE, pollMs: attemptLimits.pollMs },
  })
  return async () => await places.close()
}

export async function* benchClaims(options: {
  readonly short: boolean
  readonly environment: Readonly<Record<string, string>>
}): AsyncGenerator<string> {
  const count = PER_SECOND * (options.short ? 5 : 20)
  const server = await openBenchDatabase(4)
  const config = { connectionString: server.url }
  const database = await connect('server', config, { log, clock })
  // Who creates is another process: its word comes by NOTIFY.
  const other = await connect('server', config, { log, clock })
  try {
    const provider = virtualProvider(clock, INSTANT)
    const host = hostOn(database, provider)
    await fillPool(database, provider, 3 * count + 1000)
    await measureAt(100, 100, () => claimAndLetGo(host, LOCK, () => {}))
    const opened = Array.from({ length: count }, () => Promise.withResolvers<void>())
    const letGone: Promise<void>[] = []
    const claims = await measureAt(PER_SECOND, count, async (number) => {
      const { promise, resolve } = opened[number] ?? Promise.withResolvers<void>()
      letGone.push(claimAndLetGo(host, LOCK, resolve))
      await promise
    })
    await Promise.all(letGone)
    yield figures(`claim of a ready machine, ${PER_SECOND}/s, goal p99 25 ms`, claims)

    const experts = fakeExpertSource(LOCK)
    const content = memoryContentStore()
    const given = { experts, content, models: { knows: () => true }, clock, chance, limits }
    const jobs = openJobs({ ...given, log: new PostgresJobLog(database, clock) })
    const creator = openJobs({ ...given, log: new PostgresJobLog(other, clock) })
    const waiting = new Map<string, () => void>()
    const early = new Set<string>()
    const close = consume(jobs, host, (jobId) => {
      const resolve = waiting.get(jobId)
      if (resolve === undefined) early.add(jobId)
      else resolve()
    })
    const request = { expertKey: 'bench', query: 'Read.', files: [], userId: null, model: null, maxSteps: null }
    const enqueueBy = (by: Jobs) => async (): Promise<void> => {
      const job = await by.create(application, { ...request, idempotencyKey: null })
      if (isRefusal(job)) throw new Error(job.message)
      if (early.delete(job.id)) return
      await new Promise<void>((resolve) => waiting.set(job.id, resolve))
    }
    await measureAt(50, 100, enqueueBy(jobs))
    const own = await measureAt(PER_SECOND, count, enqueueBy(jobs))
    yield figures(`createJob → a machine for it, ${PER_SECOND}/s, one process, goal 3/15 ms`, own)
    await measureAt(50, 100, enqueueBy(creator))
    const ours = await measureAt(PER_SECOND, count, enqueueBy(creator))
    await close()
    yield figures(`createJob → a machine for it, ${PER_SECOND}/s, by another, goal 3/15 ms`, ours)

    const peerDatabase = await server.another('peer')
    const peer = await openGraphile(peerDatabase.url, options.environment)
    try {
      await peer.run(50, 100, AT_ONCE)
      const theirs = (await peer.run(PER_SECOND, count, AT_ONCE)).toSorted((a, b) => a - b)
      yield figures(`graphile-worker: addJob → its task begins, ${PER_SECOND}/s`, theirs)
      const ratio = (share: number) => (percentile(ours, share) / percentile(theirs, share)).toFixed(2)
      yield `ours over theirs: p50 ${ratio(0.5)}, p99 ${ratio(0.99)}`
    } finally {
      await peer.close()
    }
  } finally {
    await other.close()
    await database.close()
    await server.close()
  }
}
