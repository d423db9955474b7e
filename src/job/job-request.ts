/** What callers send to create and continue jobs, as the verbs want it; the same for GraphQL and REST. */
import { MEASURES, type Budget, type Measure } from '../../schema/budget.ts'
import { isRefusal, refuse, type Refusal } from '../../schema/error.ts'
import type { SteerMode } from '../../schema/event.ts'
import type { Sha256 } from '../../schema/hash.ts'
import { parseId } from '../../schema/id.ts'
import type { Json } from '../../schema/json.ts'
import { parseCheckpointId } from './checkpoint.ts'
import type { ForkJob } from './job-input.ts'
import type { ContinueJob, CreateJob, InputFile } from './jobs.ts'

type Maybe<Value> = Value | null | undefined

export interface FileInput {
  readonly path: string
  readonly text?: Maybe<string>
  readonly base64?: Maybe<string>
}

export interface CreateJobInput {
  readonly expertKey: string
  readonly query?: Maybe<string>
  readonly files?: Maybe<readonly FileInput[]>
  readonly userId?: Maybe<string>
  readonly model?: Maybe<string>
  readonly maxSteps?: Maybe<number>
  readonly budget?: Maybe<BudgetInput>
  readonly idempotencyKey?: Maybe<string>
}

/** A limit that is null is none, as one that is left out. */
export type BudgetInput = Readonly<Partial<Record<Measure, Maybe<number>>>>

export interface ContinueJobInput {
  readonly jobId: string
  readonly query?: Maybe<string>
  readonly answer?: Maybe<{
    readonly questionId: string
    readonly value: Json
    readonly argsHash?: Maybe<string>
  }>
  readonly mode?: Maybe<SteerMode>
  readonly maxSteps?: Maybe<number>
  readonly budget?: Maybe<BudgetInput>
  readonly idempotencyKey?: Maybe<string>
}

export interface ForkJobInput {
  readonly jobId?: Maybe<string>
  readonly checkpointId?: Maybe<string>
  readonly seq?: Maybe<number>
  readonly query?: Maybe<string>
  readonly model?: Maybe<string>
  readonly maxSteps?: Maybe<number>
  readonly budget?: Maybe<BudgetInput>
  readonly instruction?: Maybe<string>
  readonly expertKey?: Maybe<string>
  readonly idempotencyKey?: Maybe<string>
}

/** Refuses with `input_invalid` a place that is named twice or not at all. */
export function parseForkJob(input: ForkJobInput): ForkJob | Refusal {
  const { checkpointId = null, seq = null } = input
  if (checkpointId !== null && seq !== null)
    return refuse('input_invalid', 'A checkpoint is named by checkpointId or by jobId and seq, not by both.')
  const checkpoint = checkpointId === null ? undefined : parseCheckpointId(checkpointId)
  if (checkpointId !== null && checkpoint === undefined)
    return refuse('checkpoint_not_found', `There is no checkpoint ${checkpointId.slice(0, 64)}.`)
  const named = input.jobId ?? null
  if (named === null && checkpoint === undefined)
    return refuse('input_invalid', 'A fork needs a jobId or a checkpointId.')
  const jobId = named === null ? checkpoint?.jobId : parseId('job', named)
  if (jobId === undefined) return refuseJob(named ?? '')
  if (checkpoint !== undefined && checkpoint.jobId !== jobId)
    return refuse('input_invalid', `Checkpoint ${checkpointId} is not of job ${jobId}.`)
  return {
    jobId,
    seq: checkpoint?.seq ?? seq,
    query: input.query ?? null,
    model: input.model ?? null,
    maxSteps: input.maxSteps ?? null,
    ...parseBudget(input.budget),
    instruction: input.instruction ?? null,
    expertKey: input.expertKey ?? null,
    idempotencyKey: input.idempotencyKey ?? null,
  }
}

/** Refuses with `input_invalid` a file that has not exactly one content. */
export function parseCreateJob(input: CreateJobInput): CreateJob | Refusal {
  const files: InputFile[] = []
  for (const file of input.files ?? []) {
    const parsed = parseFile(file)
    if (isRefusal(parsed)) return parsed
    files.push(parsed)
  }
  return {
    expertKey: input.expertKey,
    query: input.query ?? null,
    files,
    userId: input.userId ?? null,
    model: input.model ?? null,
    maxSteps: input.maxSteps ?? null,
    ...parseBudget(input.budget),
    idempotencyKey: input.idempotencyKey ?? null,
  }
}

/** Refuses with `job_not_found`, `question_not_found` what cannot be an id. */
export function parseContinueJob(input: ContinueJobInput): ContinueJob | Refusal {
  const jobId = parseId('job', input.jobId)
  if (jobId === undefined) return refuseJob(input.jobId)
  const questionId = parseId('que', input.answer?.questionId)
  if (input.answer && questionId === undefined)
    return refuse('question_not_found', `Job ${jobId} has no question ${input.answer.questionId.slice(0, 64)}.`)
  return {
    jobId,
    query: input.query ?? null,
    answer:
      input.answer && questionId !== undefined
        ? // A hash that is not one simply matches nothing.
          { questionId, value: input.answer.value, argsHash: (input.answer.argsHash ?? null) as Sha256 | null }
        : null,
    // Left out when it was not said, so that a request hashes as it did before there were modes.
    ...(input.mode ? { mode: input.mode } : {}),
    maxSteps: input.maxSteps ?? null,
    ...parseBudget(input.budget),
    idempotencyKey: input.idempotencyKey ?? null,
  }
}

function parseBudget(input: Maybe<BudgetInput>): { readonly budget?: Budget } {
  if (input === null || input === undefined) return {}
  const given = MEASURES.flatMap((measure) => {
    const limit = input[measure]
    return limit === null || limit === undefined ? [] : [[measure, limit] as const]
  })
  return { budget: Object.fromEntries(given) }
}

/** The refusal for a job that this caller cannot see. */
export function refuseJob(jobId: string): Refusal {
  return refuse('job_not_found', `There is no job ${jobId.slice(0, 64)}.`)
}

const BASE64 = /^[A-Za-z0-9+/]*={0,2}$/

function parseFile({ path, text, base64 }: FileInput): InputFile | Refusal {
  const has = (value: Maybe<string>): value is string => value !== null && value !== undefined
  if (has(text) === has(base64))
    return refuse('input_invalid', `The file "${path.slice(0, 200)}" must have either text or base64.`)
  if (has(text)) return { path, bytes: new TextEncoder().encode(text) }
  if (!has(base64) || base64.length % 4 !== 0 || !BASE64.test(base64))
    return refuse('input_invalid', `The base64 of the file "${path.slice(0, 200)}" is not base64.`)
  return { path, bytes: new Uint8Array(Buffer.from(base64, 'base64')) }
}
