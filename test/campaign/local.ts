/**
 * The campaign of this computer's machines: jobs in bursts through a real server, which kills itself at each point of a
 * machine's life (`POINTS` of kill-point.ts). What must hold after each death: everything of its machines ends with it; the
 * next start leaves nothing of it, no process, mount, cgroup or directory; and every job comes to its end.
 */
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { expertPackage, npmPublish, startPlatform, type Platform } from '../support/platform.ts'
import { act, turns } from '../support/platform-job.ts'
import { armed, POINTS, type Point } from './kill-point.ts'
import { countOf, isClean, remainsOf, type Remains } from './remains.ts'

export interface LocalCampaignOptions {
  readonly jobs: number
  readonly jobsAtOnce: number
  /** Met in turn, once each at least. */
  readonly points: readonly Point[]
  readonly machines: 'local' | 'unsafe-process'
  readonly sleep: (ms: number) => Promise<void>
  readonly say: (line: string) => void
}

export interface LocalVerdict {
  readonly jobs: number
  /** How often a server died at each point. */
  readonly deaths: Readonly<Record<Point, number>>
  /** In words, what was not as it must be; none when all is well. */
  readonly failures: readonly string[]
  /** From a server's death to the end of the last process of its machines, in ms, sorted. */
  readonly ends: readonly number[]
  /** What was there for the next start to remove, in the worst case of each kind. */
  readonly leftAtDeath: Readonly<Record<keyof Remains, number>>
}

/** More deaths in one burst would be a reason to give its jobs up. */
const DEATHS_A_BURST = 8
const END_MS_MAX = 5000
const LOOK_MS = 25
const BURST_MS_MAX = 300_000
const STEPS = 3

const EXPERT = `model = "rehearsal/write"
[experts."local-campaign"]
description = "Writes a line at every step."
instruction = "Write."
[experts."local-campaign".skills."files"]
type = "mcpStdioSkill"
packageName = "@senmon/files"
`
const calls = Array.from({ length: STEPS }, (_, i) => [
  { tool: 'files/append_file', args: { path: 'lines.txt', content: `line ${i + 1}\n` } },
])

export async function localCampaign(options: LocalCampaignOptions): Promise<LocalVerdict> {
  const campaign = new Campaign(options)
  try {
    await campaign.begin()
    while (campaign.isWanted) await campaign.burst()
    await campaign.stop()
    return campaign.verdict()
  } finally {
    await campaign.end()
  }
}

class Campaign {
  readonly #options: LocalCampaignOptions
  readonly #deaths = Object.fromEntries(POINTS.map((point) => [point, 0])) as Record<Point, number>
  readonly #failures: string[] = []
  readonly #ends: number[] = []
  readonly #left = { processes: 0, cgroups: 0, directories: 0, mounts: 0 }
  /** Pids of servers that are dead. */
  readonly #dead = new Set<number>()
  #platform: Platform | undefined
  #directory = ''
  #point: Point | undefined
  #met = 0
  #jobs = 0

  constructor(options: LocalCampaignOptions) {
    this.#options = options
  }

  get isWanted(): boolean {
    const { jobs, points } = this.#options
    return this.#jobs < jobs || points.some((point) => this.#deaths[point] === 0)
  }

  get #server(): Platform {
    if (this.#platform === undefined) throw new Error('the server was not started')
    return this.#platform
  }

  get #runtimeDirectory(): string {
    return process.getuid?.() === 0 ? '/var/lib/senmon' : join(this.#directory, 'runtime')
  }

  async begin(): Promise<void> {
    await this.#start(undefined)
    this.#directory = this.#server.dataDirectory
    const rehearsals = { 'rehearsals/write.json': turns(calls) }
    await npmPublish(this.#server, await expertPackage('local-campaign', EXPERT, rehearsals))
  }

  /** Starts servers until one lives, each to die at `point` if there is one: some points are met in a start. */
  async #start(point: Point | undefined): Promise<void> {
    const { machines, jobsAtOnce } = this.#options
    let pid = 0
    try {
      this.#point = point
      // Another one each time; the first may be the machine of the start's probe.
      const after = 1 + (this.#met % 5)
      this.#platform = await startPlatform({
        env: {
          SENMON_MACHINES: machines,
          SENMON_CONCURRENCY: `${jobsAtOnce}`,
          SENMON_READY: '4',
          ...(point === undefined ? {} : { NODE_OPTIONS: armed(point, after) }),
        },
        ...(this.#directory === '' ? {} : { directory: this.#directory }),
        onSpawn: (child) => (pid = child.pid ?? 0),
      })
    } catch (error) {
      if (point === undefined) throw error
      await this.#mourn(pid)
      return await this.#start(this.#next())
    }
    this.#judge('the next start')
  }

  /** Each in its turn. */
  #next(): Point | undefined {
    const { points } = this.#options
    return points[this.#met % points.length]
  }

  /** What a death must have ended, and how long that took. */
  async #mourn(pid: number): Promise<void> {
    const point = this.#point
    if (point === undefined) return
    this.#met += 1
    this.#deaths[point] += 1
    this.#dead.add(pid)
    const died = Date.now()
    let remains = remainsOf(this.#dead, this.#runtimeDirectory)
    while (remains.processes.length > 0 && Date.now() - died < END_MS_MAX) {
      await this.#options.sleep(5)
      remains = remainsOf(this.#dead, this.#runtimeDirectory)
    }
    this.#ends.push(Date.now() - died)
    for (const kind of ['processes', 'cgroups', 'directories', 'mounts'] as const)
      this.#left[kind] = Math.max(this.#left[kind], remains[kind].length)
    if (remains.processes.length > 0) this.#fail(`a death while ${point} left ${remains.processes.join('; ')}`)
    if (remains.mounts.length > 0) this.#fail(`a death while ${point} left mounts: ${remains.mounts.join('; ')}`)
    this.#options.say(`died while ${point}; ${countOf(remains)} to sweep`)
  }

  #judge(when: string): void {
    const remains = remainsOf(this.#dead, this.#runtimeDirectory)
    if (!isClean(remains)) this.#fail(`${when} left ${JSON.stringify(remains)}`)
  }

  #fail(words: string): void {
    this.#failures.push(words)
    this.#options.say(`FAILED ${words}`)
  }

  /** As many jobs at once, through as many deaths as may be. */
  async burst(): Promise<void> {
    const { jobsAtOnce, sleep } = this.#options
    if (this.#point === undefined) {
      await this.stop()
      await this.#start(this.#next())
    }
    const ids: string[] = []
    const before = this.#met
    for (const until = Date.now() + BURST_MS_MAX; ;) {
      if (Date.now() > until) return this.#fail(`jobs did not end: ${await this.#open(ids)} of ${ids.length}`)
      try {
        while (ids.length < jobsAtOnce) ids.push(await this.#create(ids.length))
        if ((await this.#open(ids)) === 0) break
        await sleep(LOOK_MS)
      } catch (error) {
        const { child } = this.#server
        // Its answer broke off; that it died comes a moment later.
        for (let looks = 0; looks < 40 && child.signalCode === null; looks++) await sleep(LOOK_MS)
        if (child.signalCode === null) throw error
        await this.#mourn(child.pid ?? 0)
        await this.#start(this.#met - before >= DEATHS_A_BURST ? undefined : this.#next())
      }
    }
    this.#jobs += ids.length
    this.#options.say(`${this.#jobs} jobs, ${this.#met} deaths, ${this.#failures.length} failures`)
  }

  /** Asked again after a death, it gives the job that was made before. */
  async #create(number: number): Promise<string> {
    const idempotencyKey = `job ${this.#jobs + number}`
    return (await act(this.#server, 'createJob', { expertKey: 'local-campaign', query: 'Write.', idempotencyKey })).id
  }

  /** How many are not over; one that ended otherwise than well is a failure. */
  async #open(ids: readonly string[]): Promise<number> {
    const asked = ids.map((id, i) => `j${i}: job(id: "${id}") { status outcome reason steps }`).join('\n')
    const seen = await this.#server.graphql<
      Readonly<Record<string, { status: string; outcome: string | null; reason: string | null; steps: number }>>
    >(`{ ${asked} }`)
    const jobs = Object.values(seen)
    const open = jobs.filter(({ status }) => status !== 'finished').length
    if (open === 0)
      for (const { outcome, reason, steps } of jobs)
        if (outcome !== 'completed' || steps !== STEPS + 1)
          this.#fail(`a job ended ${outcome} (${reason}) after ${steps} steps`)
    return open
  }

  /** An orderly end leaves nothing, either. A server that dies in it has met its point. */
  async stop(): Promise<void> {
    const { child } = this.#server
    const code = await this.#server.stop()
    if (code === null) return await this.#mourn(child.pid ?? 0)
    if (code !== 0) this.#fail(`the server ended with ${code}`)
    this.#dead.add(child.pid ?? 0)
  }

  async end(): Promise<void> {
    await this.#platform?.stop()
    if (this.#directory !== '') await rm(this.#directory, { recursive: true, force: true })
  }

  verdict(): LocalVerdict {
    return {
      jobs: this.#jobs,
      deaths: this.#deaths,
      failures: this.#failures,
      ends: this.#ends.toSorted((a, b) => a - b),
      leftAtDeath: this.#left,
    }
  }
}
