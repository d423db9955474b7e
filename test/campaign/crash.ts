/**
 * The crash campaign: a real server on real Postgres with real machines, whose processes are killed with SIGKILL at
 * random moments, while a counting server outside hears every effect. What a log and the counts must agree on is judged
 * for every job. A person answers the questions about outcomes by what was really counted.
 */
import { rm } from 'node:fs/promises'
import { callKeyOf } from '../../schema/effect.ts'
import { genesisHash, hashEvent, type JobEvent } from '../../schema/event.ts'
import type { JobId, RunId } from '../../schema/id.ts'
import { drawn } from '../fake/scripted-model.ts'
import { descendantsOf, expertPackage, npmPublish, startPlatform, type Platform } from '../support/platform.ts'
import { act, mutate, readEvents, turns, type SeenEvent } from '../support/platform-job.ts'
import { openCounter, type Counter } from './counter.ts'

export const TARGETS = ['server', 'supervisor', 'runner', 'skill'] as const
export type Target = (typeof TARGETS)[number]

export interface CampaignOptions {
  /** Points: a kill of a server is one for each job that it drove, any other kill is one. */
  readonly points: number
  readonly seed: number
  /** Jobs of one wave, each on a machine of its own. */
  readonly jobsAtOnce: number
  /** Where jobs run: in real sandboxes (`local`), or as plain processes, where there are none. */
  readonly machines: 'local' | 'unsafe-process'
  readonly sleep: (ms: number) => Promise<void>
  readonly say: (line: string) => void
}

export interface Verdict {
  readonly points: number
  readonly kills: Readonly<Record<Target, number>>
  readonly jobs: number
  /** In words, what was not as it must be; none when all is well. */
  readonly failures: readonly string[]
  /** Calls that never took effect, though their job says that they returned. */
  readonly lost: number
  /** Effects beyond the first, by tool: `pay` is once, `put` idempotent, `note` undeclared, `look` pure. */
  readonly repeated: Readonly<Record<string, number>>
  /** Questions about outcomes that were asked. */
  readonly asked: number
  /** Jobs that were given up by rule, since machine after machine was killed before it brought anything. */
  readonly exhausted: number
  /** From the server's start to the next lease of each job that it took over, in ms. */
  readonly resumes: readonly number[]
}

const KILLS_A_WAVE = 16

const expertFile = (url: string) => `[experts."campaign"]
description = "Does everything at once."
instruction = "Do it."
model = "rehearsal/lead"
delegates = ["campaign-worker"]
${skill('campaign', url)}
[experts."campaign-worker"]
description = "Does some of it."
instruction = "Do it."
model = "rehearsal/worker"
${skill('campaign-worker', url)}`

const skill = (expert: string, url: string) => `[experts."${expert}".skills."witness"]
type = "mcpHttpSkill"
endpoint = "${url}"
[experts."${expert}".skills."witness".effects]
look = "pure"
put = "idempotent"
pay = "once"
`

const call = (tool: string, before: number, after: number) => ({ tool: `witness/${tool}`, args: { before, after } })
const work = { tool: 'delegate/campaign-worker', args: { query: 'Work.' } }

const REHEARSALS = {
  'rehearsals/lead.json': turns([
    [call('look', 20, 40), call('put', 40, 60), call('pay', 60, 90), call('note', 90, 10)],
    [work, work, work],
    [call('pay', 30, 120)],
  ]),
  'rehearsals/worker.json': turns([[call('pay', 50, 50), call('note', 20, 80)], [call('put', 40, 20)]], 'Worked.'),
}

interface SeenJob {
  readonly status: string
  readonly questions: readonly {
    readonly id: string
    readonly runId: string
    readonly callId: string
    readonly open: boolean
  }[]
}

interface Job {
  readonly id: string
  isFinished: boolean
  isRunning: boolean
}

/** Runs waves of jobs until so many points were had. */
export async function crashCampaign(options: CampaignOptions): Promise<Verdict> {
  await using counter = await openCounter()
  const campaign = new Campaign(options, counter)
  try {
    await campaign.begin()
    while (campaign.points < options.points) await campaign.wave()
    return campaign.verdict()
  } finally {
    await campaign.end()
  }
}

class Campaign {
  readonly #options: CampaignOptions
  readonly #counter: Counter
  readonly #kills: Record<Target, number> = { server: 0, supervisor: 0, runner: 0, skill: 0 }
  readonly #failures: string[] = []
  readonly #repeated: Record<string, number> = { pay: 0, put: 0, note: 0, look: 0 }
  readonly #resumes: number[] = []
  #platform: Platform | undefined
  #draws = 0
  #jobs = 0
  #lost = 0
  #asked = 0
  #exhausted = 0
  #said = 0
  points = 0

  constructor(options: CampaignOptions, counter: Counter) {
    this.#options = options
    this.#counter = counter
  }

  get #server(): Platform {
    if (this.#platform === undefined) throw new Error('the server was not started')
    return this.#platform
  }

  #draw(below: number): number {
    return drawn(below, this.#options.seed, (this.#draws += 1))
  }

  async #start(directory?: string): Promise<void> {
    const env = {
      SENMON_MACHINES: this.#options.machines,
      SENMON_CONCURRENCY: String(this.#options.jobsAtOnce),
      SENMON_SKILL_NETWORKS: '127.0.0.1',
    }
    this.#platform = await startPlatform({ env, ...(directory === undefined ? {} : { directory }) })
  }

  async begin(): Promise<void> {
    await this.#start()
    await npmPublish(this.#server, await expertPackage('campaign', expertFile(this.#counter.url), REHEARSALS))
  }

  async end(): Promise<void> {
    if (this.#platform === undefined) return
    await this.#platform.stop()
    await rm(this.#platform.dataDirectory, { recursive: true, force: true })
  }

  /** A few jobs at once, and kills while they run. */
  async wave(): Promise<void> {
    const jobs: Job[] = []
    for (let i = 0; i < this.#options.jobsAtOnce; i++) {
      const { id } = await act(this.#server, 'createJob', { expertKey: 'campaign', query: 'Go.' })
      jobs.push({ id, isFinished: false, isRunning: false })
    }
    this.#jobs += jobs.length
    const isOver = () => jobs.every(({ isFinished }) => isFinished)
    for (let kills = 0; kills < KILLS_A_WAVE && this.points < this.#options.points && !isOver();) {
      await this.#mind(jobs, 10 + this.#draw(250))
      if (await this.#kill(jobs)) kills += 1
    }
    for (let looks = 0; looks < 600 && !isOver(); looks++) await this.#mind(jobs, 200)
    for (const job of jobs) await this.#judge(job)
    for (const failure of this.#failures.slice(this.#said)) this.#options.say(`FAILED ${failure}`)
    this.#said = this.#failures.length
    const { points } = this
    this.#options.say(`${points} points, ${this.#jobs} jobs, ${this.#failures.length} failures`)
  }

  /** Lets `ms` pass, then answers what is asked. */
  async #mind(jobs: readonly Job[], ms: number): Promise<void> {
    await this.#options.sleep(ms)
    const open = jobs.filter(({ isFinished }) => !isFinished)
    if (open.length === 0) return
    const fields = 'status questions { id runId callId open }'
    const asked = open.map(({ id }, i) => `j${i}: job(id: "${id}") { ${fields} }`).join('\n')
    const seen = await this.#server.graphql<Readonly<Record<string, SeenJob>>>(`{ ${asked} }`)
    for (const [i, job] of open.entries()) {
      const { status, questions } = seen[`j${i}`] ?? { status: '', questions: [] }
      job.isFinished = status === 'finished'
      job.isRunning = status === 'running'
      if (job.isFinished) continue
      for (const question of questions) if (question.open) await this.#answer(job, question)
    }
  }

  async #answer({ id: jobId }: Job, { id, runId, callId }: SeenJob['questions'][number]): Promise<void> {
    const effects = this.#counter.of(callKeyOf(jobId as JobId, runId as RunId, callId))
    this.#asked += 1
    const answer = { questionId: id, value: effects.length > 0 ? 'done' : 'retry' }
    // It may have been answered, or its job ended, since it was seen.
    await mutate(this.#server, 'continueJob', { jobId, answer })
  }

  /** False when what was to be killed is not there. */
  async #kill(jobs: readonly Job[]): Promise<boolean> {
    const roll = this.#draw(100)
    const target: Target = roll < 25 ? 'server' : roll < 50 ? 'supervisor' : roll < 75 ? 'runner' : 'skill'
    const running = jobs.filter(({ isRunning }) => isRunning).length
    if (running === 0) return false
    if (target === 'server') {
      this.#kills.server += 1
      this.points += running
      const { dataDirectory } = this.#server
      await this.#server.kill()
      await this.#start(dataDirectory)
      const readyAt = Date.now()
      await this.#resume(jobs, readyAt)
      return true
    }
    if (target === 'skill') {
      if (!this.#counter.breakOff((below) => this.#draw(below))) return false
      this.#kills.skill += 1
      this.points += 1
      return true
    }
    const pattern = { supervisor: /plan\.json/, runner: /\/runner\/main\./ }[target]
    const found = (await descendantsOf(this.#server.child.pid ?? 0)).filter(
      ({ command }) => pattern.test(command) && (target !== 'runner' || !/supervisor/.test(command)),
    )
    const victim = found[this.#draw(Math.max(1, found.length))]
    if (victim === undefined) return false
    try {
      process.kill(victim.pid, 'SIGKILL')
    } catch {
      // It was gone already: no point.
      return false
    }
    this.#kills[target] += 1
    this.points += 1
    return true
  }

  /** How long each job that the dead server drove waits for its next lease. */
  async #resume(jobs: readonly Job[], readyAt: number): Promise<void> {
    for (let looks = 0; looks < 100; looks++) {
      const open = await Promise.all(
        jobs
          .filter(({ isFinished }) => !isFinished)
          .map(async ({ id }) => {
            const { job } = await this.#server.graphql<{ job: { status: string } }>(
              'query ($id: ID!) { job(id: $id) { status } }',
              { id },
            )
            return job.status
          }),
      )
      if (!open.includes('queued')) break
      await this.#options.sleep(10)
    }
    this.#resumes.push(Date.now() - readyAt)
  }

  async #judge(job: Job): Promise<void> {
    const fail = (words: string) => this.#failures.push(`${job.id}: ${words}`)
    if (!job.isFinished) return void fail('it did not finish within two minutes')
    const events = await readEvents(this.#server, job.id)
    const broken = firstUnverified(job.id, events)
    if (broken !== undefined) fail(`its log breaks at ${broken}`)
    const end = events.at(-1)?.data
    if (end?.['reason'] === 'attempts_exhausted') {
      // By rule, when machines were killed; dead servers alone are no reason.
      this.#exhausted += 1
      if (barrenOf(events) < BARREN_MAX) fail(`it was given up after ${barrenOf(events)} barren attempts`)
      return
    }
    if (end?.['outcome'] !== 'completed' || end['result'] !== 'Done.')
      fail(
        `it ended ${JSON.stringify(end)} ${JSON.stringify(events.flatMap((event) => (event.type === 'leaseExpired' ? [event.data['reason'], event.at] : event.type === 'leaseGranted' ? [event.at] : [])))}`,
      )
    const generated = new Set<string>()
    const results = new Map<string, SeenEvent>()
    for (const event of events) {
      if (event.type === 'generated') {
        const place = `${event.runId} ${event.stepNumber}`
        if (generated.has(place)) fail(`${place} was generated twice`)
        generated.add(place)
      }
      if (event.type !== 'toolReturned') continue
      const { callId } = event.data['result'] as { callId: string }
      const key = callKeyOf(job.id as JobId, event.runId as RunId, callId)
      if (results.has(key)) fail(`${callId} of ${event.runId} returned twice`)
      results.set(key, event)
    }
    // The lead has 1 + 3 steps and three workers 2 + 1 each; 8 calls of its own, 3 of each worker.
    if (generated.size !== 13) fail(`${generated.size} generations are in its log, not 13`)
    if (results.size !== 17) fail(`${results.size} results are in its log, not 17`)
    for (const [key, event] of results) this.#judgeCall(key, event, fail)
  }

  #judgeCall(key: string, event: SeenEvent, fail: (words: string) => void): void {
    const { name, isError } = event.data['result'] as { name: string; isError: boolean }
    const tool = name.split('/')[1] ?? ''
    if (!name.startsWith('witness/') || tool === 'look') return
    const effects = this.#counter.of(key)
    // A skill that was killed answers with an error, which the model reads: that is its result.
    if (effects.length === 0 && !isError) {
      this.#lost += 1
      fail(`${name} returned and never took effect`)
    }
    this.#repeated[tool] = (this.#repeated[tool] ?? 0) + Math.max(0, effects.length - 1)
    if (tool === 'pay' && effects.length > 1) fail(`${name} took effect ${effects.length} times`)
    const late = effects.filter(({ at }) => at > Date.parse(event.at))
    if (late.length > 0) fail(`${name} took effect after its result was recorded`)
  }

  verdict(): Verdict {
    const { points } = this
    return {
      points,
      kills: this.#kills,
      jobs: this.#jobs,
      failures: this.#failures,
      lost: this.#lost,
      repeated: this.#repeated,
      asked: this.#asked,
      exhausted: this.#exhausted,
      resumes: this.#resumes.toSorted((a, b) => a - b),
    }
  }
}

/** As many end a job, and 20 of dead servers. */
export const BARREN_MAX = 5

/** What the last leases in a row that brought nothing count, as docs/decisions/0016 says it. */
export function barrenOf(events: readonly SeenEvent[]): number {
  let barren = 0
  let isBarren = true
  for (const { type, data } of events) {
    if (type === 'leaseGranted') isBarren = true
    if (type === 'toolReturned' || type === 'stepFinished') isBarren = false
    if (type !== 'leaseExpired' && type !== 'jobRested') continue
    const blame = { server_stopped: 0, lease_lost: 1 / 4 }[String(data['reason'])] ?? 1
    const waits = type === 'jobRested' && (data['questionIds'] as readonly string[]).length > 0
    barren = isBarren && !waits ? barren + blame : 0
  }
  return barren
}

/** The seq of the first event that does not hash to what it says. */
export function firstUnverified(jobId: string, events: readonly SeenEvent[]): number | undefined {
  let prevHash = genesisHash(jobId as JobId)
  for (const event of events) {
    const whole = { ...event, v: 1, jobId, at: Date.parse(event.at), prevHash } as unknown as JobEvent
    if (hashEvent(whole) !== event.hash) return event.seq
    prevHash = whole.hash
  }
  return undefined
}
