/**
 * The shape of every recorded fact, for logs that come from elsewhere: a fold trusts what it reads, so what a stranger
 * wrote is checked to its leaves before any fold sees it.
 */
import * as z from 'zod'
import type { Amount, Budget } from './budget.ts'
import { CALL_OUTCOMES, type Cancellation } from './cancellation.ts'
import { runFact } from './control-line.ts'
import { CALL_EFFECTS } from './effect.ts'
import {
  OUTCOMES,
  RUN_FACT_TYPES,
  STEER_MODES,
  type EventType,
  type Fact,
  type JobEvent,
  type RunFact,
} from './event.ts'
import { parseId, type JobId, type MachineId, type QuestionId, type RunId } from './id.ts'
import { isJsonObject, type Json, type JsonObject } from './json.ts'
import type { Sha256 } from './hash.ts'

type DataOf<Type extends EventType> = Extract<Fact, { readonly type: Type }>['data']

const text = z.string()
const name = z.string().max(512)
const count = z.int().min(0)
/** Numbers that a column of Postgres holds, with room to count on. */
const fence = z.int().min(1).max(1_000_000_000)
const hash = z.custom<Sha256>((value) => typeof value === 'string' && /^[0-9a-f]{64}$/.test(value), 'not a SHA-256')
const jobId = z.custom<JobId>((value) => parseId('job', value) !== undefined, 'not a job id')
const runId = z.custom<RunId>((value) => parseId('run', value) !== undefined, 'not a run id')
const machineId = z.custom<MachineId>((value) => parseId('mch', value) !== undefined, 'not a machine id')
const questionId = z.custom<QuestionId>((value) => parseId('que', value) !== undefined, 'not a question id')
const json = z.custom<Json>((value) => value !== undefined, 'missing')
const jsonObject = z.custom<JsonObject>((value) => isJsonObject(value), 'not an object')

const part = z.discriminatedUnion('type', [
  z.object({ type: z.literal('text'), text }),
  z.object({ type: z.literal('reasoning'), text, metadata: jsonObject.exactOptional() }),
  z.object({ type: z.literal('toolCall'), callId: name, name, args: json, metadata: jsonObject.exactOptional() }),
])
const usage = z.object({
  inputTokens: z.number().min(0),
  cachedInputTokens: z.number().min(0),
  outputTokens: z.number().min(0),
  reasoningTokens: z.number().min(0),
  costUsd: z.number().min(0).nullable(),
})
const ending = {
  outcome: z.enum(OUTCOMES),
  reason: name,
  message: text.nullable(),
  result: text.nullable(),
}

const tokens = z.number().min(0).max(1e15)
const budget = z.strictObject({
  costUsd: tokens.exactOptional(),
  inputTokens: tokens.exactOptional(),
  cachedInputTokens: tokens.exactOptional(),
  outputTokens: tokens.exactOptional(),
  steps: tokens.exactOptional(),
  toolCalls: tokens.exactOptional(),
  wallSeconds: tokens.exactOptional(),
}) satisfies z.ZodType<Budget>
const amount = z.object({
  costUsd: tokens.nullable(),
  inputTokens: tokens,
  cachedInputTokens: tokens,
  outputTokens: tokens,
  steps: tokens,
  toolCalls: tokens,
}) satisfies z.ZodType<Amount>
const reserver = z.enum(['generation', 'calls'])

/** The job's fold takes over all members of these two: they hold exactly what their types name. */
const jobCreated = z.strictObject({
  expertKey: name,
  query: text.nullable(),
  userId: name.nullable(),
  model: name.nullable(),
  maxSteps: count.nullable(),
  lockHash: hash,
  inputTreeHash: hash.nullable(),
  budget: budget.exactOptional(),
})
const canceledRun = z.object({ runId, expertKey: name, stepNumber: count })
const canceledCall = z.object({
  runId,
  callId: name,
  toolName: name,
  effect: z.enum(CALL_EFFECTS).nullable(),
  outcome: z.enum(CALL_OUTCOMES),
})
const cancellation = z.strictObject({
  durationMs: z.number().min(0),
  stopped: z.object({
    runs: z.array(canceledRun),
    questions: z.array(questionId),
    machine: z.object({ host: name, skills: z.array(text).nullable(), processes: count }).nullable(),
  }),
  inFlight: z.object({ generations: z.array(canceledRun), calls: z.array(canceledCall) }),
  unknown: z.object({ calls: z.array(canceledCall) }),
}) satisfies z.ZodType<Cancellation>
const jobFinished = z.strictObject({
  ...ending,
  structured: json.exactOptional(),
  cancellation: cancellation.exactOptional(),
})
type Same<A, B> = [keyof A, keyof B] extends [keyof B, keyof A] ? true : never
/** A member that a type gains must be added to its shape above; else these are no truths. */
export const areExact: readonly [
  Same<z.output<typeof jobCreated>, DataOf<'jobCreated'>>,
  Same<z.output<typeof jobFinished>, DataOf<'jobFinished'>>,
] = [true, true]

type OurType = Exclude<EventType, RunFact['type']>
const SHAPES: { readonly [Type in OurType]: z.ZodType<DataOf<Type>> } = {
  jobCreated,
  jobFinished,
  leaseGranted: z.object({ fence, holder: text }),
  machineStarted: z.object({
    host: name,
    resume: z.enum(['resumed', 'cold', 'reserve', 'created']),
    dispatchMs: z.number().min(0),
    bootId: name,
    machineId: machineId.exactOptional(),
    phases: z.object({ claim: z.number().min(0), start: z.number().min(0), wake: z.number().min(0) }).exactOptional(),
  }),
  leaseExpired: z.object({ fence, reason: name, detail: text.exactOptional() }),
  answered: z.object({ questionId, value: json }),
  questionExpired: z.object({ questionId }),
  jobContinued: z.object({
    query: text.nullable(),
    maxSteps: count.nullable(),
    budget: budget.exactOptional(),
    mode: z.enum(STEER_MODES).exactOptional(),
  }),
  cancelRequested: z.object({ reason: text }),
  jobForked: z.object({
    parentJobId: jobId,
    parentSeq: count,
    parentHash: hash,
    originJobId: jobId,
    query: text.nullable(),
    model: name.nullable(),
    maxSteps: count.nullable(),
    budget: budget.exactOptional(),
    lockHash: hash,
    instructed: name.nullable(),
  }),
  jobImported: z.object({ headHash: hash }),
  jobRested: z.object({ questionIds: z.array(questionId) }),
  generated: z.object({
    parts: z.array(part),
    usage,
    model: name,
    finishReason: name,
    promptHash: hash,
    durationMs: z.number().min(0),
    contextWindow: count.exactOptional(),
  }),
  compacted: z.object({
    summary: text,
    kept: z.int().min(1),
    usage,
    model: name,
    promptHash: hash,
    durationMs: z.number().min(0),
  }),
  compactionFailed: z.object({ code: name, message: text, model: name, usage: usage.nullable() }),
  generationFailed: z.object({ code: name, message: text, model: name }),
  generationInterrupted: z.object({ model: name, usage: usage.nullable(), durationMs: z.number().min(0) }),
  workspaceChanged: z.object({ treeHash: hash }),
  budgetReserved: z.object({ of: reserver, amount }),
  budgetHeld: z.object({ of: reserver, questionId }),
  callStarted: z.object({ callId: name, effect: z.literal('once'), argsHash: hash }),
}
/** Facts of ours that belong to a run's step; the others are of the job as a whole. */
const OF_A_RUN: ReadonlySet<string> = new Set<OurType>([
  'generated',
  'generationFailed',
  'generationInterrupted',
  'compacted',
  'compactionFailed',
  'callStarted',
  'budgetReserved',
  'budgetHeld',
])
/** 2200-01-01: the moments of a log are dates that a person can read. */
const AT_MAX = 7_258_118_400_000

const moment = z.object({ at: z.int().min(0).max(AT_MAX) })
const nowhere = z.object({ runId: z.null(), expertKey: z.null(), stepNumber: z.null() })
const inRun = z.object({ runId, expertKey: name.min(1), stepNumber: count })

/** True for a type that this version knows; a log may hold others, which no fold counts. */
export function isKnownType(type: string): type is EventType {
  return RUN_FACT_TYPES.has(type) || Object.hasOwn(SHAPES, type)
}

/** What is wrong with an event of a known type, in words; undefined when nothing is. */
export function faultInEvent(event: JobEvent): string | undefined {
  const parsed = moment.safeParse(event)
  if (!parsed.success) return describe(parsed.error)
  if (RUN_FACT_TYPES.has(event.type)) return faultOf(runFact, event)
  const place = faultOf(OF_A_RUN.has(event.type) ? inRun : nowhere, event)
  // Not a run's: isKnownType has looked it up.
  return place ?? faultOf(SHAPES[event.type as OurType], event.data)
}

function faultOf(shape: z.ZodType, value: unknown): string | undefined {
  const parsed = shape.safeParse(value)
  return parsed.success ? undefined : describe(parsed.error)
}

function describe(error: z.ZodError): string {
  const issue = error.issues[0]
  return `it is wrong at ${issue?.path.join('.') || 'its root'}: ${issue?.message}`
}
