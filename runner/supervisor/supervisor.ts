/**
 * What runs a machine from within: it starts the compartments, relays lines between them and the control plane,
 * and lets nothing pass that its sender may not say. PROTOCOL.md has the clauses.
 *
 * S1 What the runner may not say never leaves the machine; ten such lines end it (P2.3, P2.5).
 * S2 Nothing outlives the supervisor: it ends when its stdin ends, and every compartment ends with it (P8.2).
 * S3 No skill starts before the workspace is as the log says; the runner, which sees none of it, begins meanwhile (P3.3).
 */
import type { Readable, Writable } from 'node:stream'
import type { Clock } from '../../schema/clock.ts'
import {
  BREACHES_MAX,
  PROTOCOL_VERSION,
  type DoneLine,
  type MachineLine,
  type RequestLine,
  type RunnerLine,
  type StartLine,
  type SupervisorLine,
} from '../../schema/control.ts'
import { parseInwardLine, parseRunnerLine, printLine } from '../../schema/control-line.ts'
import { unreachable } from '../../schema/decider.ts'
import type { Json } from '../../schema/json.ts'
import { eachLine, isLineFault, type LineFault } from '../../schema/lines.ts'
import type { MachinePlan, SkillsLine } from '../../schema/machine-plan.ts'
import { collectGarbage, forgetBeginning } from '../garbage.ts'
import { adoptRunner, drained, startCompartment, together, type Compartment } from './compartment.ts'
import { MachineWorkspace } from './machine-workspace.ts'
import { prime } from './prime.ts'
import { Packages } from './packages.ts'
import { Requests } from './requests.ts'
import { Skills } from './skills.ts'

/** The exit codes of P8.3. */
export const EXIT = { done: 0, orphaned: 69, failed: 70, notRestored: 74, runnerEnded: 75, breach: 76 } as const
export type ExitCode = (typeof EXIT)[keyof typeof EXIT]

const CANCEL_GRACE_MS = 500
/** What a machine may say to operators, in characters; then it is silent. */
const LOG_CHARS_MAX = 256 * 1024
const LOG_LINE_CHARS_MAX = 4096
/** What may wait for a runner that does not read: above the largest history that a job can have. */
const UNREAD_BYTES_MAX = 256 * 1024 * 1024

export interface SupervisorOptions {
  readonly plan: MachinePlan
  readonly bootId: string
  /** In place of the one that the plan starts or the host has begun. */
  readonly runner?: Compartment
  readonly input: Readable
  readonly output: Writable
  readonly clock: Clock
  /** Hears why a machine ends other than by `done`. */
  complain(sentence: string): void
}

/** Runs the machine to its end and gives the exit code; when it resolves, every compartment is gone. */
export async function supervise(options: SupervisorOptions): Promise<ExitCode> {
  return await new Supervisor(options).run()
}

class Supervisor {
  readonly #options: SupervisorOptions
  readonly #requests = new Requests()
  readonly #workspace: MachineWorkspace
  readonly #skills: Skills
  readonly #runner: Compartment
  readonly #end = Promise.withResolvers<ExitCode>()
  /** What was said of the job; undefined before. */
  #job: StartLine | undefined
  /** Under way, or over: then the workspace is as the log says, or the machine is done. */
  #restore: Promise<void> | undefined
  #isRestored = false
  #provided = false
  #done = false
  #breaches = 0
  #logChars = 0

  constructor(options: SupervisorOptions) {
    this.#options = options
    const { plan, clock } = options
    this.#workspace = new MachineWorkspace({
      plan,
      clock,
      askBlob: (params) => this.#ask({ method: 'blob', params }),
      say: async (line) => await this.#say(line),
      report: (text) => this.#log('supervisor', text),
    })
    const packages = new Packages((params) => this.#ask({ method: 'blob', params }))
    this.#skills = new Skills({
      limits: plan.skillLimits,
      clock,
      askSecrets: (params) => this.#ask({ method: 'secrets', params }),
      askPermit: (params) => this.#ask({ method: 'permit', params }),
      tell: (line) => this.#tell(line),
      restore: (content) => packages.restore(content),
      look: () => this.#workspace.look(),
      keep: (text) => this.#workspace.keep(text),
      pass: (line) => this.#say(line),
      report: (source, text) => this.#log(source, text),
    })
    const report = (line: string): void => this.#log('runner', line)
    const begin = (): Compartment =>
      plan.isRunnerBegun === true ? adoptRunner(report, clock) : startCompartment(plan.runner, {}, report, clock)
    this.#runner = options.runner ?? begin()
  }

  async run(): Promise<ExitCode> {
    this.#options.output.on('error', () => this.#finish(EXIT.orphaned, 'The control plane reads no more.'))
    const failed = (error: unknown) =>
      this.#finish(EXIT.failed, `The supervisor failed: ${error instanceof Error ? error.stack : String(error)}`)
    await this.#say({ type: 'ready', protocol: PROTOCOL_VERSION, bootId: this.#options.bootId })
    const { plan, clock } = this.#options
    // A job that waits already is not helped by it.
    if (plan.primes !== false) {
      // Who cannot do that here can do no job: whoever waits for it must hear so.
      forgetBeginning()
      await prime(plan, clock, supervise).catch((error: unknown) =>
        this.#finish(EXIT.failed, `It cannot make itself ready: ${String(error)}`),
      )
      collectGarbage()
    }
    this.#hear().catch(failed)
    this.#serve().catch(failed)
    const code = await this.#end.promise
    this.#done = true
    this.#runner.kill()
    await Promise.all([this.#skills.end(), this.#runner.ended])
    return code
  }

  /** The first reason counts. */
  #finish(code: ExitCode, why?: string): void {
    if (why !== undefined && !this.#done) this.#options.complain(why)
    this.#done = true
    this.#end.resolve(code)
  }

  // ---- from the control plane

  async #hear(): Promise<void> {
    await eachLine(this.#options.input, (text) => {
      if (!isLineFault(text)) this.#hearLine(text)
      else this.#finish(EXIT.failed, `The control plane broke P1.2: ${text.message}`)
      return undefined
    })
    this.#finish(EXIT.orphaned, 'The control plane is gone: stdin ended.')
  }

  #hearLine(text: string): void {
    const line = parseInwardLine(text)
    if (isLineFault(line)) return this.#log('supervisor', `A line of the control plane was dropped: ${line.message}`)
    switch (line.type) {
      case 'skills':
        return this.#provide(line)
      case 'start':
        return this.#start(line, text)
      case 'reply': {
        const forRunner = this.#requests.settle(line)
        return forRunner === undefined ? undefined : this.#pass(printLine(forRunner))
      }
      case 'cancel':
        void this.#cancelLater()
        return this.#pass(`${text}\n`)
      case 'recorded':
      case 'go':
        return this.#pass(`${text}\n`)
      case 'opened':
      case 'closed':
      case 'frame':
        return this.#skills.hearFromAfar(line)
      default:
        return unreachable(line)
    }
  }

  #provide({ skills }: SkillsLine): void {
    if (this.#job !== undefined || this.#provided) return this.#log('supervisor', 'A late line of skills was dropped.')
    this.#provided = true
    this.#skills.provide(skills)
  }

  #start(line: StartLine, text: string): void {
    if (this.#job !== undefined) return this.#log('supervisor', 'A second start line was dropped.')
    this.#job = line
    this.#skills.allow(line.lock)
    this.#pass(`${text}\n`)
    // The runner reads it while we read what follows.
    this.#runner.flush()
  }

  /** Begins after the runner's first word on the job, which would wait for it otherwise, or when a skill is to start. */
  #restored({ treeHash, inputTreeHash }: StartLine): Promise<void> {
    this.#restore ??= this.#workspace
      .restore(treeHash, inputTreeHash)
      .catch((error: unknown) =>
        this.#finish(
          EXIT.notRestored,
          `The workspace could not be restored: ${error instanceof Error ? error.message : String(error)}`,
        ),
      )
      .finally(() => {
        this.#isRestored = true
      })
    return this.#restore
  }

  #pass(text: string): void {
    this.#runner.send(text)
    if (this.#runner.unreadBytes > UNREAD_BYTES_MAX)
      this.#finish(EXIT.breach, `protocol_breach: the runner leaves more than ${UNREAD_BYTES_MAX} bytes unread.`)
  }

  async #cancelLater(): Promise<void> {
    await this.#options.clock.sleep(CANCEL_GRACE_MS)
    await this.#sayDone({ type: 'done', reason: 'canceled' })
  }

  // ---- from the runner

  async #serve(): Promise<void> {
    await eachLine(this.#runner.output, (text) => this.#serveText(text))
    if (this.#done) return
    const { reason, stderrTail } = await this.#runner.ended
    this.#finish(EXIT.runnerEnded, `The runner ended without done (${reason}). ${stderrTail}`)
  }

  /** A promise for as long as nothing more may be read. */
  #serveText(text: string | LineFault): Promise<void> | undefined {
    if (this.#done) return undefined
    const line = isLineFault(text) ? text : parseRunnerLine(text)
    if (isLineFault(line)) {
      if (line.fault === 'too_long') this.#finish(EXIT.breach, `protocol_breach of P1.2: ${line.message}`)
      else this.#breach(line.message)
      return undefined
    }
    if (this.#job === undefined || this.#isRestored) return this.#serveLine(line)
    if (concernsSkill(line)) return this.#restored(this.#job).then(() => this.#serveLine(line))
    const served = this.#serveLine(line)
    if (this.#restore !== undefined || line.type === 'alive') return served
    this.#options.output.uncork()
    void this.#restored(this.#job)
    return served
  }

  #serveLine(line: RunnerLine): Promise<void> | undefined {
    if (this.#done) return undefined
    switch (line.type) {
      case 'event':
      case 'alive':
        return this.#say(line)
      case 'request':
        return this.#say({ ...line, id: this.#requests.relay(line.id) })
      case 'done':
        return this.#sayDone(line)
      case 'progress':
        return this.#say(line)
      case 'log':
        this.#log('runner', line.text)
        return undefined
      case 'open':
        return void this.#skills.open({ expertKey: line.expertKey, skill: line.skill })
      case 'close':
        this.#skills.close({ expertKey: line.expertKey, skill: line.skill })
        return undefined
      case 'frame':
        return void this.#skills.frame(line)
      default:
        return unreachable(line)
    }
  }

  #breach(message: string): void {
    this.#breaches += 1
    this.#log('supervisor', `A line of the runner was dropped (${this.#breaches} of ${BREACHES_MAX}): ${message}`)
    if (this.#breaches >= BREACHES_MAX)
      this.#finish(EXIT.breach, `protocol_breach of P2.5: ${BREACHES_MAX} lines of the runner were dropped.`)
  }

  async #sayDone(line: DoneLine): Promise<void> {
    if (this.#done) return
    const skills = line.reason === 'canceled' ? this.#skills.running() : []
    const { type, reason } = line
    await this.#say(skills.length === 0 ? { type, reason } : { type, reason, skills })
    this.#finish(EXIT.done)
  }

  // ---- to either side

  /** A promise for as long as the control plane is slow to read. */
  #say(line: MachineLine): Promise<void> | undefined {
    if (this.#done) return undefined
    const { output } = this.#options
    together(output)
    output.write(printLine(line))
    return drained(output)
  }

  #tell(line: SupervisorLine): Promise<void> | undefined {
    this.#pass(printLine(line))
    return this.#runner.drained()
  }

  #ask(
    request:
      | Pick<Extract<RequestLine, { method: 'blob' }>, 'method' | 'params'>
      | Pick<Extract<RequestLine, { method: 'secrets' }>, 'method' | 'params'>
      | Pick<Extract<RequestLine, { method: 'permit' }>, 'method' | 'params'>,
  ): Promise<Json> {
    const { id, answer } = this.#requests.ask()
    void this.#say({ type: 'request', id, ...request })
    return answer
  }

  #log(source: string, text: string): void {
    if (this.#logChars > LOG_CHARS_MAX) return
    this.#logChars += text.length
    const said = this.#logChars > LOG_CHARS_MAX ? 'This machine says no more: its share of the log is used up.' : text
    void this.#say({ type: 'log', source, text: said.slice(0, LOG_LINE_CHARS_MAX) })
  }
}

/** Such lines wait for the workspace, and what the runner says after them with them (S3). */
function concernsSkill({ type }: RunnerLine): boolean {
  return type === 'open' || type === 'close' || type === 'frame'
}
