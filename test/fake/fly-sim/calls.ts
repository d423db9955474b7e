/**
 * What each call of the API answers and does. Where Fly's own behaviour is not known, a comment says so.
 *
 *   FS5 A call that is refused changes no machine.
 *   FS6 While a lease is held, whoever does not show its nonce changes nothing.
 */
import { sha256 } from '../../../schema/hash.ts'
import type { z } from 'zod'
import { drawHex, openStream } from './draws.ts'
import { strike } from './fault.ts'
import { destroy, isReached, launch, migrate, publish, replace, start, stop, suspend, waitedFor } from './life.ts'
import { MATRIX, type Condition, type MatrixAction } from './matrix.ts'
import type { Route } from './routes.ts'
import * as shapes from './shapes.ts'
import type { Held, World } from './world.ts'
import {
  hostWithRoom,
  machineNamed,
  memoryOf,
  newAddress,
  newInstance,
  occasionOf,
  readView,
  schedule,
  show,
  usedOn,
} from './world.ts'

export interface Call {
  readonly id: number
  readonly route: Route
  readonly query: URLSearchParams
  /** As it came. */
  readonly body: string
  readonly nonce: string | undefined
  /** Who holds the leases that this call takes. */
  readonly owner: string
}

export interface Reply {
  readonly status: number
  readonly body: unknown
}

const ok = (body: unknown = { ok: true }): Reply => ({ status: 200, body })
const refuse = (status: number, error: string, code?: string): Reply => ({
  status,
  body: { error, ...(code === undefined ? {} : { status: code }) },
})
const NO_ROOM = 'aborted: could not reserve resource for machine: insufficient memory available to fulfill request'
const MAX_WAIT_S = 60
const SUSPENDABLE_MB = 2_048

/** Undefined: it is answered later. */
export function answer(world: World, call: Call): Reply | undefined {
  const { route } = call
  if (route.machine !== undefined) return answerOfMachine(world, call, route.machine)
  switch (route.action) {
    case 'app_create':
      return createApp(world, call)
    case 'app_list': {
      const apps = [...world.apps.values()].filter(({ org }) => org === call.query.get('org_slug'))
      return ok({ total_apps: apps.length, apps: apps.map((app) => showApp(world, app.name)) })
    }
    case 'app_get':
      return world.apps.has(route.app ?? '') ? ok(showApp(world, route.app ?? '')) : refuse(404, 'app not found')
    case 'app_delete':
      return deleteApp(world, route.app ?? '')
    case 'create':
      return create(world, call)
    case 'list':
      return list(world, call)
    case 'regions':
      return ok({ Regions: [...world.rooms.keys()].map((code) => ({ code, name: code })), Nearest: 'iad' })
    case 'placements':
      return place(world, call)
    case 'org_machines':
      return listOrg(world, call)
    default:
      return refuse(404, 'not found')
  }
}

type Parsed<Shape> = { readonly value: Shape } | { readonly no: Reply }

/** An empty body is an empty object. Members that nobody knows go by. */
function parse<Shape>(text: string, shape: z.ZodType<Shape>, name: string): Parsed<Shape> {
  let json: unknown
  try {
    json = text === '' ? {} : JSON.parse(text)
  } catch {
    return { no: refuse(400, 'invalid_argument: request body is no JSON') }
  }
  if (Array.isArray(json)) return { no: refuse(400, `json: cannot unmarshal array into Go value of type main.${name}`) }
  const parsed = shape.safeParse(json)
  if (parsed.success) return { value: parsed.data }
  const [issue] = parsed.error.issues
  return { no: refuse(400, `invalid_argument: ${issue?.path.join('.') ?? ''}: ${issue?.message ?? 'wrong'}`) }
}

function createApp(world: World, call: Call): Reply {
  const parsed = parse(call.body, shapes.appBody, 'createAppRequest')
  if ('no' in parsed) return parsed.no
  const name = parsed.value.app_name ?? parsed.value.name ?? ''
  if (!/^[a-z0-9][a-z0-9-]*$/.test(name)) return refuse(422, 'Validation failed: Name is invalid')
  if (world.apps.has(name)) return refuse(422, 'Validation failed: Name has already been taken', 'name_taken')
  const stream = openStream(world.options.seed, 'app', name)
  const id = drawHex(stream, 12)
  const { org_slug: org, network = 'default' } = parsed.value
  world.apps.set(name, { id, name, org, network, createdAt: world.now, stream })
  return { status: 201, body: { id, created_at: world.now } }
}

function showApp(world: World, name: string): object {
  const app = world.apps.get(name)
  const machines = [...world.machines.values()].filter((held) => held.app === name && held.state !== 'destroyed')
  return {
    id: app?.id,
    name,
    status: machines.length > 0 ? 'deployed' : 'pending',
    machine_count: machines.length,
    network: app?.network,
    organization: { name: app?.org, slug: app?.org },
  }
}

function deleteApp(world: World, name: string): Reply {
  if (!world.apps.delete(name)) return refuse(404, 'app not found')
  for (const held of world.machines.values()) if (held.app === name && !isEnded(held)) destroy(world, held, 'user')
  return { status: 202, body: {} }
}

const isEnded = ({ state }: Held): boolean =>
  state === 'destroying' || state === 'destroyed' || state === 'launch_failed'

/** A sentence for a configuration that Fly would not take. */
function configFault(config: shapes.MachineConfig): string | undefined {
  if (config.image === '') return 'invalid_argument: config.image is required'
  if ((config.mounts?.length ?? 0) > 1) return 'invalid_argument: only 1 mount is supported'
  const guest = config.guest ?? { cpu_kind: 'shared', cpus: 1, memory_mb: 256 }
  const { cpu_kind: kind, cpus, memory_mb: memory } = guest
  if (![1, 2, 4, 6, 8, 10, 12, 14, 16].includes(cpus)) return `invalid_argument: invalid config.guest.cpus: ${cpus}`
  if (memory % 256 !== 0) return `invalid_argument: invalid config.guest.memory_mb: ${memory} is no multiple of 256`
  const [least, most] = kind === 'shared' ? [256, 2_048] : [2_048, 8_192]
  if (memory < least * cpus || memory > most * cpus)
    return `invalid_argument: invalid config.guest.memory_mb: ${memory} is not within ${least * cpus} and ${most * cpus}`
  return undefined
}

/** A region, or the first of an ordered list that has room; `any` is every region. */
function placeFor(world: World, wanted: string, memoryMb: number): { region: string; host: number } | Reply {
  const known = [...world.rooms.keys()]
  const named = wanted.split(',').flatMap((one) => (one === 'any' || one === '' ? known : [one]))
  const unknown = named.find((region) => !world.rooms.has(region))
  if (unknown !== undefined) return refuse(400, `invalid_argument: region '${unknown}' is unknown`)
  let no: Reply = refuse(409, NO_ROOM)
  for (const region of named) {
    const room = world.rooms.get(region)
    const used = room?.hosts.reduce((sum, _, host) => sum + usedOn(world, region, host), 0) ?? 0
    if (used + memoryMb > (room?.quotaMb ?? 0)) {
      no = overQuota(used, region)
      continue
    }
    const host = hostWithRoom(world, region, memoryMb)
    if (host !== undefined) return { region, host }
  }
  return no
}

function create(world: World, call: Call): Reply {
  const app = world.apps.get(call.route.app ?? '')
  if (app === undefined) return refuse(404, 'app not found')
  const parsed = parse(call.body, shapes.launchBody, 'createMachineRequest')
  if ('no' in parsed) return parsed.no
  const { config, skip_launch: skips = false } = parsed.value
  const fault = configFault(config)
  if (fault !== undefined) return refuse(422, fault)
  const name = parsed.value.name ?? `machine-${drawHex(app.stream, 6)}`
  const twin = machineNamed(world, app.name, name)
  // What Fly answers is not known.
  if (twin !== undefined)
    return refuse(422, `unique machine name violation, machine ID ${twin.id} already exists with name "${name}"`)
  const stream = openStream(world.options.seed, app.name, name, app.createdAt, countNamed(world, app.name, name))
  const wanted = parsed.value.region ?? 'any'
  const first = wanted.split(',')[0] ?? 'any'
  const occasion = { now: world.now, action: 'create', app: app.name, machine: { id: '', name }, region: first }
  const full = strike(world.rules, 'F4', stream, occasion)
  if (full !== undefined) return fullReply(full.as, first)
  const place = placeFor(world, wanted, memoryOf(config))
  if ('status' in place) return place
  const held: Held = {
    id: drawHex(stream, 14),
    app: app.name,
    name,
    region: place.region,
    host: place.host,
    createdAt: world.now,
    stream,
    state: 'created',
    turn: 0,
    since: world.now,
    before: 'created',
    updatedAt: world.now,
    instanceId: newInstance({ stream }, world.now),
    oldInstances: [],
    privateIp: newAddress(stream),
    config: { ...config, metadata: { ...config.metadata } },
    events: [],
    pulled: false,
    launches: !skips,
    boot: 0,
    alive: false,
    frozenAt: null,
    clean: true,
    reserved: !skips,
    stuck: false,
    stopWanted: false,
    deaf: false,
    doom: undefined,
    restarts: 0,
    activeUntil: 0,
    cordoned: false,
    hostStatus: 'ok',
    lease: undefined,
    views: [],
  }
  world.machines.set(held.id, held)
  const ttl = parsed.value.lease_ttl
  if (ttl !== undefined) held.lease = newLease(world, held, call.owner, '', ttl)
  launch(world, held)
  return ok({ ...show(held), ...(held.lease === undefined ? {} : { nonce: held.lease.nonce }) })
}

/** How many machines of that name there were: one after another draws anew. */
function countNamed(world: World, app: string, name: string): number {
  const key = `${app}/${name}`
  const count = world.named.get(key) ?? 0
  world.named.set(key, count + 1)
  return count
}

function fullReply(as: FullReason, region: string): Reply {
  const replies: Readonly<Record<FullReason, Reply>> = {
    quota: overQuota(1_024, region),
    reserve: refuse(409, NO_ROOM),
    volume: refuse(412, "insufficient resources to create new machine with existing volume 'vol_0000000000000000'"),
    no_capacity: refuse(400, 'no capacity'),
    insufficient: refuse(503, 'out of capacity', 'insufficient_capacity'),
  }
  return replies[as]
}

type FullReason = 'quota' | 'reserve' | 'volume' | 'no_capacity' | 'insufficient'

function overQuota(usedMb: number, region: string): Reply {
  const used = `organization "personal" is using ${usedMb} MB of memory in ${region}`
  return refuse(403, `${used} which is over the allowed quota. please consider other regions`)
}

function list(world: World, { route, query }: Call): Reply {
  if (!world.apps.has(route.app ?? '')) return refuse(404, 'app not found')
  const states = query.get('state')?.split(',')
  const wanted = [...query]
    .filter(([name]) => name.startsWith('metadata.'))
    .map(([name, value]) => [name.slice(9), value])
  const machines = [...world.machines.values()].flatMap((held) => {
    const view = held.app === route.app ? readView(world, held) : undefined
    if (view === undefined) return []
    if (query.has('region') && view.region !== query.get('region')) return []
    if (states !== undefined && !states.includes(view.state)) return []
    const metadata = view.config?.metadata ?? {}
    if (wanted.some(([key, value]) => metadata[key ?? ''] !== value)) return []
    const occasion = occasionOf(world, held, 'list')
    if (strike(world.rules, 'F9', held.stream, occasion, ({ as }) => as === 'omit')) return []
    if (query.get('summary') !== 'true') return [view]
    const { config: _config, events: _events, ...summary } = view
    return [summary]
  })
  const dead = strike(
    world.rules,
    'F9',
    openStream(world.options.seed, 'dead', world.now),
    {
      now: world.now,
      action: 'list',
      app: route.app,
    },
    ({ as }) => as === 'dead',
  )
  const [ghost] = dead === undefined ? [] : world.gone
  if (ghost === undefined) return ok(machines)
  return ok([...machines, { id: ghost, name: ghost, state: 'started', region: 'iad', host_status: 'ok' }])
}

function listOrg(world: World, { query, route }: Call): Reply {
  const after = query.get('updated_after')
  const cursor = query.get('cursor') ?? ''
  const keyOf = (view: shapes.Machine): string => `${view.updated_at}|${view.id}`
  const views = [...world.machines.values()]
    .filter((held) => world.apps.get(held.app)?.org === route.org)
    .flatMap((held) => readView(world, held) ?? [])
    .filter((view) => keyOf(view) > cursor && (after === null || view.updated_at > after))
    .toSorted((a, b) => (keyOf(a) < keyOf(b) ? -1 : 1))
  const machines = views.slice(0, Number(query.get('limit') ?? 500))
  const last = machines.at(-1)
  return ok({
    machines,
    last_machine_id: last?.id ?? '',
    last_updated_at: last?.updated_at ?? '',
    next_cursor: last !== undefined && machines.length < views.length ? keyOf(last) : '',
  })
}

function place(world: World, call: Call): Reply {
  const parsed = parse(call.body, shapes.placementBody, 'placementsRequest')
  if ('no' in parsed) return parsed.no
  const { compute, region, count = 0 } = parsed.value
  const memoryMb = compute?.memory_mb ?? 256
  const wanted = region === undefined || region === 'any' || region === '' ? [...world.rooms.keys()] : region.split(',')
  const rooms = wanted.flatMap((name) => {
    const hosts = world.rooms.get(name)?.hosts ?? []
    const fitting = hosts.reduce(
      (sum, size, host) => sum + Math.floor((size - usedOn(world, name, host)) / memoryMb),
      0,
    )
    return fitting > 0
      ? [{ Region: name, Count: count === 0 ? fitting : Math.min(count, fitting), Concurrency: 1 }]
      : []
  })
  return rooms.length > 0 ? ok({ Regions: rooms }) : refuse(503, 'out of capacity', 'insufficient_capacity')
}

const CHANGES = new Set([
  'update',
  'delete',
  'start',
  'stop',
  'suspend',
  'signal',
  'cordon',
  'uncordon',
  'metadata_set',
  'metadata_patch',
  'metadata_delete',
])

function answerOfMachine(world: World, call: Call, id: string): Reply | undefined {
  const { action, app } = call.route
  if (!world.apps.has(app ?? '')) return refuse(404, 'app not found')
  if (!/^[0-9a-f]{14}$/.test(id)) return refuse(400, `invalid machine ID, '${id}'`)
  const held = world.machines.get(id)
  if (held === undefined || held.app !== app) return refuse(404, 'machine not found')
  if (action === 'get') {
    const view = readView(world, held)
    return view === undefined ? refuse(404, 'machine not found') : ok(view)
  }
  if (action === 'wait') return wait(world, call, held)
  if (held.state === 'destroyed' || held.state === 'launch_failed') return refuse(404, 'machine not found')
  const foreign = strike(world.rules, 'F11', held.stream, occasionOf(world, held, action))
  if (foreign !== undefined) held.lease = newLease(world, held, 'somebody else', '', foreign.ttlMs / 1_000)
  if (CHANGES.has(action)) {
    const { lease } = held
    if (isHeld(world, lease) && lease.nonce !== call.nonce) return leased(held, lease)
    const isForced = action === 'delete' && call.query.get('force') === 'true'
    // What Fly answers for a host that it cannot reach is not known.
    if (held.hostStatus !== 'ok' && !isForced) return refuse(408, 'deadline_exceeded: host is unreachable')
  }
  switch (action) {
    case 'start':
      return startCall(world, held)
    case 'stop': {
      const parsed = parse(call.body, shapes.stopBody, 'stopRequest')
      if ('no' in parsed) return parsed.no
      return inState(world, held, 'stop', (to) => {
        if (to === 'stopping') stop(world, held, parsed.value)
        else if (held.state === 'starting') held.stopWanted = true
        return ok()
      })
    }
    case 'suspend':
      return inState(world, held, 'suspend', (to) => {
        const fault = to === 'same' ? undefined : suspendFault(world, held.config)
        if (fault !== undefined) return refuse(412, `failed_precondition: ${fault}`)
        if (to !== 'same') suspend(world, held)
        return ok()
      })
    case 'update':
      return update(world, call, held)
    case 'delete': {
      const isForced = call.query.get('force') === 'true' || call.query.get('kill') === 'true'
      return inState(world, held, isForced ? 'force' : 'delete', (to) => {
        if (to === 'destroying' && held.state !== 'destroying') destroy(world, held, 'user')
        return ok()
      })
    }
    case 'signal': {
      const parsed = parse(call.body, shapes.signalBody, 'signalRequest')
      if ('no' in parsed) return parsed.no
      if (held.state !== 'started') return refuse(412, 'failed_precondition: machine not running')
      world.effects.push({ type: 'signal', machineId: id, boot: held.boot, signal: String(parsed.value.signal) })
      return ok()
    }
    case 'exec':
      return exec(world, call, held)
    case 'cordon':
    case 'uncordon':
      held.cordoned = action === 'cordon'
      publish(world, held)
      return ok()
    case 'events':
      return ok(held.events.slice(0, Math.min(50, Number(call.query.get('limit') ?? 20))))
    case 'versions':
      return ok([held.instanceId, ...held.oldInstances].map((version) => ({ version })))
    case 'lease_get':
      return isHeld(world, held.lease)
        ? ok({ status: 'success', data: showLease(held.lease) })
        : refuse(404, 'lease not found')
    case 'lease_take':
      return takeLease(world, call, held)
    case 'lease_release':
      if (!isHeld(world, held.lease)) return refuse(404, 'lease not found')
      if (held.lease.nonce !== call.nonce) return leased(held, held.lease)
      held.lease = undefined
      return ok({ status: 'success', data: { ok: true } })
    case 'metadata_get':
      return ok(held.config.metadata ?? {})
    case 'metadata_set':
    case 'metadata_patch':
    case 'metadata_delete':
      return changeMetadata(world, call, held)
    default:
      return refuse(404, 'not found')
  }
}

export function conditionOf(world: World, held: Held): Condition | undefined {
  if (held.state === 'destroyed' || held.state === 'launch_failed') return undefined
  if (held.state === 'created' && !held.pulled) return 'pulling'
  if (held.state === 'stopped' && world.now < held.activeUntil) return 'active'
  return held.state
}

function inState(
  world: World,
  held: Held,
  action: MatrixAction,
  go: (to: shapes.MachineState | 'same') => Reply,
): Reply {
  const condition = conditionOf(world, held)
  if (condition === undefined) return refuse(404, 'machine not found')
  const cell = MATRIX[condition][action]
  return cell.status === 200 ? go(cell.to) : refuse(cell.status, cell.error)
}

function startCall(world: World, held: Held): Reply {
  const late = strike(world.rules, 'F17', held.stream, occasionOf(world, held, 'start'))
  if (late !== undefined) {
    const texts = {
      active: 'machine still active, refusing to start',
      replacing: 'machine getting replaced, refusing to start',
      created: "unable to start machine from current state: 'created'",
    }
    return refuse(412, `failed_precondition: ${texts[late.as]}`)
  }
  return inState(world, held, 'start', (to) => {
    const previous_state = held.state
    if (to === 'same') return ok({ previous_state, migrated: false, new_host: '' })
    const occasion = occasionOf(world, held, 'start')
    const full = held.reserved ? undefined : strike(world.rules, 'F4', held.stream, occasion)
    if (full !== undefined) return fullReply(full.as, held.region)
    const canMove = held.state === 'stopped' || held.state === 'suspended'
    let migrated = canMove && strike(world.rules, 'F8', held.stream, occasion) !== undefined && migrate(world, held)
    if (!held.reserved) {
      const host = hostWithRoom(world, held.region, memoryOf(held.config), held.host)
      if (host === undefined) return refuse(409, NO_ROOM)
      if (host !== held.host) migrated = migrate(world, held)
      held.host = host
      held.reserved = true
    }
    start(world, held, 'user', migrated)
    return ok({ previous_state, migrated, new_host: migrated ? `host-${held.host}` : '' })
  })
}

function suspendFault(world: World, config: shapes.MachineConfig): string | undefined {
  if (config.schedule !== undefined) return 'machines with a schedule cannot be suspended'
  if ((config.init?.swap_size_mb ?? 0) > 0) return 'machines with swap cannot be suspended'
  if (config.guest?.gpu_kind !== undefined || (config.guest?.gpus ?? 0) > 0)
    return 'machines with a GPU cannot be suspended'
  if (memoryOf(config) > SUSPENDABLE_MB && world.options.strictSuspend !== false)
    return `machines with more than ${SUSPENDABLE_MB} MB of memory cannot be suspended`
  return undefined
}

function update(world: World, call: Call, held: Held): Reply {
  const parsed = parse(call.body, shapes.launchBody, 'updateMachineRequest')
  if ('no' in parsed) return parsed.no
  const { config, current_version: current, skip_launch: skips } = parsed.value
  const fault = configFault(config)
  if (fault !== undefined) return refuse(422, fault)
  return inState(world, held, 'update', () => {
    if (current !== undefined && current !== held.instanceId)
      return refuse(412, `failed_precondition: machine version is ${held.instanceId}, not ${current}`)
    const memoryMb = memoryOf(config)
    const grows = held.reserved && memoryMb > memoryOf(held.config)
    held.reserved &&= !grows
    if (grows && hostWithRoom(world, held.region, memoryMb, held.host) !== held.host) {
      held.reserved = true
      return refuse(409, NO_ROOM)
    }
    held.reserved ||= grows
    held.oldInstances.unshift(held.instanceId)
    held.instanceId = newInstance(held, world.now)
    const wasStarted = held.state === 'started'
    held.config = { ...config, metadata: { ...config.metadata } }
    replace(world, held)
    if (skips === true && wasStarted) held.launches = false
    return ok(show(held))
  })
}

function exec(world: World, call: Call, held: Held): Reply | undefined {
  const parsed = parse(call.body, shapes.execBody, 'execRequest')
  if ('no' in parsed) return parsed.no
  const { command, cmd, stdin = '', timeout = 60 } = parsed.value
  const words = command ?? (cmd === undefined ? [] : ['sh', '-c', cmd])
  if (words.length === 0) return refuse(400, 'invalid_argument: command is required')
  let isSent = false
  const no = inState(world, held, 'exec', () => {
    isSent = true
    const timeoutMs = Math.min(60, timeout) * 1_000
    world.effects.push({ type: 'exec', machineId: held.id, id: call.id, command: words, stdin, timeoutMs })
    return ok()
  })
  return isSent ? undefined : no
}

function wait(world: World, { id, query }: Call, held: Held): Reply | undefined {
  const states = query.getAll('state').flatMap((one) => one.split(','))
  const wanted = states.length === 0 ? ['started'] : states
  const seconds = Number((query.get('timeout') ?? String(MAX_WAIT_S)).replace(/s$/, ''))
  if (!(seconds >= 0) || seconds > MAX_WAIT_S)
    return refuse(400, `invalid_argument: timeout must be between 1s and ${MAX_WAIT_S}s`)
  const version = query.get('instance_id') ?? query.get('version') ?? undefined
  if (wanted.includes('stopped') && version === undefined && world.options.strictWaitStopped !== false)
    return refuse(400, 'invalid_argument: instance_id is required to wait for stopped')
  const late = (state: string): Reply =>
    refuse(408, `deadline_exceeded: machine failed to reach desired state, ${wanted.join(' or ')}, currently ${state}`)
  if (version !== undefined && version !== held.instanceId)
    return held.oldInstances.includes(version) ? late('replaced') : refuse(404, 'machine version not found')
  const fromEvent = query.get('from_event_id') ?? undefined
  const isEarly = world.now - held.since < world.timing.waitRaceMs && wanted.includes(held.before)
  if (isReached(held, wanted, fromEvent) || (fromEvent === undefined && isEarly)) return ok(waitedFor(held))
  if (held.state === 'destroyed') return refuse(404, 'machine not found')
  world.waiters.set(id, { id, machineId: held.id, states: wanted, fromEvent })
  schedule(world, { at: world.now + seconds * 1_000, type: 'waitEnd', id })
  return undefined
}

/** A wait has waited long enough. */
export function endWait(world: World, id: number): Reply | undefined {
  const waiter = world.waiters.get(id)
  if (waiter === undefined) return undefined
  world.waiters.delete(id)
  const state = world.machines.get(waiter.machineId)?.state ?? 'destroyed'
  return refuse(
    408,
    `deadline_exceeded: machine failed to reach desired state, ${waiter.states.join(' or ')}, currently ${state}`,
  )
}

type Lease = NonNullable<Held['lease']>

function isHeld(world: World, lease: Held['lease']): lease is Lease {
  return lease !== undefined && lease.expiresAt > world.now
}

function newLease(world: World, held: Held, owner: string, description: string, ttlSeconds: number): Lease {
  const digits = sha256(owner)
  const uuid = [8, 12, 16, 20].reduceRight((text, at) => `${text.slice(0, at)}-${text.slice(at)}`, digits.slice(0, 32))
  return {
    nonce: drawHex(held.stream, 12),
    owner: `${uuid}@tokens.fly.io`,
    description,
    version: held.instanceId,
    expiresAt: world.now + ttlSeconds * 1_000,
  }
}

function leased(held: Held, lease: Lease): Reply {
  const until = shapes.printMoment(lease.expiresAt)
  return refuse(409, `machine ID ${held.id} lease currently held by ${lease.owner}, expires at ${until}`)
}

function showLease(lease: Lease): object {
  const { nonce, owner, description, version, expiresAt } = lease
  return { nonce, expires_at: Math.floor(expiresAt / 1_000), owner, description, version }
}

function takeLease(world: World, call: Call, held: Held): Reply {
  const parsed = parse(call.body, shapes.leaseBody, 'leaseRequest')
  if ('no' in parsed) return parsed.no
  const ttl = Number(call.query.get('ttl') ?? parsed.value.ttl ?? 60)
  if (!(ttl > 0)) return refuse(400, 'invalid_argument: ttl must be positive')
  const { lease } = held
  if (isHeld(world, lease)) {
    if (lease.nonce !== call.nonce) return leased(held, lease)
    lease.expiresAt = world.now + ttl * 1_000
    return { status: 201, body: { status: 'success', data: showLease(lease) } }
  }
  const taken = newLease(world, held, call.owner, parsed.value.description ?? '', ttl)
  held.lease = taken
  return { status: 201, body: { status: 'success', data: showLease(taken) } }
}

function changeMetadata(world: World, call: Call, held: Held): Reply {
  const metadata: Record<string, string> = { ...held.config.metadata }
  const { action, key = '' } = call.route
  if (action === 'metadata_set') {
    const parsed = parse(call.body, shapes.metadataBody, 'metadataRequest')
    if ('no' in parsed) return parsed.no
    metadata[key] = parsed.value.value
  } else if (action === 'metadata_patch') {
    const parsed = parse(call.body, shapes.metadataPatch, 'metadataRequest')
    if ('no' in parsed) return parsed.no
    const { machine_version: version } = parsed.value
    if (version !== undefined && version !== held.instanceId)
      return refuse(412, `failed_precondition: machine version is ${held.instanceId}, not ${version}`)
    for (const [name, value] of Object.entries(parsed.value.metadata))
      if (value === null) delete metadata[name]
      else metadata[name] = value
  } else delete metadata[key]
  held.config = { ...held.config, metadata }
  publish(world, held)
  return { status: action === 'metadata_patch' ? 200 : 204, body: action === 'metadata_patch' ? metadata : null }
}
