/** GraphQL over HTTP: yoga behind our own reading of the request and our own frames of an event stream. */
import type { DocumentNode, ExecutionResult, GraphQLError, GraphQLSchema } from 'graphql'
import { createYoga, type Plugin, type YogaServerInstance } from 'graphql-yoga'
import { z } from 'zod'
import type { Clock } from '../../schema/clock.ts'
import { PlatformError } from '../../schema/error.ts'
import type { Json } from '../../schema/json.ts'
import type { Call } from '../pool/call.ts'
import { parseDocument } from './document-limits.ts'
import { EVENT_STREAM_HEADERS, streamFrames, type Frame } from './event-stream.ts'
import { printableError, printGraphQLFailure, type Failures } from './failure.ts'
import type { StreamSlots } from './stream-slots.ts'

/** A GraphQL request's own members; anything else is refused. */
export interface Params {
  readonly query: string
  readonly variables?: Record<string, unknown> | null | undefined
  readonly operationName?: string | null | undefined
  readonly extensions?: Record<string, unknown> | null | undefined
}

const paramsSchema = z.strictObject({
  query: z.string().min(1),
  variables: z.record(z.string(), z.unknown()).nullish(),
  operationName: z.string().nullish(),
  extensions: z.record(z.string(), z.unknown()).nullish(),
})

/** Throws `input_invalid`. */
export function parseParams(body: Json): Params {
  const parsed = paramsSchema.safeParse(body)
  if (parsed.success) return parsed.data
  const [issue] = parsed.error.issues
  throw new PlatformError(
    'input_invalid',
    `A GraphQL request is {query, variables, operationName}: ${issue?.path.join('.') ?? ''} ${issue?.message ?? ''}.`,
  )
}

/** What one request brings to yoga. */
export interface RequestContext extends Call {
  readonly params: Params
}

export type Result = ExecutionResult | AsyncIterable<ExecutionResult>

export interface GraphQLDoor {
  /** The response to one operation, whole or as a stream. */
  answer(request: Request, context: RequestContext): Promise<Response>
  /** The result of one operation, for whoever frames it otherwise. */
  perform(context: RequestContext): Promise<Result>
}

export function openGraphQLDoor(dependencies: {
  readonly schema: GraphQLSchema
  readonly failures: Failures
  readonly slots: StreamSlots
  readonly clock: Clock
}): GraphQLDoor {
  const { schema, failures, slots, clock } = dependencies
  const plugin: Plugin<object, RequestContext> = {
    onRequestParse({ setRequestParser, serverContext }) {
      // The body was read and bounded before yoga saw the request.
      setRequestParser(() => serverContext.params as never)
    },
    onParse({ setParseFn }) {
      setParseFn((source: string | { body: string }) =>
        parseDocument(typeof source === 'string' ? source : source.body),
      )
    },
    onResultProcess(process) {
      const { request, serverContext } = process
      if (Array.isArray(process.result)) throw new TypeError('batches are off')
      // The errors of validation pass by yoga's own mask.
      const result = maskResult(process.result as Result, failures)
      process.setResult(result)
      const accept = request.headers.get('accept') ?? '*/*'
      const takesStream = accept.includes('text/event-stream')
      if (!takesStream && !isStream(result)) return
      process.setResultProcessor(async () => {
        if (!takesStream && !accept.includes('*/*')) return refuseStream(result, failures)
        return streamResult(result, serverContext, { slots, clock, failures })
      }, 'text/event-stream')
    },
  }
  const yoga: YogaServerInstance<RequestContext, object> = createYoga<RequestContext, object>({
    schema,
    plugins: [plugin],
    maskedErrors: { maskError: failures.mask },
    logging: false,
    cors: false,
    multipart: false,
    graphiql: false,
    landingPage: false,
    batching: false,
    maxRequestBodySize: false,
    extraParamNames: [],
  })
  return {
    answer: async (request, context) => yoga.fetch(request, context),
    async perform(context) {
      const enveloped = yoga.getEnveloped(context as never)
      return perform(enveloped as never, context, failures)
    },
  }
}

function maskResult(result: Result, failures: Failures): Result {
  if (isStream(result) || result.errors === undefined) return result
  return { ...result, errors: result.errors.map(failures.mask) }
}

/** The part of envelop's answer that is used here; yoga leaves it untyped. */
interface Enveloped {
  parse(source: string): DocumentNode
  validate(schema: GraphQLSchema, document: DocumentNode): readonly GraphQLError[]
  contextFactory(): Promise<object> | object
  execute(args: object): Promise<Result> | Result
  subscribe(args: object): Promise<Result> | Result
  schema: GraphQLSchema
}

async function perform(enveloped: Enveloped, context: RequestContext, failures: Failures): Promise<Result> {
  const { query, variables, operationName } = context.params
  try {
    const document = enveloped.parse(query)
    const errors = enveloped.validate(enveloped.schema, document)
    if (errors.length > 0) return { errors: errors.map((error) => failures.mask(error)) }
    const contextValue = await enveloped.contextFactory()
    const args = { schema: enveloped.schema, document, contextValue, variableValues: variables ?? {}, operationName }
    const operations = document.definitions.filter((definition) => definition.kind === 'OperationDefinition')
    const chosen = operations.find(({ name }) => !operationName || name?.value === operationName)
    return await (chosen?.operation === 'subscription' ? enveloped.subscribe(args) : enveloped.execute(args))
  } catch (error) {
    return { errors: [failures.mask(error)] }
  }
}

export function isStream(result: unknown): result is AsyncIterable<ExecutionResult> {
  return typeof result === 'object' && result !== null && Symbol.asyncIterator in result
}

/** A result as the text of a frame's data. */
export function printResult({ errors, ...rest }: ExecutionResult): string {
  return JSON.stringify(errors === undefined ? rest : { ...rest, errors: errors.map(printableError) })
}

/** Each result with the cursor that its event set, then `complete`; nothing after the client left. */
export async function* frameResults(
  result: Result,
  { cursor, signal }: Pick<Call, 'cursor' | 'signal'>,
  failures: Failures,
): AsyncGenerator<Frame> {
  try {
    if (isStream(result)) {
      for await (const part of result) yield { event: 'next', id: cursor.seq, data: printResult(part) }
    } else yield { event: 'next', data: printResult(result) }
  } catch (error) {
    if (signal.aborted) return
    yield { event: 'next', data: printResult({ errors: [failures.mask(error)] }) }
  }
  // A stream that the server cut short must not look complete: the client would not come back for the rest.
  if (!signal.aborted) yield { event: 'complete', data: '' }
}

async function streamResult(
  result: Result,
  context: RequestContext,
  { slots, clock, failures }: { readonly slots: StreamSlots; readonly clock: Clock; readonly failures: Failures },
): Promise<Response> {
  let left: () => void
  try {
    left = slots.take(context.caller.keyId)
  } catch (error) {
    await close(result)
    return failureResponse(error, failures)
  }
  const frames = frameResults(result, context, failures)
  const iterator: AsyncIterator<Frame> = {
    next: () => frames.next(),
    async return() {
      await close(result)
      return frames.return(undefined)
    },
  }
  return new Response(streamFrames(iterator, { clock, left }), { headers: EVENT_STREAM_HEADERS })
}

async function refuseStream(result: Result, failures: Failures): Promise<Response> {
  await close(result)
  const error = new PlatformError('media_type_unsupported', 'A subscription is read with `accept: text/event-stream`.')
  const failure = { ...failures.describe(error), status: 406 }
  return new Response(printGraphQLFailure(failure), {
    status: failure.status,
    headers: { 'content-type': 'application/json; charset=utf-8' },
  })
}

/** A failure of the request as a whole. */
export function failureResponse(error: unknown, failures: Failures): Response {
  const failure = failures.describe(error)
  return new Response(printGraphQLFailure(failure), {
    status: failure.status,
    headers: { 'content-type': 'application/json; charset=utf-8' },
  })
}

async function close(result: Result): Promise<void> {
  if (isStream(result)) await result[Symbol.asyncIterator]().return?.(undefined)
}
