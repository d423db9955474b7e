/** What the routes of REST have in common: the caller's job, the body, the page, the failure. */
import type { IncomingMessage } from 'node:http'
import type { Context } from 'hono'
import { z } from 'zod'
import { PlatformError } from '../../schema/error.ts'
import { STEER_MODES } from '../../schema/event.ts'
import { parseId } from '../../schema/id.ts'
import type { Call } from '../pool/call.ts'
import type { JobSummary } from '../job/job-summary.ts'
import { jobNotFound } from '../job/subscription.ts'
import { printRestFailure, type Failures } from './failure.ts'
import { readJson } from './json-body.ts'

/** What the server puts beside a request. */
export interface RestBindings {
  readonly incoming: IncomingMessage
  readonly call: Call
}

export type RestContext = Context<{ Bindings: RestBindings }>

/** A handler of a route. Errors thrown, at once or later, are answered by restFailure. */
export const route =
  (answer: (c: RestContext) => Promise<Response>) =>
  (c: RestContext): Promise<Response> =>
    answer(c)

const count = z.coerce.number().pipe(z.int().min(1).max(1_000_000))
const file = z.strictObject({
  path: z.string(),
  text: z.string().optional(),
  base64: z.string().optional(),
})
/** What is left out, or null, has no limit. */
const budget = z.strictObject({
  costUsd: z.number().nullish(),
  inputTokens: z.number().nullish(),
  cachedInputTokens: z.number().nullish(),
  outputTokens: z.number().nullish(),
  steps: z.number().nullish(),
  toolCalls: z.number().nullish(),
  wallSeconds: z.number().nullish(),
})
/** The body that creates a job. */
export const createSchema = z.strictObject({
  applicationId: z.string().optional(),
  expertKey: z.string(),
  query: z.string().nullish(),
  files: z.array(file).nullish(),
  userId: z.string().nullish(),
  provider: z.string().min(1).optional(),
  model: z.string().nullish(),
  maxSteps: count.nullish(),
  budget: budget.nullish(),
  idempotencyKey: z.string().nullish(),
})
/** The body that continues a job. */
export const continueSchema = z.strictObject({
  query: z.string().nullish(),
  answer: z.strictObject({ questionId: z.string(), value: z.json(), argsHash: z.string().nullish() }).nullish(),
  /** The published API's form: the query is the answer to the one open question. */
  interactiveToolCallResult: z.union([z.boolean(), z.literal('true'), z.literal('false')]).nullish(),
  response: z.string().nullish(),
  mode: z.enum(STEER_MODES).nullish(),
  maxSteps: count.nullish(),
  budget: budget.nullish(),
  idempotencyKey: z.string().nullish(),
})

/** The body that forks a job. */
export const forkSchema = z.strictObject({
  checkpointId: z.string().nullish(),
  seq: count.nullish(),
  query: z.string().nullish(),
  model: z.string().nullish(),
  maxSteps: count.nullish(),
  budget: budget.nullish(),
  instruction: z.string().nullish(),
  expertKey: z.string().nullish(),
  idempotencyKey: z.string().nullish(),
})

/** `take` and `skip`, as strings of the query. */
export const pageSchema = z.object({
  take: z.coerce.number().pipe(z.int().min(1).max(100)).default(100),
  skip: z.coerce.number().pipe(z.int().min(0).max(10_000)).default(0),
})

/** The value in the schema's shape. Throws `input_invalid` with every fault. */
export function parse<Schema extends z.ZodType>(schema: Schema, value: unknown): z.output<Schema> {
  const parsed = schema.safeParse(value)
  if (parsed.success) return parsed.data
  throw new PlatformError('input_invalid', parsed.error.issues.map((issue) => wordsOf(issue)).join(' '))
}

function wordsOf(issue: z.core.$ZodIssue): string {
  const where = issue.path.join('.') || 'The body'
  if (issue.code === 'unrecognized_keys')
    return `${where} has what is not known here: ${issue.keys.map((key) => JSON.stringify(key)).join(', ')}.`
  return issue.message.endsWith('received undefined') ? `${where} is missing.` : `${where}: ${issue.message}.`
}

/** The caller's job that the path names. Throws `job_not_found`. */
export async function getJob(c: RestContext): Promise<JobSummary> {
  const { jobs, caller } = c.env.call
  const id = c.req.param('id') ?? ''
  const jobId = parseId('job', id)
  const job = jobId === undefined ? undefined : await jobs.find(caller.application.id, jobId)
  if (job === undefined) throw jobNotFound(id)
  return job
}

/** The body in the schema's shape. */
export async function readObject<Schema extends z.ZodType>(c: RestContext, schema: Schema): Promise<z.output<Schema>> {
  return parse(schema, await readJson(c.env.incoming))
}

/** A failure in the shape of REST. */
export function restFailure(error: unknown, failures: Failures): Response {
  const failure = failures.describe(error)
  return new Response(printRestFailure(failure), {
    status: failure.status,
    headers: { 'content-type': 'application/json; charset=utf-8' },
  })
}
