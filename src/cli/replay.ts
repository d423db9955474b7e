/** `senmon replay`: a job built again from its log, and played again with what its models and tools said then. */
import { spawn } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { CATALOGUE, isErrorCode, KINDS, PlatformError } from '../../schema/error.ts'
import { isJsonObject, type JsonObject } from '../../schema/json.ts'
import { openBundle } from './bundle-source.ts'
import type { Call, Command } from './command.ts'
import { readInstruction } from './instruction.ts'
import { shown } from './terminal.ts'

/** The runner's own program: what replays is what runs. */
const MAIN = join(import.meta.dirname, '..', '..', 'runner', 'replay', 'main.ts')

interface Mismatch {
  readonly seq: number
  readonly runId: string | null
  readonly stepNumber: number | null
  readonly recorded: string
  readonly computed: string | null
  readonly conversed: string | null
}

/** What the program reports; it is of the same checkout. */
interface Report {
  readonly jobId: string
  readonly events: number
  readonly steps: number
  readonly mismatches: readonly Mismatch[]
  readonly model: {
    readonly generations: number
    readonly toolResults: number
    readonly divergence: {
      readonly seq: number
      readonly expertKey: string | null
      readonly stepNumber: number | null
      readonly kind: 'prompt' | 'fact'
      readonly recorded: string
      readonly now: string
    } | null
  } | null
}

export const replay: Command = {
  name: 'replay',
  usage: '<bundle|job>',
  summary: 'Builds every state of a job from its log and compares each with the hash that the log has of it.',
  details: `With --model the job is played again from its start by the runner's own core: recorded generations and tool
results stand in for models and skills, so it costs nothing and asks nobody. The first place where something else
would happen is shown: always none, unless an instruction or the lock is given, or this Senmon decides otherwise.
Exit code 1: a state differs, or the job diverges.`,
  options: {
    model: { type: 'boolean', help: 'Play it with recorded generations and tool results.' },
    instruction: { type: 'string', value: 'text|@file', help: 'With --model: another instruction for the expert.' },
    expert: { type: 'string', value: 'key', help: 'Whose instruction, by its exact key (default: the coordinator).' },
    lock: {
      type: 'string',
      value: 'bundle',
      help: 'With --model: the lock of another job, exported by `senmon export`.',
    },
  },
  arity: [1, 1],
  async perform(call) {
    const instruction = call.text('instruction')
    const lockPath = call.text('lock')
    const expert = call.text('expert')
    if (!call.flag('model') && (instruction !== undefined || lockPath !== undefined))
      throw new PlatformError('input_invalid', '--instruction and --lock say what to play with: they need --model.')
    if (expert !== undefined && instruction === undefined)
      throw new PlatformError('input_invalid', '--expert says whose instruction is replaced: it needs --instruction.')
    const request = {
      model: call.flag('model'),
      instruction: instruction === undefined ? null : await readInstruction(call, instruction),
      expert: expert ?? null,
      lockPath: lockPath === undefined ? null : await findFile(call, lockPath),
    }
    const report = await runProgram(call, request)
    if (call.json) call.terminal.write(`${JSON.stringify(report)}\n`)
    else call.terminal.write(`${printReport(report).map(shown).join('\n')}\n`)
    const isSame = report.mismatches.length === 0 && (report.model?.divergence ?? null) === null
    return isSame ? 0 : KINDS[CATALOGUE.log_tampered.kind].exitCode
  },
}

async function findFile(call: Call, name: string): Promise<string> {
  const path = resolve(call.directory, name)
  await readFile(path).catch((cause: unknown) => {
    throw new PlatformError('input_invalid', `The file ${name} cannot be read.`, { cause })
  })
  return path
}

/** Nothing of our environment, and of our key, goes to the program that replays. */
async function runProgram(call: Call, request: JsonObject): Promise<Report> {
  const chunks = await openBundle(call, call.positionals[0] ?? '', { files: false })
  const program = spawn(process.execPath, [MAIN, JSON.stringify(request)], {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: {},
  })
  const said: Buffer[] = []
  program.stdout.on('data', (chunk: Buffer) => said.push(chunk))
  const ended = new Promise<number | null>((found, fail) => {
    program.on('error', fail)
    program.on('close', found)
  })
  // A program that has seen a fault reads no further.
  const fed = pipeline(Readable.from(chunks), program.stdin).catch((cause: unknown) => ({ cause }))
  const code = await ended
  const unfed = await fed
  const value: unknown = code === 0 ? JSON.parse(Buffer.concat(said).toString('utf8')) : undefined
  if (!isJsonObject(value)) throw new PlatformError('internal', `The replay ended with ${code}.`, unfed ?? {})
  const { code: fault, message } = value
  if (typeof fault === 'string')
    throw new PlatformError(isErrorCode(fault) ? fault : 'internal', typeof message === 'string' ? message : fault)
  return value as unknown as Report // the program is of this checkout
}

function printReport({ jobId, events, steps, mismatches, model }: Report): readonly string[] {
  const same = steps - mismatches.length
  const lines = [`${jobId}: ${events} events, ${same} of ${steps} states are what their hashes say`]
  for (const { seq, runId, stepNumber, recorded, computed, conversed } of mismatches)
    lines.push(
      `  event ${seq}: step ${stepNumber} of ${runId} was ${recorded}, and is ${computed ?? 'of no run'} ` +
        `(as a conversation ${conversed ?? 'none'})`,
    )
  if (model === null) return lines
  const { generations, toolResults, divergence } = model
  const counted = (count: number, one: string): string => `${count} ${one}${count === 1 ? '' : 's'}`
  const played = `played ${counted(generations, 'generation')} and ${counted(toolResults, 'tool result')} from the log, at no cost`
  if (divergence === null) return [...lines, `${played}: no divergence`]
  const { seq, expertKey, stepNumber, kind, recorded, now } = divergence
  const what = kind === 'prompt' ? 'another prompt would be sent' : 'something else would happen'
  return [
    ...lines,
    `${played}; the first divergence is at event ${seq}, step ${stepNumber} of ${expertKey}: ${what}`,
    `  then: ${recorded}`,
    `  now:  ${now}`,
  ]
}
