/**
 * The campaign of Fly: several servers on one Postgres, machines on the simulated Machines API with whatever may go wrong
 * there, servers and machines killed at random, the API away now and then. A client creates jobs and answers what is asked;
 * afterwards each log, the counts of a server outside, the rows, the machines and every request are held against one
 * another. Each job marks whatever it can reach and looks for the marks of others (I8).
 */
import { readlinkSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { callKeyOf } from '../../schema/effect.ts'
import type { JobId, RunId } from '../../schema/id.ts'
import { descendants, listProcesses } from '../../src/local/processes.ts'
import { CRUEL, type FaultRule } from '../fake/fly-sim/fault.ts'
import type { Profile } from '../fake/fly-sim/timing.ts'
import type { LogEntry } from '../fake/fly-sim/world.ts'
import { drawn } from '../fake/scripted-model.ts'
import { APP, openFlyPlatform, type FlyPlatform } from '../support/fly-platform.ts'
import { expertPackage, npmPublish, skillPackage, type Platform } from '../support/platform.ts'
import { act, mutate, probe, readEvents, resultsOf, turns, type SeenEvent } from '../support/platform-job.ts'
import { openCounter, type Counter } from './counter.ts'
import { barrenOf, BARREN_MAX, firstUnverified } from './crash.ts'

export interface FlyCampaignOptions {
  readonly jobs: number
  readonly seed: number
  readonly servers: number
  readonly machinesMax: number
  /** Jobs that are not over at once. */
  readonly jobsAtOnce: number
  /** No more servers than these are killed: each takes seconds to start again. */
  readonly serverKillsMax: number
  /** Also what a time limit alone ends, after half a minute or more: states that are stuck, guests that hang. */
  readonly isPatient: boolean
  /** How long to wait for the census to end machines that nobody knows, in ms: it takes ten minutes to be sure. */
  readonly straysMs: number
  readonly say: (line: string) => void
}

export interface FlyVerdict {
  readonly jobs: number
  readonly failures: readonly string[]
  readonly exhausted: number
  readonly kills: { readonly servers: number; readonly machines: number; readonly outages: number }
  /** How jobs came by their machines, attempt by attempt. */
  readonly given: Readonly<Record<string, number>>
  /** Machines that no live row knows, or rows whose machine is not there. */
  readonly orphans: number
  /** Requests to the API by action, and how many of them were refused as too many. */
  readonly requests: Readonly<Record<string, number>>
  readonly throttled: number
  /** Calls of one action about one machine, or one app, beyond what Fly allows. */
  readonly tooFast: { readonly machine: number; readonly app: number }
}

const TICK_MS = 250
/** Of a thousand ticks. */
const SERVER_KILLS = 40
const MACHINE_FATES = 90
const OUTAGES = 15

/** Marks files, memory and the environment of a process that leaves group, parents and environment behind; then looks. */
const MARK = `const fs = await load('node:fs'); const { spawn } = await load('node:child_process')
  const own = 'canary-' + fs.readFileSync('/workspace/input/name.txt', 'utf8').trim()
  for (const place of ['/workspace', '/tmp', '/dev/shm']) try { fs.writeFileSync(place + '/' + own, own) } catch {}
  for (const env of [{}, { CANARY: own }])
    spawn(process.execPath, ['-e', 'setTimeout(() => {}, 3600000)', own], { detached: true, stdio: 'ignore', env }).unref()
  const marks = new Set()
  const note = (text) => { for (const [mark] of text.matchAll(/canary-[0-9a-z]+/g)) if (mark !== own) marks.add(mark) }
  const look = (path, depth) => {
    let names = []
    try { names = fs.readdirSync(path) } catch { try { note(fs.readFileSync(path, 'utf8')) } catch {} }
    for (const name of names) { note(name); if (depth > 0) look(path + '/' + name, depth - 1) }
  }
  for (const path of ['/workspace', '/tmp', '/dev/shm', '/var', '/run', '/.fly']) look(path, 4)
  for (const pid of fs.readdirSync('/proc').filter((name) => /^\\d+$/.test(name)))
    for (const file of ['environ', 'cmdline']) look('/proc/' + pid + '/' + file, 0)
  return [...marks]`

const expertFile = (url: string) => `[experts."fly-campaign"]
description = "Leaves what it can."
instruction = "Do it."
model = "rehearsal/fly"
[experts."fly-campaign".skills."probe"]
type = "mcpStdioSkill"
packageName = "probe"
[experts."fly-campaign".skills."witness"]
type = "mcpHttpSkill"
endpoint = "${url}"
[experts."fly-campaign".skills."witness".effects]
pay = "once"
`
const pay = { tool: 'witness/pay', args: { before: 40, after: 80 } }
const REHEARSALS = { 'rehearsals/fly.json': turns([[probe(MARK)], [pay, probe(MARK)], [pay]], 'Done.', 150) }
const RESULTS = 4

/** What the pool may ask of the API, and a machine for itself. */
const ALLOWED = new Set(['create', 'list', 'get', 'start', 'stop', 'suspend', 'delete'])
const LIST_MS = 5_000

interface Job {
  readonly id: string
  readonly name: string
  isFinished: boolean
}

/** A campaign on a platform of its own. */
export async function flyCampaign(options: FlyCampaignOptions & { readonly profile: Profile }): Promise<FlyVerdict> {
  const { seed, profile } = options
  const fly = await openFlyPlatform({ seed, profile, limits: 1 })
  let verdict: FlyVerdict
  try {
    const platform = await fly.start(flySettings(options))
    await npmPublish(platform, await skillPackage('probe', 'probe'))
    verdict = await flyCampaignOn(fly, options)
  } finally {
    await fly.close()
  }
  const left = guestsLeft().map((pid) => `process ${pid} of a machine is left`)
  return { ...verdict, failures: [...verdict.failures, ...left] }
}

/** What each of its servers is told. */
export function flySettings({
  machinesMax,
}: Pick<FlyCampaignOptions, 'machinesMax'>): Readonly<Record<string, string>> {
  return { SENMON_READY: '2', SENMON_FLY_MACHINES_MAX: String(machinesMax), SENMON_SKILL_NETWORKS: '127.0.0.1' }
}

/** On a platform with one server, where the skill `probe` is published. */
export async function flyCampaignOn(fly: FlyPlatform, options: FlyCampaignOptions): Promise<FlyVerdict> {
  await using counter = await openCounter()
  return await new Campaign(options, fly, counter).run()
}

class Campaign {
  readonly #options: FlyCampaignOptions
  readonly #fly: FlyPlatform
  readonly #counter: Counter
  readonly #failures: string[] = []
  readonly #kills = { servers: 0, machines: 0, outages: 0 }
  readonly #given: Record<string, number> = {}
  readonly #jobs: Job[] = []
  /** The job that each boot was given. */
  readonly #boots = new Map<string, string>()
  readonly #starting = new Set<Promise<void>>()
  #draws = 0
  #exhausted = 0

  constructor(options: FlyCampaignOptions, fly: FlyPlatform, counter: Counter) {
    this.#options = options
    this.#fly = fly
    this.#counter = counter
  }

  #draw(below: number): number {
    return drawn(below, this.#options.seed, (this.#draws += 1))
  }

  #fail(words: string): void {
    this.#failures.push(words)
    this.#options.say(`FAILED ${words}`)
  }

  async #start(): Promise<Platform> {
    return await this.#fly.start(flySettings(this.#options))
  }

  async run(): Promise<FlyVerdict> {
    const { sim } = this.#fly
    sim.clearFaults()
    const [platform] = this.#fly.servers()
    if (platform === undefined) throw new Error('no server was started')
    await npmPublish(platform, await expertPackage('fly-campaign', expertFile(this.#counter.url), REHEARSALS))
    for (let more = 1; more < this.#options.servers; more++) await this.#start()
    sim.faults(this.#options.isPatient ? CRUEL : CRUEL.filter((rule) => !hangs(rule)))
    await this.#storm()
    sim.clearFaults()
    this.#options.say('all is calm')
    await Promise.all(this.#starting)
    await this.#until('every job is over', 300_000, async () => {
      await this.#mind()
      return this.#jobs.every(({ isFinished }) => isFinished)
    })
    this.#options.say('every job is over')
    for (const job of this.#jobs) await this.#judge(job)
    // By rule, after machine upon machine that got nowhere; where that is usual, nothing was tried.
    if (this.#exhausted > Math.ceil(this.#jobs.length / 100)) this.#fail(`${this.#exhausted} jobs were given up`)
    const orphans = await this.#orphans()
    const requests = this.#judgeRequests()
    return {
      jobs: this.#jobs.length,
      failures: this.#failures,
      exhausted: this.#exhausted,
      kills: this.#kills,
      given: this.#given,
      orphans,
      ...requests,
    }
  }

  /** Creates jobs as others end, and lets happen what may. */
  async #storm(): Promise<void> {
    for (let ticks = 0; ; ticks++) {
      const open = this.#jobs.filter(({ isFinished }) => !isFinished)
      if (this.#jobs.length === this.#options.jobs && open.length === 0) return
      if (this.#jobs.length < this.#options.jobs && open.length < this.#options.jobsAtOnce) await this.#create()
      await sleep(TICK_MS)
      await this.#strike(ticks)
      await this.#mind()
      if (ticks % 120 === 0)
        this.#options.say(
          `${this.#jobs.length - open.length} of ${this.#jobs.length} jobs over, ${JSON.stringify(this.#kills)}, ${this.#fly.sim.machines().length} machines`,
        )
    }
  }

  /** Asks any server, and another when that one dies over it. */
  async #ask<Value>(question: (platform: Platform) => Promise<Value>): Promise<Value> {
    for (let tries = 0; ; tries++) {
      const [platform] = this.#fly.servers()
      try {
        if (platform === undefined) throw new Error('no server lives')
        return await question(platform)
      } catch (error) {
        if (tries === 100) throw error
        await sleep(200)
      }
    }
  }

  async #create(): Promise<void> {
    const name = `job${this.#jobs.length}x${this.#options.seed}`
    const input = {
      expertKey: 'fly-campaign',
      query: 'Go.',
      files: [{ path: 'name.txt', text: name }],
      idempotencyKey: name,
    }
    const { id } = await this.#ask((platform) => act(platform, 'createJob', input))
    this.#jobs.push({ id, name, isFinished: false })
  }

  /** Answers what is asked by what was really counted. */
  async #mind(): Promise<void> {
    const open = this.#jobs.filter(({ isFinished }) => !isFinished)
    if (open.length === 0) return
    const fields = 'status questions { id runId callId open }'
    const query = open.map(({ id }, i) => `j${i}: job(id: "${id}") { ${fields} }`).join('\n')
    type Seen = { status: string; questions: { id: string; runId: string; callId: string; open: boolean }[] }
    const seen = await this.#ask((platform) => platform.graphql<Readonly<Record<string, Seen>>>(`{ ${query} }`))
    for (const [i, job] of open.entries()) {
      const { status, questions } = seen[`j${i}`] ?? { status: '', questions: [] }
      job.isFinished = status === 'finished'
      if (job.isFinished) continue
      for (const { id: questionId, runId, callId, open: isOpen } of questions) {
        if (!isOpen) continue
        const effects = this.#counter.of(callKeyOf(job.id as JobId, runId as RunId, callId))
        const answer = { questionId, value: effects.length > 0 ? 'done' : 'retry' }
        // It may have been answered, or its job ended, since it was seen.
        await this.#ask((platform) => mutate(platform, 'continueJob', { jobId: job.id, answer }))
      }
    }
  }

  async #strike(ticks: number): Promise<void> {
    const { sim } = this.#fly
    const roll = this.#due(ticks) ?? this.#draw(1_000)
    if (roll < SERVER_KILLS) {
      const servers = this.#fly.servers()
      const victim = servers[this.#draw(Math.max(1, servers.length))]
      // One lives, so that its client is not what is tried here.
      if (victim === undefined || servers.length < 2 || this.#kills.servers >= this.#options.serverKillsMax) return
      this.#kills.servers += 1
      await victim.kill()
      const again = sleep(this.#draw(3_000))
        .then(() => this.#start())
        .then(() => void this.#starting.delete(again))
      this.#starting.add(again)
    } else if (roll < SERVER_KILLS + MACHINE_FATES) {
      const machines = sim.machines().filter(({ alive }) => alive)
      const victim = machines[this.#draw(Math.max(1, machines.length))]
      if (victim === undefined) return
      this.#kills.machines += 1
      const fates = [
        { as: 'kill' },
        { as: 'oom' },
        { as: 'exit' },
        { as: this.#options.isPatient ? 'hang' : 'exit' },
        { as: 'lose' },
        { as: 'migrate' },
        { as: 'host', backAfterMs: 5_000 },
      ] as const
      sim.befall(victim.id, fates[this.#draw(fates.length)] ?? { as: 'kill' })
    } else if (roll < SERVER_KILLS + MACHINE_FATES + OUTAGES) {
      this.#kills.outages += 1
      const until = sim.now() + 500 + this.#draw(5_000)
      sim.faults([{ fault: 'F15', as: '503', match: { until } }])
    }
  }

  /** Chance may spare a short campaign: one machine and one server are struck all the same. */
  #due(ticks: number): number | undefined {
    if (this.#kills.machines === 0 && ticks >= 6) return SERVER_KILLS
    return this.#kills.servers === 0 && ticks >= 10 ? 0 : undefined
  }

  async #until(what: string, ms: number, holds: () => Promise<boolean>): Promise<boolean> {
    for (const until = Date.now() + ms; Date.now() < until;) {
      if (await holds()) return true
      await sleep(TICK_MS)
    }
    this.#fail(`not within ${ms} ms: ${what}`)
    return false
  }

  async #judge(job: Job): Promise<void> {
    const fail = (words: string): void => this.#fail(`${job.id}: ${words}`)
    if (!job.isFinished) return fail('it is not over')
    const events = await this.#ask((platform) => readEvents(platform, job.id))
    const broken = firstUnverified(job.id, events)
    if (broken !== undefined) fail(`its log breaks at ${broken}`)
    this.#judgeBoots(job, events, fail)
    const ends = events.filter(({ type }) => type === 'jobFinished')
    if (ends.length !== 1) fail(`it ended ${ends.length} times`)
    const end = events.at(-1)?.data
    for (const { name, text, isError } of resultsOf(events))
      if (name === 'probe/run' && !isError && text !== '[]') fail(`it saw ${text}`)
    if (end?.['reason'] === 'attempts_exhausted') {
      this.#exhausted += 1
      if (barrenOf(events) < BARREN_MAX) fail(`it was given up after ${barrenOf(events)} barren attempts`)
      return
    }
    if (end?.['outcome'] !== 'completed') fail(`it ended ${JSON.stringify(end)}`)
    const returned = events.filter(({ type }) => type === 'toolReturned')
    const calls = returned.map(({ data, runId }) => {
      const { callId, name, isError } = data['result'] as { callId: string; name: string; isError: boolean }
      return { key: callKeyOf(job.id as JobId, runId as RunId, callId), name, isError }
    })
    const keys = new Set(calls.map(({ key }) => key))
    if (calls.length !== RESULTS || keys.size !== RESULTS)
      fail(`${calls.length} results of ${keys.size} calls are in its log, not ${RESULTS}`)
    for (const { key, name, isError } of calls) {
      if (name !== 'witness/pay') continue
      const effects = this.#counter.of(key).length
      if (effects > 1 || (effects === 0 && !isError)) fail(`${name} took effect ${effects} times`)
    }
  }

  /** I7: a boot is given one job, under one fence. */
  #judgeBoots(job: Job, events: readonly SeenEvent[], fail: (words: string) => void): void {
    for (const { type, data } of events) {
      if (type !== 'machineStarted') continue
      const { bootId, resume } = data as { readonly bootId: string; readonly resume: string }
      this.#given[resume] = (this.#given[resume] ?? 0) + 1
      const before = this.#boots.get(bootId)
      if (before !== undefined) fail(`its machine was not stopped since it had ${before}`)
      this.#boots.set(bootId, job.id)
    }
  }

  /** I11: rows and machines name each other, once what was under way is over. */
  async #orphans(): Promise<number> {
    const differences = async (): Promise<readonly string[]> => {
      const rows = await this.#fly.database.sql.query<{ id: string; provider_id: string | null; state: string }>(
        `select id, provider_id, state from machines where state <> 'gone'`,
      )
      const named = new Set(rows.map((row) => row.provider_id))
      const machines = this.#fly.sim.machines().filter(({ state }) => state !== 'destroyed' && state !== 'destroying')
      const there = new Set<string | null>(this.#fly.sim.machines().map(({ id }) => id))
      return [
        ...machines.filter(({ id }) => !named.has(id)).map(({ id, state }) => `no row knows ${id}, which is ${state}`),
        ...rows
          .filter((row) => row.provider_id !== null && !there.has(row.provider_id))
          .map(({ id, state }) => `${id} is ${state}, and its machine is not there`),
      ]
    }
    let last: readonly string[] = []
    for (const until = Date.now() + this.#options.straysMs; ; await sleep(1_000)) {
      const now = await differences()
      if (now.join() !== last.join()) this.#options.say(`rows and machines: ${now.join('; ') || 'they agree'}`)
      last = now
      if (last.length === 0 || Date.now() > until) break
    }
    for (const words of last) this.#fail(words)
    return last.length
  }

  /** I12: what was asked of the API, and how fast. */
  #judgeRequests(): Pick<FlyVerdict, 'requests' | 'throttled' | 'tooFast'> {
    const ours = this.#fly.sim.requests().filter(({ app, action }) => app === APP && action !== 'app_create')
    const requests: Record<string, number> = {}
    for (const { action, by } of ours) {
      requests[action] = (requests[action] ?? 0) + 1
      if (!ALLOWED.has(action)) this.#fail(`the pool asked for ${action}`)
      if (by === 'machine' && action !== 'suspend') this.#fail(`a machine asked for ${action}`)
    }
    const censuses = ours.filter(({ action, query }) => action === 'list' && query === '')
    const hasty = censuses.filter(({ at }, i) => at - (censuses[i - 2]?.at ?? 0) < LIST_MS)
    // Two in a row are those of a leader and of its heir, or of a probe.
    if (hasty.length > this.#kills.servers * 2 + this.#options.servers * 2)
      this.#fail(`machines were listed ${hasty.length} times sooner than every ${LIST_MS} ms`)
    return {
      requests,
      throttled: ours.filter(({ status }) => status === 429).length,
      tooFast: {
        machine: beyond(ours.filter(({ machine }) => machine !== null)),
        app: beyond(ours.filter(({ machine }) => machine === null)),
      },
    }
  }
}

function hangs(rule: FaultRule): boolean {
  return rule.fault === 'F5' || (rule.fault === 'F16' && rule.as === 'hang')
}

/** How many came when the bucket of their action and subject was empty. */
function beyond(entries: readonly LogEntry[]): number {
  const buckets = new Map<string, { level: number; at: number }>()
  let count = 0
  for (const { at, action, machine, app } of entries) {
    const [perSecond, burst] = action === 'get' ? [5, 10] : [1, 3]
    const key = `${action} ${machine ?? app}`
    const bucket = buckets.get(key) ?? { level: burst, at }
    const level = Math.min(burst, bucket.level + ((at - bucket.at) / 1_000) * perSecond)
    if (level < 1) count += 1
    buckets.set(key, { level: level < 1 ? level : level - 1, at })
  }
  return count
}

/** Processes of machines below this one: those that have other numbers to themselves. */
export function guestsLeft(): readonly number[] {
  const spaceOf = (pid: number | 'self'): string | undefined => {
    try {
      return readlinkSync(`/proc/${pid}/ns/pid`)
    } catch {
      return undefined
    }
  }
  const own = spaceOf('self')
  return descendants(process.pid, listProcesses()).flatMap(({ pid }) =>
    [own, undefined].includes(spaceOf(pid)) ? [] : [pid],
  )
}
