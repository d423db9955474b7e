/**
 * The part of Fly's Machines API that a pool needs, over HTTP: docs of the API as of August 2026.
 *
 * FC1 No action is asked more often than Fly allows for each machine and app (`call-turns.ts`).
 * FC2 Every call ends before its deadline, and throws `ProviderError` or nothing; what it throws says Fly's request id.
 * FC3 An order whose answer was lost is looked for by its name before it is made again: there is at most one machine.
 * FC4 An app that does not answer is left alone for a while; a region without room, too, and the next one is tried.
 */
import { Agent, request, type Dispatcher } from 'undici'
import type { Clock } from '../../schema/clock.ts'
import type { Secret } from '../../schema/secret.ts'
import type { Log } from '../log.ts'
import { ProviderError, type MayAct } from '../pool/machine-provider.ts'
import type { TurnStore } from '../pool/turns.ts'
import { admit, CLOSED, regionIsFull, regionsWithRoom, settle, withdraw, type Breaker, type Region } from './breaker.ts'
import { openCallTurns } from './call-turns.ts'
import { faultOf, saysDown, type FlyVerb } from './fault.ts'
import { metadataOf, parseFlyMachine, parseFlyMachines, parseRegions, type FlyMachine } from './fly-machine.ts'

export interface MachinesClientOptions {
  /** Without `/v1`. */
  readonly baseUrl: string
  readonly token: Secret
  /** Of all processes that ask with the same apps. */
  readonly turns: TurnStore
  readonly clock: Clock
  readonly log: Log
}

/** What a machine is to be: the body of a create call, but for its region. */
export interface FlyOrder {
  readonly name: string
  readonly launchId: string
  readonly config: Readonly<Record<string, unknown>>
  /** In the order in which they are tried. */
  readonly regions: readonly string[]
  /** False has it made and its image pulled, and no more. */
  readonly isLaunched: boolean
}

/** Its calls throw `ProviderError`. */
export interface MachinesClient {
  create(app: string, order: FlyOrder): Promise<FlyMachine>
  /** By its name, wherever the answer to its order was lost. */
  find(app: string, name: string, launchId: string): Promise<FlyMachine | undefined>
  look(app: string, id: string): Promise<FlyMachine>
  list(app: string): Promise<readonly FlyMachine[]>
  /** The codes of Fly's regions. */
  regions(): Promise<readonly string[]>
  start(app: string, id: string): Promise<void>
  /** Each of these waits for its turn, and asks `mayAct` when it has come. */
  stop(app: string, id: string, mayAct?: MayAct): Promise<void>
  suspend(app: string, id: string, mayAct?: MayAct): Promise<void>
  destroy(app: string, id: string, mayAct?: MayAct): Promise<void>
  close(): Promise<void>
}

const CALL_MS_MAX = 10_000
const ANSWER_BYTES_MAX = 32 * 1024 * 1024
const SOCKETS = 64
/** Between looks for a machine whose order was not answered: the API's readers lag behind its writers. */
const FIND_MS = [500, 2_000, 5_000]

interface Call {
  readonly verb: FlyVerb
  readonly app: string
  /** What its rate is counted for. */
  readonly subject: string
  readonly method: 'GET' | 'POST' | 'DELETE'
  readonly path: string
  readonly body?: object
  readonly mayAct?: MayAct | undefined
}

export function openMachinesClient({ baseUrl, token, turns, clock, log }: MachinesClientOptions): MachinesClient {
  const agent = new Agent({ connections: SOCKETS, headersTimeout: CALL_MS_MAX, bodyTimeout: CALL_MS_MAX })
  const turn = openCallTurns({ turns, clock })
  const breakers = new Map<string, Breaker>()
  const full = new Map<string, Region>()
  /** Names of orders of which nobody knows what became. */
  const unsure = new Set<string>()
  const base = `${baseUrl.replace(/\/$/, '')}/v1`
  const scheme = token.reveal().startsWith('FlyV1 ') ? '' : 'Bearer '

  async function ask(call: Call): Promise<unknown> {
    const { app, verb, subject } = call
    const before = breakers.get(app) ?? CLOSED
    const admitted = admit(before, clock.now())
    if (admitted === undefined) throw new ProviderError('throttled', `Fly did not answer for ${app}: it is left alone.`)
    breakers.set(app, admitted)
    const isTrial = admitted.isTrying && !before.isTrying
    let became: 'unsent' | 'answered' | 'down' = 'unsent'
    try {
      await turn(verb, subject)
      await demandStill(call)
      became = 'down'
      const { code, text, requestId } = await send(call)
      if (!saysDown(code)) became = 'answered'
      if (code >= 200 && code < 300) return parse(text)
      const { error, status } = bodyOf(text)
      const fault = faultOf(verb, { code, error, status })
      const sentence = `Fly answers ${code} to ${verb} of ${subject}: ${error.slice(0, 300)} (request ${requestId}).`
      if (fault === 'nameTaken') throw new NameTaken(sentence)
      throw new ProviderError(fault, sentence)
    } catch (error) {
      if (error instanceof ProviderError || error instanceof NameTaken) throw error
      became = 'down'
      throw new ProviderError('ambiguous', `Fly does not answer to ${verb} of ${subject}.`, { cause: error })
    } finally {
      const current = breakers.get(app) ?? CLOSED
      const isUnsent = became === 'unsent'
      breakers.set(app, isUnsent ? withdraw(current, isTrial) : settle(current, became === 'down', clock.now()))
    }
  }

  /** Whoever cannot say whether it still holds has nothing asked. */
  async function demandStill({ verb, subject, mayAct }: Call): Promise<void> {
    if (mayAct === undefined) return
    const may = await mayAct().catch((cause: unknown) => {
      throw new ProviderError('throttled', `It is not known whether ${verb} of ${subject} is still to be.`, { cause })
    })
    if (!may) throw new ProviderError('state', `What ${verb} of ${subject} was decided on holds no more.`)
  }

  async function send({ method, path, body }: Call): Promise<{ code: number; text: string; requestId: string }> {
    const late = new AbortController()
    const deadline = clock.sleep(CALL_MS_MAX, late.signal).then(
      () => late.abort(new Error(`no answer within ${CALL_MS_MAX} ms`)),
      () => {},
    )
    try {
      const response = await request(`${base}${path}`, {
        dispatcher: agent,
        method,
        signal: late.signal,
        headers: {
          authorization: `${scheme}${token.reveal()}`,
          'user-agent': 'senmon',
          ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      })
      const requestId = String(response.headers['fly-request-id'] ?? 'unknown')
      return { code: response.statusCode, text: await readText(response.body), requestId }
    } finally {
      late.abort(new Error('answered'))
      await deadline
    }
  }

  const machinePath = (app: string, id: string): string =>
    `/apps/${encodeURIComponent(app)}/machines/${encodeURIComponent(id)}`
  async function act(verb: FlyVerb, app: string, id: string, body: object, mayAct?: MayAct): Promise<void> {
    await ask({ verb, app, subject: id, method: 'POST', path: `${machinePath(app, id)}/${verb}`, body, mayAct })
  }

  async function order(
    app: string,
    { name, config, isLaunched }: FlyOrder,
    region: string | null,
  ): Promise<FlyMachine> {
    const body = {
      name,
      config,
      skip_secrets: true,
      skip_service_registration: true,
      ...(isLaunched ? {} : { skip_launch: true }),
      ...(region === null ? {} : { region }),
    }
    const path = `/apps/${encodeURIComponent(app)}/machines`
    const made = parseFlyMachine(await ask({ verb: 'create', app, subject: app, method: 'POST', path, body }))
    if (made === undefined)
      throw new ProviderError('ambiguous', `Fly answers to the order of ${name} without a machine.`)
    return made
  }

  /** Tries the regions in turn where there is no room. */
  async function orderAnywhere(app: string, wanted: FlyOrder): Promise<FlyMachine> {
    const regions = regionsWithRoom(wanted.regions, full, clock.now())
    for (const [i, region] of regions.entries()) {
      try {
        const made = await order(app, wanted, region)
        full.delete(region)
        return made
      } catch (error) {
        if (!(error instanceof ProviderError) || error.fault !== 'capacity') throw error
        full.set(region, regionIsFull(full.get(region), clock.now()))
        log.warn('A region has no room for a machine.', { app, region, error })
        if (i === regions.length - 1) throw error
      }
    }
    return await order(app, wanted, null)
  }

  async function find(app: string, name: string, launchId: string): Promise<FlyMachine | undefined> {
    const path = `/apps/${encodeURIComponent(app)}/machines?metadata.launch_id=${encodeURIComponent(launchId)}`
    const found = parseFlyMachines(await ask({ verb: 'list', app, subject: app, method: 'GET', path }))
    // The filter may not be honoured: what is not ours is left out here as well.
    return found?.find((one) => one.name === name || metadataOf(one)['launch_id'] === launchId)
  }

  return {
    find,
    async create(app, wanted) {
      const before = unsure.has(wanted.name) ? await find(app, wanted.name, wanted.launchId) : undefined
      if (before !== undefined) return before
      try {
        const made = await orderAnywhere(app, wanted)
        unsure.delete(wanted.name)
        return made
      } catch (error) {
        const isUnsure = error instanceof NameTaken || (error instanceof ProviderError && error.fault === 'ambiguous')
        if (!isUnsure) throw error
        unsure.add(wanted.name)
        for (const ms of FIND_MS) {
          await clock.sleep(ms)
          const known = await find(app, wanted.name, wanted.launchId).catch(() => undefined)
          if (known !== undefined) return known
        }
        if (error instanceof ProviderError) throw error
        throw new ProviderError('ambiguous', `The name ${wanted.name} is taken, and its machine is not found.`)
      }
    },
    async look(app, id) {
      const path = machinePath(app, id)
      const found = parseFlyMachine(await ask({ verb: 'look', app, subject: id, method: 'GET', path }))
      if (found === undefined) throw new ProviderError('ambiguous', `Fly describes no machine when asked for ${id}.`)
      return found
    },
    async list(app) {
      const path = `/apps/${encodeURIComponent(app)}/machines`
      const found = parseFlyMachines(await ask({ verb: 'list', app, subject: app, method: 'GET', path }))
      if (found === undefined) throw new ProviderError('ambiguous', `Fly lists no machines of ${app}.`)
      return found
    },
    async regions() {
      const path = '/platform/regions'
      const found = parseRegions(await ask({ verb: 'list', app: 'platform', subject: 'regions', method: 'GET', path }))
      if (found === undefined) throw new ProviderError('ambiguous', 'Fly names no regions.')
      return found
    },
    start: (app, id) => act('start', app, id, {}),
    // At once: a machine that is stopped has no job, or one that is nobody's any more.
    stop: (app, id, mayAct) => act('stop', app, id, { signal: 'SIGTERM', timeout: '5s' }, mayAct),
    suspend: (app, id, mayAct) => act('suspend', app, id, {}, mayAct),
    async destroy(app, id, mayAct) {
      try {
        const path = `${machinePath(app, id)}?force=true`
        await ask({ verb: 'destroy', app, subject: id, method: 'DELETE', path, mayAct })
      } catch (error) {
        if (!(error instanceof ProviderError) || error.fault !== 'gone') throw error
      }
    },
    close: () => agent.close(),
  }
}

class NameTaken extends Error {}

function parse(text: string): unknown {
  try {
    return text === '' ? {} : JSON.parse(text)
  } catch (cause) {
    throw new Error('Fly answers something else than JSON', { cause })
  }
}

function bodyOf(text: string): { readonly error: string; readonly status: string | null } {
  try {
    const body: unknown = JSON.parse(text)
    if (typeof body !== 'object' || body === null) return { error: text, status: null }
    const { error, status } = body as { readonly error?: unknown; readonly status?: unknown } // looked at below
    return { error: typeof error === 'string' ? error : text, status: typeof status === 'string' ? status : null }
  } catch {
    return { error: text, status: null }
  }
}

async function readText(body: Dispatcher.ResponseData['body']): Promise<string> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of body as AsyncIterable<Buffer>) {
    bytes += chunk.length
    if (bytes > ANSWER_BYTES_MAX) throw new Error(`Fly answers more than ${ANSWER_BYTES_MAX} bytes`)
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString('utf8')
}
