/** A server over real verbs and stores in memory, on a free port, with a machine's part played by hand. */
import type { RequestListener } from 'node:http'
import type { NewEvent } from '../../schema/event.ts'
import { isRefusal } from '../../schema/error.ts'
import type { JobId } from '../../schema/id.ts'
import type { ExpertSource } from '../../src/expert/expert-source.ts'
import { openApplications, type Applications } from '../../src/application/applications.ts'
import { schema } from '../../src/graphql/schema.ts'
import { openPoolViews } from '../../src/pool/pool-reports.ts'
import { openServer, type Server } from '../../src/http/server.ts'
import { openBundles } from '../../src/job/bundles.ts'
import { openNpmSkillSource } from '../../src/npm/npm-skill-source.ts'
import { openForks } from '../../src/job/forks.ts'
import { openPrompts } from '../../src/job/prompts.ts'
import { openJobs, type Attempt, type Jobs } from '../../src/job/jobs.ts'
import { openLog } from '../../src/log.ts'
import { openSecrets } from '../../src/secret/secrets.ts'
import { openWorkspaces } from '../../src/workspace/workspaces.ts'
import { fakeChance, fakeClock, type FakeClock } from '../fake/fake-clock.ts'
import { fakeExpertSource, lockedExpert, lockOf } from '../fake/fake-expert-source.ts'
import { memoryApplicationStore } from '../fake/memory-application-store.ts'
import { memoryContentStore, type MemoryContentStore } from '../fake/memory-content-store.ts'
import { MemoryPackageStore } from '../fake/memory-package-store.ts'
import { memoryJobLog, type MemoryJobLog } from '../fake/memory-job-log.ts'
import { memoryPoolReportStore, type MemoryPoolReportStore } from '../fake/memory-pool-report-store.ts'
import { memorySecretStore } from '../fake/memory-secret-store.ts'
import { ofRun, runFinished, runIdOf, runStarted } from '../job/given.ts'
import { canonical, sha256 } from '../../schema/hash.ts'

export interface Door {
  readonly server: Server
  readonly url: string
  readonly clock: FakeClock
  readonly log: MemoryJobLog
  readonly content: MemoryContentStore
  readonly jobs: Jobs
  readonly applications: Applications
  readonly poolReports: MemoryPoolReportStore
  /** A key of the application `dev`, and one of another application. */
  readonly key: string
  readonly otherKey: string
  /** What the server logged. */
  readonly logged: string[]
  /** A request as `dev`, or as the bearer of another key; null sends none. */
  fetch(path: string, init?: RequestInit, key?: string | null): Promise<Response>
  /** A GraphQL operation; whatever came back, in the shape that the caller knows it asked for. */
  // oxlint-disable-next-line typescript/no-unnecessary-type-parameters
  ask<Data = Record<string, unknown>>(
    query: string,
    variables?: Record<string, unknown>,
    key?: string | null,
  ): Promise<{ data?: Data; errors?: readonly { message: string; extensions: { code: string } }[] }>
  createJob(query?: string, files?: readonly { path: string; text: string }[]): Promise<JobId>
  /** The machine's part: a lease on the oldest job. */
  claim(): Promise<Attempt>
  /** Takes `count` steps in the coordinator's run. */
  takeSteps(attempt: Attempt, count: number): Promise<void>
  finish(attempt: Attempt): Promise<void>
  close(): Promise<void>
}

export async function openDoor(
  options: {
    readonly registryListener?: RequestListener
    readonly hostname?: string
    readonly port?: number
    readonly experts?: Partial<ExpertSource>
  } = {},
): Promise<Door> {
  const clock = fakeClock()
  const chance = fakeChance()
  const log = memoryJobLog()
  const content = memoryContentStore()
  const expert = lockedExpert('greeter', { description: 'Greets whoever asks.' })
  const experts = { ...fakeExpertSource(lockOf(expert), lockOf(lockedExpert('second'))), ...options.experts }
  const applications = openApplications({ store: memoryApplicationStore(), clock, chance })
  const limits = {
    queryBytesMax: 256 * 1024,
    filesMax: 100,
    fileBytesMax: 1 << 20,
    filesBytesMax: 4 << 20,
    leaseMs: 30_000,
    barrenAttemptsMax: 3,
    conflictRetriesMax: 5,
    quota: null,
  }
  const stores = { log, content, models: { knows: () => true }, clock, chance, limits }
  const jobs = openJobs({ ...stores, experts })
  const secrets = openSecrets({ store: memorySecretStore(), masterKey: chance.bytes(32), clock, chance })
  const dev = await applications.ensure('dev')
  const other = await applications.ensure('other')
  const poolReports = memoryPoolReportStore()
  const key = (await applications.createKey(dev.id, 'operator')).reveal()
  const otherKey = (await applications.createKey(other.id)).reveal()
  const logged: string[] = []
  const server = await openServer({
    schema,
    jobs,
    forks: openForks({ ...stores, experts }),
    bundles: openBundles({ log, content, clock }),
    prompts: openPrompts({ content }),
    applications,
    secrets,
    experts,
    skills: openNpmSkillSource(new MemoryPackageStore()),
    workspaces: openWorkspaces({ content }),
    machineDoor: null,
    pools: openPoolViews(poolReports, clock),
    registryListener: options.registryListener ?? null,
    ready: async () => null,
    log: openLog(
      (line) => logged.push(line),
      () => clock.now(),
    ),
    clock,
    chance,
    hostname: options.hostname ?? '127.0.0.1',
    port: options.port ?? 0,
    allowedHosts: [],
  })
  const steps = new Map<JobId, number>()

  const door: Door = {
    server,
    url: server.url,
    clock,
    log,
    content,
    jobs,
    applications,
    poolReports,
    key,
    otherKey,
    logged,
    fetch: (path, init = {}, bearer = key) =>
      fetch(new URL(path, server.url), {
        ...init,
        headers: {
          ...(bearer === null ? {} : { authorization: `Bearer ${bearer}` }),
          ...(init.headers as Record<string, string>),
        },
      }),
    async ask(query, variables = {}, bearer = key) {
      const init = {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ query, variables }),
      }
      const answer = await door.fetch('/graphql', init, bearer)
      return (await answer.json()) as never
    },
    async createJob(query = 'Say hello', files = []) {
      const made = await jobs.create(dev.id, {
        expertKey: 'greeter',
        query,
        files: files.map(({ path, text }) => ({ path, bytes: new TextEncoder().encode(text) })),
        userId: 'alice',
        model: null,
        maxSteps: null,
        idempotencyKey: null,
      })
      if (isRefusal(made)) throw new Error(made.message)
      return made.id
    },
    async claim() {
      const [attempt] = await jobs.claim('door test', 1)
      if (attempt === undefined) throw new Error('no job wants a machine')
      if (!steps.has(attempt.jobId)) {
        await jobs.record(attempt, [runStarted(runIdOf(attempt.jobId))])
        steps.set(attempt.jobId, 0)
      }
      return attempt
    },
    async takeSteps(attempt, count) {
      const from = steps.get(attempt.jobId) ?? 0
      const events: NewEvent[] = []
      for (let step = from + 1; step <= from + count; step++) events.push(...aStep(attempt.jobId, step))
      steps.set(attempt.jobId, from + count)
      await content.put(new TextEncoder().encode(PROMPT))
      await jobs.record(attempt, events)
    },
    async finish(attempt) {
      await jobs.record(attempt, [runFinished(runIdOf(attempt.jobId))])
    },
    close: () => server.close(),
  }
  return door
}

/** What every step was asked with. */
export const PROMPT = canonical({ instruction: 'Greet.', tools: [] })

/** Two events: a generation that says which step it is, and the step's end. */
function aStep(jobId: JobId, step: number): readonly NewEvent[] {
  const runId = runIdOf(jobId)
  const data = {
    parts: [{ type: 'text', text: `step ${step}` }],
    usage: { inputTokens: 10, cachedInputTokens: 0, outputTokens: 2, reasoningTokens: 0, costUsd: 0.001 },
    model: 'rehearsal/turns.json',
    finishReason: 'stop',
    promptHash: sha256(PROMPT),
    durationMs: 1,
  }
  return [
    ofRun(runId, step, { type: 'generated', data }),
    ofRun(runId, step, { type: 'stepFinished', data: { stateHash: sha256(`state ${step}`) } }),
  ]
}

/** One frame of an event stream. */
export interface ReadFrame {
  readonly id: number | null
  readonly event: string
  readonly data: string
}

/** The frames of a response, as they come. */
export async function* readFrames(response: Response): AsyncGenerator<ReadFrame> {
  let text = ''
  const decoder = new TextDecoder()
  for await (const chunk of response.body ?? []) {
    text += decoder.decode(chunk as Uint8Array, { stream: true })
    const blocks = text.split('\n\n')
    text = blocks.pop() ?? ''
    for (const block of blocks) {
      const field = (name: string) =>
        block
          .split('\n')
          .find((line) => line.startsWith(`${name}:`))
          ?.slice(name.length + 1)
          .trim()
      const event = field('event')
      if (event !== undefined) yield { id: Number(field('id') ?? Number.NaN) || null, event, data: field('data') ?? '' }
    }
  }
}
