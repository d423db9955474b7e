/**
 * The life of one machine: what the platform does by itself between two requests, and what it tells the guest.
 *
 *   FS1 A state is left only along an arrow of `ARROWS`.
 *   FS2 What was destroyed never comes back, under its id.
 *   FS3 Machines that hold room on a host never hold more than it has.
 *   FS4 Boots from `stopped` and `created` begin with the files of the image; resumes and boots from `suspended` do not.
 */
import { drawFrom, drawUlid, isDrawn } from './draws.ts'
import { strike } from './fault.ts'
import type { ExitEvent, MachineEvent, MachineState } from './shapes.ts'
import { millisecondsOf, printMoment } from './shapes.ts'
import { hostWithRoom, later, memoryOf, newAddress, occasionOf, schedule, show } from './world.ts'
import type { GuestFate, Held, TimerWhat, Waiter, World } from './world.ts'

export interface Exit {
  readonly code: number
  readonly signal: number
  readonly oom: boolean
}

type Request = MachineEvent['request']

/** Moves a machine, tells whoever waits for it, and gives back the room that its new state needs no more. */
export function enter(
  world: World,
  held: Held,
  state: MachineState,
  type: string,
  source: MachineEvent['source'],
  request?: Request,
): void {
  held.before = held.state
  held.state = state
  held.turn += 1
  held.since = world.now
  held.stuck =
    strike(world.rules, 'F5', held.stream, occasionOf(world, held), (rule) => rule.state === state) !== undefined
  if (state === 'stopped' || state === 'failed' || state === 'launch_failed' || state === 'destroyed')
    held.reserved = false
  tell(world, held, type, source, request)
}

/** An event, in the state that the machine is in. */
export function tell(world: World, held: Held, type: string, source: MachineEvent['source'], request?: Request): void {
  const id = drawUlid(held.stream, world.now)
  const event = { id, type, status: held.state, source, timestamp: world.now, ...(request && { request }) }
  held.events = [event, ...held.events].slice(0, 50)
  publish(world, held)
  for (const waiter of world.waiters.values())
    if (waiter.machineId === held.id && isReached(held, waiter.states, waiter.fromEvent)) endWait(world, waiter, held)
}

/** Lets what is read catch up with what is, some time from now; never out of order. */
export function publish(world: World, held: Held): void {
  held.updatedAt = world.now
  const lag = strike(world.rules, 'F9', held.stream, occasionOf(world, held), (rule) => rule.as === 'lag')?.ms ?? 0
  const at = world.now + drawFrom(held.stream, world.timing.readLagMs) + lag
  const last = held.views.at(-1)?.at ?? at
  held.views.push({ at: Math.max(at, last), machine: show(held) })
  if (held.views.length > 60) held.views.splice(0, 20)
}

export function isReached(held: Held, states: readonly string[], fromEvent: string | undefined): boolean {
  if (fromEvent === undefined) return states.includes(held.state)
  const known = held.events.findIndex(({ id }) => id === fromEvent)
  const since = known === -1 ? held.events : held.events.slice(0, known)
  return since.length > 0 && (states.includes(held.state) || since.some(({ status }) => states.includes(status)))
}

function endWait(world: World, waiter: Waiter, held: Held): void {
  world.waiters.delete(waiter.id)
  world.answers.push({ id: waiter.id, status: 200, body: waitedFor(held) })
}

export function waitedFor(held: Held): object {
  return { ok: true, state: held.state, version: held.instanceId, event_id: held.events[0]?.id }
}

/** A new machine, in `created`. Its room has been found already. */
export function launch(world: World, held: Held): void {
  const room = world.rooms.get(held.region)
  const { timing } = world
  held.stuck =
    strike(world.rules, 'F5', held.stream, occasionOf(world, held), ({ state }) => state === 'created') !== undefined
  tell(world, held, 'launch', 'user')
  if (strike(world.rules, 'F20', held.stream, occasionOf(world, held), ({ as }) => as === 'pull'))
    return later(world, held, drawFrom(held.stream, timing.pullMs), 'pullFailed')
  if (isDrawn(held.stream, timing.stuckPulls)) return
  const cached = room?.images.has(held.config.image) === true
  const usual = cached ? timing.cachedPullMs : timing.pullMs
  const pullMs = isDrawn(held.stream, timing.slowPulls) ? timing.slowPullMs : usual
  later(world, held, drawFrom(held.stream, pullMs), 'pulled')
}

/** Boots or resumes one that has the room for it. `source` is who asked. */
export function start(world: World, held: Held, source: MachineEvent['source'], migrated = false): void {
  const { timing, rules } = world
  const canResume = held.alive && !migrated && (held.state === 'suspended' || held.state === 'suspending')
  const wasCut = held.state === 'suspending'
  const isLost = canResume && !wasCut && strike(rules, 'F6', held.stream, occasionOf(world, held)) !== undefined
  if (isLost) killGuest(world, held)
  const resumes = canResume && !isLost
  enter(world, held, 'starting', 'start', source, migrated ? { migrated } : undefined)
  later(
    world,
    held,
    drawFrom(held.stream, resumes ? timing.resumeMs : timing.coldBootMs),
    resumes ? 'resumed' : 'booted',
  )
}

export function killGuest(world: World, held: Held): void {
  if (held.alive) world.effects.push({ type: 'kill', machineId: held.id, boot: held.boot })
  held.alive = false
  held.frozenAt = null
}

/** From a state with processes it asks them to end first; without, it is a matter of moments. */
export function stop(
  world: World,
  held: Held,
  how: { signal?: string | undefined; timeout?: string | number | undefined },
): void {
  const runs = held.alive && held.state === 'started'
  if (!runs) killGuest(world, held)
  enter(world, held, 'stopping', 'stop', 'user')
  held.clean = held.config.rootfs?.persist === undefined || held.config.rootfs.persist === 'never'
  if (!runs) return later(world, held, drawFrom(held.stream, world.timing.stopMs), 'settled')
  const config = held.config.stop_config
  const signal = how.signal ?? config?.signal ?? 'SIGINT'
  if (!held.deaf) world.effects.push({ type: 'signal', machineId: held.id, boot: held.boot, signal })
  // A stuck machine's guest is killed all the same: only its state stays.
  const at = world.now + Math.min(300_000, millisecondsOf(how.timeout ?? config?.timeout ?? '5s'))
  schedule(world, { at, type: 'machine', machineId: held.id, turn: held.turn, what: 'kill' })
}

export function suspend(world: World, held: Held): void {
  const { timing } = world
  enter(world, held, 'suspending', 'suspend', 'user')
  const spread = { from: 0.5, to: 1.5 }
  const part = spread.from + (drawFrom(held.stream, { from: 0, to: 1_000 }) / 1_000) * (spread.to - spread.from)
  const ms = Math.round(timing.suspendBaseMs + timing.suspendPerMibMs * memoryOf(held.config) * part)
  // The guest stands still before its memory is written.
  later(world, held, Math.min(ms, Math.round(timing.suspendBaseMs / 2)), 'freeze')
  later(world, held, ms, 'suspended')
}

export function replace(world: World, held: Held): void {
  const wasRunning = held.alive && held.state === 'started'
  killGuest(world, held)
  held.launches = wasRunning || (held.state === 'created' && held.launches)
  held.clean = true
  enter(world, held, 'replacing', 'update', 'user')
  later(world, held, drawFrom(held.stream, world.timing.replaceMs), 'replaced')
}

export function destroy(world: World, held: Held, source: MachineEvent['source']): void {
  killGuest(world, held)
  enter(world, held, 'destroying', 'destroy', source)
  later(world, held, drawFrom(held.stream, world.timing.destroyMs), 'destroyed')
}

/** A timer that is not void has come due. */
export function come(world: World, held: Held, what: TimerWhat): void {
  const { timing } = world
  switch (what) {
    case 'pulled':
      held.pulled = true
      world.rooms.get(held.region)?.images.add(held.config.image)
      if (held.launches) start(world, held, 'flyd')
      else publish(world, held)
      return
    case 'pullFailed':
      enter(world, held, 'launch_failed', 'launch', 'flyd')
      return later(world, held, drawFrom(held.stream, timing.destroyMs), 'destroyed')
    case 'booted':
      return boot(world, held)
    case 'resumed':
      return resume(world, held)
    case 'freeze':
      if (held.alive) world.effects.push({ type: 'freeze', machineId: held.id, boot: held.boot })
      held.frozenAt = held.alive ? world.now : null
      return
    case 'suspended':
      return enter(world, held, 'suspended', 'suspend', 'flyd')
    case 'kill':
      if (held.alive) world.effects.push({ type: 'kill', machineId: held.id, boot: held.boot })
      return
    case 'settled':
      held.activeUntil = world.now + drawFrom(held.stream, timing.activeMs)
      return enter(world, held, 'stopped', 'stop', 'flyd')
    case 'replaced':
      if (held.launches && hasRoom(world, held)) return start(world, held, 'flyd')
      return enter(world, held, 'stopped', 'update', 'flyd')
    case 'destroyed':
      world.effects.push({ type: 'discard', machineId: held.id })
      held.lease = undefined
      enter(world, held, 'destroyed', 'destroy', 'flyd')
      return later(world, held, drawFrom(held.stream, timing.shownDestroyedMs), 'gone')
    case 'gone':
      world.machines.delete(held.id)
      world.gone.add(held.id)
      return
    case 'clockSet':
      world.effects.push({ type: 'clock', machineId: held.id, boot: held.boot, skewMs: 0 })
      return
    case 'hostBack':
      held.hostStatus = 'ok'
      return enter(world, held, 'stopped', 'stop', 'flyd')
  }
}

function hasRoom(world: World, held: Held): boolean {
  if (held.reserved) return true
  const host = hostWithRoom(world, held.region, memoryOf(held.config), held.host)
  if (host === undefined) return false
  Object.assign(held, { host, reserved: true })
  return true
}

function boot(world: World, held: Held): void {
  const occasion = occasionOf(world, held)
  const { rules } = world
  if (strike(rules, 'F20', held.stream, occasion, ({ as }) => as === 'boot'))
    return enter(world, held, 'failed', 'start', 'flyd')
  held.boot += 1
  held.alive = true
  held.frozenAt = null
  held.doom = undefined
  held.deaf = strike(rules, 'F16', held.stream, occasion, ({ as }) => as === 'deaf') !== undefined
  const { clean } = held
  held.clean = false
  enter(world, held, 'started', 'start', 'flyd')
  const skewMs = strike(rules, 'F12', held.stream, occasion)?.skewMs ?? 0
  world.effects.push({ type: 'boot', machine: show(held), boot: held.boot, clean, skewMs })
  const fate = strike(rules, 'F16', held.stream, occasion, ({ as }) => as !== 'deaf')
  if (fate !== undefined && fate.as !== 'deaf') befall(world, held, fate.afterMs ?? 0, { as: fate.as })
  const host = strike(rules, 'F7', held.stream, occasion)
  if (host !== undefined)
    befall(world, held, drawFrom(held.stream, { from: 0, to: 10_000 }), { as: 'host', backAfterMs: host.backAfterMs })
  afterStart(world, held)
}

function befall(world: World, held: Held, ms: number, what: GuestFate): void {
  schedule(world, { at: world.now + ms, type: 'guest', machineId: held.id, boot: held.boot, what })
}

function resume(world: World, held: Held): void {
  const occasion = occasionOf(world, held)
  const sleptMs = world.now - (held.frozenAt ?? world.now)
  if (!held.alive) return boot(world, held)
  enter(world, held, 'started', 'start', 'flyd')
  held.frozenAt = null
  const fault = strike(world.rules, 'F12', held.stream, occasion)
  const skewMs = fault?.skewMs ?? -sleptMs
  const dead = strike(world.rules, 'F13', held.stream, occasion)
  if (dead !== undefined) befall(world, held, dead.unreachableMs, { as: 'thaw', skewMs })
  else world.effects.push({ type: 'resume', machineId: held.id, boot: held.boot, skewMs })
  if (fault === undefined) later(world, held, drawFrom(held.stream, world.timing.clockLagMs), 'clockSet')
  afterStart(world, held)
}

function afterStart(world: World, held: Held): void {
  if (!held.stopWanted) return
  held.stopWanted = false
  stop(world, held, {})
}

/** What a fault or the operator of the simulator does to a guest. */
export function meet(world: World, held: Held, fate: GuestFate): void {
  if (!held.alive) return
  const { boot } = held
  if (fate.as === 'hang') return void world.effects.push({ type: 'hang', machineId: held.id, boot })
  if (fate.as === 'thaw')
    return void world.effects.push({ type: 'resume', machineId: held.id, boot, skewMs: fate.skewMs })
  if (fate.as === 'host') {
    killGuest(world, held)
    held.hostStatus = 'unreachable'
    held.turn += 1
    publish(world, held)
    if (fate.backAfterMs !== null) later(world, held, fate.backAfterMs, 'hostBack')
    return
  }
  held.doom = fate.as === 'oom' ? { code: 137, oom: true } : { code: 0, oom: false }
  world.effects.push({ type: 'kill', machineId: held.id, boot })
}

/** The main process of a boot has ended. Of an earlier boot it is no news. */
export function exited(world: World, held: Held, boot: number, exit: Exit): void {
  if (!held.alive || held.boot !== boot) return
  held.alive = false
  held.frozenAt = null
  const { state } = held
  const requested = state === 'stopping'
  const code = held.doom?.code ?? exit.code
  const oom = held.doom?.oom ?? exit.oom
  const policy = held.config.restart?.policy ?? 'on-failure'
  const wantsMore = policy === 'always' || (policy === 'on-failure' && code !== 0)
  const restarting = state === 'started' && wantsMore && held.restarts < (held.config.restart?.max_retries ?? 10)
  const exit_event: ExitEvent = {
    exit_code: code,
    signal: held.doom === undefined && exit.signal > 0 ? exit.signal : -1,
    oom_killed: oom,
    requested_stop: requested,
    restarting,
    exited_at: printMoment(world.now),
  }
  const request = { exit_event, restart_count: held.restarts }
  if (requested) {
    tell(world, held, 'exit', 'flyd', request)
    return later(world, held, drawFrom(held.stream, world.timing.stopMs), 'settled')
  }
  // The memory of a suspended machine is gone with its processes: it boots cold, and nobody is told.
  if (state !== 'started' && state !== 'suspending') return
  if (restarting) {
    held.restarts += 1
    enter(world, held, 'starting', 'exit', 'flyd', request)
    return later(world, held, drawFrom(held.stream, world.timing.coldBootMs), 'booted')
  }
  held.clean = held.config.rootfs?.persist === undefined || held.config.rootfs.persist === 'never'
  held.activeUntil = world.now + drawFrom(held.stream, world.timing.activeMs)
  enter(world, held, 'stopped', 'exit', 'flyd', request)
  if (held.config.auto_destroy === true) destroy(world, held, 'flyd')
}

/** To another host of its region, with another address, without its memory. False when there is none with room. */
export function migrate(world: World, held: Held): boolean {
  const hosts = world.rooms.get(held.region)?.hosts ?? []
  const free = hosts.findIndex(
    (_, host) => host !== held.host && hostWithRoom(world, held.region, memoryOf(held.config), host) === host,
  )
  if (free === -1) return false
  killGuest(world, held)
  held.host = free
  held.privateIp = newAddress(held.stream)
  tell(world, held, 'launch', 'flyd', { migrated: true })
  return true
}
