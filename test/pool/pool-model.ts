/**
 * A pool under an adversary, in virtual time: one to three processes over one store, a provider that answers wrongly,
 * late or not at all, machines that end or never come, and processes that stop for ever, or for a while, between any
 * two awaits. Everything follows from the seed. What must hold is looked at after every step, and again once all is calm:
 *
 *   I1 I2  a job has one machine, of its last attempt    I4  no job is lost, and each ends     I5  once
 *   I7   nothing of a job is in a machine that is given another     I9  machines are bounded, one for each order
 *   I10  nothing but its own attempt ends what is claimed           I11 rows and machines name each other in the end
 *   I13  the pool comes to rest     I16 I17 I20 I21 I22  lost memories, wrong clocks, deaths, two leaders, outages
 */
import { makeId, type JobId, type MachineId } from '../../schema/id.ts'
import type { Clock } from '../../schema/clock.ts'
import type { Lock } from '../../schema/lock.ts'
import { openLog } from '../../src/log.ts'
import type { Machine } from '../../src/pool/machine-host.ts'
import type { MachineProvider } from '../../src/pool/machine-provider.ts'
import type { PooledMachine, Verb } from '../../src/pool/machine.ts'
import { machinesLimits } from '../../src/pool/machines.ts'
import { poolPolicy } from '../../src/pool/plan.ts'
import { openPool, type Pool } from '../../src/pool/pools.ts'
import { roundsLimits } from '../../src/pool/rounds.ts'
import { fakeChance, fakeClock } from '../fake/fake-clock.ts'
import { memoryPoolStore } from '../fake/memory-pool-store.ts'
import { FLY_LIKE, LOCAL_LIKE, virtualProvider, type Trouble, type VirtualProvider } from '../fake/virtual-provider.ts'

export interface Play {
  readonly violations: readonly string[]
  readonly jobs: number
  readonly deaths: number
  readonly stalls: number
  readonly faults: number
  /** How jobs came by their machines. */
  readonly given: Readonly<Record<string, number>>
}

interface ModelJob {
  readonly id: JobId
  readonly ms: number
  fence: number
  until: number
  owner: string | null
  status: 'waiting' | 'running' | 'finished'
  ends: number
}

interface ModelProcess {
  readonly name: string
  readonly pool: Pool
  readonly provider: VirtualProvider
  isDead: boolean
  stalledUntil: number
  running: number
}

const LOCK = { version: 1, coordinator: 'none@1.0.0', experts: {} } as unknown as Lock // nobody looks at it
const LEASE_MS = 15_000
/** Between the clocks of two processes. */
const SKEW_MS = 4_000
const CONCURRENT = 3
const MACHINES_MAX = 12
const ENDING: ReadonlySet<Verb> = new Set(['suspend', 'stop', 'destroy'])

/** Uniform in [0, 1), the same for the same seed. */
function drawing(seed: number): () => number {
  let state = (seed + 0x9e3779b9) >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

export async function playPool(seed: number): Promise<Play> {
  const draw = drawing(seed)
  const happens = (share: number): boolean => draw() < share
  const isLocal = seed % 3 === 0
  const clock = fakeClock()
  const store = memoryPoolStore()
  const chance = fakeChance(`model ${seed}`)
  const violations = new Set<string>()
  const broken = (what: string): void => void violations.add(`seed ${seed}: ${what}`)
  const jobs: ModelJob[] = []
  const processes: ModelProcess[] = []
  const given: Record<string, number> = {}
  const counts = { deaths: 0, stalls: 0, faults: 0 }
  let isCalm = false
  let outageUntil = 0
  const [faultShare, deathShare] = [happens(0.3) ? 0 : draw() * 0.15, happens(0.3) ? 0 : draw() * 0.004]

  function troubleOf(verb: Verb): Trouble | undefined {
    if (isCalm) return undefined
    if (clock.now() < outageUntil) return { fault: 'ambiguous', tookEffect: false }
    if (!happens(faultShare)) return undefined
    counts.faults += 1
    if (verb === 'create' && happens(0.3)) return { fault: 'capacity', tookEffect: false }
    if (happens(0.2)) return { fault: 'throttled', tookEffect: false }
    return { fault: 'ambiguous', tookEffect: happens(0.5) }
  }
  const every = virtualProvider(clock, FLY_LIKE, troubleOf)

  /** As a process sees a port: it may stop at any call, before it takes effect or after, for a while or for ever. */
  function mortal<Port extends object>(port: Port, owner: () => ModelProcess | undefined): Port {
    const never = new Promise<never>(() => {})
    const meet = async (): Promise<void> => {
      const process = owner()
      if (process === undefined) return
      if (process.isDead) return never
      if (process.stalledUntil > clock.now()) await clock.sleep(process.stalledUntil - clock.now())
      if (isCalm || !happens(deathShare)) return
      if (happens(0.5)) {
        counts.stalls += 1
        process.stalledUntil = clock.now() + 1_000 + draw() * 40_000
        await clock.sleep(process.stalledUntil - clock.now())
      } else {
        die(process)
        return never
      }
    }
    return new Proxy(port, {
      get(target, name, receiver) {
        const member: unknown = Reflect.get(target, name, receiver)
        if (typeof member !== 'function' || name === 'watch' || name === 'close') return member
        return async (...given: unknown[]) => {
          await meet()
          const [answer] = await Promise.allSettled([Reflect.apply(member, target, given) as Promise<unknown>])
          await meet()
          if (answer.status === 'rejected') throw answer.reason
          return answer.value
        }
      },
    })
  }

  /** Sees what is asked, and adds what networks add: a request twice, a list that leaves out. */
  function watched(provider: VirtualProvider, owner: () => ModelProcess | undefined): MachineProvider {
    const check = async (verb: Verb, machine: PooledMachine): Promise<void> => {
      const row = await store.find(machine.id)
      // What was claimed in this very moment was free when it was asked for; so it was before a process stood still,
      // which no store can keep from saying afterwards what it was about to.
      const isClaimed = row !== undefined && row.owner !== null && row.since < clock.now() - SKEW_MS
      const isLate = (owner()?.stalledUntil ?? 0) === clock.now()
      if (ENDING.has(verb) && isClaimed && !isLate) broken(`${verb} of a claimed machine (I10)`)
    }
    const verb = (name: 'start' | 'suspend' | 'stop' | 'destroy') => async (machine: PooledMachine) => {
      await check(name, machine)
      if (!isCalm && happens(0.03)) await provider[name](machine).catch(() => {})
      await provider[name](machine)
    }
    return {
      ...provider,
      start: verb('start'),
      suspend: verb('suspend'),
      stop: verb('stop'),
      destroy: verb('destroy'),
      create: async (machine) => {
        const created = await provider.create(machine)
        const made = provider.machines.get(machine.id)
        // It never comes up, and nobody says so.
        if (made !== undefined && !isCalm && happens(faultShare / 4)) made.state = 'creating'
        return created
      },
      list: async (place) => (await provider.list(place)).filter(() => isCalm || !happens(faultShare)),
    }
  }

  function die(process: ModelProcess): void {
    if (process.isDead) return
    counts.deaths += 1
    process.isDead = true
    if (isLocal)
      for (const { id, state } of process.provider.machines.values()) if (state !== 'gone') process.provider.kill(id)
  }

  function start(): void {
    const name = `process ${processes.length}`
    const provider = isLocal ? virtualProvider(clock, LOCAL_LIKE, troubleOf, [name]) : every
    const owner = (): ModelProcess | undefined => processes.find((one) => one.name === name)
    const offset = Math.round((draw() - 0.5) * SKEW_MS)
    const ownClock: Clock = { now: () => clock.now() + offset, sleep: (ms, signal) => clock.sleep(ms, signal) }
    const pool = openPool({
      pool: 'p',
      holder: name,
      store: mortal(store, owner),
      provider: mortal(watched(provider, owner), owner),
      policy: {
        ...poolPolicy,
        readyMin: 2,
        machinesMax: MACHINES_MAX,
        shrinkAfterMs: 20_000,
        reserveKeptMs: 30_000,
      },
      demand: async () => ({ queued: jobs.filter(({ status }) => status === 'waiting').length }),
      isDead: async (place) => processes.find((one) => one.name === place)?.isDead ?? false,
      isOver: async ({ jobId, fence }) => {
        const job = jobs.find(({ id }) => id === jobId)
        return job === undefined || job.status !== 'running' || job.fence !== fence
      },
      linesUrl: null,
      clock: ownClock,
      chance: fakeChance(`${seed} ${name}`),
      log: openLog(
        () => {},
        () => clock.now(),
      ),
      limits: {
        machines: { ...machinesLimits, machinesMax: MACHINES_MAX, waitMs: 20_000, createMs: 30_000 },
        rounds: { ...roundsLimits, resyncMs: 10_000 },
      },
    })
    processes.push({ name, pool, provider, isDead: false, stalledUntil: 0, running: 0 })
  }

  /** As a keeper: renews while it lives, ends the job once, and its machine in any case. */
  async function attempt(process: ModelProcess, job: ModelJob): Promise<void> {
    const fence = (job.fence += 1)
    Object.assign(job, { status: 'running', owner: process.name, until: clock.now() + LEASE_MS })
    const isMine = (): boolean => !process.isDead && job.status === 'running' && job.fence === fence
    process.running += 1
    let machine: Machine | undefined
    try {
      machine = await process.pool.open({ jobId: job.id, fence }, LOCK)
      const { resume, machineId } = machine.obtained
      given[resume] = (given[resume] ?? 0) + 1
      if (isMine()) look(process, machineId, job)
      for (const until = clock.now() + job.ms; isMine() && clock.now() < until;) {
        await clock.sleep(Math.min(500, until - clock.now()))
        const held = machineId === null ? undefined : process.provider.machines.get(machineId)
        if (held === undefined || held.state === 'gone') throw new Error('its machine has ended')
      }
      if (isMine()) {
        job.status = 'finished'
        job.ends += 1
      }
    } catch {
      await clock.sleep(500)
      if (isMine()) job.status = 'waiting'
    } finally {
      process.running -= 1
      if (!process.isDead) await machine?.destroy()
    }
  }

  /** The very moment at which a machine has been given a job. */
  function look(process: ModelProcess, machineId: MachineId | null, job: ModelJob): void {
    const machine = machineId === null ? undefined : process.provider.machines.get(machineId)
    if (machine !== undefined && machine.state !== 'gone' && machine.holds.at(-1) !== job.id)
      broken(`job ${job.id} has a machine that was given another (I1)`)
  }

  async function check(): Promise<void> {
    const rows = await store.list('p')
    const owned = rows.flatMap(({ owner }) => (owner === null ? [] : [owner.jobId]))
    if (new Set(owned).size !== owned.length) broken('a job has two machines (I2)')
    const providers = isLocal ? processes.map(({ provider }) => provider) : [every]
    for (const { machines } of providers) {
      for (const { id, holds } of machines.values())
        if (holds.length > 1) broken(`machine ${id} was given ${holds.length} jobs without becoming clean (I7)`)
      const living = [...machines.values()].filter(({ state }) => state !== 'gone').length
      if (living > MACHINES_MAX + 3 * CONCURRENT) broken(`${living} machines, of ${MACHINES_MAX} at most (I9)`)
    }
    for (const job of jobs) if (job.ends > 1) broken(`job ${job.id} ended ${job.ends} times (I5)`)
  }

  function driveJobs(): void {
    for (const process of processes) {
      if (process.isDead || process.stalledUntil > clock.now()) continue
      for (const job of jobs)
        if (job.status === 'running' && job.owner === process.name) job.until = clock.now() + LEASE_MS
      while (process.running < CONCURRENT) {
        const next = jobs.find(
          ({ status, until }) => status === 'waiting' || (status === 'running' && until <= clock.now()),
        )
        if (next === undefined) break
        void attempt(process, next)
      }
    }
  }

  async function step(ms: number): Promise<void> {
    const living = processes.filter(({ isDead }) => !isDead)
    if (living.length === 0 || (living.length < 3 && !isCalm && happens(0.01))) start()
    driveJobs()
    await new Promise((resolve) => setImmediate(resolve))
    await clock.advance(ms)
    await check()
  }

  // The storm.
  for (let i = Math.ceil(draw() * 3); i > 0; i--) start()
  for (let passed = 0; passed < 120_000; passed += 250) {
    if (happens(0.06) && passed < 100_000) {
      for (let burst = happens(0.1) ? 6 : 1; burst > 0; burst--) {
        const id = makeId('job', clock.now(), chance.bytes(16))
        jobs.push({ id, ms: 200 + draw() * 8_000, fence: 0, until: 0, owner: null, status: 'waiting', ends: 0 })
      }
    }
    if (faultShare > 0 && happens(0.004)) outageUntil = clock.now() + draw() * 20_000
    const machines = processes.flatMap((one) => [...one.provider.machines.values()])
    const victim = machines[Math.floor(draw() * machines.length)]
    const home = processes.find((one) => victim !== undefined && one.provider.machines.has(victim.id))
    if (victim !== undefined && home !== undefined && happens(faultShare / 8)) {
      if (happens(0.7)) home.provider.forget(victim.id)
      else if (victim.state !== 'gone') home.provider.kill(victim.id)
    }
    await step(250)
  }

  // The calm.
  isCalm = true
  for (let passed = 0; passed < 300_000 && jobs.some(({ status }) => status !== 'finished'); passed += 1_000)
    await step(1_000)
  for (const { id, status, fence } of jobs)
    if (status !== 'finished') broken(`job ${id} is ${status} after ${fence} attempts (I4)`)
  const callCount = (): number =>
    isLocal ? processes.reduce((sum, { provider }) => sum + provider.calls.length, 0) : every.calls.length
  for (let passed = 0; passed < 1_500_000; passed += 10_000) await step(10_000)
  const before = callCount()
  for (let passed = 0; passed < 600_000; passed += 10_000) await step(10_000)
  if (callCount() !== before) broken(`${callCount() - before} calls in ten quiet minutes (I13)`)
  await settled()
  for (const process of processes) process.isDead = true
  return { violations: [...violations], jobs: jobs.length, ...counts, given }

  async function settled(): Promise<void> {
    const rows = await store.list('p')
    const machines = processes
      .filter(({ isDead }) => !isLocal || !isDead)
      .flatMap(({ provider }) => [...provider.machines.values()])
      .filter(({ state }) => state !== 'gone')
    for (const { id, state } of machines)
      if (!rows.some((row) => row.id === id)) broken(`machine ${id} is ${state}, and no row knows it (I11)`)
    for (const { id, state } of rows)
      if (!machines.some((machine) => machine.id === id)) broken(`the row ${id} is ${state}, and has no machine (I11)`)
    for (const { id, state, deadline } of rows)
      if (deadline !== null && deadline < clock.now() - 60_000) broken(`machine ${id} is ${state} past its time (I11)`)
    for (const { id, state, owner } of rows) if (owner !== null) broken(`machine ${id} is ${state} for nobody (I4)`)
    const ready = rows.filter(({ state }) => state === 'ready').length
    const leaders = isLocal ? processes.filter(({ isDead }) => !isDead).length : 1
    if (ready !== 2 * leaders) broken(`${ready} machines are ready in the end, of ${2 * leaders} (I13)`)
  }
}
