/** Jobs over REST: the same verbs as GraphQL's, in the shapes that clients of the published API know. */
import type { IncomingMessage } from 'node:http'
import { Hono, type Context } from 'hono'
import { z } from 'zod'
import { isRefusal, PlatformError, refusalError, type Refusal } from '../../schema/error.ts'
import { parseId } from '../../schema/id.ts'
import type { Json } from '../../schema/json.ts'
import type { Call } from '../job/call.ts'
import { openCheckpoints, type Checkpoint } from '../job/checkpoint.ts'
import { parseContinueJob, parseCreateJob } from '../job/job-request.ts'
import type { JobSummary, QuestionSummary } from '../job/job-summary.ts'
import { jobNotFound, watchCheckpoints } from '../job/subscription.ts'
import { parseLastEventId, parseSeq } from '../job/position.ts'
import { parseItemId, type WorkspaceItem } from '../workspace/workspaces.ts'
import { EVENT_STREAM_HEADERS, streamFrames, type Frame } from './event-stream.ts'
import { printRestFailure, type Failures } from './failure.ts'
import { readJson } from './json-body.ts'
import { printCheckpoint, printExpertJob, printItem, printStatus } from './rest-shape.ts'
import type { StreamSlots } from './stream-slots.ts'

/** What the server puts beside a request. */
export interface RestBindings {
  readonly incoming: IncomingMessage
  readonly call: Call
}

type RestContext = Context<{ Bindings: RestBindings }>

export interface RestDependencies {
  readonly failures: Failures
  readonly slots: StreamSlots
}

const count = z.coerce.number().pipe(z.int().min(1).max(1_000_000))
const file = z.strictObject({
  path: z.string(),
  text: z.string().optional(),
  base64: z.string().optional(),
})
const createSchema = z.strictObject({
  applicationId: z.string().optional(),
  expertKey: z.string(),
  query: z.string().nullish(),
  files: z.array(file).nullish(),
  userId: z.string().nullish(),
  provider: z.string().min(1).optional(),
  model: z.string().nullish(),
  maxSteps: count.nullish(),
  idempotencyKey: z.string().nullish(),
})
const continueSchema = z.strictObject({
  query: z.string().nullish(),
  answer: z.strictObject({ questionId: z.string(), value: z.json(), argsHash: z.string().nullish() }).nullish(),
  /** The published API's form: the query is the answer to the one open question. */
  interactiveToolCallResult: z.union([z.boolean(), z.literal('true'), z.literal('false')]).nullish(),
  response: z.string().nullish(),
  maxSteps: count.nullish(),
  idempotencyKey: z.string().nullish(),
})
const pageSchema = z.object({
  take: z.coerce.number().pipe(z.int().min(1).max(100)).default(100),
  skip: z.coerce.number().pipe(z.int().min(0).max(10_000)).default(0),
})

function parse<Schema extends z.ZodType>(schema: Schema, value: unknown): z.output<Schema> {
  const parsed = schema.safeParse(value)
  if (parsed.success) return parsed.data
  throw new PlatformError(
    'input_invalid',
    parsed.error.issues.map(({ path, message }) => `${path.join('.') || 'The body'}: ${message}.`).join(' '),
  )
}

const got = (job: JobSummary | Refusal): JobSummary => {
  if (isRefusal(job)) throw refusalError(job)
  return job
}

async function getJob(c: RestContext): Promise<JobSummary> {
  const { jobs, caller } = c.env.call
  const id = c.req.param('id') ?? ''
  const jobId = parseId('job', id)
  const job = jobId === undefined ? undefined : await jobs.find(caller.application.id, jobId)
  if (job === undefined) throw jobNotFound(id)
  return job
}

async function readObject<Schema extends z.ZodType>(c: RestContext, schema: Schema): Promise<z.output<Schema>> {
  return parse(schema, await readJson(c.env.incoming))
}

const idempotencyKeyOf = (c: RestContext, inBody: string | null | undefined) =>
  inBody ?? c.req.header('idempotency-key') ?? null

async function createJob(c: RestContext): Promise<Response> {
  const { jobs, caller } = c.env.call
  const body = await readObject(c, createSchema)
  if (body.applicationId !== undefined && body.applicationId !== caller.application.id)
    throw new PlatformError(
      'permission_denied',
      `The key belongs to ${caller.application.id}, not to that application.`,
    )
  const model = body.provider && body.model ? `${body.provider}/${body.model}` : body.model
  const input = parseCreateJob({ ...body, model, idempotencyKey: idempotencyKeyOf(c, body.idempotencyKey) })
  if (isRefusal(input)) throw refusalError(input)
  return c.json({ data: { expertJob: printExpertJob(got(await jobs.create(caller.application.id, input))) } }, 201)
}

async function continueJob(c: RestContext): Promise<Response> {
  const { jobs, caller } = c.env.call
  const body = await readObject(c, continueSchema)
  const job = await getJob(c)
  const isResult = body.interactiveToolCallResult === true || body.interactiveToolCallResult === 'true'
  const said = body.query ?? body.response ?? null
  const open = job.questions.filter(({ answeredAt }) => answeredAt === null)
  const input = parseContinueJob({
    jobId: job.id,
    ...(isResult ? { answer: answerTo(job, open, said) } : { query: said, answer: body.answer }),
    maxSteps: body.maxSteps,
    idempotencyKey: idempotencyKeyOf(c, body.idempotencyKey),
  })
  if (isRefusal(input)) throw refusalError(input)
  return c.json({ data: { expertJob: printExpertJob(got(await jobs.continue(caller.application.id, input))) } })
}

/** The answer that a plain text is to the one open question. */
function answerTo(job: JobSummary, open: readonly QuestionSummary[], said: string | null) {
  const [question] = open
  if (question === undefined) throw new PlatformError('question_not_found', `Job ${job.id} has no open question.`)
  if (open.length > 1)
    throw new PlatformError('input_invalid', `Job ${job.id} has ${open.length} open questions: answer one by its id.`)
  if (said === null) throw new PlatformError('query_missing', 'The query holds the answer; it is missing.')
  return { questionId: question.id, value: valueOf(question, said), argsHash: question.argsHash }
}

function valueOf({ kind }: QuestionSummary, said: string): Json {
  if (kind === 'ask' || kind === 'choose') return said
  try {
    return JSON.parse(said) as Json
  } catch {
    // Not JSON: the question's schema decides whether the text itself will do.
    return said
  }
}

async function listJobs(c: RestContext): Promise<Response> {
  const { jobs, caller } = c.env.call
  const { take, skip } = parse(pageSchema, c.req.query())
  const name = c.req.query('filter')
  // Read through from the newest: skipping is for people turning pages, not for reading on.
  const found: JobSummary[] = []
  while (found.length <= skip + take) {
    const filter = name === undefined || name === '' ? {} : { expertName: name }
    const page = await jobs.list(caller.application.id, filter, 100, found.at(-1)?.id ?? null)
    found.push(...page)
    if (page.length < 100) break
  }
  return c.json({
    data: { expertJobs: found.slice(skip, skip + take).map(printExpertJob) },
    // Exact on the last page; before it, how many there are at least.
    meta: { total: found.length, take, skip },
  })
}

async function readCheckpoints({ jobs, caller }: Call, job: JobSummary): Promise<readonly Checkpoint[]> {
  const checkpoints = openCheckpoints(job.id)
  const found: Checkpoint[] = []
  for (let after = 0; after < job.revision;) {
    const events = await jobs.events(caller.application.id, job.id, after, 1000)
    if (events.length === 0) break
    for (const event of events) {
      const checkpoint = checkpoints.add(event)
      if (checkpoint !== undefined) found.push(checkpoint)
    }
    after = events.at(-1)?.seq ?? job.revision
  }
  return found
}

async function listCheckpoints(c: RestContext): Promise<Response> {
  const { take, skip } = parse(pageSchema, c.req.query())
  const all = await readCheckpoints(c.env.call, await getJob(c))
  return c.json({
    data: { checkpoints: all.slice(skip, skip + take).map(printCheckpoint) },
    meta: { total: all.length, take, skip },
  })
}

async function streamCheckpoints(c: RestContext, { failures, slots }: RestDependencies): Promise<Response> {
  const { call } = c.env
  const job = await getJob(c)
  const after = Math.max(parseSeq(c.req.query('after') ?? null), parseLastEventId(c.req.header('last-event-id')))
  const left = slots.take(call.caller.keyId)
  const checkpoints = watchCheckpoints(call, job.id, after)
  async function* frames(): AsyncGenerator<Frame> {
    try {
      for await (const checkpoint of checkpoints)
        yield { event: 'message', id: checkpoint.seq, data: JSON.stringify(printCheckpoint(checkpoint)) }
      if (call.signal.aborted) return
      const finished = await call.jobs.find(call.caller.application.id, job.id)
      const status = printStatus(finished ?? job)
      yield { event: 'complete', data: JSON.stringify({ status, expertJobId: job.id }) }
    } catch (error) {
      if (call.signal.aborted) return
      const { code, message } = failures.describe(error)
      yield { event: 'error', data: JSON.stringify({ type: code, expertJobId: job.id, message }) }
    }
  }
  const inner = frames()
  const iterator: AsyncIterator<Frame> = {
    next: () => inner.next(),
    async return() {
      await checkpoints.return?.(undefined)
      return inner.return(undefined)
    },
  }
  return new Response(streamFrames(iterator, { clock: call.clock, left }), { headers: EVENT_STREAM_HEADERS })
}

async function getWorkspace(c: RestContext): Promise<Response> {
  const { workspaces, secrets, caller } = c.env.call
  const job = await getJob(c)
  const items = await workspaces.list(job, { under: null, first: 1000, after: null })
  const names = await secrets.list(caller.application.id)
  return c.json({
    data: {
      workspaceInstance: {
        type: 'workspaceInstance',
        id: job.id,
        expertJobId: job.id,
        applicationId: job.applicationId,
        treeHash: job.treeHash,
        inputTreeHash: job.inputTreeHash,
        items: items.map((item) => printItem(item, job)),
        countItems: items.length,
        envVariables: [],
        envSecrets: names.map(({ name }) => name),
        createdAt: new Date(job.createdAt).toISOString(),
        updatedAt: new Date(job.updatedAt).toISOString(),
      },
    },
  })
}

async function listItems(c: RestContext): Promise<Response> {
  const { workspaces } = c.env.call
  const { take, skip } = parse(pageSchema, c.req.query())
  const job = await getJob(c)
  const under = c.req.query('path') ?? null
  const found = await workspaces.list(job, { under, first: skip + take + 1, after: null })
  return c.json({
    data: { workspaceItems: found.slice(skip, skip + take).map((item) => printItem(item, job)) },
    meta: { total: found.length, take, skip },
  })
}

async function findItems(c: RestContext): Promise<Response> {
  const job = await getJob(c)
  const item = await c.env.call.workspaces.find(job, c.req.query('path') ?? '')
  return c.json({ data: { workspaceItems: item === undefined ? [] : [printItem(item, job)] } })
}

async function getItem(c: RestContext, job: JobSummary): Promise<WorkspaceItem> {
  const id = c.req.param('itemId') ?? ''
  const path = parseItemId(id)
  const item = path === undefined ? undefined : await c.env.call.workspaces.find(job, path)
  if (item === undefined)
    throw new PlatformError('item_not_found', `The workspace of ${job.id} has no item ${id.slice(0, 200)}.`)
  return item
}

async function download(c: RestContext): Promise<Response> {
  const job = await getJob(c)
  const item = await getItem(c, job)
  const bytes = await c.env.call.workspaces.read(item)
  const name = item.path.split('/').at(-1) ?? 'file'
  // What an expert wrote must never run as a page of this origin, whatever its name or content says.
  return new Response(Uint8Array.from(bytes), {
    headers: {
      'content-type': 'application/octet-stream',
      'content-disposition': `attachment; filename="${name.replaceAll(/[^\w.-]/g, '_')}"; filename*=UTF-8''${encode(name)}`,
      'content-security-policy': "default-src 'none'; sandbox",
      'x-content-type-options': 'nosniff',
      'cache-control': 'private, no-store',
    },
  })
}

const encode = (name: string) =>
  encodeURIComponent(name.toWellFormed()).replaceAll(
    /['()*]/g,
    (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`,
  )

/** The routes, to be mounted under `/expert_jobs`. */
export function openRest(dependencies: RestDependencies): Hono<{ Bindings: RestBindings }> {
  const app = new Hono<{ Bindings: RestBindings }>()
  app.onError((error) => restFailure(error, dependencies.failures))
  app.notFound((c) => {
    throw new PlatformError('item_not_found', `there is no ${c.req.method} ${c.req.path.slice(0, 200)}`)
  })
  app.post('/', createJob)
  app.get('/', listJobs)
  app.get('/:id', async (c) => c.json({ data: { expertJob: printExpertJob(await getJob(c)) } }))
  app.post('/:id/continue', continueJob)
  app.post('/:id/cancel', async (c) => {
    const { jobs, caller } = c.env.call
    const { id } = await getJob(c)
    return c.json({ data: { expertJob: printExpertJob(got(await jobs.cancel(caller.application.id, id))) } })
  })
  app.get('/:id/checkpoints', listCheckpoints)
  app.get('/:id/checkpoints/stream', (c) => streamCheckpoints(c, dependencies))
  app.get('/:id/checkpoints/:checkpointId', async (c) => {
    const id = c.req.param('checkpointId')
    const found = (await readCheckpoints(c.env.call, await getJob(c))).find((checkpoint) => checkpoint.id === id)
    if (found === undefined) throw new PlatformError('item_not_found', `There is no checkpoint ${id.slice(0, 100)}.`)
    return c.json({ data: { checkpoint: printCheckpoint(found) } })
  })
  app.get('/:id/workspace_instance', getWorkspace)
  app.get('/:id/workspace_instance/items', listItems)
  app.get('/:id/workspace_instance/items/find', findItems)
  app.get('/:id/workspace_instance/items/:itemId', async (c) => {
    const job = await getJob(c)
    return c.json({ data: { workspaceItem: printItem(await getItem(c, job), job) } })
  })
  app.get('/:id/workspace_instance/items/:itemId/download', download)
  return app
}

/** A failure in the shape of REST. */
export function restFailure(error: unknown, failures: Failures): Response {
  const failure = failures.describe(error)
  return new Response(printRestFailure(failure), {
    status: failure.status,
    headers: { 'content-type': 'application/json; charset=utf-8' },
  })
}
