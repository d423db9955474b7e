/** A simulated platform in one process, without a port: its world, a clock that tests move, and guests that are empty. */
import { fakeGuest, nextMoment, perform, type Command, type Fate } from '../fake/fly-sim/perform.ts'
import type { Answer, Effect, Held, World, WorldOptions } from '../fake/fly-sim/world.ts'
import { openWorld } from '../fake/fly-sim/world.ts'

export const IMAGE = 'registry.fly.io/senmon@sha256:1111111111111111111111111111111111111111111111111111111111111111'
export const CONFIG = {
  image: IMAGE,
  guest: { cpu_kind: 'shared', cpus: 1, memory_mb: 512 },
  restart: { policy: 'no' },
  stop_config: { signal: 'SIGTERM', timeout: '30s' },
} as const

export interface Shown {
  readonly id: string
  readonly state: string
  readonly instance_id: string
  readonly private_ip: string
  readonly events: readonly { readonly id: string; readonly type: string; readonly status: string }[]
  readonly nonce?: string
}

export class SimDrive {
  readonly world: World
  now = 1_700_000_000_000
  readonly effects: Effect[] = []
  readonly answers = new Map<number, Answer>()
  /** Guests say nothing while this is set: a test speaks for them. */
  mute = false
  #calls = 0

  constructor(options: Partial<WorldOptions> = {}) {
    const tokens = { org: { type: 'org' }, ...options.tokens } as const
    this.world = openWorld({ seed: 1, profile: 'zero', now: this.now, ...options, tokens })
    this.call('POST', '/apps', { app_name: 'pool', org_slug: 'personal' })
  }

  tell(command: Command): void {
    const { answers, effects } = perform(this.world, this.now, command)
    for (const answer of answers) this.answers.set(answer.id, answer)
    this.effects.push(...effects)
    for (const effect of this.mute ? [] : effects) {
      const said = fakeGuest(effect)
      if (said !== undefined) this.tell(said)
    }
  }

  /** Its number: what it is answered is in `answers`, now or later. */
  send(
    method: string,
    path: string,
    body?: unknown,
    given: { nonce?: string; token?: string; by?: string } = {},
  ): number {
    const id = ++this.#calls
    const text = body === undefined ? '' : typeof body === 'string' ? body : JSON.stringify(body)
    const authorization = given.token === '' ? undefined : `Bearer ${given.token ?? 'org'}`
    const request = { method, path: `/v1${path}`, body: text, authorization, nonce: given.nonce, by: given.by }
    this.tell({ type: 'request', id, request })
    return id
  }

  /** Moves the clock until it is answered. */
  call(...given: Parameters<SimDrive['send']>): Answer {
    const id = this.send(...given)
    for (let next = nextMoment(this.world); !this.answers.has(id); next = nextMoment(this.world)) {
      if (next === undefined) throw new Error(`${given[0]} ${given[1]} is never answered`)
      this.advanceTo(next)
    }
    return this.answers.get(id) ?? { id, status: 0, body: null }
  }

  advanceTo(moment: number): void {
    for (let next = nextMoment(this.world); next !== undefined && next <= moment; next = nextMoment(this.world)) {
      this.now = Math.max(this.now, next)
      this.tell({ type: 'tick' })
    }
    this.now = Math.max(this.now, moment)
  }

  advance(ms: number): void {
    this.advanceTo(this.now + ms)
    this.tell({ type: 'tick' })
  }

  /** Until nothing comes by itself any more, or for an hour. */
  settle(): void {
    const end = this.now + 3_600_000
    for (let next = nextMoment(this.world); next !== undefined && next <= end; next = nextMoment(this.world))
      this.advanceTo(next)
  }

  create(name = 'one', more: object = {}): Shown {
    const { status, body } = this.call('POST', '/apps/pool/machines', { name, region: 'iad', config: CONFIG, ...more })
    if (status !== 200) throw new Error(`${status} ${JSON.stringify(body)}`)
    // The simulator's own answer.
    return body as Shown
  }

  act(id: string, verb: string, body?: unknown, given?: { nonce?: string }): Answer {
    return this.call('POST', `/apps/pool/machines/${id}/${verb}`, body, given)
  }

  befall(machineId: string, fate: Fate): void {
    this.tell({ type: 'machine', machineId, fate })
  }

  held(id: string): Held {
    const held = this.world.machines.get(id)
    if (held === undefined) throw new Error(`no machine ${id}`)
    return held
  }

  state(id: string): string {
    return this.world.machines.get(id)?.state ?? 'gone'
  }
}
