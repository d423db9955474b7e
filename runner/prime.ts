/**
 * What a runner does before it has a job: a small one, against itself, by the very code that the real one takes. What
 * that code compiles and builds once is then built, and a machine that waits in the pool has it ready.
 */
import { parseSupervisorLine, printLine } from '../schema/control-line.ts'
import type { RunnerLine, SupervisorLine } from '../schema/control.ts'
import type { Clock } from '../schema/clock.ts'
import { chain, genesisHash, type NewEvent } from '../schema/event.ts'
import { printExpertKey } from '../schema/expert-key.ts'
import { sha256 } from '../schema/hash.ts'
import { makeId } from '../schema/id.ts'
import { isJsonObject, type Json } from '../schema/json.ts'
import { isLineFault } from '../schema/lines.ts'
import type { Lock } from '../schema/lock.ts'
import type { GeneratedPart } from '../schema/message.ts'
import { noUsage } from '../schema/usage.ts'
import { runJob, type RunnerPorts } from './run/runner.ts'

const JOB = makeId('job', 0, new Uint8Array(16))
const KEY = printExpertKey('primer', '1.0.0')
const LOCK: Lock = {
  version: 1,
  coordinator: KEY,
  experts: {
    [KEY]: {
      key: KEY,
      name: 'primer',
      version: '1.0.0',
      package: { name: 'primer', version: '1.0.0', integrity: 'sha512-' },
      description: 'Primes a runner.',
      instruction: 'Look once.',
      model: 'none/none',
      maxSteps: null,
      delegates: {},
      skills: {
        files: {
          type: 'mcpStdioSkill',
          installHash: 'none',
          packages: [],
          entry: 'main.js',
          args: [],
          pick: null,
          omit: [],
          rule: null,
          requiredEnv: [],
          allowedDomains: [],
          lazyInit: true,
        },
      },
    },
  },
}
const TOOL = { name: 'look', description: 'Looks.', inputSchema: { type: 'object', properties: {} } }

/** Resolves when the small job is over; throws when it does not go as every job does. */
export async function prime(
  clock: Clock,
  skillsBy: (send: (line: RunnerLine) => void) => RunnerPorts['openSkills'],
): Promise<void> {
  const inbox: SupervisorLine[] = []
  let wake = Promise.withResolvers<void>()
  const hear = (line: SupervisorLine): void => {
    const parsed = parseSupervisorLine(printLine(line))
    if (isLineFault(parsed)) throw new Error(parsed.message)
    inbox.push(parsed)
    wake.resolve()
  }
  async function* lines(): AsyncGenerator<SupervisorLine> {
    for (;;) {
      yield* inbox.splice(0)
      await wake.promise
      wake = Promise.withResolvers()
    }
  }
  const created = { expertKey: KEY, query: 'Look.', userId: null, model: null, maxSteps: null, inputTreeHash: null }
  const place = { v: 1, runId: null, expertKey: null, stepNumber: null } as const
  const facts: readonly NewEvent[] = [
    { ...place, type: 'jobCreated', data: { ...created, lockHash: sha256('') } },
    { ...place, type: 'leaseGranted', data: { fence: 1, holder: 'primer' } },
  ]
  const history = chain(JOB, 0, genesisHash(JOB), 0, facts)
  const start = {
    protocol: 1,
    jobId: JOB,
    fence: 1,
    lock: LOCK,
    model: null,
    treeHash: null,
    inputTreeHash: null,
  } as const
  hear({ type: 'start', ...start, historyCount: history.length })
  for (const event of history) hear({ type: 'recorded', event })
  hear({ type: 'go' })
  const answer = (line: RunnerLine): void => {
    // As on a real stream: nothing is answered before whoever asked has gone on.
    queueMicrotask(() => answersTo(JSON.parse(printLine(line)) as RunnerLine).forEach(hear))
  }
  await runJob(lines(), { send: answer, clock, openSkills: skillsBy(answer) })
}

/** What a supervisor and a control plane would say. */
function answersTo(line: RunnerLine): readonly SupervisorLine[] {
  switch (line.type) {
    case 'request': {
      if (line.method !== 'generate') return []
      const { runId, expertKey, stepNumber, promptHash } = line.params
      const call = { type: 'toolCall', callId: `call_${stepNumber}_0`, name: 'files/look', args: {} } as const
      const parts: readonly GeneratedPart[] = stepNumber === 1 ? [call] : [{ type: 'text', text: 'Seen.' }]
      const rest = { usage: noUsage, model: 'none/none', finishReason: 'stop', promptHash, durationMs: 0 }
      const event = { v: 1, runId, expertKey, stepNumber, type: 'generated', data: { parts, ...rest } } as const
      const [recorded] = chain(JOB, 2, genesisHash(JOB), 0, [event])
      return recorded === undefined
        ? []
        : [{ type: 'reply', id: line.id, ok: true, value: recorded as unknown as Json }]
    }
    case 'open':
      return [{ type: 'opened', expertKey: line.expertKey, skill: line.skill }]
    case 'frame': {
      const { expertKey, skill, frame } = line
      const result = isJsonObject(frame) ? resultOf(frame['method']) : undefined
      if (!isJsonObject(frame) || result === undefined) return []
      return [{ type: 'frame', expertKey, skill, frame: { jsonrpc: '2.0', id: frame['id'] ?? null, result } }]
    }
    default:
      return []
  }
}

function resultOf(method: Json | undefined): Json | undefined {
  if (method === 'initialize')
    return {
      protocolVersion: '2025-06-18',
      capabilities: { tools: {} },
      serverInfo: { name: 'primer', version: '1.0.0' },
    }
  if (method === 'tools/list') return { tools: [TOOL] }
  return method === 'tools/call' ? { content: [{ type: 'text', text: 'Nothing.' }] } : undefined
}
