/** What a caller may ask of jobs, checked before anything is written. */
import { isUnlimited, limitFault, MEASURES, type Budget } from '../../schema/budget.ts'
import { refuse, type Refusal } from '../../schema/error.ts'
import { INSTRUCTION_BYTES_MAX } from '../../schema/expert-file.ts'
import type { SteerMode } from '../../schema/event.ts'
import { hashOf, sha256, type Sha256 } from '../../schema/hash.ts'
import type { JobId, QuestionId } from '../../schema/id.ts'
import type { Json } from '../../schema/json.ts'
import type { Lock } from '../../schema/lock.ts'
import { refuseSize } from './answer.ts'
import type { InputFile, InputLimits } from './input-tree.ts'

/** The most steps that a job may be given. */
export const STEPS_MAX = 10_000
const NAME_BYTES_MAX = 255
const CONTROL = /[\u0000-\u001f\u007f]/

export interface CreateJob {
  readonly expertKey: string
  readonly query: string | null
  readonly files: readonly InputFile[]
  readonly userId: string | null
  readonly model: string | null
  readonly maxSteps: number | null
  /** For all runs together; left out for none. */
  readonly budget?: Budget
  readonly idempotencyKey: string | null
}

export interface ContinueJob {
  readonly jobId: JobId
  readonly query: string | null
  readonly answer: { readonly questionId: QuestionId; readonly value: Json; readonly argsHash: Sha256 | null } | null
  /** How an open job takes the query; `queue` by default. */
  readonly mode?: SteerMode
  readonly maxSteps: number | null
  /** New totals; left out for none. */
  readonly budget?: Budget
  readonly idempotencyKey: string | null
}

export interface ForkJob {
  readonly jobId: JobId
  /** The checkpoint's; null for the last one. */
  readonly seq: number | null
  /** Asked in place of what was open at the checkpoint; null goes on with that. */
  readonly query: string | null
  readonly model: string | null
  readonly maxSteps: number | null
  /** New totals, what was used before the checkpoint among them; left out for what the parent had. */
  readonly budget?: Budget
  /** Another instruction for `expertKey`, which is then an exact key of the job's lock; null for the coordinator. */
  readonly instruction: string | null
  readonly expertKey: string | null
  readonly idempotencyKey: string | null
}

export interface QueryLimits extends InputLimits {
  readonly queryBytesMax: number
}

/** What is wrong with a request, files aside; undefined when nothing is. */
export function refuseCreate(input: CreateJob, limits: QueryLimits): Refusal | undefined {
  if (input.query === null) return refuse('query_missing', 'A job needs a query.')
  return (
    refuseQuery(input.query, limits) ??
    refuseSteps(input.maxSteps) ??
    refuseLimits(input.budget) ??
    refuseName('userId', input.userId) ??
    refuseName('idempotencyKey', input.idempotencyKey)
  )
}

/** The same for a continuation, which says one thing: an answer, or a query and a limit. */
export function refuseContinue(input: ContinueJob, limits: QueryLimits): Refusal | undefined {
  if (input.answer !== null && (input.query !== null || input.maxSteps !== null || input.budget !== undefined))
    return refuse('input_invalid', 'An answer comes alone, without query, maxSteps and budget.')
  if (input.mode !== undefined && input.query === null)
    return refuse('input_invalid', 'mode says how an open job takes a query: it comes with one.')
  return (
    (input.answer === null ? undefined : refuseSize(input.answer.questionId, input.answer.value)) ??
    (input.query === null ? undefined : refuseQuery(input.query, limits)) ??
    refuseSteps(input.maxSteps) ??
    refuseLimits(input.budget) ??
    refuseName('idempotencyKey', input.idempotencyKey)
  )
}

/** The same for a fork. */
export function refuseFork(input: ForkJob, limits: QueryLimits): Refusal | undefined {
  if (input.expertKey !== null && input.instruction === null)
    return refuse('input_invalid', 'expertKey says whose instruction is replaced: it comes with an instruction.')
  if (input.instruction !== null && input.instruction.trim() === '')
    return refuse('input_invalid', 'The instruction is empty.')
  if (input.instruction !== null && new TextEncoder().encode(input.instruction).length > INSTRUCTION_BYTES_MAX)
    return refuse('input_too_large', `An instruction may have at most ${INSTRUCTION_BYTES_MAX} bytes.`)
  return (
    (input.query === null ? undefined : refuseQuery(input.query, limits)) ??
    refuseSteps(input.maxSteps) ??
    refuseLimits(input.budget) ??
    refuseName('idempotencyKey', input.idempotencyKey)
  )
}

/** Why the experts of a lock cannot run: one without a model, or with one that nobody knows. */
export function refuseModels(lock: Lock, model: string | null, knows: (model: string) => boolean): Refusal | undefined {
  if (model !== null)
    return knows(model) ? undefined : refuse('model_not_found', `No provider here knows the model ${shorten(model)}.`)
  for (const expert of Object.values(lock.experts)) {
    if (expert.model === null) return refuse('model_missing', `Expert ${expert.key} names no model, nor does the job.`)
    if (!knows(expert.model))
      return refuse('model_not_found', `No provider here knows ${shorten(expert.model)}, the model of ${expert.key}.`)
  }
  return undefined
}

/** What a request asks for, its key aside: equal requests have equal hashes, whatever the order of their keys. */
export function hashCreate(input: CreateJob): Sha256 {
  const files = input.files.map(({ path, bytes }) => ({ path, hash: sha256(bytes) }))
  return hashOf({ verb: 'create', ...input, files, idempotencyKey: null })
}

export function hashContinue(input: ContinueJob): Sha256 {
  return hashOf({ verb: 'continue', ...input, idempotencyKey: null })
}

export function hashFork(input: ForkJob): Sha256 {
  return hashOf({ verb: 'fork', ...input, idempotencyKey: null })
}

function refuseQuery(query: string, { queryBytesMax }: QueryLimits): Refusal | undefined {
  if (query.trim() === '') return refuse('query_missing', 'The query is empty.')
  // A UTF-16 unit is at least one byte: what is too long that way need not be encoded to be known.
  const bytes = query.length > queryBytesMax ? query.length : new TextEncoder().encode(query).length
  if (bytes <= queryBytesMax) return undefined
  return refuse('input_too_large', `The query has ${bytes} bytes or more; the limit is ${queryBytesMax}.`)
}

function refuseSteps(maxSteps: number | null): Refusal | undefined {
  if (maxSteps === null || (Number.isInteger(maxSteps) && maxSteps >= 1 && maxSteps <= STEPS_MAX)) return undefined
  return refuse('input_invalid', `maxSteps is ${maxSteps}; it must be a whole number from 1 to ${STEPS_MAX}.`)
}

/** A budget that bounds nothing is a mistake: whoever sent it believes that it does. */
function refuseLimits(budget: Budget | undefined): Refusal | undefined {
  if (budget === undefined) return undefined
  if (isUnlimited(budget)) return refuse('input_invalid', `The budget is empty; give one of ${MEASURES.join(', ')}.`)
  for (const measure of MEASURES) {
    const limit = budget[measure]
    const fault = limit === undefined ? undefined : limitFault(measure, limit)
    if (fault !== undefined) return refuse('input_invalid', `budget.${measure} is ${limit}; it ${fault}.`)
  }
  return undefined
}

function refuseName(field: string, name: string | null): Refusal | undefined {
  if (name === null) return undefined
  if (name !== '' && name.length <= NAME_BYTES_MAX && !CONTROL.test(name) && name.isWellFormed()) return undefined
  return refuse(
    'input_invalid',
    `${field} must have 1 to ${NAME_BYTES_MAX} characters, none of them a control character.`,
  )
}

function shorten(text: string): string {
  return text.length > 100 ? `${text.slice(0, 100)}…` : text
}
