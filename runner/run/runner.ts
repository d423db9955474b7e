/** A runner's life on its two streams: take the start and the history, drive the runs to rest, say so. */
import type { Clock } from '../../schema/clock.ts'
import {
  ALIVE_MS,
  type CompartmentName,
  type GenerateParams,
  type ReserveParams,
  type RunnerLine,
  type StartLine,
  type SupervisorLine,
} from '../../schema/control.ts'
import type { PlacedFact } from '../../schema/conversation.ts'
import { replay } from '../../schema/decider.ts'
import { isErrorCode, PlatformError } from '../../schema/error.ts'
import { originOf } from '../../schema/event.ts'
import { isJsonObject, type Json } from '../../schema/json.ts'
import { openLoop, type Loop } from './loop.ts'
import { performer, type Skills } from './perform.ts'
import { jobRuns, type JobRuns } from './run.ts'

/** Skills as the runner feeds them: what the supervisor says about compartments goes to `receive`. */
export interface FedSkills extends Skills {
  receive(line: Extract<SupervisorLine, CompartmentName>): void
}

export interface RunnerPorts {
  readonly send: (line: RunnerLine) => void
  readonly clock: Clock
  readonly openSkills: (start: StartLine, state: JobRuns) => FedSkills
}

/**
 * Runs one job until nothing is owed, or it is canceled; says `done` last. Throws `protocol_breach` when the lines
 * end or come in a wrong order, and `machine_failed` when the control plane cannot do what only it can.
 */
export async function runJob(lines: AsyncIterator<SupervisorLine>, ports: RunnerPorts): Promise<void> {
  // It is up, and has all that it needs before there is a job (P3.8).
  ports.send({ type: 'alive' })
  const start = await next(lines)
  if (start.type !== 'start') throw new PlatformError('protocol_breach', `The first line is ${start.type}, not start.`)
  const history: PlacedFact[] = []
  for (;;) {
    const line = await next(lines)
    if (line.type === 'recorded') history.push(line.event)
    else if (line.type === 'go') break
    else if (line.type === 'cancel') return ports.send({ type: 'done', reason: 'canceled' })
    else throw new PlatformError('protocol_breach', `A line ${line.type} came before go.`)
  }
  if (history.length !== start.historyCount)
    throw new PlatformError('protocol_breach', `${history.length} events came, ${start.historyCount} were announced.`)

  const originJobId = originOf(start.jobId, history)
  const core = jobRuns(originJobId, start.lock)
  const state = replay(core, history)
  const skills = ports.openSkills(start, state)
  const requests = openRequests(ports.send)
  const perform = performer({
    originJobId,
    lock: start.lock,
    clock: ports.clock,
    skills,
    generate: (params, signal) => requests.ask({ method: 'generate', params }, GENERATED, signal),
    reserve: (params, signal) => requests.ask({ method: 'reserve', params }, RESERVED, signal),
  })
  const loop = openLoop(core, state, {
    perform,
    propose: (event) => ports.send({ type: 'event', event }),
  })
  const over = new AbortController()
  // Only the end of the job ends it.
  sayAlive(ports, over.signal).catch(() => {})
  const fed = feed(lines, loop, skills, requests)
  const reason = await Promise.race([loop.rest, fed]).finally(() => over.abort())
  ports.send({ type: 'done', reason })
}

/** For as long as something is waited for: a runner that does not say so is stuck. */
async function sayAlive({ clock, send }: RunnerPorts, over: AbortSignal): Promise<never> {
  for (;;) {
    await clock.sleep(ALIVE_MS, over)
    send({ type: 'alive' })
  }
}

/** Hands lines to whom they are for; ends only by failing, since it is the loop that ends well. */
async function feed(
  lines: AsyncIterator<SupervisorLine>,
  loop: Loop,
  skills: FedSkills,
  requests: ReturnType<typeof openRequests>,
): Promise<never> {
  for (;;) {
    const line = await next(lines)
    switch (line.type) {
      case 'recorded':
        loop.tell(line.event)
        break
      case 'cancel':
        loop.cancel()
        break
      case 'reply':
        requests.reply(line)
        break
      case 'opened':
      case 'closed':
      case 'frame':
        skills.receive(line)
        break
      case 'start':
      case 'go':
        throw new PlatformError('protocol_breach', `A second ${line.type} came.`)
    }
  }
}

async function next(lines: AsyncIterator<SupervisorLine>): Promise<SupervisorLine> {
  const { value, done } = await lines.next()
  if (done === true) throw new PlatformError('protocol_breach', 'The lines ended before the job was at rest.')
  return value
}

/** What a request is answered with. */
const GENERATED: ReadonlySet<string> = new Set([
  'generated',
  'generationFailed',
  'generationInterrupted',
  'compacted',
  'compactionFailed',
  'budgetHeld',
])
const RESERVED: ReadonlySet<string> = new Set(['budgetReserved', 'budgetHeld'])

type Asked =
  | { readonly method: 'generate'; readonly params: GenerateParams }
  | { readonly method: 'reserve'; readonly params: ReserveParams }

function openRequests(send: (line: RunnerLine) => void) {
  const open = new Map<number, PromiseWithResolvers<Json>>()
  let count = 0
  return {
    /** What the control plane recorded, which must be one of `types`. */
    async ask(request: Asked, types: ReadonlySet<string>, signal: AbortSignal): Promise<PlacedFact> {
      signal.throwIfAborted()
      const id = (count += 1)
      const reply = Promise.withResolvers<Json>()
      open.set(id, reply)
      send({ type: 'request', id, ...request })
      const value = await reply.promise
      const type = isJsonObject(value) ? value['type'] : undefined
      const isEvent = typeof type === 'string' && types.has(type)
      if (!isEvent) throw new PlatformError('protocol_breach', `The reply to ${request.method} ${id} is no such event.`)
      return value as unknown as PlacedFact // the control plane sends what it recorded
    },
    /** A reply to an id that is not open is dropped. */
    reply(line: Extract<SupervisorLine, { type: 'reply' }>): void {
      const waiting = open.get(line.id)
      open.delete(line.id)
      if (line.ok) return waiting?.resolve(line.value)
      const { code, message } = line.error
      return waiting?.reject(new PlatformError(isErrorCode(code) ? code : 'machine_failed', message))
    },
  }
}
