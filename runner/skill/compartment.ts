/**
 * One skill's compartment as its client sees it: idle → opening → live → idle (it fell), and shut for good.
 *
 * SC1 Whatever goes wrong is a fault for every call in flight; no promise stays open.
 * SC2 A compartment is started at most STARTS_MAX times without a call answered in between, each time after a longer
 *    wait; then it is shut.
 * SC3 A compartment that offers other tools than its lock pins, or than were recorded, answers nothing, ever.
 * SC4 A fault is news once, for whoever hears it first.
 */
import { ProtocolError, SdkError, SdkErrorCode, type CallToolResult, type Client } from '@modelcontextprotocol/client'
import type { Clock } from '../../schema/clock.ts'
import type { CompartmentName, RunnerLine } from '../../schema/control.ts'
import { CALL_KEY } from '../../schema/effect.ts'
import type { Elicited } from '../../schema/elicitation.ts'
import { isJsonObject, type Json, type JsonObject } from '../../schema/json.ts'
import type { ToolCallPart, ToolDefinition, ToolResultPart } from '../../schema/message.ts'
import { READ_RESOURCE, resourceTool } from '../../schema/served-call.ts'
import { driftOf } from '../../schema/tool-pin.ts'
import type { SkillFault, SkillQuestion } from '../run/perform.ts'
import { FrameTransport, ProgramTransport } from './frame-transport.ts'
import { definitionsOf, faultInListing } from './definition.ts'
import { greet, type MadeOf } from './greeting.ts'
import { callNewer } from './newer-call.ts'
import type { Progress } from './progress.ts'
import { readResource } from './resource.ts'
import { toolResultOf } from './result.ts'
import { ToolCalls } from './tool-calls.ts'
import { onlyTurn, Turn, visitsIn } from './turn.ts'

/** More starts than this in a row are a skill that cannot be helped. */
export const STARTS_MAX = 3
/** The wait before a start that follows a fall, for each fall in a row. */
const BACKOFF_MS = [0, 200, 1000]
/** The client library has timers of its own; ours, on the injected clock, always fire first. */
const NEVER_MS = 2 ** 31 - 1
/** One for all, since nobody reads it: making an error costs a walk of the stack. */
const NO_LONGER = new Error('no longer waited for')

export interface Deadlines {
  /** From the start of a compartment to its answer to `initialize`, and for a listing. */
  readonly initializeMs: number
  /** For one call; each word of progress begins it anew. */
  readonly callMs: number
}

/** Thrown within this folder only, and turned into a SkillFault at its edge. */
class Fallen extends Error {
  readonly code: string
  isNews = true

  constructor(code: string, message: string) {
    super(message)
    this.code = code
  }
}

export interface CompartmentPorts {
  readonly type: MadeOf
  readonly send: (line: RunnerLine) => void
  readonly clock: Clock
  readonly deadlines: Deadlines
  /** The tools that the lock pins, or that the log held when the machine began; undefined for neither. */
  readonly recorded: () => readonly ToolDefinition[] | undefined
  /** What of a listing counts: the tools on offer. */
  readonly offered: (tools: readonly ToolDefinition[]) => readonly ToolDefinition[]
}

interface Live {
  readonly client: Client
  readonly calls: ToolCalls
  readonly tools: readonly ToolDefinition[]
}

/** A call, and when it was last heard of. */
interface Watched {
  heardAt: number
  readonly hung: () => void
}

interface Made {
  readonly answer: Promise<{ readonly result: CallToolResult } | SkillQuestion>
  /** Tells the server that nobody waits any more. */
  readonly giveUp: (reason: string) => void
}

export class Compartment {
  readonly #name: CompartmentName
  readonly #ports: CompartmentPorts
  /** Starts since a call was last answered. */
  #starts = 0
  /** Whether an `open` was sent that no `close` or `closed` has ended. */
  #isOpen = false
  /** Open from a `close` of ours to the `closed` that answers it: only then it may be opened again (P7.7). */
  #closing: PromiseWithResolvers<void> | undefined
  #opened = Promise.withResolvers<void>()
  #fell = Promise.withResolvers<never>()
  /** What rejects the uses under way. */
  readonly #users = new Set<(fallen: Fallen) => void>()
  #transport: FrameTransport | undefined
  #calls: ToolCalls | undefined
  #live: Promise<Live> | undefined
  /** Calls under way. */
  readonly #turns = new Set<Turn>()
  readonly #watched = new Set<Watched>()
  #isWatching = false
  #shut: Fallen | undefined
  #tools: readonly ToolDefinition[] | undefined

  constructor(name: CompartmentName, ports: CompartmentPorts) {
    this.#name = { expertKey: name.expertKey, skill: name.skill }
    this.#ports = ports
  }

  /** The tools on offer, from a compartment that is started for it when it is not running. */
  async list(signal: AbortSignal): Promise<readonly ToolDefinition[] | SkillFault> {
    return this.#guarded(signal, async ({ tools }) => tools)
  }

  /** The tool's own answer; one that breaks the protocol has isError. `callKey` names the call for ever, if at all. */
  async call(
    tool: string,
    call: ToolCallPart,
    callKey: string | null,
    elicited: readonly Elicited[] | null,
    hear: (progress: Progress) => void,
    signal: AbortSignal,
  ): Promise<ToolResultPart | SkillFault | SkillQuestion> {
    const answer = await this.#guarded(signal, async (live) => {
      const args = isJsonObject(call.args) ? call.args : {}
      const made = await this.#callTool(live, tool, args, callKey, new Turn(elicited), hear, signal)
      return 'asks' in made ? made : toolResultOf(call, made.result)
    })
    // What it had begun must not go on beside the call that is made again with the answer.
    if ('asks' in answer && answer.waits)
      this.#end(new Fallen('canceled_by_user', 'The skill is ended while it waits for a human.'))
    return answer
  }

  opened(): void {
    this.#opened.resolve()
  }

  closed(code: string, message: string): void {
    if (this.#closing === undefined) return this.#fall(new Fallen(code, message))
    this.#closing.resolve()
    this.#closing = undefined
  }

  receive(frame: Json): void {
    if (this.#transport === undefined || this.#calls?.receive(frame) === true || this.#transport.receive(frame)) return
    this.#end(new Fallen('skill_garbage', `Skill ${this.#name.skill} wrote something that is not MCP.`))
  }

  async #guarded<Value>(signal: AbortSignal, use: (live: Live) => Promise<Value>): Promise<Value | SkillFault> {
    // One of its own for each use: a promise that outlives them all would hold on to what each of them gave.
    const { promise: fell, reject } = Promise.withResolvers<never>()
    try {
      const live = this.#start(signal)
      this.#users.add(reject)
      return await Promise.race([live.then(use), fell])
    } catch (error) {
      signal.throwIfAborted()
      const fallen = error instanceof Fallen ? error : new Fallen('skill_garbage', String(error))
      const { isNews } = fallen
      fallen.isNews = false
      return { code: fallen.code, message: fallen.message, isNews }
    } finally {
      this.#users.delete(reject)
    }
  }

  #start(signal: AbortSignal): Promise<Live> {
    if (this.#shut !== undefined) throw this.#shut
    if (this.#live !== undefined) return this.#live
    if (this.#starts >= STARTS_MAX) {
      const message = `Skill ${this.#name.skill} was started ${STARTS_MAX} times in a row and fell each time.`
      this.#shut = new Fallen('skill_start_failed', message)
      throw this.#shut
    }
    const waitMs = BACKOFF_MS[this.#starts] ?? 0
    this.#starts += 1
    this.#opened = Promise.withResolvers()
    this.#fell = Promise.withResolvers()
    // Everybody who cares races it; with nobody there it must not count as unhandled.
    this.#fell.promise.catch(() => {})
    this.#live = this.#connect(waitMs, signal)
    this.#live.catch(() => {})
    return this.#live
  }

  async #connect(waitMs: number, signal: AbortSignal): Promise<Live> {
    const boot = this.#fell
    const calls = new ToolCalls((frame) => this.#ports.send({ type: 'frame', ...this.#name, frame }))
    const begin = async (stop: AbortSignal): Promise<Omit<Live, 'calls'>> => {
      if (waitMs > 0) await this.#ports.clock.sleep(waitMs, stop)
      await this.#closing?.promise
      stop.throwIfAborted()
      this.#calls = calls
      this.#isOpen = true
      this.#ports.send({ type: 'open', ...this.#name })
      await Promise.race([this.#opened.promise, boot.promise])
      const client = await greet({
        type: this.#ports.type,
        clock: this.#ports.clock,
        signal: stop,
        transport: () => this.#speak(),
        elicit: async (params) => onlyTurn(this.#turns).answer(params),
      })
      const { tools, resources } = client.getServerCapabilities() ?? {}
      // Asked for tools that it does not have, the client would write to stdout, which is for lines alone.
      const listed =
        tools === undefined ? { tools: [] } : await client.listTools({}, { timeout: NEVER_MS, signal: stop })
      const definitions = definitionsOf(listed.tools)
      const isTaken = definitions.some(({ name }) => name === READ_RESOURCE)
      return { client, tools: resources === undefined || isTaken ? definitions : [...definitions, resourceTool] }
    }
    const { initializeMs } = this.#ports.deadlines
    const hung = () => new Fallen('skill_hung', `Skill ${this.#name.skill} did not start within ${initializeMs} ms.`)
    const { client, tools } = await this.#within(initializeMs, hung, signal, begin).catch((error: unknown) => {
      throw this.#end(fallenFrom(error, this.#name.skill), boot)
    })
    if (boot !== this.#fell) throw new Fallen('skill_died', `Skill ${this.#name.skill} fell while it started.`)
    return { client, calls, tools: this.#admit(tools) }
  }

  /** A line to the server, in place of the one before. */
  #speak(): FrameTransport {
    const before = this.#transport
    const Line = this.#ports.type === 'mcpStdioSkill' ? ProgramTransport : FrameTransport
    this.#transport = new Line((frame) => this.#ports.send({ type: 'frame', ...this.#name, frame }))
    void before?.close()
    return this.#transport
  }

  #admit(listed: readonly ToolDefinition[]): readonly ToolDefinition[] {
    const { skill } = this.#name
    const fault = faultInListing(listed)
    if (fault !== undefined) throw this.#end(new Fallen(fault.code, `Skill ${skill} offers ${fault.message}.`))
    const recorded = this.#tools ?? this.#ports.recorded()
    // Ours is not a server's doing: what was recorded before there was such a tool has no drift by it.
    const isKnown = recorded === undefined || recorded.some(({ name }) => name === READ_RESOURCE)
    const tools = this.#ports.offered(isKnown ? listed : listed.filter((tool) => tool !== resourceTool))
    const drift = recorded === undefined ? undefined : driftOf(recorded, tools)
    if (drift !== undefined) {
      const message = `Skill ${skill} offers other tools than this job is bound to: ${drift}.`
      this.#shut = new Fallen('skill_tools_changed', message)
      throw this.#end(this.#shut)
    }
    this.#tools = tools
    return tools
  }

  async #callTool(
    live: Live,
    tool: string,
    args: JsonObject,
    callKey: string | null,
    turn: Turn,
    hear: (progress: Progress) => void,
    signal: AbortSignal,
  ): Promise<{ readonly result: CallToolResult } | SkillQuestion> {
    signal.throwIfAborted()
    const { callMs } = this.#ports.deadlines
    const { promise, resolve, reject } = Promise.withResolvers<{ readonly result: CallToolResult } | SkillQuestion>()
    const hung = () =>
      reject(new Fallen('skill_hung', `Tool ${tool} of ${this.#name.skill} said nothing for ${callMs} ms.`))
    const aborted = () => reject(signal.reason instanceof Error ? signal.reason : new Error('aborted'))
    const watched: Watched = { heardAt: this.#ports.clock.now(), hung }
    const told = (progress: Progress): void => {
      watched.heardAt = this.#ports.clock.now()
      hear(progress)
    }
    signal.addEventListener('abort', aborted, { once: true })
    this.#turns.add(turn)
    this.#watch(watched)
    const made = this.#make(live, tool, args, callKey, turn, told)
    made.answer.then(resolve, reject)
    void turn.asks.then(resolve)
    try {
      const answer = await promise
      this.#starts = 0
      return answer
    } catch (error) {
      if (error instanceof Fallen && error.code === 'skill_hung') throw this.#end(error)
      const visits = error instanceof ProtocolError ? visitsIn(error, turn) : undefined
      if (visits !== undefined) return visits
      if (error instanceof ProtocolError || (error instanceof SdkError && error.code !== SdkErrorCode.ConnectionClosed))
        return { result: { isError: true, content: [{ type: 'text', text: error.message }] } }
      throw fallenFrom(error, this.#name.skill)
    } finally {
      made.giveUp(NO_LONGER.message)
      this.#watched.delete(watched)
      this.#turns.delete(turn)
      signal.removeEventListener('abort', aborted)
    }
  }

  /** In the words of the line that the server speaks. */
  #make(
    { client, calls, tools }: Live,
    tool: string,
    args: JsonObject,
    callKey: string | null,
    { elicited }: Turn,
    onprogress: (progress: Progress) => void,
  ): Made {
    // The key lets a tool that keeps books recognise a call whose result was lost in a crash.
    const meta = callKey === null ? {} : { [CALL_KEY]: callKey }
    const definition = tools.find(({ name }) => name === tool)
    const isOlder = client.getProtocolEra() !== 'modern'
    // Data of an answer is held against its tool's schema by the library.
    if (isOlder && definition !== undefined && definition !== resourceTool && definition.outputSchema === undefined) {
      const { result, giveUp } = calls.make(tool, args, meta, onprogress)
      return { answer: result.then(asResult), giveUp }
    }
    const stop = new AbortController()
    const options = { timeout: NEVER_MS, signal: stop.signal, onprogress }
    const keyed = callKey === null ? {} : { _meta: meta }
    const giveUp = (): void => stop.abort(NO_LONGER)
    if (definition === resourceTool)
      return { answer: readResource(client, args, keyed, options).then(asResult), giveUp }
    if (!isOlder && definition !== undefined)
      return { answer: callNewer({ client, tool: definition, args, meta: keyed, elicited, options }), giveUp }
    return { answer: client.callTool({ name: tool, arguments: args, ...keyed }, options).then(asResult), giveUp }
  }

  #watch(call: Watched): void {
    this.#watched.add(call)
    if (!this.#isWatching) void this.#watchOver()
  }

  /** One timer watches over all calls: when it ends it is set again for whatever is left then. */
  async #watchOver(): Promise<void> {
    const { clock, deadlines } = this.#ports
    this.#isWatching = true
    while (this.#watched.size > 0) {
      let wait = deadlines.callMs
      for (const call of this.#watched) {
        const left = call.heardAt + deadlines.callMs - clock.now()
        wait = Math.min(wait, Math.max(0, left))
        if (left <= 0) call.hung()
      }
      await clock.sleep(wait)
    }
    this.#isWatching = false
  }

  /** Runs `act` until it settles, or the clock says that `ms` have passed, or the signal aborts. */
  async #within<Value>(
    ms: number,
    hung: () => Fallen,
    signal: AbortSignal,
    act: (stop: AbortSignal) => Promise<Value>,
  ): Promise<Value> {
    const stop = new AbortController()
    const { promise: over, reject } = Promise.withResolvers<never>()
    over.catch(() => {})
    const aborted = (): void => reject(signal.reason instanceof Error ? signal.reason : new Error('aborted'))
    signal.addEventListener('abort', aborted, { once: true })
    try {
      signal.throwIfAborted()
      this.#ports.clock.sleep(ms, stop.signal).then(() => reject(hung()), reject)
      return await Promise.race([act(stop.signal), over])
    } finally {
      stop.abort(NO_LONGER)
      signal.removeEventListener('abort', aborted)
    }
  }

  /** Ends the compartment for a reason of ours, unless it is another start by now. */
  #end(fallen: Fallen, boot = this.#fell): Fallen {
    if (this.#live !== undefined && boot === this.#fell) {
      if (this.#isOpen) {
        this.#closing = Promise.withResolvers()
        this.#ports.send({ type: 'close', ...this.#name })
      }
      this.#fall(fallen)
    }
    return fallen
  }

  #fall(fallen: Fallen): void {
    if (this.#live === undefined) return
    this.#live = undefined
    this.#isOpen = false
    const transport = this.#transport
    this.#transport = undefined
    this.#calls?.end()
    this.#calls = undefined
    this.#fell.reject(fallen)
    for (const reject of this.#users) reject(fallen)
    void transport?.close()
  }
}

function asResult(result: CallToolResult): { readonly result: CallToolResult } {
  return { result }
}

function fallenFrom(error: unknown, skill: string): Fallen {
  if (error instanceof Fallen) return error
  const message = error instanceof Error ? error.message : String(error)
  return new Fallen('skill_garbage', `Skill ${skill} broke the protocol: ${message}`)
}
