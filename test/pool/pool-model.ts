/**
 * A pool and the jobs on it under an adversary, in virtual time: one to three processes over one log of jobs and one
 * store of machines, a provider that answers wrongly, late or not at all, machines that end or never come, snapshots that
 * are lost, clocks that jump, and processes that stop for ever, or for a while, between any two awaits. Everything follows
 * from the seed. What must hold (`invariant.ts`) is looked at with every commit and every call, after every step, and
 * again once all is calm: then a new generation comes, and at last nothing is to happen any more.
 */
import { AsyncLocalStorage } from 'node:async_hooks'
import { isRefusal, PlatformError } from '../../schema/error.ts'
import { makeId, type ApplicationId, type JobId, type MachineId } from '../../schema/id.ts'
import type { Clock } from '../../schema/clock.ts'
import { NOTHING_STOPPED } from '../../schema/open-work.ts'
import { takeTurn, type TurnRate } from '../../src/pool/turn.ts'
import { openJobs, type Attempt, type Jobs } from '../../src/job/jobs.ts'
import { openLog } from '../../src/log.ts'
import type { Machine } from '../../src/pool/machine-host.ts'
import type { MachineProvider } from '../../src/pool/machine-provider.ts'
import type { Owner, PooledMachine, Verb } from '../../src/pool/machine.ts'
import { machinesLimits } from '../../src/pool/machines.ts'
import { poolPolicy } from '../../src/pool/plan.ts'
import { openPool, type Pool } from '../../src/pool/pools.ts'
import { roundsLimits } from '../../src/pool/rounds.ts'
import { fakeChance, fakeClock } from '../fake/fake-clock.ts'
import { fakeExpertSource } from '../fake/fake-expert-source.ts'
import { memoryContentStore } from '../fake/memory-content-store.ts'
import { memoryJobLog } from '../fake/memory-job-log.ts'
import { memoryPoolStore } from '../fake/memory-pool-store.ts'
import { FLY_LIKE, LOCAL_LIKE, virtualProvider, type Trouble, type VirtualProvider } from '../fake/virtual-provider.ts'
import { runFinished, runIdOf, runStarted, stepFinished } from '../job/given.ts'
import { HELLO, LIMITS, request } from '../job/jobs-world.ts'
import { drawing } from './draw.ts'
import { Findings } from './invariant.ts'
import { watchedLog } from './watched-log.ts'
import { watchedRows } from './watched-pool-store.ts'

export interface Play {
  readonly findings: Findings
  readonly jobs: number
  readonly deaths: number
  readonly stalls: number
  readonly faults: number
  readonly jumps: number
  readonly outages: number
  /** Jobs that began with their creation. */
  readonly begun: number
  /** Snapshots of which every one was lost. */
  readonly forgets: boolean
  /** How jobs came by their machines. */
  readonly given: Readonly<Record<string, number>>
}

interface ModelProcess {
  readonly name: string
  readonly pool: Pool
  readonly jobs: Jobs
  readonly provider: VirtualProvider
  offsetMs: number
  isDead: boolean
  stalledUntil: number
  running: number
  isClaiming: boolean
}

const LEASE_MS = 15_000
const RENEW_MS = 5_000
const RETRY_MS = 500
/** Between the clocks of two processes, and how far one may jump. */
const SKEW_MS = 4_000
const JUMP_MS = 5_000
const CONCURRENT = 3
const QUOTA = 4
/** A canceled job has no machine after as long: its lease, a process that stood still, and two looks at what is left. */
const CANCEL_MS = 90_000
const ENDING: ReadonlySet<Verb> = new Set(['suspend', 'stop', 'destroy'])
/** What Fly allows for each verb and machine. */
const CALLS: TurnRate = { perSecond: 1, burst: 3 }
const LOOKS: TurnRate = { perSecond: 5, burst: 10 }
const APPLICATIONS = [1, 2, 3].map((n) => makeId('app', n, new Uint8Array(16).fill(n)) as ApplicationId)

export async function playPool(seed: number): Promise<Play> {
  const draw = drawing(seed)
  const happens = (share: number): boolean => draw() < share
  const isLocal = seed % 3 === 0
  const clock = fakeClock()
  const chance = fakeChance(`model ${seed}`)
  const findings = new Findings(`seed ${seed}`)
  const processes: ModelProcess[] = []
  const wishes = new Map<JobId, number>()
  const given: Record<string, number> = {}
  const counts = { deaths: 0, stalls: 0, faults: 0, jumps: 0, outages: 0, begun: 0 }
  let isCalm = false
  let outageUntil = 0
  let generation = 'g1'
  let strays = 0
  const [faultShare, deathShare] = [happens(0.3) ? 0 : draw() * 0.15, happens(0.3) ? 0 : draw() * 0.004]
  const forgets = happens(0.15) && !isLocal
  const [readyMin, machinesMax] = happens(0.3) ? [8, 24] : [2, 12]
  const shrinkAfterMs = 20_000

  const log = watchedLog(memoryJobLog(), {
    findings,
    quota: QUOTA,
    leaseMs: LEASE_MS,
    processes: () => processes.length,
    atOnce: CONCURRENT,
    now: () => clock.now(),
  })
  const isAttemptOver = ({ jobId, fence }: Pick<Owner, 'jobId' | 'fence'>): boolean => {
    const job = log.jobs.get(jobId)
    return job === undefined || job.status !== 'running' || job.fence !== fence
  }
  const mayTake = (owner: Owner, name: string): boolean =>
    isAttemptOver(owner) || log.jobs.get(owner.jobId)?.holder === name
  const rows = watchedRows(memoryPoolStore(), { findings, now: () => clock.now(), readyMin, shrinkAfterMs, mayTake })
  const { store } = rows
  const limits = { ...LIMITS, leaseMs: LEASE_MS, barrenAttemptsMax: 5, conflictRetriesMax: 20, quota: QUOTA }
  const content = memoryContentStore()
  const models = { knows: () => true }
  const world = { experts: fakeExpertSource(HELLO), content, models, limits }
  /** The door by which applications come: a process that is always well. */
  const door = openJobs({ ...world, log, clock, chance })

  function troubleOf(verb: Verb): Trouble | undefined {
    if (isCalm) return undefined
    if (clock.now() < outageUntil) return { fault: 'ambiguous', tookEffect: false }
    if (!happens(faultShare)) return undefined
    counts.faults += 1
    if (verb === 'create' && happens(0.3)) return { fault: 'capacity', tookEffect: false }
    if (happens(0.2)) return { fault: 'throttled', tookEffect: false }
    return { fault: 'ambiguous', tookEffect: happens(0.5) }
  }

  const buckets = new Map<string, number>()
  let isEcho = false
  function lookAtRate(what: string, rate: TurnRate): void {
    if (isEcho) return
    const { freeAt: bucket, waitMs } = takeTurn(buckets.get(what), rate, clock.now())
    buckets.set(what, bucket)
    findings.look('I12', waitMs === 0, () => `${what} is asked too often`)
  }
  /** In the very moment in which a call takes effect. */
  function onCall(verb: Verb, id: MachineId): void {
    lookAtRate(`${verb} ${id}`, CALLS)
    if (!ENDING.has(verb)) return
    // What is claimed in this very moment was free when it was asked for.
    const isClaimed = (rows.rows.get(id)?.owner ?? null) !== null && (rows.claimedAt.get(id) ?? 0) < clock.now()
    findings.look('I10', !isClaimed, () => `${verb} of ${id}, which is claimed`)
  }
  const options = { troubleOf, onCall, generation: () => generation }
  const every = virtualProvider(clock, FLY_LIKE, options)

  /** As a process sees a port: it may stop at any call, before it takes effect or after, for a while or for ever. */
  function mortal<Port extends object>(port: Port, owner: () => ModelProcess | undefined): Port {
    const never = new Promise<never>(() => {})
    const meet = async (): Promise<void> => {
      const process = owner()
      if (process === undefined) return
      if (process.isDead) return never
      if (process.stalledUntil > clock.now()) await clock.sleep(process.stalledUntil - clock.now())
      if (process.isDead) return never
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
        if (typeof member !== 'function' || IMMEDIATE.has(String(name))) return member
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
  function watched(provider: VirtualProvider): MachineProvider {
    type Ask = (...given: Parameters<(typeof provider)['stop']>) => Promise<void>
    const echoing =
      (ask: Ask): Ask =>
      async (machine, mayAct) => {
        await ask(machine, mayAct)
        if (isCalm || !happens(0.03)) return
        isEcho = true
        const echoed = ask(machine).catch(() => {})
        isEcho = false
        await echoed
      }
    return {
      ...provider,
      get generation() {
        return generation
      },
      start: echoing((machine) => provider.start(machine)),
      stop: echoing((...given) => provider.stop(...given)),
      destroy: echoing((...given) => provider.destroy(...given)),
      suspend: echoing((...given) => provider.suspend(...given)),
      create: async (machine) => {
        const created = await provider.create(machine)
        const made = provider.machines.get(machine.id)
        // It never comes up, and nobody says so.
        if (made !== undefined && !isCalm && happens(faultShare / 4)) made.state = 'creating'
        return created
      },
      async look(machine) {
        lookAtRate(`look ${machine.id}`, LOOKS)
        return await provider.look(machine)
      },
      async list(place) {
        findings.look('I12', DISPATCHING.getStore() !== true, () => 'a job waits for a list')
        return (await provider.list(place)).filter(() => isCalm || !happens(faultShare))
      },
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
    const provider = isLocal ? virtualProvider(clock, LOCAL_LIKE, { ...options, places: [name] }) : every
    const owner = (): ModelProcess | undefined => processes.find((one) => one.name === name)
    const own = {
      name,
      provider,
      offsetMs: Math.round((draw() - 0.5) * SKEW_MS),
      isDead: false,
      stalledUntil: 0,
      running: 0,
      isClaiming: false,
    }
    const ownClock: Clock = {
      now: () => clock.now() + (owner() ?? own).offsetMs,
      sleep: (ms, signal) => clock.sleep(ms, signal),
    }
    const decider = {
      name,
      target: () => owner()?.pool.explain().target ?? null,
    }
    const ownChance = fakeChance(`${seed} ${name}`)
    const jobs = openJobs({ ...world, log: mortal(log, owner), clock: ownClock, chance: ownChance })
    const pool = openPool({
      pool: 'p',
      holder: name,
      store: mortal(rows.as(decider), owner),
      provider: mortal(watched(provider), owner),
      policy: { ...poolPolicy, readyMin, machinesMax, shrinkAfterMs, reserveKeptMs: 30_000 },
      demand: () => door.demand(),
      isDead: async (place) => processes.find((one) => one.name === place)?.isDead ?? false,
      isOver: async (attempt) => isAttemptOver(attempt),
      linesUrl: null,
      clock: ownClock,
      chance: ownChance,
      log: openLog(
        () => {},
        () => clock.now(),
      ),
      limits: {
        machines: { ...machinesLimits, machinesMax, waitMs: 20_000, createMs: 30_000 },
        rounds: { ...roundsLimits, resyncMs: 10_000 },
      },
    })
    const process = { ...own, pool, jobs }
    jobs.offer({
      holder: name,
      take() {
        if (process.running >= CONCURRENT || process.isDead || process.isClaiming) return undefined
        process.running += 1
        const leave = (): void => void (process.running -= 1)
        return {
          leave,
          ride: (owner) => pool.ahead?.(owner),
          begin(held) {
            leave()
            counts.begun += 1
            void attempt(process, held)
          },
        }
      },
    })
    processes.push(process)
  }

  /** As a keeper: renews while it lives, records what happens, ends the job once, and its machine in any case. */
  async function attempt(process: ModelProcess, held: Attempt): Promise<void> {
    const { jobId, fence } = held
    process.running += 1
    let machine: Machine | undefined
    try {
      const opening = DISPATCHING.run(true, () => process.pool.open({ jobId, fence }, HELLO))
      machine = await opening
      const { resume, machineId } = machine.obtained
      given[resume] = (given[resume] ?? 0) + 1
      const bootId = lookAt(process, machineId, held)
      const runId = runIdOf(jobId)
      await process.jobs.record(held, [runStarted(runId)])
      let [renewedAt, steps] = [clock.now(), 0]
      for (const until = clock.now() + (wishes.get(jobId) ?? 0); clock.now() < until;) {
        await clock.sleep(Math.min(500, until - clock.now()))
        if (process.isDead) return
        const here = machineId === null ? undefined : process.provider.machines.get(machineId)
        if (here === undefined || here.state === 'gone') throw new Error('its machine has ended')
        process.provider.mark(here.id, bootId, jobId)
        if (clock.now() - renewedAt >= RENEW_MS) {
          renewedAt = clock.now()
          if (!(await process.jobs.renew(held))) return
        }
        await process.jobs.record(held, happens(0.3) ? [stepFinished(runId, (steps += 1))] : [])
        if (!held.job.cancelRequested) continue
        await machine.destroy()
        await process.jobs.cancelHeld(held, NOTHING_STOPPED)
        return
      }
      await process.jobs.record(held, [runFinished(runId)])
    } catch (error) {
      const code = error instanceof PlatformError ? error.code : 'internal'
      if (code === 'fence_stale') return
      if (machine === undefined) await clock.sleep(RETRY_MS)
      await process.jobs.abandon(held, code).catch(() => {})
    } finally {
      process.running -= 1
      if (!process.isDead) await machine?.destroy()
    }
  }

  /** The very moment at which a machine has been given a job. */
  function lookAt(process: ModelProcess, machineId: MachineId | null, { jobId, fence }: Attempt): string | null {
    const machine = machineId === null ? undefined : process.provider.machines.get(machineId)
    // Who stood still over it has lost it by now, and records nothing any more.
    if (machine === undefined || machine.state === 'gone' || isAttemptOver({ jobId, fence })) return null
    findings.look('I1', machine.holds.at(-1) === jobId, () => `${jobId} has a machine that was given another`)
    const { disk, memory } = machine.marks
    const foreign = [...disk, ...memory].filter((mark) => mark !== jobId)
    findings.look('I8', foreign.length === 0, () => `${jobId} finds what ${foreign[0]} left in ${machine.id}`)
    return machine.bootId
  }

  async function check(): Promise<void> {
    const providers = isLocal ? processes.map(({ provider }) => provider) : [every]
    for (const { machines } of providers) {
      let living = 0
      for (const { id, holds, state } of machines.values()) {
        findings.look('I7', holds.length <= 1, () => `${id} was given ${holds.length} jobs without becoming clean`)
        if (state !== 'gone') living += 1
      }
      const most = machinesMax + 3 * CONCURRENT + strays
      findings.look('I9', living <= most, () => `${living} machines, of ${machinesMax} at most`)
    }
    const owned = [...rows.rows.values()].flatMap(({ owner }) => (owner === null ? [] : [owner.jobId]))
    for (const { id, canceledAt } of log.jobs.values()) {
      if (canceledAt === null || clock.now() - canceledAt < CANCEL_MS) continue
      findings.look('I18', !owned.includes(id), () => `${id} was canceled long ago and has a machine`)
    }
  }

  async function claimJobs(process: ModelProcess): Promise<void> {
    if (process.isClaiming) return
    process.isClaiming = true
    try {
      while (process.running < CONCURRENT && !process.isDead) {
        const held = await process.jobs.claim(process.name, CONCURRENT - process.running, (owner) =>
          process.pool.ahead?.(owner),
        )
        if (held.length === 0) break
        for (const one of held) void attempt(process, one)
      }
    } catch {
      // The next step looks again.
    }
    process.isClaiming = false
  }

  async function createJob(ms: number): Promise<JobId> {
    const applicationId = APPLICATIONS[happens(0.6) ? 0 : happens(0.5) ? 1 : 2]
    if (applicationId === undefined) throw new Error('there are three')
    const created = await door.create(applicationId, request())
    if (isRefusal(created)) throw new Error(created.message)
    wishes.set(created.id, ms)
    return created.id
  }

  /** At a process that has places, and may die of it: nobody waits for its answer. */
  function createAt(process: ModelProcess, ms: number): void {
    const applicationId = APPLICATIONS[happens(0.6) ? 0 : happens(0.5) ? 1 : 2]
    if (applicationId === undefined) throw new Error('there are three')
    void process.jobs.create(applicationId, request()).then(
      (created) => (isRefusal(created) ? undefined : wishes.set(created.id, ms)),
      () => undefined,
    )
  }

  async function cancelOne(): Promise<void> {
    const open = [...log.jobs.values()].filter(({ status }) => status !== 'finished')
    const one = open[Math.floor(draw() * open.length)]
    if (one === undefined) return
    const canceled = await door.cancel(one.applicationId, one.id)
    if (!isRefusal(canceled)) one.canceledAt ??= clock.now()
  }

  async function step(ms: number): Promise<void> {
    const living = processes.filter(({ isDead }) => !isDead)
    if (living.length === 0 || (living.length < 3 && !isCalm && happens(0.01))) start()
    for (const process of processes) if (!process.isDead && process.stalledUntil <= clock.now()) void claimJobs(process)
    await new Promise((resolve) => setImmediate(resolve))
    await clock.advance(ms)
    await check()
  }
  const isOpen = (): boolean => [...log.jobs.values()].some(({ status }) => status !== 'finished')

  // The storm.
  for (let i = Math.ceil(draw() * 3); i > 0; i--) start()
  for (let passed = 0; passed < 120_000; passed += 250) {
    if (happens(0.05) && passed < 100_000)
      for (let burst = happens(0.1) ? 6 : 1; burst > 0; burst--) await createJob(200 + draw() * 8_000)
    // Where nothing waits a job may begin with its creation.
    const host = processes[Math.floor(draw() * processes.length)]
    const isQuiet = [...log.jobs.values()].every(({ status }) => status !== 'queued')
    if (host !== undefined && !host.isDead && isQuiet && passed < 100_000 && happens(0.07)) {
      createAt(host, 200 + draw() * 8_000)
      // It comes for a place before the next look asks for all.
      await new Promise((resolve) => setImmediate(resolve))
    }
    if (happens(0.01)) await cancelOne()
    if (faultShare > 0 && happens(0.004)) {
      counts.outages += 1
      outageUntil = clock.now() + draw() * 20_000
    }
    // An order whose row is nowhere.
    if (!isLocal && happens(0.002)) {
      strays += 1
      const id = makeId('mch', clock.now(), chance.bytes(16))
      await every.create({ id, pool: 'p', place: 'here', generation, owner: null }).catch(() => {})
    }
    const awake = processes[Math.floor(draw() * processes.length)]
    if (faultShare > 0 && awake !== undefined && happens(0.003)) {
      counts.jumps += 1
      awake.offsetMs = Math.round((draw() - 0.5) * 2 * JUMP_MS)
    }
    const machines = processes.flatMap((one) => [...one.provider.machines.values()])
    if (forgets)
      for (const { id } of machines) processes.find((one) => one.provider.machines.has(id))?.provider.forget(id)
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
  for (let passed = 0; passed < 300_000 && isOpen(); passed += 1_000) await step(1_000)
  for (const { id, status, outcome, fence } of log.jobs.values()) {
    findings.look('I4', status === 'finished', () => `${id} is ${status} after ${fence} attempts`)
    const isWell = outcome !== 'failed'
    findings.look(forgets ? 'I16' : 'I22', isWell, () => `${id} has failed after ${fence} attempts`)
  }
  const callCount = (): number =>
    isLocal ? processes.reduce((sum, { provider }) => sum + provider.calls.length, 0) : every.calls.length
  for (let passed = 0; passed < 120_000; passed += 10_000) await step(10_000)
  await replaceAll()
  for (let passed = 0; passed < 1_300_000; passed += 10_000) await step(10_000)
  const before = callCount()
  for (let passed = 0; passed < 600_000; passed += 10_000) await step(10_000)
  findings.look('I13', callCount() === before, () => `${callCount() - before} calls in ten quiet minutes`)
  await settled()
  await log.readAgain()
  for (const process of processes) process.isDead = true
  return { findings, jobs: log.jobs.size, ...counts, forgets, given }

  /** A new generation comes while a job is at work on the old. */
  async function replaceAll(): Promise<void> {
    const job = await createJob(60_000)
    for (let passed = 0; passed < 5_000; passed += 250) await step(250)
    generation = 'g2'
    const living = processes.filter(({ isDead }) => !isDead)
    const least = 0.9 * readyMin * (isLocal ? living.length : 1)
    const isOld = (one: PooledMachine): boolean => one.generation === 'g1' && one.state !== 'gone'
    for (let passed = 0; passed < 1_200_000 && [...rows.rows.values()].some(isOld); passed += 1_000) {
      await step(1_000)
      const there = [...rows.rows.values()].filter(({ state }) => CAPABLE.has(state)).length
      findings.look('I15', there >= least, () => `only ${there} machines are there while they are replaced`)
    }
    const old = [...rows.rows.values()].filter(isOld)
    findings.look('I15', old.length === 0, () => `${old.length} machines are still of the old generation`)
    const worked = log.jobs.get(job)
    const isUntouched = worked?.fence === 1 && worked.outcome === 'completed'
    findings.look('I15', isUntouched, () => `${job} did not finish on its machine`)
  }

  async function settled(): Promise<void> {
    const left = await store.list('p')
    const machines = processes
      .filter(({ isDead }) => !isLocal || !isDead)
      .flatMap(({ provider }) => [...provider.machines.values()])
      .filter(({ state }) => state !== 'gone')
    for (const { id, state } of machines)
      findings.look(
        'I11',
        left.some((row) => row.id === id),
        () => `machine ${id} is ${state}, and no row knows it`,
      )
    for (const { id, state, deadline, owner } of left) {
      const isThere = machines.some((machine) => machine.id === id)
      findings.look('I11', isThere, () => `the row ${id} is ${state}, and has no machine`)
      const isLate = deadline !== null && deadline < clock.now() - 60_000
      findings.look('I11', !isLate, () => `machine ${id} is ${state} past its time`)
      findings.look('I4', owner === null, () => `machine ${id} is ${state} for nobody`)
    }
    const ready = left.filter(({ state }) => state === 'ready').length
    const wanted = readyMin * (isLocal ? processes.filter(({ isDead }) => !isDead).length : 1)
    findings.look('I13', ready === wanted, () => `${ready} machines are ready in the end, of ${wanted}`)
  }
}

/** What answers at once, whatever becomes of the process. */
const IMMEDIATE: ReadonlySet<string> = new Set(['watch', 'close', 'onAppend', 'onClaimable', 'rider'])
/** True within what a job waits for. */
const DISPATCHING = new AsyncLocalStorage<boolean>()
const CAPABLE: ReadonlySet<string> = new Set(['hot', 'suspending', 'ready', 'waking', 'busy'])
