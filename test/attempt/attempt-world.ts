/** A control plane on fakes: jobs in memory, a scripted model, machines in process; its processes may die. */
import type { Budget } from '../../schema/budget.ts'
import type { EventOf, JobEvent } from '../../schema/event.ts'
import { Networks } from '../../schema/network.ts'
import type { JobId } from '../../schema/id.ts'
import { isRefusal } from '../../schema/error.ts'
import type { Usage } from '../../schema/usage.ts'
import type { Lock } from '../../schema/lock.ts'
import { Secret } from '../../schema/secret.ts'
import type { JobLog } from '../../src/job/job-log.ts'
import type { JobSummary } from '../../src/job/job-summary.ts'
import { openJobs, type Jobs } from '../../src/job/jobs.ts'
import { attemptLimits, openAttempts, type Attempts, type AttemptsDependencies } from '../../src/attempt/attempts.ts'
import { openLog } from '../../src/log.ts'
import type { Secrets } from '../../src/secret/secrets.ts'
import { fakeChance, fakeClock } from '../fake/fake-clock.ts'
import { fakeExpertSource } from '../fake/fake-expert-source.ts'
import { fakeMachineHost, type FakeHostOptions, type FakeMachineHost } from '../fake/fake-machine-host.ts'
import { memoryContentStore } from '../fake/memory-content-store.ts'
import { memoryJobLog } from '../fake/memory-job-log.ts'
import { scriptedModel, type ScriptedModel, type Turn } from '../fake/scripted-model.ts'
import type { GenerateRequest } from '../../src/gateway/gateway.ts'
import type { Price } from '../../src/gateway/price.ts'
import { anApplication } from '../job/given.ts'
import { LIMITS } from '../job/jobs-world.ts'
import { TOOLS } from '../run/team.ts'

export interface Scenario {
  readonly lock: Lock
  readonly turnOf: (request: GenerateRequest) => Turn
  readonly call?: FakeHostOptions['call'] | undefined
  readonly asks?: FakeHostOptions['asks']
  readonly run?: FakeHostOptions['run']
  readonly maxSteps?: number
  readonly budget?: Budget
  readonly price?: Price
  readonly usageOf?: (request: GenerateRequest) => Usage
  readonly secrets?: Readonly<Record<string, string>>
  readonly limits?: Partial<AttemptsDependencies['limits']>
  readonly pause?: (request: GenerateRequest, signal: AbortSignal) => Promise<void>
}

/** One process of the control plane. */
export interface Process {
  readonly jobs: Jobs
  readonly attempts: Attempts
  readonly host: FakeMachineHost
  readonly model: ScriptedModel
  /** SIGKILL: nothing of it is heard of again. */
  die(): void
  isDead(): boolean
  /** Appends that this process began. */
  appends(): number
}

/** Turns by the expert and its step, as `lead 1`; any other step ends its run. */
export const turns =
  (script: Readonly<Record<string, Turn>>): Scenario['turnOf'] =>
  ({ expert, stepNumber }) =>
    script[`${expert.name} ${stepNumber}`] ?? { text: `${expert.name} is done` }

export const ofType = <Type extends JobEvent['type']>(
  events: readonly JobEvent[],
  type: Type,
): readonly EventOf<Type>[] => events.filter((event): event is EventOf<Type> => event.type === type)

const kept: Process[] = []

/** Closed by `endAll`, whatever becomes of the test. */
export function keepUntilEnd(process: Process): void {
  kept.push(process)
}

/** For `afterEach`: a dead process has nothing to close. */
export async function endAll(): Promise<void> {
  for (const process of kept.splice(0)) if (!process.isDead()) await process.attempts.close()
}

/** A world with one process. */
export function begin(scenario: Scenario) {
  const world = attemptWorld(scenario)
  const process = world.start()
  keepUntilEnd(process)
  return { world, process }
}

export function attemptWorld(scenario: Scenario) {
  const store = memoryJobLog()
  const content = memoryContentStore()
  const clock = fakeClock()
  const lines: string[] = []
  const dead = new Set<string>()
  const secrets: Pick<Secrets, 'find'> = {
    async find(_applicationId, name) {
      const value = scenario.secrets?.[name]
      return value === undefined ? undefined : new Secret(value)
    },
  }
  let processes = 0

  /**
   * Starts a process; `killAt` names the append at which it dies, before it is written or after. What `beforeAppend`
   * does comes into the log before that append.
   */
  function start(
    killAt: { readonly append: number; readonly written: boolean } | null = null,
    beforeAppend: (append: number) => Promise<void> = async () => {},
  ): Process {
    const holder = `process-${(processes += 1)}`
    const host = fakeMachineHost({
      clock,
      tools: TOOLS,
      call: scenario.call ?? (async (tool, args) => `${tool} ${JSON.stringify(args)}`),
      asks: scenario.asks,
      ...(scenario.run === undefined ? {} : { run: scenario.run }),
    })
    const die = (): void => {
      dead.add(holder)
      host.kill('power cut')
    }
    let appends = 0
    const count = (): number => (appends += 1)
    const log = mortal(store, () => dead.has(holder), killAt, die, count, beforeAppend)
    const experts = fakeExpertSource(scenario.lock)
    const model = scriptedModel(scenario.turnOf, scenario.pause, scenario)
    const jobs = openJobs({ log, experts, content, models: model, clock, chance: fakeChance(holder), limits: LIMITS })
    const attempts = openAttempts({
      jobs,
      jobLog: log,
      host,
      gateway: model,
      secrets: secrets as Secrets, // the keeper only finds
      networks: new Networks([]),
      content,
      clock,
      log: openLog(
        (line) => lines.push(line),
        () => clock.now(),
      ),
      holder,
      predecessorIsDead: async (name) => dead.has(name),
      limits: { ...attemptLimits, retryMs: 0, ...scenario.limits },
    })
    return { jobs, attempts, host, model, die, isDead: () => dead.has(holder), appends: () => appends }
  }

  async function create(process: Process): Promise<JobId> {
    const job = await process.jobs.create(anApplication, {
      expertKey: scenario.lock.experts[scenario.lock.coordinator]?.name ?? '',
      query: 'the query',
      files: [],
      userId: null,
      model: null,
      maxSteps: scenario.maxSteps ?? null,
      ...(scenario.budget === undefined ? {} : { budget: scenario.budget }),
      idempotencyKey: null,
    })
    if (isRefusal(job)) throw new Error(job.message)
    return job.id
  }

  const events = (jobId: JobId): Promise<readonly JobEvent[]> => store.read(jobId, 0, 10_000)

  /** Waits for the log to have what `is` asks for, without a clock. */
  async function until(
    jobId: JobId,
    is: (job: JobSummary, events: readonly JobEvent[]) => boolean,
    meanwhile: () => Promise<void> = async () => {},
  ): Promise<readonly JobEvent[]> {
    for (let turn = 0; turn < 20_000; turn++) {
      await meanwhile()
      const stored = await store.find(jobId)
      const all = await events(jobId)
      if (stored !== undefined && is({ ...stored.job, revision: stored.head.revision }, all)) return all
      await new Promise((next) => setImmediate(next))
    }
    throw new Error(
      `it never came to be: ${JSON.stringify((await events(jobId)).map((event) => event.type))}\n${lines.join('')}`,
    )
  }

  return { store, content, clock, lines, start, create, events, until }
}

/** The log as one process sees it: silent for ever once the process is dead. */
function mortal(
  log: JobLog,
  isDead: () => boolean,
  killAt: { readonly append: number; readonly written: boolean } | null,
  die: () => void,
  count: () => number,
  beforeAppend: (append: number) => Promise<void>,
): JobLog {
  const never = new Promise<never>(() => {})
  return new Proxy(log, {
    get(target, name, receiver) {
      const member: unknown = Reflect.get(target, name, receiver)
      if (typeof member !== 'function' || name === 'onAppend' || name === 'onClaimable') return member
      return async (...args: unknown[]) => {
        if (isDead()) return never
        const append = name === 'append' ? count() : 0
        if (append > 0) await beforeAppend(append)
        const isTheOne = append > 0 && append === killAt?.append
        if (isTheOne && !killAt.written) {
          die()
          return never
        }
        const [answer] = await Promise.allSettled([Reflect.apply(member, target, args) as Promise<unknown>])
        // One that collides with somebody else's append is one at which a process may die, too.
        if (isTheOne) die()
        if (isDead()) return never
        if (answer.status === 'rejected') throw answer.reason
        return answer.value
      }
    },
  })
}
