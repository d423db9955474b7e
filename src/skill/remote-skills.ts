/**
 * The skills on the network that one machine uses. The machine says what it would say to a compartment; this process
 * alone holds the connection and the secrets.
 *
 * RS1 A skill is opened that the lock names as one on the network; for anything else there is `closed`.
 * RS2 Secrets are read when the skill is opened, and put into its headers; they reach neither machine nor log.
 * RS3 A machine sends a server what MCP's clients send and nothing else, and a tool call only as its run's log has it:
 *    a tool on offer, called by the model with these arguments, approved where a rule asks for it, and once.
 * RS4 When the machine is gone, so is every connection of it.
 * RS5 A server that asks its client something hears what the job's humans said to an open call, or a refusal in our words;
 *    where a machine would say anything else, the skill is ended, and its calls read why.
 * RS6 A call says in its headers what its tool's schema asks for, from the arguments that the log has; a tool whose schema
 *    asks for what MCP forbids is not called.
 */
import {
  FRAME_BYTES_MAX,
  type CloseLine,
  type ClosedLine,
  type CompartmentName,
  type FrameLine,
  type OpenedLine,
  type OpenLine,
  type PermitParams,
} from '../../schema/control.ts'
import type { Clock } from '../../schema/clock.ts'
import { PlatformError, type ErrorCode } from '../../schema/error.ts'
import { callKeyIn } from '../../schema/effect.ts'
import { handedBackIn } from '../../schema/elicitation.ts'
import { hashOf } from '../../schema/hash.ts'
import { isJsonObject, type Json, type JsonObject } from '../../schema/json.ts'
import type { Lock, LockedRemoteSkill } from '../../schema/lock.ts'
import type { Networks } from '../../schema/network.ts'
import { fillHeaders } from '../../schema/remote-skill.ts'
import { ResourcePages } from '../../schema/resource-pages.ts'
import type { Secret } from '../../schema/secret.ts'
import { headersOfCall, paramHeadersIn } from '../../schema/param-header.ts'
import { servedCallIn } from '../../schema/served-call.ts'
import { servedSkill } from '../../schema/tool-pin.ts'
import { openGuardedFetch, type GuardedFetch, type GuardedFetchOptions } from './guarded-fetch.ts'
import { isOfNewerLine, ListedTools } from './listed-tools.ts'
import { RemoteConnection } from './remote-connection.ts'
import { ServerRequests, type ServerReply } from './server-requests.ts'

/** Frames of one skill that may wait for its server. */
const WAITING_MAX = 1000
/** What may wait for a machine that does not read. */
const UNREAD_BYTES_MAX = 64 * 1024 * 1024

export interface RemoteSkillsOptions {
  readonly lock: Lock
  readonly clock: Clock
  readonly networks: Networks
  readonly secretOf: (name: string) => Promise<Secret | undefined>
  /** Why a call may not be made now; undefined when it may, which it then is taken to be. */
  readonly refuseCall: (call: PermitParams) => Promise<string | undefined>
  /** Why a reply is none that a human gave to what an open call asked; undefined when it is. */
  readonly refuseReply: (reply: ServerReply & CompartmentName) => Promise<string | undefined>
  readonly tell: (line: OpenedLine | ClosedLine | FrameLine) => void
  /** Bytes that the machine was told and has not read. */
  readonly unreadBytes: () => number
  readonly lookup?: GuardedFetchOptions['lookup']
}

export type RemoteLine = OpenLine | CloseLine | FrameLine

interface OpenRemote {
  readonly name: CompartmentName
  readonly skill: LockedRemoteSkill
  /** In order: what is said after an opening is sent after it. */
  queue: Promise<void>
  waiting: number
  readonly pages: ResourcePages
  readonly asked: ServerRequests
  readonly listed: ListedTools
  connection: RemoteConnection | undefined
  door: GuardedFetch | undefined
  isOver: boolean
}

export class RemoteSkills {
  readonly #options: RemoteSkillsOptions
  readonly #open = new Map<string, OpenRemote>()
  #closing: Promise<unknown> | undefined

  constructor(options: RemoteSkillsOptions) {
    this.#options = options
  }

  /** Takes what a machine says; never throws and never waits. */
  take(line: RemoteLine): void {
    if (this.#closing !== undefined) return
    const name = { expertKey: line.expertKey, skill: line.skill }
    const known = this.#open.get(keyOf(name))
    switch (line.type) {
      case 'open':
        return known === undefined ? this.#begin(name) : undefined
      case 'close':
        return known === undefined ? undefined : this.#end(known, 'canceled_by_user', `${titleOf(name)} was closed.`)
      case 'frame': {
        if (known === undefined) return this.#sayClosed(name, 'skill_died', `${titleOf(name)} is not open.`)
        if (known.waiting >= WAITING_MAX)
          return this.#end(known, 'limit_exceeded', `${titleOf(name)}: more than ${WAITING_MAX} messages wait for it.`)
        return this.#enqueue(known, () => this.#send(known, line.frame))
      }
    }
  }

  /** Ends all of them; resolves when no connection is left. Idempotent. */
  close(): Promise<void> {
    this.#closing ??= Promise.all([...this.#open.values()].map((remote) => shut(remote)))
    return this.#closing.then(() => {})
  }

  /** Those that are open now. */
  names(): readonly CompartmentName[] {
    return [...this.#open.values()].map(({ name }) => name)
  }

  #begin(name: CompartmentName): void {
    const skill = servedSkill(this.#options.lock, name.expertKey, name.skill)
    if (skill === undefined || skill.type === 'mcpStdioSkill')
      return this.#sayClosed(name, 'skill_not_found', `${titleOf(name)} is not on the network.`)
    const remote: OpenRemote = {
      name,
      skill,
      queue: Promise.resolve(),
      waiting: 0,
      pages: new ResourcePages(),
      asked: new ServerRequests(),
      listed: new ListedTools(),
      connection: undefined,
      door: undefined,
      isOver: false,
    }
    this.#open.set(keyOf(name), remote)
    this.#enqueue(remote, () => this.#connect(remote))
  }

  #enqueue(remote: OpenRemote, act: () => Promise<void>): void {
    remote.waiting += 1
    remote.queue = remote.queue
      .then(() => (remote.isOver ? undefined : act()))
      .catch((error: unknown) => {
        const code = error instanceof PlatformError ? error.code : 'skill_start_failed'
        // What is no word of ours may hold a secret.
        const why = error instanceof PlatformError ? error.message : `${titleOf(remote.name)} could not be reached.`
        this.#end(remote, code, why)
      })
      .finally(() => (remote.waiting -= 1))
  }

  async #connect(remote: OpenRemote): Promise<void> {
    const { networks, clock, lookup } = this.#options
    const { name, skill } = remote
    const secrets = await this.#secrets(remote)
    const headers = fillHeaders(skill.headers, secrets)
    if (headers === undefined)
      throw new PlatformError('secret_missing', `${titleOf(name)} has a secret that cannot be part of a header.`)
    if (remote.isOver) return
    const endpoint = new URL(skill.endpoint)
    const guard = { endpoint, networks, bytesMax: FRAME_BYTES_MAX, ...(lookup === undefined ? {} : { lookup }) }
    const door = openGuardedFetch(guard)
    remote.door = door
    const connection = new RemoteConnection({
      title: titleOf(name),
      type: skill.type,
      endpoint,
      headers,
      secrets: [...secrets.values()],
      fetch: door.fetch,
      clock,
      hear: (frame) => this.#hear(remote, frame),
      ended: (code, message) => this.#end(remote, code, message),
    })
    remote.connection = connection
    await connection.start()
    if (!remote.isOver) this.#options.tell({ type: 'opened', ...name })
  }

  async #secrets({ name, skill }: OpenRemote): Promise<ReadonlyMap<string, string>> {
    const found = new Map<string, string>()
    for (const wanted of skill.requiredEnv) {
      const secret = await this.#options.secretOf(wanted)
      if (secret === undefined)
        throw new PlatformError('secret_missing', `${titleOf(name)} needs ${wanted}, which is not set.`)
      found.set(wanted, secret.reveal())
    }
    return found
  }

  async #send(remote: OpenRemote, frame: Json): Promise<void> {
    // Before leave is asked for, which takes the call to be made.
    const headers = this.#headersOf(remote, frame)
    if (typeof headers === 'string') return this.#answerFor(remote, frame, 'tool_schema_invalid', headers)
    const refused = await this.#refuse(remote, frame)
    if (remote.isOver) return
    if (refused === undefined) {
      remote.pages.ask(frame)
      remote.listed.ask(frame)
      const sent = remote.connection?.send(frame, headers)
      // A server answers when it likes, and what is said meanwhile must not wait; what needs no answer keeps its place.
      if (isJsonObject(frame) && frame['id'] === undefined) await sent
      return
    }
    if (!isJsonObject(frame)) return
    if (isAnswer(frame)) {
      const why = `${titleOf(remote.name)}: an answer to its server was not let out, since ${refused}.`
      return this.#end(remote, 'skill_answer_refused', why)
    }
    this.#answerFor(remote, frame, 'permission_denied', refused)
  }

  /** Answers a request in place of its server. */
  #answerFor(remote: OpenRemote, frame: Json, code: ErrorCode, message: string): void {
    const id = isJsonObject(frame) && frame['method'] !== undefined ? frame['id'] : undefined
    if (id === undefined) return
    const error = { code: -32_000, message, data: { code } }
    this.#options.tell({ type: 'frame', ...remote.name, frame: { jsonrpc: '2.0', id, error } })
  }

  /** What a call's arguments add to its headers; why it cannot be made where its tool's schema is none that MCP allows. */
  #headersOf({ skill, listed }: OpenRemote, frame: Json): Readonly<Record<string, string>> | string {
    const asked = servedCallIn(frame)
    if (!isJsonObject(frame) || frame['method'] !== 'tools/call' || !isOfNewerLine(frame)) return {}
    if (asked === undefined || asked === 'unclear') return {}
    const pinned = skill.tools?.find(({ name }) => name === asked.tool)?.inputSchema
    const headers = paramHeadersIn(pinned ?? listed.schemaOf(asked.tool) ?? {})
    return typeof headers === 'string' ? `The tool ${asked.tool} ${headers}.` : headersOfCall(headers, asked.args)
  }

  /** Why a frame is not passed on; undefined when it is (RS3). */
  async #refuse({ name, skill, pages, asked: requests }: OpenRemote, frame: Json): Promise<string | undefined> {
    if (!isJsonObject(frame)) return 'it is no message'
    const { method } = frame
    if (method === undefined) {
      const answer = isAnswer(frame) ? requests.answer(frame) : 'it is neither a request nor an answer'
      return typeof answer === 'object' ? await this.#options.refuseReply({ ...name, ...answer }) : answer
    }
    if (typeof method !== 'string' || !PASSED.has(method)) return `${JSON.stringify(method)} is not passed on`
    const asked = servedCallIn(frame)
    if (asked === undefined || pages.goesOn(frame)) return undefined
    if (asked === 'unclear' || frame['id'] === undefined) return 'the call does not say plainly what it calls'
    const { tool, args } = asked
    const isOffered = (skill.pick?.includes(tool) ?? true) && !skill.omit.includes(tool)
    if (!isOffered || (skill.tools !== undefined && !skill.tools.some((one) => one.name === tool)))
      return `the tool ${tool} is not on offer`
    const callKey = callKeyIn(frame['params'])
    const handedBack = handedBackIn(frame['params'])
    return this.#options.refuseCall({
      expertKey: name.expertKey,
      toolName: `${name.skill}/${tool}`,
      argsHash: hashOf(args),
      ...(callKey === undefined ? {} : { callKey }),
      ...(handedBack === undefined ? {} : { handedBack }),
    })
  }

  #hear(remote: OpenRemote, frame: Json): void {
    if (remote.isOver) return
    remote.pages.hear(frame)
    remote.asked.hear(frame)
    // MCP has its client leave such a tool out; one that the expert names must not be missing without a word.
    for (const { name, inputSchema } of remote.listed.hear(frame)) {
      const fault = remote.skill.pick?.includes(name) === true ? paramHeadersIn(inputSchema) : undefined
      if (typeof fault === 'string')
        return this.#end(remote, 'tool_schema_invalid', `${titleOf(remote.name)}: its tool ${name} ${fault}.`)
    }
    if (this.#options.unreadBytes() > UNREAD_BYTES_MAX)
      return this.#end(remote, 'limit_exceeded', `${titleOf(remote.name)}: the machine does not read what it is told.`)
    this.#options.tell({ type: 'frame', ...remote.name, frame })
  }

  #end(remote: OpenRemote, code: ErrorCode, message: string): void {
    if (remote.isOver) return
    void shut(remote)
    this.#open.delete(keyOf(remote.name))
    this.#sayClosed(remote.name, code, message)
  }

  #sayClosed(name: CompartmentName, code: ErrorCode, message: string): void {
    if (this.#closing === undefined) this.#options.tell({ type: 'closed', ...name, code, message })
  }
}

/** What a client may say to a server: never anything on its own account, such as the server's log level. */
const PASSED: ReadonlySet<string> = new Set([
  'server/discover',
  'initialize',
  'notifications/initialized',
  'notifications/cancelled',
  'ping',
  'tools/list',
  'tools/call',
  'resources/read',
  'resources/list',
])

function isAnswer(frame: JsonObject): boolean {
  return (
    frame['method'] === undefined &&
    frame['id'] !== undefined &&
    (frame['result'] !== undefined || frame['error'] !== undefined)
  )
}

async function shut(remote: OpenRemote): Promise<void> {
  remote.isOver = true
  await remote.connection?.close()
  await remote.door?.close()
}

function keyOf({ expertKey, skill }: CompartmentName): string {
  return JSON.stringify([expertKey, skill])
}

function titleOf({ expertKey, skill }: CompartmentName): string {
  return `Skill ${skill} of ${expertKey}`
}
