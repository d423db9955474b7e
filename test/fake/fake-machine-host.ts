/** Machines that are the runner's loop in this process, with skills that are functions: no sandbox, no supervisor. */
import { approvalFor } from '../../schema/approval.ts'
import type { Elicitation } from '../../schema/elicitation.ts'
import { callKeyOf, effectOf } from '../../schema/effect.ts'
import type { JobId, RunId } from '../../schema/id.ts'
import type { ExpertKey } from '../../schema/expert-key.ts'
import { hashOf, sha256 } from '../../schema/hash.ts'
import type { HostLine, MachineLine, RunnerLine } from '../../schema/control.ts'
import type { Clock } from '../../schema/clock.ts'
import { parseInwardLine, parseMachineLine, printLine } from '../../schema/control-line.ts'
import { PlatformError } from '../../schema/error.ts'
import { isLineFault } from '../../schema/lines.ts'
import type { Json } from '../../schema/json.ts'
import type { Lock } from '../../schema/lock.ts'
import type { ToolCallPart, ToolDefinition } from '../../schema/message.ts'
import type { Skills } from '../../runner/run/perform.ts'
import { runJob } from '../../runner/run/runner.ts'
import type { Machine, MachineHost } from '../../src/pool/machine-host.ts'

export interface FakeHostOptions {
  readonly clock: Clock
  readonly tools: readonly ToolDefinition[]
  /** One call of a skill's tool; what it throws is the skill's death. */
  readonly call: (tool: string, args: Json, callId: string, say: (line: MachineLine) => void) => Promise<string>
  /** What a call asks a human before it is made; nothing by default. */
  readonly asks?: ((tool: string, args: Json) => Elicitation | undefined) | undefined
  /** What stands in for the runner; the real one by default. */
  readonly run?: (lines: AsyncIterator<HostLine>, say: (line: MachineLine) => void) => Promise<void>
}

export interface FakeMachineHost extends MachineHost {
  /** Machines started, and those that have not ended. */
  readonly started: () => number
  readonly live: () => number
  /** Ends every machine as a power cut would. */
  kill(reason: string, stderrTail?: string): void
}

export function fakeMachineHost(options: FakeHostOptions): FakeMachineHost {
  const machines = new Set<(reason: string, stderrTail?: string) => void>()
  let started = 0
  return {
    name: 'unsafe-process',
    started: () => started,
    live: () => machines.size,
    probe: async () => ({ ok: true }),
    async open() {
      started += 1
      return fakeMachine(options, started, machines)
    },
    kill: (reason, stderrTail) => machines.forEach((end) => end(reason, stderrTail)),
    close: async () => machines.forEach((end) => end('closed')),
  }
}

function fakeMachine(
  options: FakeHostOptions,
  boot: number,
  machines: Set<(reason: string, stderrTail?: string) => void>,
): Machine {
  const inward = openQueue<HostLine>()
  const outward = openQueue<MachineLine>()
  const { promise: ended, resolve } = Promise.withResolvers<{ reason: string; stderrTail: string }>()
  let live = true
  const end = (reason: string, stderrTail = ''): void => {
    if (!live) return
    live = false
    machines.delete(end)
    inward.end()
    outward.end()
    resolve({ reason, stderrTail })
  }
  machines.add(end)
  // Every line goes through its printer and its parser, as on a real stream.
  const say = (line: MachineLine): void => {
    const parsed = parseMachineLine(printLine(line))
    if (isLineFault(parsed)) outward.fail(new PlatformError('protocol_breach', parsed.message))
    else outward.push(parsed)
  }
  const run = options.run ?? ((lines, speak) => runReal(options, lines, speak))
  say({ type: 'ready', protocol: 1, bootId: `boot-${boot}` })
  run(inward, say).then(
    () => end('done'),
    (error: unknown) => end('exit code 1', String(error)),
  )
  return {
    obtained: { resume: 'created', machineId: null, phases: null },
    processes: () => (live ? 1 : 0),
    send(line) {
      const parsed = parseInwardLine(printLine(line))
      if (isLineFault(parsed)) throw new Error(parsed.message)
      if (parsed.type !== 'skills') inward.push(parsed)
    },
    unreadBytes: 0,
    lines: { [Symbol.asyncIterator]: () => outward },
    ended,
    async destroy() {
      end('destroyed')
      await ended
    },
  }
}

/** Requests of the machine itself are numbered from here, far from the runner's. */
const OWN_IDS = 1_000_000

async function runReal(
  { clock, tools, call: callTool, asks }: FakeHostOptions,
  lines: AsyncIterator<HostLine>,
  say: (line: MachineLine) => void,
): Promise<void> {
  const heard: { lock: Lock | undefined; jobId: JobId | undefined } = { lock: undefined, jobId: undefined }
  const leaves = new Map<number, PromiseWithResolvers<void>>()
  /** As a supervisor does: keeps the lock, and the replies to its own requests. */
  const toRunner: AsyncIterator<HostLine> = {
    async next() {
      for (;;) {
        const next = await lines.next()
        if (next.done === true) return next
        if (next.value.type === 'start') Object.assign(heard, { lock: next.value.lock, jobId: next.value.jobId })
        const leave = next.value.type === 'reply' ? leaves.get(next.value.id) : undefined
        if (next.value.type !== 'reply' || leave === undefined) return next
        if (next.value.ok) leave.resolve()
        else leave.reject(new Error(next.value.error.message))
      }
    },
  }
  const askLeave = async (
    expertKey: ExpertKey,
    skill: string,
    tool: string,
    call: ToolCallPart & { readonly runId: RunId },
  ): Promise<void> => {
    const expert = heard.lock?.experts[expertKey]
    const locked = expert?.skills[skill]
    const isOnce = locked?.type === 'mcpStdioSkill' && effectOf(locked.effects, tool) === 'once'
    if (!isOnce && approvalFor(expert?.approvals, call.name, call.args) === undefined) return
    if (heard.jobId === undefined) return
    const id = OWN_IDS + leaves.size
    const leave = Promise.withResolvers<void>()
    leaves.set(id, leave)
    const callKey = callKeyOf(heard.jobId, call.runId, call.callId)
    const params = { expertKey, toolName: call.name, argsHash: hashOf(call.args as object), callKey }
    say({ type: 'request', id, method: 'permit', params })
    await leave.promise
  }
  const skills: Skills & { receive(): void } = {
    receive() {},
    list: async () => tools,
    async call(expertKey, skill, tool, call, _signal, elicited = []) {
      try {
        await askLeave(expertKey, skill, tool, call)
        const asked = asks?.(tool, call.args)
        if (asked !== undefined && elicited.length === 0) return { asks: [{ asked, handle: null }], waits: false }
        const text = await callTool(tool, call.args, `${call.runId} ${call.callId}`, say)
        const { callId, name } = call
        return { type: 'toolResult', callId, name, content: [{ type: 'text', text }], isError: false }
      } catch (error) {
        return { code: 'skill_died', message: String(error), isNews: true }
      }
    },
  }
  const send = (line: RunnerLine): void => {
    if (line.type === 'open' || line.type === 'close' || line.type === 'frame') throw new Error('no compartments here')
    say(line)
  }
  await runJob(toRunner, { send, clock, openSkills: () => skills })
}

/** A workspace of one file, said as a supervisor says it. */
export function sayWorkspace(say: (line: MachineLine) => void, name: string, text: string): void {
  const bytes = Buffer.from(text)
  const hash = sha256(bytes)
  const tree = JSON.stringify({
    entries: [{ executable: false, hash, name, sizeBytes: bytes.length, type: 'file' }],
  })
  const treeHash = sha256(tree)
  say({ type: 'blob', hash, offset: 0, last: true, base64: bytes.toString('base64') })
  say({ type: 'blob', hash: treeHash, offset: 0, last: true, base64: Buffer.from(tree).toString('base64') })
  say({ type: 'workspace', treeHash })
}

interface Queue<Value> extends AsyncIterator<Value> {
  push(value: Value): void
  fail(error: Error): void
  end(): void
}

function openQueue<Value>(): Queue<Value> {
  const held: (() => IteratorResult<Value>)[] = []
  const waiting: PromiseWithResolvers<IteratorResult<Value>>[] = []
  let over = false
  const put = (make: () => IteratorResult<Value>): void => {
    if (over) return
    const next = waiting.shift()
    if (next === undefined) held.push(make)
    else settle(next, make)
  }
  const settle = (next: PromiseWithResolvers<IteratorResult<Value>>, make: () => IteratorResult<Value>): void => {
    try {
      next.resolve(make())
    } catch (error) {
      next.reject(error)
    }
  }
  return {
    push: (value) => put(() => ({ value, done: false })),
    fail: (error) =>
      put(() => {
        throw error
      }),
    end() {
      over = true
      for (const next of waiting.splice(0)) next.resolve({ value: undefined, done: true })
    },
    next() {
      const next = Promise.withResolvers<IteratorResult<Value>>()
      const make = held.shift()
      if (make !== undefined) settle(next, make)
      else if (over) next.resolve({ value: undefined, done: true })
      else waiting.push(next)
      return next.promise
    },
  }
}
