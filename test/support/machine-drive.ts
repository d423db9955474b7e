/** Drives a machine whose runner is a puppet: says lines for it, answers its requests, waits for what it hears. */
import type { ApprovalRule } from '../../schema/approval.ts'
import type { FrameLine, HostLine, MachineLine, PermitParams, StartLine } from '../../schema/control.ts'
import { canonical, sha256, type Sha256 } from '../../schema/hash.ts'
import { makeId } from '../../schema/id.ts'
import type { Json, JsonObject } from '../../schema/json.ts'
import type { Lock, LockedStdioSkill } from '../../schema/lock.ts'
import { isJsonObject } from '../../schema/json.ts'
import { printTree, type TreeEntry } from '../../schema/tree.ts'
import type { Machine } from '../../src/pool/machine-host.ts'

export const TESTER = 'tester@1.0.0'
export const JOB_ID = makeId('job', 1, new Uint8Array(16))

/** A lock of one expert with stdio skills of test/fixture/skills. */
export function lockOf(
  skills: Readonly<Record<string, { package: string } & Partial<LockedStdioSkill>>>,
  approvals: readonly ApprovalRule[] = [],
): Lock {
  const locked = Object.entries(skills).map(([name, { package: packageName, ...rest }]) => [
    name,
    {
      type: 'mcpStdioSkill',
      installHash: packageName,
      packages: [{ name: packageName, version: '1.0.0', integrity: 'sha512-', path: '' }],
      entry: 'main.mjs',
      args: [],
      pick: null,
      omit: [],
      rule: null,
      requiredEnv: [],
      allowedDomains: [],
      lazyInit: true,
      ...rest,
    },
  ])
  const expert = {
    key: TESTER,
    name: 'tester',
    version: '1.0.0',
    skills: Object.fromEntries(locked) as Json,
    approvals,
  }
  return { version: 1, coordinator: TESTER, experts: { [TESTER]: expert } } as unknown as Lock // what machines read
}

/** Content by hash, as the control plane keeps it. */
export class Content {
  readonly bytes = new Map<string, Uint8Array>()

  put(bytes: Uint8Array | string): Sha256 {
    const hash = sha256(bytes)
    this.bytes.set(hash, Buffer.from(bytes))
    return hash
  }

  /** A tree from texts and directories. */
  tree(files: Readonly<Record<string, string | JsonObject>>): Sha256 {
    const entries = Object.entries(files).map(([name, value]): TreeEntry =>
      typeof value === 'string'
        ? { type: 'file', name, hash: this.put(value), sizeBytes: Buffer.byteLength(value), executable: false }
        : { type: 'directory', name, hash: this.tree(value as Record<string, string>) },
    )
    return this.put(printTree(entries).text)
  }

  /** All files below a tree, by path. */
  read(treeHash: string, path = ''): Readonly<Record<string, string>> {
    const { entries } = JSON.parse(this.text(treeHash)) as { entries: readonly TreeEntry[] }
    return Object.assign(
      {},
      ...entries.map((entry) =>
        entry.type === 'file'
          ? { [`${path}${entry.name}`]: this.text(entry.hash) }
          : this.read(entry.hash, `${path}${entry.name}/`),
      ),
    ) as Record<string, string>
  }

  text(hash: string): string {
    const bytes = this.bytes.get(hash)
    if (bytes === undefined) throw new Error(`no content ${hash}`)
    return new TextDecoder().decode(bytes)
  }
}

export class MachineDrive {
  readonly content: Content
  readonly said: MachineLine[] = []
  /** Lines that reached the runner. */
  readonly heard: JsonObject[] = []
  readonly secrets: Record<string, string> = {}
  /** Calls that may be made, each once. */
  readonly permits: PermitParams[] = []
  /** Requests for content that wait for `give`; undefined while they are answered at once. */
  #waiting: Extract<MachineLine, { type: 'request' }>[] | undefined
  /** Why the stream of lines broke, when it did. */
  fault: unknown
  readonly #machine: Machine
  readonly #wake = new Set<() => void>()
  readonly #uploads = new Map<string, Buffer[]>()
  readonly #reading: Promise<void>
  #ended = false
  #lastCall = 0

  get obtained(): Machine['obtained'] {
    return this.#machine.obtained
  }

  constructor(machine: Machine, content = new Content()) {
    this.#machine = machine
    this.content = content
    this.#reading = this.#read()
  }

  start(lock: Lock, more: Partial<StartLine> = {}): void {
    this.send({
      type: 'start',
      protocol: 1,
      jobId: JOB_ID,
      fence: 1,
      lock,
      model: null,
      treeHash: null,
      inputTreeHash: null,
      historyCount: 0,
      ...more,
    })
    this.send({ type: 'go' })
  }

  send(line: HostLine): void {
    this.#machine.send(line)
  }

  /** Makes the runner write a line, or raw text. */
  say(line: JsonObject | string): void {
    this.#puppet({ say: typeof line === 'string' ? line : `${JSON.stringify(line)}\n` })
  }

  /** Answers no request for content until `give`. */
  withhold(): void {
    this.#waiting = []
  }

  give(): void {
    const waiting = this.#waiting ?? []
    this.#waiting = undefined
    for (const request of waiting) this.#answer(request)
  }

  /** Makes the runner write a line to stderr. */
  complain(text: string): void {
    this.#puppet({ complain: text })
  }

  exitRunner(code: number): void {
    this.#puppet({ exit: code })
  }

  /** Resolves with what the runner heard first that fits; rejects when the machine ends before. */
  async untilHeard(fits: (line: JsonObject) => boolean): Promise<JsonObject> {
    return await this.#until(() => this.heard.find(fits))
  }

  async untilSaid<Type extends MachineLine['type']>(
    type: Type,
    fits: (line: Extract<MachineLine, { type: Type }>) => boolean = () => true,
  ): Promise<Extract<MachineLine, { type: Type }>> {
    const found = await this.#until(() =>
      this.said.find((line) => line.type === type && fits(line as Extract<MachineLine, { type: Type }>)),
    )
    return found as Extract<MachineLine, { type: Type }>
  }

  async open(skill: string): Promise<JsonObject> {
    const from = this.heard.length
    this.say({ type: 'open', expertKey: TESTER, skill })
    return await this.untilHeard(
      (line) =>
        (line['type'] === 'opened' || line['type'] === 'closed') &&
        line['skill'] === skill &&
        this.heard.indexOf(line) >= from,
    )
  }

  /** Sends one frame; nothing waits for an answer. */
  frame(skill: string, frame: JsonObject): void {
    this.say({ type: 'frame', expertKey: TESTER, skill, frame } satisfies FrameLine)
  }

  async closed(skill: string): Promise<{ readonly code: string; readonly message: string }> {
    const line = await this.untilHeard((one) => one['type'] === 'closed' && one['skill'] === skill)
    return line as { code: string; message: string } & JsonObject
  }

  /** Calls a tool of a skill that is open; gives the answering frame. */
  async call(skill: string, name: string, args: JsonObject): Promise<JsonObject> {
    const id = ++this.#lastCall
    const from = this.heard.length
    this.frame(skill, { jsonrpc: '2.0', id, method: 'tools/call', params: { name, arguments: args } })
    const line = await this.untilHeard((one) => {
      const frame = one['frame']
      if (one['type'] === 'closed' && one['skill'] === skill && this.heard.indexOf(one) >= from)
        throw new Error(JSON.stringify(one['message']))
      return one['type'] === 'frame' && one['skill'] === skill && isJsonObject(frame) && frame['id'] === id
    })
    return line['frame'] as JsonObject
  }

  /** Runs code in the compartment of a probe skill and gives its value; throws what the code threw. */
  async run(skill: string, code: string): Promise<Json> {
    const { result, error } = (await this.call(skill, 'run', { code })) as {
      result?: { isError?: boolean; content: readonly [{ text: string }] }
      error?: { message: string }
    }
    if (result === undefined) throw new Error(error?.message)
    if (result.isError === true) throw new Error(result.content[0].text)
    return JSON.parse(result.content[0].text) as Json
  }

  /** The same in the compartment of the puppet. */
  async runInRunner(code: string): Promise<Json> {
    this.#puppet({ run: code })
    const { value } = await this.untilHeard((line) => line['type'] === 'ran')
    return value ?? null
  }

  async ended(): Promise<{ readonly reason: string; readonly stderrTail: string }> {
    const end = await this.#machine.ended
    await this.#reading
    return end
  }

  async destroy(): Promise<void> {
    await this.#machine.destroy()
    await this.#reading
  }

  #puppet(data: JsonObject): void {
    this.send({ type: 'recorded', event: { type: 'puppet', data } as never })
  }

  async #until<Found>(find: () => Found | undefined): Promise<Found> {
    for (;;) {
      const found = find()
      if (found !== undefined) return found
      if (this.#ended) throw new Error(`the machine ended: ${JSON.stringify(await this.#machine.ended)}`)
      await new Promise<void>((wake) => this.#wake.add(wake))
    }
  }

  async #read(): Promise<void> {
    try {
      for await (const line of this.#machine.lines) {
        this.said.push(line)
        this.#answer(line)
        this.#wakeAll()
      }
    } catch (error) {
      this.fault = error
    }
    this.#ended = true
    this.#wakeAll()
  }

  #wakeAll(): void {
    const waiting = [...this.#wake]
    this.#wake.clear()
    for (const wake of waiting) wake()
  }

  #answer(line: MachineLine): void {
    if (line.type === 'event' && line.event.type === 'toolReturned') {
      const part = line.event.data.result.content[0]
      if (part?.type === 'text') this.heard.push(JSON.parse(part.text) as JsonObject)
    }
    if (line.type === 'blob') this.#keep(line)
    if (line.type !== 'request' || line.method === 'generate' || line.method === 'reserve') return
    if (line.method === 'secrets') return this.send({ type: 'reply', id: line.id, ok: true, value: this.secrets })
    if (line.method === 'permit') {
      const at = this.permits.findIndex((permit) => canonical(permit) === canonical(line.params))
      if (at !== -1) {
        this.permits.splice(at, 1)
        return this.send({ type: 'reply', id: line.id, ok: true, value: {} })
      }
      const error = { code: 'protocol_breach', message: `${line.params.toolName} may not be called` }
      return this.send({ type: 'reply', id: line.id, ok: false, error })
    }
    if (this.#waiting !== undefined) return void this.#waiting.push(line)
    const bytes = this.content.bytes.get(line.params.hash)
    if (bytes === undefined) {
      const error = { code: 'content_missing', message: `no content ${line.params.hash}` }
      return this.send({ type: 'reply', id: line.id, ok: false, error })
    }
    const chunk = bytes.subarray(line.params.offset, line.params.offset + 1024 * 1024)
    const last = line.params.offset + chunk.length === bytes.length
    this.send({ type: 'reply', id: line.id, ok: true, value: { base64: Buffer.from(chunk).toString('base64'), last } })
  }

  #keep({ hash, offset, last, base64 }: Extract<MachineLine, { type: 'blob' }>): void {
    const chunks = this.#uploads.get(hash) ?? []
    this.#uploads.set(hash, chunks)
    if (Buffer.concat(chunks).length !== offset) throw new Error(`blob ${hash} has a gap at ${offset}`)
    chunks.push(Buffer.from(base64, 'base64'))
    if (!last) return
    if (this.content.put(Buffer.concat(chunks)) !== hash) throw new Error(`blob ${hash} does not hash to its name`)
    this.#uploads.delete(hash)
  }
}
