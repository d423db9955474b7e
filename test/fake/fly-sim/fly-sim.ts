/**
 * Fly's Machines API on a port of this computer: `/v1/…` as Fly answers it, `/__sim/…` for whoever drives it.
 *
 *     const sim = await openFlySim({ seed: 1, profile: 'zero', clock: { type: 'virtual' } })
 *     sim.url                      'http://127.0.0.1:…', what FLY_FLAPS_BASE_URL would say
 *     sim.issuer                   what stands in place of https://oidc.fly.io/<org>
 *     sim.tokens.org               'Bearer' tokens: of the organization, and read-only; `sim.deployToken(app)` for one app
 *     await sim.advance(1_000)     a virtual clock stands still until it is moved; calls that take time are answered then
 *     sim.faults([{ fault: 'F1', commit: true, status: 408, times: 1 }])
 *     sim.machines(), sim.requests()
 *     await sim.close()
 *
 * With `clock: { type: 'real', now, scale: 10 }` a second here is ten on the platform. The driver says what runs in a
 * machine: by default nothing (`fakeGuest`); `processDriver` runs real processes. The profile `zero` takes no time and
 * limits nothing, `fast` is fifty times as fast as Fly and `cruel` as slow as Fly with every fault at a few in a hundred.
 *
 * `/__sim/` takes and gives JSON: POST clock/advance {ms}, POST faults [rule…] (GET, DELETE), GET machines, GET requests,
 * POST regions/{region}/capacity {memory_mb, hosts?, quota_mb?},
 * POST machines/{id}/{kill|lose_snapshot|migrate|hang|oom|exit|host}, POST reset {seed?, profile?},
 * GET oidc/.well-known/jwks, GET logs.
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { z } from 'zod'
import { faultRule, strike, type FaultName, type FaultRule } from './fault.ts'
import { fakeGuest, nextMoment, perform, type Command, type Fate, type Request } from './perform.ts'
import type { Machine } from './shapes.ts'
import { TIMINGS, type Profile } from './timing.ts'
import type { Answer, Effect, LogEntry, Scope, World, WorldOptions } from './world.ts'
import { occasionOf, openWorld, show } from './world.ts'

export type SimClock =
  | { readonly type: 'virtual'; readonly startMs?: number }
  /** `now` in ms that only rise; `scale` seconds of the platform pass in one of them (1). */
  | { readonly type: 'real'; readonly now: () => number; readonly scale?: number }

/** What runs in the machines. */
export interface Driver {
  act(effect: Effect): void
  /** Lines that guests have said, oldest first, as far as they were kept. */
  logs(): readonly unknown[]
  /** The keys that guests' identity tokens are signed with, as a JWKS. */
  jwks(): object
  /** Nothing of it is left afterwards. */
  close(): Promise<void>
}

/** What a driver has of the simulator. */
export interface Platform {
  /** Epoch ms of the platform. */
  now(): number
  tell(command: Command): void
  /** A call by a machine on its own socket. */
  call(request: Request): Promise<Answer>
  /** Whether a fault strikes that machine now. */
  strike(fault: FaultName, machineId: string, suits?: (rule: FaultRule) => boolean): FaultRule | undefined
  show(machineId: string): Machine | undefined
  appOf(machineId: string): string | undefined
  /** Who signs the tokens of guests; its keys are below it, as those of https://oidc.fly.io/<org> are. */
  issuer(): string
}

export interface FlySimOptions extends Omit<WorldOptions, 'now' | 'tokens'> {
  readonly clock: SimClock
  readonly tokens?: Readonly<Record<string, Scope>>
  readonly driver?: (platform: Platform) => Driver | Promise<Driver>
  /** 0, any that is free, by default. */
  readonly port?: number
}

export interface FlySim {
  readonly url: string
  readonly issuer: string
  readonly tokens: { readonly org: string; readonly read: string }
  /** Valid for this app alone, whether it exists or not. */
  deployToken(app: string): string
  /** Epoch ms of the platform. */
  now(): number
  /** Moves a virtual clock, and lets what comes due happen on its way. Throws for a real one. */
  advance(ms: number): Promise<void>
  /** Moves a virtual clock until nothing is left to come, or by `limitMs`. */
  runUntilIdle(limitMs?: number): Promise<void>
  faults(rules: readonly FaultRule[]): void
  /** No fault from here on, those of the profile included. */
  clearFaults(): void
  capacity(region: string, room: { readonly hosts?: readonly number[]; readonly quotaMb?: number }): void
  befall(machineId: string, fate: Fate): void
  /** As they are, rather than as they are read; those that were destroyed a moment ago included. */
  machines(): readonly (Machine & { readonly app: string; readonly boot: number; readonly alive: boolean })[]
  requests(): readonly LogEntry[]
  /** The same as over HTTP. `status` 0 is a connection that was reset. */
  call(method: string, path: string, body?: unknown, headers?: { token?: string; nonce?: string }): Promise<Answer>
  /** A world without apps; guests are discarded. */
  reset(options?: { readonly seed?: string | number; readonly profile?: Profile }): void
  logs(): readonly unknown[]
  close(): Promise<void>
}

export async function openFlySim(options: FlySimOptions): Promise<FlySim> {
  const { clock } = options
  const tokens: Record<string, Scope> = { 'sim-org': { type: 'org' }, 'sim-read': { type: 'read' }, ...options.tokens }
  const scale = clock.type === 'real' ? (clock.scale ?? 1) : 1
  let virtual = clock.type === 'virtual' ? (clock.startMs ?? 1_700_000_000_000) : 0
  const openedAt = clock.type === 'real' ? clock.now() : 0
  const now = (): number =>
    clock.type === 'virtual' ? virtual : Math.floor(openedAt + (clock.now() - openedAt) * scale)
  let world: World = openWorld({ ...options, tokens, now: now() })
  const waiting = new Map<number, (answer: Answer) => void>()
  let calls = 0
  let alarm: NodeJS.Timeout | undefined
  let isOpen = true
  let url = ''

  const platform: Platform = {
    now,
    tell,
    call: ask,
    strike(fault, machineId, suits) {
      const held = world.machines.get(machineId)
      return held && strike(world.rules, fault, held.stream, occasionOf(world, held), suits)
    },
    show(machineId) {
      const held = world.machines.get(machineId)
      return held && show(held)
    },
    appOf: (machineId) => world.machines.get(machineId)?.app,
    issuer: () => issuerAt(url),
  }
  const driver = (await options.driver?.(platform)) ?? emptyDriver(tell)

  function tell(command: Command): void {
    if (!isOpen) return
    const { answers, effects } = perform(world, now(), command)
    for (const effect of effects) driver.act(effect)
    for (const answer of answers) {
      waiting.get(answer.id)?.(answer)
      waiting.delete(answer.id)
    }
    wake()
  }

  /** Sets the alarm of a real clock for what comes next. */
  function wake(): void {
    const next = nextMoment(world)
    clearTimeout(alarm)
    if (clock.type === 'virtual' || next === undefined) return
    const ms = Math.min(2 ** 30, Math.max(0, Math.ceil((next - now()) / scale)))
    alarm = setTimeout(() => tell({ type: 'tick' }), ms)
  }

  function ask(request: Request, signal?: AbortSignal): Promise<Answer> {
    const id = ++calls
    return new Promise((resolve) => {
      waiting.set(id, resolve)
      signal?.addEventListener('abort', () => {
        waiting.delete(id)
        tell({ type: 'cut', id })
      })
      tell({ type: 'request', id, request })
    })
  }

  /** Whoever was answered may act, and call again, before time goes on. */
  const breathe = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

  async function advanceTo(end: number): Promise<void> {
    if (clock.type !== 'virtual') throw new Error('a real clock moves by itself')
    for (let next = nextMoment(world); next !== undefined && next <= end; next = nextMoment(world)) {
      virtual = Math.max(virtual, next)
      tell({ type: 'tick' })
      await breathe()
    }
    virtual = Math.max(virtual, end)
    tell({ type: 'tick' })
  }

  function reset(fresh: { seed?: string | number; profile?: Profile } = {}): void {
    for (const held of world.machines.values()) driver.act({ type: 'discard', machineId: held.id })
    for (const [id, resolve] of waiting) resolve({ id, status: 0, body: null })
    waiting.clear()
    world = openWorld({ ...options, ...fresh, tokens, now: now() })
    wake()
  }

  const sim: Omit<FlySim, 'url' | 'issuer' | 'close'> = {
    tokens: { org: 'sim-org', read: 'sim-read' },
    deployToken(app) {
      const token = `sim-deploy-${app}`
      tokens[token] = { type: 'app', app }
      return token
    },
    now,
    advance: (ms) => advanceTo(virtual + ms),
    async runUntilIdle(limitMs = 3_600_000) {
      const end = virtual + limitMs
      for (let next = nextMoment(world); next !== undefined && next <= end; next = nextMoment(world))
        await advanceTo(next)
    },
    faults: (rules) => tell({ type: 'faults', rules, replace: false }),
    clearFaults: () => tell({ type: 'faults', rules: [], replace: true }),
    capacity: (region, room) => tell({ type: 'capacity', region, ...room }),
    befall: (machineId, fate) => tell({ type: 'machine', machineId, fate }),
    machines: () =>
      [...world.machines.values()].map((held) => ({
        ...show(held),
        app: held.app,
        boot: held.boot,
        alive: held.alive,
      })),
    requests: () => world.requests,
    call: (method, path, body, { token = 'sim-org', nonce } = {}) =>
      ask({
        method,
        path,
        body: body === undefined ? '' : JSON.stringify(body),
        authorization: `Bearer ${token}`,
        nonce,
      }),
    reset,
    logs: () => driver.logs(),
  }

  const server = createServer((request, response) => {
    serve(request, response).catch((error: unknown) => {
      response.writeHead(500).end(String(error))
    })
  })
  server.keepAliveTimeout = 60_000

  async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = request.url ?? '/'
    let body = ''
    for await (const chunk of request.setEncoding('utf8')) body += String(chunk)
    if (path.startsWith('/__sim/')) {
      const found = await drive(request.method ?? 'GET', path.slice('/__sim/'.length), body)
      return send(response, { id: 0, ...found })
    }
    const gone = new AbortController()
    response.on('close', () => gone.abort())
    const { authorization } = request.headers
    const nonce = request.headers['fly-machine-lease-nonce']
    const asked = { method: request.method ?? 'GET', path, body, authorization, nonce: nonce?.toString() }
    const answer = await ask(asked, gone.signal)
    if (answer.status === 0) request.socket.resetAndDestroy()
    else send(response, answer)
  }

  async function drive(method: string, path: string, body: string): Promise<{ status: number; body: unknown }> {
    const [noun = '', name = '', verb = ''] = path.split('/')
    const json: unknown = body === '' ? {} : JSON.parse(body)
    const done = { status: 200, body: { ok: true } }
    const wrong = (error: z.ZodError) => ({ status: 400, body: { error: z.prettifyError(error) } })
    switch (`${method} ${noun}`) {
      case 'POST clock': {
        const asked = z.object({ ms: z.number().min(0) }).safeParse(json)
        if (!asked.success) return wrong(asked.error)
        if (clock.type === 'real') return { status: 409, body: { error: 'a real clock moves by itself' } }
        await sim.advance(asked.data.ms)
        return { status: 200, body: { now: now() } }
      }
      case 'POST faults': {
        const asked = z.array(faultRule).safeParse(json)
        if (!asked.success) return wrong(asked.error)
        sim.faults(asked.data)
        return done
      }
      case 'GET faults':
        return { status: 200, body: world.rules }
      case 'DELETE faults':
        sim.clearFaults()
        return done
      case 'GET machines':
        return { status: 200, body: sim.machines() }
      case 'GET requests':
        return { status: 200, body: sim.requests() }
      case 'GET logs':
        return { status: 200, body: sim.logs() }
      case 'GET oidc':
        return { status: 200, body: driver.jwks() }
      case 'POST regions': {
        const shape = {
          memory_mb: z.int().optional(),
          hosts: z.int().min(1).default(1),
          quota_mb: z.number().optional(),
        }
        const asked = z.object(shape).safeParse(json)
        if (!asked.success) return wrong(asked.error)
        const { memory_mb: memoryMb, hosts, quota_mb: quotaMb } = asked.data
        sim.capacity(name, {
          ...(memoryMb === undefined
            ? {}
            : { hosts: Array.from({ length: hosts }, () => Math.floor(memoryMb / hosts)) }),
          ...(quotaMb === undefined ? {} : { quotaMb }),
        })
        return done
      }
      case 'POST machines': {
        const fate = FATES[verb]
        if (fate === undefined) return { status: 404, body: { error: `no such fate: ${verb}` } }
        sim.befall(name, fate)
        return done
      }
      case 'POST reset': {
        const profiles = Object.keys(TIMINGS) as readonly Profile[]
        const shape = { seed: z.union([z.string(), z.number()]).optional(), profile: z.enum(profiles).optional() }
        const asked = z.object(shape).safeParse(json)
        if (!asked.success) return wrong(asked.error)
        const { seed, profile } = asked.data
        reset({ ...(seed === undefined ? {} : { seed }), ...(profile === undefined ? {} : { profile }) })
        return done
      }
      default:
        return { status: 404, body: { error: 'not found' } }
    }
  }

  await new Promise<void>((resolve) => server.listen(options.port ?? 0, '127.0.0.1', resolve))
  const address = server.address()
  if (typeof address !== 'object' || address === null) throw new Error('the simulator has no port')
  url = `http://127.0.0.1:${address.port}`
  return {
    ...sim,
    url,
    issuer: issuerAt(url),
    async close() {
      isOpen = false
      clearTimeout(alarm)
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
      await driver.close()
    },
  }
}

const issuerAt = (url: string): string => `${url}/__sim/oidc`

const FATES: Readonly<Record<string, Fate>> = {
  kill: { as: 'kill' },
  lose_snapshot: { as: 'lose' },
  migrate: { as: 'migrate' },
  hang: { as: 'hang' },
  oom: { as: 'oom' },
  exit: { as: 'exit' },
  host: { as: 'host', backAfterMs: null },
}

function send(response: ServerResponse, { status, body, headers }: Answer): void {
  const text = body === null ? '' : JSON.stringify(body)
  response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(text)
}

/** Machines in which nothing runs. They answer after the call that they answer has been performed. */
function emptyDriver(tell: (command: Command) => void): Driver {
  return {
    act(effect) {
      const said = fakeGuest(effect)
      if (said !== undefined) queueMicrotask(() => tell(said))
    },
    logs: () => [],
    jwks: () => ({ keys: [] }),
    close: async () => {},
  }
}
