/**
 * What a supervisor does before it has a job: reads lines such as come, restores a small tree beside the workspace and
 * looks at it, and supervises a small job whose two sides are here, by the very code that the job takes. A machine that waits
 * in the pool has built it then.
 */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { PassThrough, Writable, type Readable } from 'node:stream'
import { parseInwardLine, parseMachineLine, parseRunnerLine, parseSupervisorLine } from '../../schema/control-line.ts'
import type { Clock } from '../../schema/clock.ts'
import { sha256 } from '../../schema/hash.ts'
import type { Json } from '../../schema/json.ts'
import { LineSplitter } from '../../schema/lines.ts'
import type { MachinePlan } from '../../schema/machine-plan.ts'
import { printTree } from '../../schema/tree.ts'
import { compartmentOf, type Compartment } from './compartment.ts'
import { MachineWorkspace } from './machine-workspace.ts'
import { Requests } from './requests.ts'

const HASH = sha256('')
const PLACE = { runId: 'run_00000000000000000000', expertKey: 'primer@1.0.0', stepNumber: 1 }
const SKILL = { expertKey: 'primer@1.0.0', skill: 'files' }
const START = { type: 'start', protocol: 1, jobId: 'job_00000000000000000000000000', fence: 1, model: null }
const FACT = {
  type: 'leaseGranted',
  data: { fence: 1, holder: 'primer' },
  runId: null,
  expertKey: null,
  stepNumber: null,
}
/** What the control plane says first. */
const BEGINNING: readonly Json[] = [
  {
    type: 'skills',
    skills: [
      {
        ...SKILL,
        requiredEnv: [],
        launch: { file: '', args: [], cwd: '', feeds: [], environment: {}, ownGroup: false },
      },
    ],
  },
  {
    ...START,
    lock: { version: 1, coordinator: 'primer@1.0.0', experts: {} },
    treeHash: null,
    inputTreeHash: null,
    historyCount: 1,
  },
  { type: 'recorded', event: { v: 1, jobId: START.jobId, seq: 1, at: 0, prevHash: HASH, hash: HASH, ...FACT } },
  { type: 'go' },
]
const REPLY: Json = { type: 'reply', id: 1, ok: true, value: { base64: '', last: true } }
/** What the runner says then. */
const ANSWER: readonly Json[] = [
  { type: 'alive' },
  {
    type: 'event',
    event: { ...PLACE, type: 'runStarted', data: { query: 'q', parent: null, continues: null, depth: 0 } },
  },
  { type: 'request', id: 1, method: 'generate', params: { ...PLACE, promptHash: HASH, messageCount: 1 } },
  {
    type: 'request',
    id: 2,
    method: 'generate',
    params: { ...PLACE, promptHash: HASH, messageCount: 1, prompt: { instruction: '', tools: [] } },
  },
]
const DONE: Json = { type: 'done', reason: 'finished' }
const LINES: readonly Json[] = [
  ...BEGINNING,
  REPLY,
  ...ANSWER,
  { type: 'open', ...SKILL },
  { type: 'frame', ...SKILL, frame: { jsonrpc: '2.0', id: 1, method: 'tools/call', params: {} } },
  DONE,
]

/** A supervisor of this runner (`supervise`). */
type Supervise = (job: {
  readonly plan: MachinePlan
  readonly bootId: string
  readonly input: Readable
  readonly output: Writable
  readonly runner: Compartment
  readonly clock: Clock
  readonly complain: (sentence: string) => void
}) => Promise<unknown>

/** Leaves nothing behind; what it finds out is nobody's business. */
export async function prime(plan: MachinePlan, clock: Clock, supervise: Supervise): Promise<void> {
  for (const line of new LineSplitter().push(Buffer.from(print(LINES)))) {
    if (typeof line !== 'string') continue
    for (const parse of [parseInwardLine, parseRunnerLine, parseMachineLine, parseSupervisorLine]) parse(line)
  }
  const requests = new Requests()
  requests.settle({ type: 'reply', id: requests.relay(1), ok: true, value: null })
  const beside = `${plan.workspace}-prime`
  try {
    const there = { ...plan, primes: false, workspace: join(beside, 'ws'), input: join(beside, 'input') }
    await look(there, clock)
    await oversee(there, clock, supervise)
  } finally {
    rmSync(beside, { recursive: true, force: true })
  }
}

/** A job of two generations, without a skill. */
async function oversee(plan: MachinePlan, clock: Clock, supervise: Supervise): Promise<void> {
  const [input, said, errors] = [new PassThrough(), new PassThrough(), new PassThrough()]
  const exited = Promise.withResolvers<string>()
  const hears = new Writable({
    decodeStrings: false,
    write: (text: string, _, heard) => {
      if (text.includes('"go"')) said.write(print(ANSWER))
      if (text.includes('"reply"')) said.write(print([DONE]))
      heard()
    },
  })
  const runner = compartmentOf({
    pid: undefined,
    input: hears,
    output: said,
    errors,
    streams: [hears, said, errors],
    exited: exited.promise,
    closed: exited.promise,
    kill: () => exited.resolve('primed'),
    report: () => {},
    clock,
  })
  const output = new Writable({
    write: (bytes: Buffer, _, heard) => {
      if (bytes.includes('"request"')) input.write(print([REPLY]))
      heard()
    },
  })
  const over = supervise({ plan, bootId: 'primer', input, output, runner, clock, complain: () => {} })
  input.write(print(BEGINNING))
  await over
}

function print(lines: readonly Json[]): string {
  return lines.map((line) => `${JSON.stringify(line)}\n`).join('')
}

async function look(plan: MachinePlan, clock: Clock): Promise<void> {
  for (const directory of [plan.workspace, plan.input]) mkdirSync(directory, { recursive: true })
  const file = Buffer.from('primer')
  const hash = sha256(file)
  const tree = printTree([{ type: 'file', name: 'a.txt', hash, sizeBytes: file.length, executable: false }])
  const content: Readonly<Record<string, Buffer>> = { [hash]: file, [tree.hash]: Buffer.from(tree.text) }
  const workspace = new MachineWorkspace({
    plan,
    clock,
    askBlob: async (params) => ({ base64: (content[params.hash] ?? Buffer.of()).toString('base64'), last: true }),
    say: async () => {},
    report: () => {},
  })
  await workspace.restore(tree.hash, tree.hash)
  writeFileSync(join(plan.workspace, 'b.txt'), 'b')
  await workspace.look()
}
