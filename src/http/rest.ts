/** Jobs over REST: the same verbs as GraphQL's, in the shapes that clients of the published API know. */
import { Hono } from 'hono'
import { isRefusal, PlatformError, refusalError, type Refusal } from '../../schema/error.ts'
import type { Json } from '../../schema/json.ts'
import type { Call } from '../pool/call.ts'
import { openCheckpoints, type Checkpoint } from '../job/checkpoint.ts'
import { parseContinueJob, parseCreateJob, parseForkJob } from '../job/job-request.ts'
import { isOpen, type JobSummary, type QuestionSummary } from '../job/job-summary.ts'
import { parseLastEventId, parseSeq } from '../job/position.ts'
import { watchCheckpoints } from '../job/subscription.ts'
import { EVENT_STREAM_HEADERS, streamFrames, type Frame } from './event-stream.ts'
import type { Failures } from './failure.ts'
import {
  continueSchema,
  createSchema,
  forkSchema,
  getJob,
  pageSchema,
  parse,
  readObject,
  restFailure,
  route,
  type RestBindings,
  type RestContext,
} from './rest-request.ts'
import { printCheckpoint, printExpertJob, printStatus } from './rest-shape.ts'
import { openBundleRoutes } from './rest-bundle.ts'
import { openWorkspaceRoutes } from './rest-workspace.ts'
import type { StreamSlots } from './stream-slots.ts'

export interface RestDependencies {
  readonly failures: Failures
  readonly slots: StreamSlots
}

const got = (job: JobSummary | Refusal): JobSummary => {
  if (isRefusal(job)) throw refusalError(job)
  return job
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
  const open = job.questions.filter(isOpen)
  const input = parseContinueJob({
    jobId: job.id,
    ...(isResult ? { answer: answerTo(job, open, said) } : { query: said, answer: body.answer }),
    mode: body.mode,
    maxSteps: body.maxSteps,
    budget: body.budget,
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

async function showJob(c: RestContext): Promise<Response> {
  return c.json({ data: { expertJob: printExpertJob(await getJob(c)) } })
}

async function cancelJob(c: RestContext): Promise<Response> {
  const { jobs, caller } = c.env.call
  const { id } = await getJob(c)
  return c.json({ data: { expertJob: printExpertJob(got(await jobs.cancel(caller.application.id, id))) } })
}

async function forkJob(c: RestContext): Promise<Response> {
  const { forks, caller } = c.env.call
  const body = await readObject(c, forkSchema)
  const { id: jobId } = await getJob(c)
  const input = parseForkJob({ ...body, jobId, idempotencyKey: idempotencyKeyOf(c, body.idempotencyKey) })
  if (isRefusal(input)) throw refusalError(input)
  return c.json({ data: { expertJob: printExpertJob(got(await forks.fork(caller.application.id, input))) } }, 201)
}

async function showCheckpoint(c: RestContext): Promise<Response> {
  const id = c.req.param('checkpointId') ?? ''
  const found = (await readCheckpoints(c.env.call, await getJob(c))).find((checkpoint) => checkpoint.id === id)
  if (found === undefined) throw new PlatformError('item_not_found', `There is no checkpoint ${id.slice(0, 100)}.`)
  return c.json({ data: { checkpoint: printCheckpoint(found) } })
}

/** The routes, to be mounted under `/expert_jobs`. */
export function openRest(dependencies: RestDependencies): Hono<{ Bindings: RestBindings }> {
  const app = new Hono<{ Bindings: RestBindings }>()
  app.onError((error) => restFailure(error, dependencies.failures))
  app.notFound((c) => {
    // The path stands below where it is mounted.
    const path = c.req.path === '/' ? '' : c.req.path.slice(0, 200)
    throw new PlatformError('item_not_found', `There is no ${c.req.method} /expert_jobs${path}.`)
  })
  app.post('/', route(createJob))
  app.get('/', route(listJobs))
  app.get('/:id', route(showJob))
  app.post('/:id/continue', route(continueJob))
  app.post('/:id/cancel', route(cancelJob))
  app.post('/:id/fork', route(forkJob))
  app.get('/:id/checkpoints', route(listCheckpoints))
  app.get(
    '/:id/checkpoints/stream',
    route((c) => streamCheckpoints(c, dependencies)),
  )
  app.get('/:id/checkpoints/:checkpointId', route(showCheckpoint))
  app.route('/', openWorkspaceRoutes())
  app.route('/', openBundleRoutes())
  return app
}
