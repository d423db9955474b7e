/**
 * The skills of one machine, each in its own compartment: started when the runner opens it, relayed frame by frame.
 *
 * SK1 Only skills that the host can start and that are of the job's lock are started (P7.1).
 * SK2 Secrets are asked for at the start of the compartment that needs them, and given to nothing else (P7.2).
 * SK3 The answer to a tool call passes only after the workspace has been looked at (P6.2).
 * SK4 A skill that is slow to read delays nobody else: what it is owed is bounded, and above that it is ended.
 * SK5 A tool call that a rule of approval covers, that may be made once, or that hides what it is, passes only by leave
 *    of the control plane (P7.10, P7.11).
 * SK6 What concerns a skill on the network goes to the control plane as it is, nothing of it starts here, and what comes back
 *    keeps its order (P7.12).
 * SK7 A skill that uses more memory or processes than it may is ended with all of them (P7.13).
 */
import type { Clock } from '../../schema/clock.ts'
import {
  FRAME_BYTES_MAX,
  type ClosedLine,
  type CloseLine,
  type CompartmentName,
  type FrameLine,
  type OpenedLine,
  type OpenLine,
  type PermitParams,
  type SecretsParams,
} from '../../schema/control.ts'
import { parseJson } from '../../schema/control-line.ts'
import { PlatformError, type ErrorCode } from '../../schema/error.ts'
import { isJsonObject, type Json } from '../../schema/json.ts'
import { eachLine, isLineFault, type LineFault } from '../../schema/lines.ts'
import type { Lock } from '../../schema/lock.ts'
import type { PackageContent, SkillLaunch, SkillLimits } from '../../schema/machine-plan.ts'
import { Rate } from '../../schema/rate.ts'
import { ResourcePages } from '../../schema/resource-pages.ts'
import { servedSkill } from '../../schema/tool-pin.ts'
import { longAnswer, markKept } from '../skill/long-answer.ts'
import { startCompartment, type Compartment } from './compartment.ts'
import { consumptionOf, excessOf, memoryEndsIn } from './consumption.ts'
import type { KeptResult } from '../workspace/kept-result.ts'
import { answeredBy, leaveFor, refusalFrame, toolCallOf, type Guard } from './skill-line.ts'

const UNREAD_BYTES_MAX = 4 * FRAME_BYTES_MAX
const FRAMES_PER_SECOND = 1000
/** Calls that may wait for leave at once: more than any generation asks for. */
const ASKING_MAX = 256
const FRAMES_AT_ONCE = 5000
/** How often to look at what a skill uses: it may be above its limits for so long. */
const WATCH_MS = 250

export interface SkillsOptions {
  readonly limits: SkillLimits
  readonly clock: Clock
  askSecrets(params: SecretsParams): Promise<Json>
  /** Rejects when the call may not be made. */
  askPermit(params: PermitParams): Promise<Json>
  /** Resolves when the runner can take more; undefined when it can. */
  tell(line: OpenedLine | ClosedLine | FrameLine): Promise<void> | undefined
  /** Resolves when the packages are where the compartment looks for them. */
  restore(packages: PackageContent): Promise<void>
  look(): Promise<void>
  /** Keeps a long answer as a file of the workspace. */
  keep(text: string): KeptResult | undefined
  /** To the control plane; resolves when it can take more, undefined when it can. */
  pass(line: OpenLine | CloseLine | FrameLine): Promise<void> | undefined
  report(source: string, text: string): void
}

interface OpenSkill {
  readonly name: CompartmentName
  /** Undefined while its secrets are awaited. */
  compartment: Compartment | undefined
  /** Why it is being ended, when it was not by itself. */
  ending: { readonly code: ErrorCode; readonly message: string } | undefined
  /** Ids of tool calls that it owes an answer. */
  readonly calls: Set<string>
  readonly pages: ResourcePages
  spoke: boolean
}

export class Skills {
  readonly #options: SkillsOptions
  readonly #open = new Map<string, OpenSkill>()
  #lock: Lock | undefined
  #launches: readonly SkillLaunch[] = []
  #afar = Promise.resolve()
  #asking = 0
  #ended = false

  constructor(options: SkillsOptions) {
    this.#options = options
  }

  /** How they start. */
  provide(launches: readonly SkillLaunch[]): void {
    this.#launches = launches
  }

  /** From now on skills of this lock can be opened. */
  allow(lock: Lock): void {
    this.#lock = lock
  }

  /** Starts the compartment unless it runs. Resolves when it is gone again. Never rejects. */
  async open(name: CompartmentName): Promise<void> {
    if (this.#isRemote(name)) return await this.#options.pass({ type: 'open', ...name })
    const running = this.#open.get(keyOf(name))
    if (running !== undefined) {
      if (running.compartment !== undefined) await this.#options.tell({ type: 'opened', ...name })
      return
    }
    const launch = this.#find(name)
    if (launch === undefined) {
      await this.#close(name, 'skill_not_found', `${titleOf(name)} is not in the lock of this job.`)
      return
    }
    const skill: OpenSkill = {
      name,
      compartment: undefined,
      ending: undefined,
      calls: new Set(),
      pages: new ResourcePages(),
      spoke: false,
    }
    this.#open.set(keyOf(name), skill)
    try {
      await this.#run(skill, launch)
    } catch (error) {
      const code = error instanceof PlatformError ? error.code : 'skill_start_failed'
      skill.ending ??= { code, message: error instanceof Error ? error.message : String(error) }
    }
    skill.compartment?.kill()
    this.#open.delete(keyOf(name))
    const { code, message } = skill.ending ?? { code: 'skill_died', message: `${titleOf(name)} ended.` }
    await this.#close(name, code, message)
  }

  /** Ends the compartment; `closed` follows. */
  close(name: CompartmentName): void {
    if (this.#isRemote(name)) return void this.#options.pass({ type: 'close', ...name })
    const skill = this.#open.get(keyOf(name))
    if (skill === undefined) return
    end(skill, 'canceled_by_user', `${titleOf(name)} was closed.`)
  }

  /** Hands a frame to the skill; without one, says `closed`. */
  async frame({ expertKey, skill: skillName, frame }: FrameLine): Promise<void> {
    const name = { expertKey, skill: skillName }
    if (this.#isRemote(name)) return await this.#options.pass({ type: 'frame', ...name, frame })
    const goesOn = this.#open.get(keyOf(name))?.pages.goesOn(frame) ?? false
    const leave = goesOn ? undefined : leaveFor(this.#guardOf(name), name, frame)
    const refused = leave === undefined ? undefined : await this.#refuse(leave)
    if (refused !== undefined) {
      this.#options.report('supervisor', `A call of ${titleOf(name)} was not passed on: ${refused}`)
      if (toolCallOf(frame) === undefined) return
      await this.#options.tell({ type: 'frame', ...name, frame: refusalFrame(frame, refused) })
      return
    }
    const skill = this.#open.get(keyOf(name))
    if (skill?.compartment === undefined) {
      await this.#close(name, 'skill_died', `${titleOf(name)} is not open.`)
      return
    }
    const call = toolCallOf(frame)
    if (call !== undefined) skill.calls.add(call)
    skill.pages.ask(frame)
    skill.compartment.send(`${JSON.stringify(frame)}\n`)
    if (skill.compartment.unreadBytes > UNREAD_BYTES_MAX)
      end(skill, 'limit_exceeded', `${titleOf(name)} does not read: more than ${UNREAD_BYTES_MAX} bytes wait for it.`)
  }

  /** Why the call may not be made; undefined when it may. */
  async #refuse(leave: PermitParams | 'never'): Promise<string | undefined> {
    if (leave === 'never') return 'the call does not say plainly what it calls'
    if (this.#asking >= ASKING_MAX) return `${ASKING_MAX} calls wait for leave already`
    this.#asking += 1
    try {
      await this.#options.askPermit(leave)
      return undefined
    } catch (error) {
      return error instanceof Error ? error.message : String(error)
    } finally {
      this.#asking -= 1
    }
  }

  #guardOf({ expertKey, skill }: CompartmentName): Guard {
    const experts: Readonly<Record<string, Lock['experts'][keyof Lock['experts']]>> = this.#lock?.experts ?? {}
    const expert = Object.hasOwn(experts, expertKey) ? experts[expertKey] : undefined
    return { rules: expert?.approvals ?? [], effects: servedSkill(this.#lock, expertKey, skill)?.effects }
  }

  /** The compartments that are open now. */
  running(): readonly CompartmentName[] {
    return [...this.#open.values()].map(({ name }) => name)
  }

  /** Ends every compartment, for good; resolves when they are gone. */
  async end(): Promise<void> {
    this.#ended = true
    const running = [...this.#open.values()]
    for (const skill of running) end(skill, 'canceled_by_user', 'The machine ends.')
    await Promise.all(running.map(async (skill) => await skill.compartment?.ended))
  }

  #isRemote({ expertKey, skill }: CompartmentName): boolean {
    const served = servedSkill(this.#lock, expertKey, skill)
    return served !== undefined && served.type !== 'mcpStdioSkill'
  }

  #find({ expertKey, skill }: CompartmentName): SkillLaunch | undefined {
    const experts: Readonly<Record<string, Lock['experts'][keyof Lock['experts']]>> = this.#lock?.experts ?? {}
    const expert = Object.hasOwn(experts, expertKey) ? experts[expertKey] : undefined
    const locked = expert !== undefined && Object.hasOwn(expert.skills, skill) ? expert.skills[skill] : undefined
    if (locked?.type !== 'mcpStdioSkill') return undefined
    return this.#launches.find((launch) => launch.expertKey === expertKey && launch.skill === skill)
  }

  async #run(skill: OpenSkill, { launch, requiredEnv, packages, memoryEnds }: SkillLaunch): Promise<void> {
    const { name } = skill
    if (packages !== undefined) await this.#options.restore(packages)
    const secrets = await this.#secrets(name, requiredEnv)
    if (this.#ended || skill.ending !== undefined) return
    // Of those that it had when it was open before.
    const before = memoryEnds === undefined ? 0 : memoryEndsIn(memoryEnds)
    const wasEnded = () => memoryEnds !== undefined && memoryEndsIn(memoryEnds) > before
    const report = (line: string) => this.#options.report(`${name.expertKey} ${name.skill}`, line)
    const compartment = startCompartment(launch, secrets, report, this.#options.clock)
    skill.compartment = compartment
    await this.#options.tell({ type: 'opened', ...name })
    const over = new AbortController()
    const kept = memoryEnds === undefined ? undefined : wasEnded
    void this.#watch(skill, compartment, over.signal, kept).catch(() => {})
    await this.#relay(skill, compartment)
    over.abort()
    if (skill.ending !== undefined) compartment.kill()
    const { reason, stderrTail } = await compartment.ended
    if (skill.ending === undefined && wasEnded()) end(skill, 'limit_exceeded', this.#aboveMemory(skill))
    // A call that it never answered may have written files all the same.
    if (skill.calls.size > 0 && !this.#ended) await this.#options.look().catch(() => {})
    const tail = stderrTail === '' ? '' : ` ${stderrTail}`
    if (skill.spoke) skill.ending ??= { code: 'skill_died', message: `${titleOf(name)} died (${reason}).${tail}` }
    else skill.ending ??= { code: 'skill_start_failed', message: `${titleOf(name)} did not start (${reason}).${tail}` }
  }

  async #secrets(name: CompartmentName, requiredEnv: readonly string[]): Promise<Record<string, string>> {
    if (requiredEnv.length === 0) return {}
    const value = await this.#options.askSecrets({ expertKey: name.expertKey, skill: name.skill })
    const secrets: Record<string, string> = {}
    for (const wanted of requiredEnv) {
      const secret = isJsonObject(value) && Object.hasOwn(value, wanted) ? value[wanted] : undefined
      if (typeof secret !== 'string' || secret.includes('\0'))
        throw new PlatformError('secret_missing', `${titleOf(name)} needs ${wanted}, which is not set.`)
      secrets[wanted] = secret
    }
    return secrets
  }

  /** Ends the skill when it uses more than it may; rejects when nobody looks any more. */
  async #watch(
    skill: OpenSkill,
    compartment: Compartment,
    over: AbortSignal,
    wasEnded: (() => boolean) | undefined,
  ): Promise<void> {
    const { clock } = this.#options
    // What several processes share counts for each of them here, and once for the kernel.
    const limits = wasEnded === undefined ? this.#options.limits : { ...this.#options.limits, memoryBytes: Infinity }
    while (compartment.pid !== undefined) {
      if (wasEnded?.() === true) return end(skill, 'limit_exceeded', this.#aboveMemory(skill))
      const excess = excessOf(consumptionOf(compartment.pid, limits.processes), limits)
      if (excess !== undefined) return end(skill, 'limit_exceeded', `${titleOf(skill.name)} ${excess}.`)
      await clock.sleep(WATCH_MS, over)
    }
  }

  #aboveMemory({ name }: OpenSkill): string {
    return `${titleOf(name)} uses more than ${this.#options.limits.memoryBytes} bytes of memory.`
  }

  /** Reads what the skill says until it stops or breaks a rule. */
  async #relay(skill: OpenSkill, compartment: Compartment): Promise<void> {
    const { clock } = this.#options
    const rate = new Rate(FRAMES_PER_SECOND, FRAMES_AT_ONCE, clock.now())
    const title = titleOf(skill.name)
    const hear = (line: string | LineFault): Promise<void> | undefined => {
      // It has been killed, and its output ends soon.
      if (skill.ending !== undefined) return undefined
      if (!isLineFault(line) && line.trim() === '') return undefined
      const frame = parseFrame(line)
      if (isLineFault(frame)) return end(skill, 'skill_garbage', `${title} wrote no MCP message: ${frame.message}`)
      skill.spoke = true
      if (!rate.take(clock.now()))
        return end(skill, 'limit_exceeded', `${title} writes more than ${FRAMES_PER_SECOND} messages a second.`)
      return this.#pass(skill, frame.value)
    }
    try {
      await eachLine(compartment.output, hear, FRAME_BYTES_MAX)
    } catch {
      // Its output broke off: the end says why.
    }
  }

  /** Hands on what the control plane says of a skill on the network, in order; a long answer is kept like any other. */
  hearFromAfar(line: OpenedLine | ClosedLine | FrameLine): void {
    this.#afar = this.#afar.then(async () => {
      if (line.type !== 'frame') return await this.#options.tell(line)
      const { frame } = line
      const passed = longAnswer(frame) === undefined ? markKept(frame, undefined) : await this.#answer(frame)
      await this.#options.tell({ ...line, frame: passed })
    })
  }

  async #pass(skill: OpenSkill, frame: Json): Promise<void> {
    const answered = answeredBy(frame)
    skill.pages.hear(frame)
    let passed = frame
    if (answered !== undefined && skill.calls.delete(answered)) passed = await this.#answer(frame)
    await this.#options.tell({ type: 'frame', ...skill.name, frame: passed })
  }

  /** The answer to a tool call once the workspace has been looked at; a long one is kept there, if there is room. */
  async #answer(frame: Json): Promise<Json> {
    const text = longAnswer(frame)
    const kept = text === undefined ? undefined : this.#options.keep(text)
    try {
      await this.#options.look()
      return markKept(frame, kept?.path)
    } catch (error) {
      const refused = refusalFrame(frame, error instanceof Error ? error.message : String(error))
      if (kept === undefined) return refused
      kept.remove()
      return this.#options.look().then(
        () => markKept(frame, undefined),
        () => refused,
      )
    }
  }

  async #close(name: CompartmentName, code: ErrorCode, message: string): Promise<void> {
    if (!this.#ended) await this.#options.tell({ type: 'closed', ...name, code, message })
  }
}

function end(skill: OpenSkill, code: ErrorCode, message: string): undefined {
  skill.ending ??= { code, message }
  skill.compartment?.kill()
}

function parseFrame(line: string | LineFault): { readonly value: Json } | LineFault {
  if (isLineFault(line)) return line
  const parsed = parseJson(line)
  if (isLineFault(parsed) || isJsonObject(parsed.value)) return parsed
  return { fault: 'invalid', message: 'A line is not a JSON object.' }
}

function keyOf({ expertKey, skill }: CompartmentName): string {
  return JSON.stringify([expertKey, skill])
}

function titleOf({ expertKey, skill }: CompartmentName): string {
  return `Skill ${skill} of ${expertKey}`
}
