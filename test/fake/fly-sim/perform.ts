/**
 * The simulated platform as one step: a world, a moment and a command give answers to callers and effects on guests.
 * Synchronous, without I/O; it moves the world it is given. Two worlds of one seed that perform the same commands at the
 * same moments answer the same.
 *
 *   FS7 Same seed, same commands: the same answers and effects.
 *   FS8 A call that is made is answered once, or its connection is reset once.
 */
import { answer, endWait, type Reply } from './calls.ts'
import { drawFrom, openStream, type Stream } from './draws.ts'
import { load, strike, type FaultRule, type Occasion } from './fault.ts'
import { come, exited, killGuest, meet, migrate, type Exit } from './life.ts'
import { routeOf, type Action, type Route } from './routes.ts'
import type { Answer, Effect, GuestFate, Held, LogEntry, World } from './world.ts'
import { schedule } from './world.ts'

export interface Request {
  readonly method: string
  /** From `/v1` on, with its query. */
  readonly path: string
  readonly body: string
  /** As in the header `Authorization`; ignored for a call by a machine on its own socket. */
  readonly authorization: string | undefined
  readonly nonce: string | undefined
  /** The machine whose socket it came by. */
  readonly by?: string | undefined
}

/** What its operator does to a machine: `lose` is the loss of a suspended one's memory. */
export type Fate = GuestFate | { readonly as: 'kill' } | { readonly as: 'lose' } | { readonly as: 'migrate' }

export type Command =
  /** Time has passed. */
  | { readonly type: 'tick' }
  /** `id` is the caller's, for the answer; each is used once. */
  | { readonly type: 'request'; readonly id: number; readonly request: Request }
  /** Its caller has gone. */
  | { readonly type: 'cut'; readonly id: number }
  | { readonly type: 'exited'; readonly machineId: string; readonly boot: number; readonly exit: Exit }
  | { readonly type: 'executed'; readonly id: number; readonly outcome: ExecOutcome }
  | { readonly type: 'faults'; readonly rules: readonly FaultRule[]; readonly replace: boolean }
  /** MiB of each host of a region, and what an organization may use of it. */
  | {
      readonly type: 'capacity'
      readonly region: string
      readonly hosts?: readonly number[]
      readonly quotaMb?: number
    }
  | {
      readonly type: 'machine'
      readonly machineId: string
      readonly fate: Fate
    }

export type ExecOutcome =
  | { readonly exit_code: number; readonly exit_signal?: number; readonly stdout: string; readonly stderr: string }
  | { readonly timedOut: true }

export interface Outcome {
  readonly answers: readonly Answer[]
  readonly effects: readonly Effect[]
}

/** Everything that has come due by `now` happens first, in the order of its moments. `now` never goes back. */
export function perform(world: World, now: number, command: Command): Outcome {
  world.answers = []
  world.effects = []
  comeDue(world, now)
  world.now = Math.max(world.now, now)
  obey(world, command)
  // What takes no time has happened by the end of the step.
  comeDue(world, now)
  const answers = world.answers.filter(({ id, status }) => {
    const running = world.running.get(id)
    if (running !== undefined) running.entry.status = status
    return world.running.delete(id)
  })
  return { answers, effects: world.effects }
}

function comeDue(world: World, now: number): void {
  for (let timer = world.timers[0]; timer !== undefined && timer.at <= now; timer = world.timers[0]) {
    world.timers.shift()
    world.now = Math.max(world.now, timer.at)
    fire(world, timer)
  }
}

/** When the next thing happens by itself; undefined for never. */
export function nextMoment(world: World): number | undefined {
  return world.timers[0]?.at
}

function fire(world: World, timer: World['timers'][number]): void {
  if (timer.type === 'answer') return void world.answers.push(timer.answer)
  if (timer.type === 'waitEnd') {
    const reply = endWait(world, timer.id)
    if (reply !== undefined) world.answers.push({ id: timer.id, ...reply })
    return
  }
  const held = world.machines.get(timer.machineId)
  if (held === undefined) return
  if (timer.type === 'guest') {
    if (held.boot === timer.boot) meet(world, held, timer.what)
  } else if (held.turn === timer.turn) come(world, held, timer.what)
}

function obey(world: World, command: Command): void {
  switch (command.type) {
    case 'tick':
      return
    case 'request':
      return take(world, command.id, command.request)
    case 'cut':
      world.waiters.delete(command.id)
      world.running.delete(command.id)
      return
    case 'exited': {
      const held = world.machines.get(command.machineId)
      if (held !== undefined) exited(world, held, command.boot, command.exit)
      return
    }
    case 'executed':
      return executed(world, command.id, command.outcome)
    case 'faults':
      world.rules = [...(command.replace ? [] : world.rules), ...command.rules.map(load)]
      return
    case 'capacity': {
      const room = world.rooms.get(command.region) ?? {
        hosts: [],
        quotaMb: Number.POSITIVE_INFINITY,
        images: new Set(),
      }
      if (command.hosts !== undefined) room.hosts = [...command.hosts]
      if (command.quotaMb !== undefined) room.quotaMb = command.quotaMb
      world.rooms.set(command.region, room)
      return
    }
    case 'machine': {
      const held = world.machines.get(command.machineId)
      if (held !== undefined) meddle(world, held, command.fate)
    }
  }
}

function meddle(world: World, held: Held, fate: Fate): void {
  if (fate.as === 'lose') {
    if (held.state === 'suspended') killGuest(world, held)
  } else if (fate.as === 'migrate') {
    if (held.state === 'suspended' || held.state === 'stopped') migrate(world, held)
  } else if (fate.as === 'kill') {
    if (held.alive) world.effects.push({ type: 'kill', machineId: held.id, boot: held.boot })
  } else meet(world, held, fate)
}

function take(world: World, id: number, request: Request): void {
  const url = new URL(request.path, 'http://sim')
  const route = url.pathname.startsWith('/v1/') ? routeOf(request.method, url.pathname.slice(3)) : undefined
  const held = world.machines.get(route?.machine ?? '')
  const entry: LogEntry = {
    at: world.now,
    action: route?.action ?? 'unknown',
    app: route?.app ?? null,
    machine: route?.machine ?? null,
    query: url.search,
    by: request.by === undefined ? 'token' : 'machine',
    status: null,
  }
  world.requests.push(entry)
  const stream = held?.stream ?? world.apps.get(route?.app ?? '')?.stream ?? openStream(world.options.seed, 'call', id)
  world.running.set(id, { entry, stream })
  const headers = { 'fly-request-id': `01SIM${String(id).padStart(21, '0')}-sim` }
  const reply = (found: Reply, extra: Readonly<Record<string, string>> = {}): void => {
    const ms = drawFrom(stream, world.timing.apiMs)
    const sent = { id, ...found, headers: { ...headers, ...extra } }
    if (ms === 0) world.answers.push(sent)
    else schedule(world, { at: world.now + ms, type: 'answer', answer: sent })
  }
  const reset = (afterMs = 0): void =>
    schedule(world, { at: world.now + afterMs, type: 'answer', answer: { id, status: 0, body: null } })

  if (route === undefined) return reply({ status: 404, body: { error: 'not found' } })
  const occasion: Occasion = {
    now: world.now,
    action: route.action,
    app: route.app,
    machine: held ?? nameIn(route, request.body),
    region: held?.region,
  }
  const down = strike(world.rules, 'F15', stream, occasion)
  if (down?.as === 'timeout') return reset(60_000)
  if (down !== undefined) return reply({ status: Number(down.as), body: { error: 'http: server closed' } })
  if (strike(world.rules, 'F2', stream, occasion, ({ commit }) => !commit)) return reset()
  const no = refusal(world, request, route)
  if (no !== undefined) return reply(no)
  const isStorm = strike(world.rules, 'F3', stream, occasion) !== undefined
  if (isStorm || !mayCall(world, route)) {
    const extra: Readonly<Record<string, string>> = world.options.retryAfter === true ? { 'retry-after': '1' } : {}
    return reply({ status: 429, body: { error: 'rate limit exceeded' } }, extra)
  }
  const lost = route.action === 'create' ? strike(world.rules, 'F1', stream, occasion) : undefined
  const lostText = lost?.status === 408 ? 'deadline_exceeded: context deadline exceeded' : 'bad gateway'
  if (lost?.commit === false) return reply({ status: lost.status, body: { error: lostText } })

  const call = {
    id,
    route,
    query: url.searchParams,
    body: request.body,
    nonce: request.nonce,
    owner: request.by ?? request.authorization ?? '',
  }
  const isLong = route.action === 'wait' || route.action === 'exec'
  if (!isLong && strike(world.rules, 'F10', stream, occasion)) answer(world, call)
  const found = answer(world, call)
  if (lost !== undefined) return reply({ status: lost.status, body: { error: lostText } })
  if (strike(world.rules, 'F2', stream, occasion, ({ commit }) => commit)) {
    world.waiters.delete(id)
    return reset()
  }
  if (found !== undefined) reply(reshape(world, stream, occasion, route.action, found))
}

/** A create is known by the name that it asks for. */
function nameIn({ action }: Route, body: string): { id: string; name: string } | undefined {
  if (action !== 'create') return undefined
  try {
    const json: unknown = JSON.parse(body)
    if (typeof json === 'object' && json !== null && 'name' in json && typeof json.name === 'string')
      return { id: '', name: json.name }
  } catch {
    // What is no JSON has no name.
  }
  return undefined
}

const READS: ReadonlySet<Action> = new Set([
  'app_list',
  'app_get',
  'list',
  'get',
  'wait',
  'events',
  'versions',
  'lease_get',
  'metadata_get',
  'regions',
  'placements',
  'org_machines',
])
const UNAUTHORIZED: Reply = { status: 401, body: { error: 'Authenticate: token validation error' } }
const FORBIDDEN: Reply = { status: 403, body: { error: 'forbidden' } }

function refusal(world: World, request: Request, route: Route): Reply | undefined {
  if (request.by !== undefined) return route.machine === request.by ? undefined : FORBIDDEN
  const [, token] = /^(?:Bearer|FlyV1) (.+)$/.exec(request.authorization ?? '') ?? []
  const { tokens } = world.options
  const scope = token !== undefined && Object.hasOwn(tokens, token) ? tokens[token] : undefined
  if (scope === undefined) return UNAUTHORIZED
  const isOwn = 'app' in scope && route.app === scope.app
  const isAllowed =
    scope.type === 'org' ||
    (scope.type === 'read' && READS.has(route.action)) ||
    (scope.type === 'app' && (isOwn || route.action === 'regions' || route.action === 'placements')) ||
    (scope.type === 'exec' && isOwn && route.action === 'exec' && scope.commands.includes(commandIn(request.body)))
  return isAllowed ? undefined : FORBIDDEN
}

function commandIn(body: string): string {
  try {
    const json: unknown = JSON.parse(body)
    if (typeof json === 'object' && json !== null && 'command' in json && Array.isArray(json.command))
      return json.command.join(' ')
  } catch {
    // What is no JSON is no command that anybody may run.
  }
  return ''
}

/** One a second for each action and whom it is about, three at once; reads of one machine five and ten. */
function mayCall(world: World, route: Route): boolean {
  if (world.limits === 0) return true
  const [perSecond, burst] = route.action === 'get' ? [5, 10] : route.action === 'app_delete' ? [100 / 60, 100] : [1, 3]
  const about = route.action === 'app_delete' ? 'org' : (route.machine ?? route.app ?? 'org')
  const key = `${route.action} ${about}`
  const bucket = world.buckets.get(key) ?? { level: burst, at: world.now }
  const refilled = ((world.now - bucket.at) / 1_000) * perSecond * world.limits
  const level = Math.min(burst, bucket.level + refilled)
  world.buckets.set(key, { level: level >= 1 ? level - 1 : level, at: world.now })
  return level >= 1
}

function executed(world: World, id: number, outcome: ExecOutcome): void {
  if (!('timedOut' in outcome)) return void world.answers.push({ id, status: 200, body: outcome })
  const error = 'deadline_exceeded: Post "http://unix/v1/exec": context deadline exceeded (Client.Timeout exceeded)'
  world.answers.push({ id, status: 408, body: { error } })
}

/** F18: shapes that the documentation does not promise away. */
function reshape(world: World, stream: Stream, occasion: Occasion, action: Action, reply: Reply): Reply {
  if (reply.status !== 200 || !(action === 'get' || action === 'create' || action === 'list')) return reply
  const odd = strike(world.rules, 'F18', stream, occasion)
  if (odd === undefined) return reply
  const change = (machine: unknown): unknown => {
    if (typeof machine !== 'object' || machine === null) return machine
    const events = 'events' in machine && Array.isArray(machine.events) ? machine.events : []
    const optional = new Set(['events', 'image_ref', 'version', 'cordoned', 'private_ip'])
    const shapes: Readonly<Record<typeof odd.as, object>> = {
      truncated: { ...machine, events: events.slice(0, 1) },
      // Only a read may be unsure: a create that says so would be no create.
      unknown_state: action === 'create' ? machine : { ...machine, state: 'hibernating' },
      extra: { ...machine, flux: { capacitor: true }, checks: [{ name: 'bg_deployments_compat', status: 'passing' }] },
      missing: Object.fromEntries(Object.entries(machine).filter(([name]) => !optional.has(name))),
    }
    return shapes[odd.as]
  }
  return { ...reply, body: Array.isArray(reply.body) ? reply.body.map(change) : change(reply.body) }
}

/** What a guest without processes would do: ends when it is told to, and answers any command with nothing. */
export function fakeGuest(effect: Effect): Command | undefined {
  switch (effect.type) {
    case 'signal':
      return /^(SIG)?(HUP|USR1|USR2)$|^(1|10|12)$/.test(effect.signal)
        ? undefined
        : exitOf(effect.machineId, effect.boot, { code: 0, signal: 0, oom: false })
    case 'kill':
      return exitOf(effect.machineId, effect.boot, { code: 137, signal: 9, oom: false })
    case 'exec':
      return { type: 'executed', id: effect.id, outcome: { exit_code: 0, stdout: '', stderr: '' } }
    default:
      return undefined
  }
}

function exitOf(machineId: string, boot: number, exit: Exit): Command {
  return { type: 'exited', machineId, boot, exit }
}
