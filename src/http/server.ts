/**
 * The one server of a process: GraphQL, REST, the registry and what says how it is doing, behind one gate.
 *
 * H1 Without a valid key in the Authorization header nothing answers but `/`, `/healthz`, `/readyz`, and `/npm/` and
 *    `/machine/`, which ask by themselves: the registry for keys, the other for the secrets of machines.
 * H2 On loopback, a request that names another host is refused before anything reads it.
 * H3 A body is JSON of bounded size, or JSON lines of bounded size each, or it is refused before anything parses it.
 * H4 Closing cuts streams off without saying that they are complete.
 */
import { createServer, type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { getRequestListener } from '@hono/node-server'
import type { GraphQLSchema } from 'graphql'
import { Hono, type Context } from 'hono'
import type { Chance, Clock } from '../../schema/clock.ts'
import { PlatformError } from '../../schema/error.ts'
import type { Caller } from '../application/applications.ts'
import type { Call, Verbs } from '../pool/call.ts'
import { parseLastEventId } from '../job/position.ts'
import type { Log } from '../log.ts'
import { openFailures } from './failure.ts'
import { authenticate, isOurHost } from './gate.ts'
import { failureResponse, openGraphQLDoor, parseParams, type RequestContext } from './graphql-door.ts'
import { readJson } from './json-body.ts'
import { frontPage } from './front-page.ts'
import { isMachinePath, type MachineDoor } from './machine-door.ts'
import { printOpenApi } from './openapi.ts'
import { openRest } from './rest.ts'
import { restFailure, type RestBindings } from './rest-request.ts'
import { openSingleConnection } from './single-connection.ts'
import { openStreamSlots } from './stream-slots.ts'

export interface ServerDependencies extends Verbs {
  /** Its resolvers are given a Call. */
  readonly schema: GraphQLSchema
  /** The registry, under `/npm/`; null when it runs elsewhere. */
  readonly registryListener: RequestListener | null
  /** Machines elsewhere, under `/machine/`; null where none come that way. */
  readonly machineDoor: MachineDoor | null
  /** Rejects, or gives a sentence, while the process should get no traffic; null when it may. */
  readonly ready: () => Promise<string | null>
  readonly log: Log
  readonly clock: Clock
  readonly chance: Chance
  readonly hostname: string
  /** 0 takes a free one. */
  readonly port: number
  /** Host names, besides its own, that requests may ask for when it is bound to loopback. */
  readonly allowedHosts: readonly string[]
}

export interface Server {
  readonly url: string
  /** Streams open now, by all keys. */
  streams(): number
  close(): Promise<void>
}

interface Bindings {
  readonly incoming: IncomingMessage
  readonly outgoing: ServerResponse
}
type AppContext = Context<{ Bindings: Bindings }>

/** Listens when it resolves. */
export async function openServer(dependencies: ServerDependencies): Promise<Server> {
  const { schema, registryListener, machineDoor, ready, log, clock, chance, hostname, port, allowedHosts } =
    dependencies
  const { jobs, forks, bundles, prompts, applications, secrets, experts, skills, workspaces, pools } = dependencies
  const closing = new AbortController()
  const failures = openFailures({ log, chance })
  const slots = openStreamSlots()
  const door = openGraphQLDoor({ schema, failures, slots, clock })
  const connections = openSingleConnection({ door, slots, failures, clock, chance, closing: closing.signal })
  const rest = openRest({ failures, slots })
  const openApi = printOpenApi()
  const app = new Hono<{ Bindings: Bindings }>()

  const identify = (c: AppContext): Promise<Caller> => authenticate(c.req.header('authorization'), applications)

  const callOf = (c: AppContext, caller: Caller, signal: AbortSignal): Call => ({
    jobs,
    forks,
    bundles,
    prompts,
    applications,
    secrets,
    experts,
    skills,
    workspaces,
    pools,
    caller,
    clock,
    signal,
    lastEventId: parseLastEventId(c.req.header('last-event-id')),
    cursor: { seq: null },
  })

  /** Aborts when the connection of this request is over, or the server closes. */
  const goneSignal = ({ env: { outgoing } }: AppContext): AbortSignal => {
    const gone = new AbortController()
    outgoing.once('close', () => gone.abort())
    return AbortSignal.any([gone.signal, closing.signal])
  }

  const readRequest = async (c: AppContext, caller: Caller, signal: AbortSignal): Promise<RequestContext> => ({
    ...callOf(c, caller, signal),
    params: parseParams(await readJson(c.env.incoming)),
  })

  async function graphql(c: AppContext): Promise<Response> {
    const caller = await identify(c)
    if (c.req.method !== 'POST') return methodNotAllowed('POST')
    const context = await readRequest(c, caller, goneSignal(c))
    return door.answer(bare(c), context)
  }

  async function stream(c: AppContext): Promise<Response> {
    const { keyId } = await identify(c)
    const token = c.req.header('x-graphql-event-stream-token') ?? c.req.query('token')
    if (c.req.method === 'PUT') return connections.reserve(keyId)
    if (token === undefined) return graphql(c)
    if (c.req.method === 'GET') return connections.open(keyId, token)
    if (c.req.method === 'DELETE') return connections.stop(keyId, token, c.req.query('operationId') ?? '')
    if (c.req.method !== 'POST') return methodNotAllowed('GET, POST, PUT, DELETE')
    // The operation outlives this request: it ends with its stream.
    return connections.start(token, await readRequest(c, await identify(c), closing.signal))
  }

  const withFailures =
    (answer: (c: AppContext) => Promise<Response>, fail: typeof failureResponse) =>
    async (c: AppContext): Promise<Response> => {
      try {
        return await answer(c)
      } catch (error) {
        return fail(error, failures)
      }
    }

  const overRest = withFailures(async (c) => {
    const bindings: RestBindings = { incoming: c.env.incoming, call: callOf(c, await identify(c), goneSignal(c)) }
    const url = new URL(c.req.url)
    url.pathname = url.pathname.replace(/^(\/api\/studio\/v1)?\/expert_jobs/, '').replace(/(?<=.)\/$/, '') || '/'
    return rest.fetch(bare(c, url), bindings)
  }, restFailure)

  app.get('/', (c) =>
    c.html(frontPage, 200, { 'content-security-policy': "default-src 'none'; style-src 'unsafe-inline'" }),
  )
  app.get('/healthz', (c) => c.text('ok\n'))
  app.get('/readyz', async (c) => {
    const unready = await ready().catch((error: unknown) => failures.describe(error).message)
    return unready === null ? c.text('ready\n') : c.text(`${unready}\n`, 503)
  })
  app.get(
    '/openapi.json',
    withFailures(async (c) => {
      await identify(c)
      return c.json(openApi)
    }, restFailure),
  )
  app.all('/graphql', withFailures(graphql, failureResponse))
  app.all('/graphql/stream', withFailures(stream, failureResponse))
  for (const prefix of ['', '/api/studio/v1']) {
    app.all(`${prefix}/expert_jobs`, overRest)
    app.all(`${prefix}/expert_jobs/*`, overRest)
  }
  // An unknown path tells no more than a known one: first the key.
  app.notFound(
    withFailures(async (c) => {
      await identify(c)
      throw new PlatformError('item_not_found', `There is nothing at ${c.req.path.slice(0, 200)}.`)
    }, restFailure),
  )

  const listen = getRequestListener((request, env) => app.fetch(request, env as Bindings), {
    overrideGlobalObjects: false,
    hostname,
  })
  const server = createServer((incoming, outgoing) => {
    if (machineDoor !== null && isMachinePath(incoming.url)) machineDoor(incoming, outgoing)
    else if (!isOurHost(incoming.headers.host, hostname, allowedHosts)) refuseHost(outgoing)
    else if (registryListener !== null && /^\/npm(\/|\?|$)/.test(incoming.url ?? ''))
      registryListener(incoming, outgoing)
    else void listen(incoming, outgoing)
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', (cause) => reject(cannotListen(cause, hostname, port)))
    server.listen(port, hostname, resolve)
  })
  const { port: bound } = server.address() as AddressInfo
  return {
    url: `http://${hostname.includes(':') ? `[${hostname}]` : hostname}:${bound}`,
    streams: slots.count,
    async close() {
      const closed = new Promise((resolve) => server.close(resolve))
      closing.abort()
      server.closeAllConnections()
      await closed
    },
  }
}

function cannotListen(cause: Error & { readonly code?: string }, hostname: string, port: number): Error {
  const why: Readonly<Record<string, string>> = {
    EADDRINUSE: `Port ${port} of ${hostname} is taken by another program; end that, or set SENMON_PORT to another.`,
    EACCES: `This user may not listen on port ${port}; set SENMON_PORT to one from 1024 on.`,
    EADDRNOTAVAIL: `SENMON_HOST is ${hostname}, which is no address of this computer.`,
    ENOTFOUND: `SENMON_HOST is ${hostname}, which is no address of this computer.`,
  }
  const words = why[cause.code ?? '']
  return words === undefined ? cause : new PlatformError('config_invalid', words, { cause })
}

/** The request without its body, which has been read: what routes and yoga look at is the rest. */
function bare(c: AppContext, url: URL | string = c.req.url): Request {
  const headers = new Headers()
  for (const name of ['accept', 'content-type', 'idempotency-key', 'last-event-id']) {
    const value = c.req.header(name)
    if (value !== undefined) headers.set(name, value)
  }
  return new Request(url, { method: c.req.method, headers })
}

function methodNotAllowed(allow: string): Response {
  const body = JSON.stringify({ errors: [{ message: `use ${allow}`, extensions: { code: 'input_invalid' } }] })
  return new Response(body, { status: 405, headers: { allow, 'content-type': 'application/json; charset=utf-8' } })
}

function refuseHost(outgoing: ServerResponse): void {
  outgoing.writeHead(403, { 'content-type': 'application/json; charset=utf-8', connection: 'close' })
  outgoing.end(
    JSON.stringify({ code: 403, error: 'permission_denied', reason: 'this server does not answer to that host name' }),
  )
}
