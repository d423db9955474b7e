/**
 * The state of the simulated platform: apps, machines, room, timers, and who waits for what. Plain data that `perform`
 * moves on; there is no clock, no I/O and no chance but the seed's in it.
 */
import { drawFrom, drawHex, drawUlid, openStream, type Spread, type Stream } from './draws.ts'
import { CRUEL, load, type FaultRule, type Loaded, type Occasion } from './fault.ts'
import type { Machine, MachineConfig, MachineEvent, MachineState } from './shapes.ts'
import { printMoment } from './shapes.ts'
import { TIMINGS, type Profile, type Timing } from './timing.ts'

export type Scope =
  | { readonly type: 'org' }
  | { readonly type: 'app'; readonly app: string }
  /** Whole commands, joined by a space. */
  | { readonly type: 'exec'; readonly app: string; readonly commands: readonly string[] }
  | { readonly type: 'read' }

export interface WorldOptions {
  readonly seed: string | number
  readonly profile: Profile
  /** Epoch ms. */
  readonly now: number
  readonly timing?: Partial<Timing>
  /** Room in each region: MiB of each of its hosts. By default iad, ord, fra and nrt have four hosts of 256 GiB. */
  readonly regions?: Readonly<Record<string, readonly number[]>>
  /** Times as many requests a second as Fly allows; 0 for no limit. By default 0 for `zero`, 50 for `fast`, else 1. */
  readonly limits?: number
  /** Answers to a 429 say `Retry-After`. Whether Fly's do is not known. Off by default. */
  readonly retryAfter?: boolean
  /** A wait for `stopped` must name the version; on by default. */
  readonly strictWaitStopped?: boolean
  /** More than 2 GiB are not suspended; on by default. Else it takes as long as it takes. */
  readonly strictSuspend?: boolean
  readonly tokens: Readonly<Record<string, Scope>>
  /** Besides those of the profile. */
  readonly faults?: readonly FaultRule[]
}

export interface App {
  readonly id: string
  readonly name: string
  readonly org: string
  readonly network: string
  readonly createdAt: number
  readonly stream: Stream
}

export interface Lease {
  readonly nonce: string
  readonly owner: string
  readonly description: string
  readonly version: string
  expiresAt: number
}

export interface Held {
  readonly id: string
  readonly app: string
  readonly name: string
  readonly region: string
  readonly createdAt: number
  readonly stream: Stream
  host: number
  state: MachineState
  /** Rises with every change of state: a timer of an earlier one is void. */
  turn: number
  since: number
  before: MachineState
  updatedAt: number
  instanceId: string
  readonly oldInstances: string[]
  privateIp: string
  config: MachineConfig
  /** Newest first. */
  events: MachineEvent[]
  pulled: boolean
  launches: boolean
  /** Counts boots; 0 before the first. */
  boot: number
  /** The guest's processes are there, running or frozen. */
  alive: boolean
  /** Epoch ms since when its processes stand still; null while they run. */
  frozenAt: number | null
  /** Its file system is that of the image at the next boot. */
  clean: boolean
  /** It holds room in its region. */
  reserved: boolean
  stuck: boolean
  stopWanted: boolean
  /** It hears no signal. */
  deaf: boolean
  /** How the guest's death is told when it was the simulator's doing. */
  doom: { readonly code: number; readonly oom: boolean } | undefined
  restarts: number
  activeUntil: number
  cordoned: boolean
  hostStatus: Machine['host_status']
  lease: Lease | undefined
  /** What is read, by when it can be read; the newest last. */
  views: { readonly at: number; readonly machine: Machine }[]
}

export type TimerWhat =
  | 'pulled'
  | 'pullFailed'
  | 'booted'
  | 'resumed'
  | 'freeze'
  | 'suspended'
  | 'kill'
  | 'settled'
  | 'replaced'
  | 'destroyed'
  | 'gone'
  | 'hostBack'
  /** Its clock is right again. */
  | 'clockSet'

export type GuestFate =
  | { readonly as: 'oom' | 'exit' | 'hang' }
  | { readonly as: 'host'; readonly backAfterMs: number | null }
  /** It runs again: its network was gone for a while, and to everybody else that is the same as standing still. */
  | { readonly as: 'thaw'; readonly skewMs: number }

export type Timer = { readonly at: number } & (
  | {
      readonly type: 'machine'
      readonly machineId: string
      readonly turn: number
      readonly what: TimerWhat
    }
  /** What befalls one boot of a guest, whatever state it is in by then. */
  | { readonly type: 'guest'; readonly machineId: string; readonly boot: number; readonly what: GuestFate }
  | { readonly type: 'answer'; readonly answer: Answer }
  | { readonly type: 'waitEnd'; readonly id: number }
)

export interface Answer {
  readonly id: number
  /** 0: the connection is reset. */
  readonly status: number
  readonly body: unknown
  readonly headers?: Readonly<Record<string, string>>
}

export interface Waiter {
  readonly id: number
  readonly machineId: string
  readonly states: readonly string[]
  readonly fromEvent: string | undefined
}

/** What the simulator does to a guest. */
export type Effect =
  | {
      readonly type: 'boot'
      readonly machine: Machine
      readonly boot: number
      readonly clean: boolean
      readonly skewMs: number
    }
  | { readonly type: 'freeze' | 'kill' | 'hang'; readonly machineId: string; readonly boot: number }
  /** Its clock is off by `skewMs` from now on, which for the guest is how long it slept, as a rule. */
  | { readonly type: 'resume' | 'clock'; readonly machineId: string; readonly boot: number; readonly skewMs: number }
  | { readonly type: 'signal'; readonly machineId: string; readonly boot: number; readonly signal: string }
  /** Its processes and files go. */
  | { readonly type: 'discard'; readonly machineId: string }
  | {
      readonly type: 'exec'
      readonly machineId: string
      readonly id: number
      readonly command: readonly string[]
      readonly stdin: string
      readonly timeoutMs: number
    }

export interface LogEntry {
  readonly at: number
  readonly action: string
  readonly app: string | null
  readonly machine: string | null
  /** With its question mark; '' for none. */
  readonly query: string
  readonly by: 'token' | 'machine'
  status: number | null
}

export interface World {
  readonly options: WorldOptions
  readonly timing: Timing
  readonly limits: number
  now: number
  readonly apps: Map<string, App>
  readonly machines: Map<string, Held>
  /** Ids that were and are no more. */
  readonly gone: Set<string>
  /** How many machines each name has been given to. */
  readonly named: Map<string, number>
  readonly rooms: Map<string, { hosts: number[]; quotaMb: number; readonly images: Set<string> }>
  readonly buckets: Map<string, { level: number; at: number }>
  rules: Loaded[]
  readonly timers: Timer[]
  readonly waiters: Map<number, Waiter>
  readonly running: Map<number, { readonly entry: LogEntry; readonly stream: Stream }>
  readonly requests: LogEntry[]
  /** Of the command that is being performed. */
  answers: Answer[]
  effects: Effect[]
}

const GIB = 1024

export function openWorld(options: WorldOptions): World {
  const { profile } = options
  const fourHosts = [256 * GIB, 256 * GIB, 256 * GIB, 256 * GIB]
  const regions = options.regions ?? { iad: fourHosts, ord: fourHosts, fra: fourHosts, nrt: fourHosts }
  const rules = [...(profile === 'cruel' ? CRUEL : []), ...(options.faults ?? [])]
  return {
    options,
    timing: { ...TIMINGS[profile], ...options.timing },
    limits: options.limits ?? { zero: 0, fast: 50, normal: 1, cruel: 1 }[profile],
    now: options.now,
    apps: new Map(),
    machines: new Map(),
    gone: new Set(),
    named: new Map(),
    rooms: new Map(
      Object.entries(regions).map(([name, hosts]) => [
        name,
        { hosts: [...hosts], quotaMb: Number.POSITIVE_INFINITY, images: new Set<string>() },
      ]),
    ),
    buckets: new Map(),
    rules: rules.map(load),
    timers: [],
    waiters: new Map(),
    running: new Map(),
    requests: [],
    answers: [],
    effects: [],
  }
}

/** Timers of one moment fire in the order in which they were set. */
export function schedule(world: World, timer: Timer): void {
  let at = world.timers.length
  while (at > 0 && (world.timers[at - 1]?.at ?? 0) > timer.at) at -= 1
  world.timers.splice(at, 0, timer)
}

/** Void when the machine has left its state by then. Nothing is scheduled for one that is stuck there. */
export function later(world: World, held: Held, ms: number, what: TimerWhat): void {
  if (!held.stuck) schedule(world, { at: world.now + ms, type: 'machine', machineId: held.id, turn: held.turn, what })
}

export function occasionOf(world: World, held: Held, action?: string): Occasion {
  return { now: world.now, action, app: held.app, machine: held, region: held.region }
}

export function memoryOf(config: MachineConfig): number {
  return config.guest?.memory_mb ?? 256
}

/** MiB that are held on each host of a region. */
export function usedOn(world: World, region: string, host: number): number {
  let used = 0
  for (const held of world.machines.values())
    if (held.reserved && held.region === region && held.host === host) used += memoryOf(held.config)
  return used
}

/** The fullest host that still has room, and rather `preferred`. */
export function hostWithRoom(world: World, region: string, memoryMb: number, preferred?: number): number | undefined {
  const hosts = world.rooms.get(region)?.hosts ?? []
  const free = hosts.map((size, host) => ({ host, free: size - usedOn(world, region, host) }))
  const fitting = free.filter((one) => one.free >= memoryMb)
  return (fitting.find(({ host }) => host === preferred) ?? fitting.toSorted((a, b) => a.free - b.free)[0])?.host
}

export function machineNamed(world: World, app: string, name: string): Held | undefined {
  return [...world.machines.values()].find(
    (held) => held.app === app && held.name === name && held.state !== 'destroyed',
  )
}

/** The machine as it is, rather than as it is read. */
export function show(held: Held): Machine {
  const { config, hostStatus } = held
  return {
    id: held.id,
    name: held.name,
    state: held.state,
    region: held.region,
    image_ref: imageRefOf(config.image),
    instance_id: held.instanceId,
    version: held.instanceId,
    private_ip: held.privateIp,
    created_at: printMoment(held.createdAt),
    updated_at: printMoment(held.updatedAt),
    ...(hostStatus === 'ok' ? { config } : { incomplete_config: { image: config.image } }),
    events: held.events.slice(0, 20),
    host_status: hostStatus,
    cordoned: held.cordoned,
  }
}

function imageRefOf(image: string): Machine['image_ref'] {
  const [name = '', digest] = image.split('@')
  const parts = name.split('/')
  const hasHost = parts.length > 1 && /[.:]|^localhost$/.test(parts[0] ?? '')
  const registry = hasHost ? (parts.shift() ?? '') : 'registry-1.docker.io'
  const [repository = '', tag] = parts.join('/').split(':')
  const full = !hasHost && parts.length === 1 ? `library/${repository}` : repository
  const known = digest ?? `sha256:${drawHex(openStream('image', image), 64)}`
  return { registry, repository: full, ...(tag === undefined ? {} : { tag }), digest: known, labels: null }
}

/** What can be read of it now; undefined before word of it has come round. */
export function readView(world: World, held: Held): Machine | undefined {
  const frozen = world.rules.find(
    ({ rule, left }) =>
      rule.fault === 'F9' &&
      rule.as === 'frozen' &&
      left > 0 &&
      world.now >= (rule.match?.from ?? 0) &&
      world.now < (rule.match?.until ?? Number.POSITIVE_INFINITY) &&
      (rule.match?.region === undefined || rule.match.region === held.region),
  )
  const at = frozen === undefined ? world.now : Math.min(world.now, frozen.rule.match?.from ?? 0)
  return held.views.findLast((view) => view.at <= at)?.machine
}

export function pause(stream: Stream, spread: Spread): number {
  return drawFrom(stream, spread)
}

export function newInstance(held: Pick<Held, 'stream'>, now: number): string {
  return drawUlid(held.stream, now)
}

export function newAddress(stream: Stream): string {
  return `fdaa:ff:ff:a7b:${drawHex(stream, 3)}:${drawHex(stream, 4)}:${drawHex(stream, 4)}:2`
}
