/** The simulated platform under random commands and faults: what holds whatever its callers and its chance do. */
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { CRUEL } from '../fake/fly-sim/fault.ts'
import { ARROWS } from '../fake/fly-sim/matrix.ts'
import type { Profile } from '../fake/fly-sim/timing.ts'
import { memoryOf } from '../fake/fly-sim/world.ts'
import { CONFIG, SimDrive } from './given.ts'

const HOSTS = [1_024, 1_536]
const NAMES = ['a', 'b', 'c']
type Move =
  | { readonly type: 'create'; readonly name: string; readonly memory: number; readonly skips: boolean }
  | { readonly type: 'act'; readonly name: string; readonly verb: string }
  | { readonly type: 'advance'; readonly ms: number }
  | { readonly type: 'befall'; readonly name: string; readonly as: 'kill' | 'lose' | 'migrate' | 'oom' | 'exit' }

const name = fc.constantFrom(...NAMES)
// What is named twice is tried twice as often: most of what can go wrong is between a suspend and a start.
const verbs = [
  'start',
  'start',
  'suspend',
  'suspend',
  'stop',
  'update',
  'delete',
  'force',
  'get',
  'wait',
  'exec',
  'lease',
  'cordon',
]
const move: fc.Arbitrary<Move> = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record({
      type: fc.constant('create' as const),
      name,
      memory: fc.constantFrom(256, 512, 1_024),
      skips: fc.boolean(),
    }),
  },
  { weight: 8, arbitrary: fc.record({ type: fc.constant('act' as const), name, verb: fc.constantFrom(...verbs) }) },
  // Short, so that the states in between are met, and long, so that they are left.
  {
    weight: 5,
    arbitrary: fc.record({
      type: fc.constant('advance' as const),
      ms: fc.oneof(fc.integer({ min: 0, max: 500 }), fc.integer({ min: 0, max: 40_000 })),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      type: fc.constant('befall' as const),
      name,
      as: fc.constantFrom('kill', 'lose', 'migrate', 'oom', 'exit'),
    }),
  },
)
const profile = fc.constantFrom<Profile>('normal', 'fast', 'zero', 'cruel')

/** Performs moves and judges the world after each. */
function play(seed: number, profile: Profile, moves: readonly Move[]): SimDrive {
  const sim = new SimDrive({
    seed,
    profile,
    regions: { iad: HOSTS },
    limits: 0,
    faults: profile === 'fast' ? CRUEL : [],
  })
  const before = new Map<string, { state: string; boot: number }>()
  const destroyed = new Set<string>()
  const sent: number[] = []
  const judge = (): void => {
    HOSTS.forEach((size, host) => {
      const used = [...sim.world.machines.values()].filter((held) => held.reserved && held.host === host)
      expect(used.reduce((sum, held) => sum + memoryOf(held.config), 0)).toBeLessThanOrEqual(size)
    })
    for (const held of sim.world.machines.values()) {
      expect(destroyed.has(held.id) && held.state !== 'destroyed').toBe(false)
      if (held.state === 'destroyed') destroyed.add(held.id)
      expect(held.boot).toBeGreaterThanOrEqual(before.get(held.id)?.boot ?? 0)
      before.set(held.id, { state: held.state, boot: held.boot })
      if (held.state === 'started' && held.hostStatus === 'ok') expect(held.alive || held.doom !== undefined).toBe(true)
      // The events tell every state that it was in, in order, as far as they are kept.
      const states = held.events.map(({ status }) => status).toReversed()
      states.slice(1).forEach((to, i) => {
        const from = states[i] ?? ''
        const arrows: readonly string[] = from in ARROWS ? ARROWS[from as keyof typeof ARROWS] : []
        expect(from === to || arrows.includes(to), `${from} -> ${to}`).toBe(true)
      })
    }
  }
  // Machines that run, or most that can be would be met before they do.
  for (const name of NAMES) sim.send('POST', '/apps/pool/machines', { name, region: 'iad', config: CONFIG })
  sim.advance(30_000)
  const idOf = (name: string): string =>
    [...sim.world.machines.values()].findLast((held) => held.name === name)?.id ?? '00000000000000'
  for (const move of moves) {
    if (move.type === 'advance') sim.advance(move.ms)
    else if (move.type === 'befall') sim.befall(idOf(move.name), { as: move.as })
    else if (move.type === 'create') {
      const config = { ...CONFIG, guest: { ...CONFIG.guest, memory_mb: move.memory } }
      const body = { name: move.name, region: 'iad', config, skip_launch: move.skips }
      sent.push(sim.send('POST', '/apps/pool/machines', body))
    } else {
      const path = `/apps/pool/machines/${idOf(move.name)}`
      const requests: Readonly<Record<string, readonly [string, string, object?]>> = {
        update: ['POST', path, { config: CONFIG }],
        delete: ['DELETE', path],
        force: ['DELETE', `${path}?force=true`],
        get: ['GET', path],
        wait: ['GET', `${path}/wait?state=suspended&timeout=20`],
        exec: ['POST', `${path}/exec`, { command: ['true'] }],
        lease: ['POST', `${path}/lease?ttl=2`],
      }
      const [method, asked, body] = requests[move.verb] ?? ['POST', `${path}/${move.verb}`, {}]
      sent.push(sim.send(method, asked, body))
    }
    judge()
  }
  sim.settle()
  judge()
  for (const id of sent) expect(sim.answers.has(id), `call ${id} is answered`).toBe(true)
  return sim
}

const plays = fc.tuple(fc.integer(), profile, fc.array(move, { maxLength: 60 }))

describe('the simulated platform', () => {
  it('moves machines along the arrows, brings none back, and holds no more than there is room for (FS1 FS2 FS3 FS8)', () => {
    fc.assert(
      fc.property(plays, ([seed, profile, moves]) => {
        play(seed, profile, moves)
      }),
      { numRuns: 300 },
    )
  })

  it('does the same again with the same seed (FS7)', () => {
    fc.assert(
      fc.property(plays, ([seed, profile, moves]) => {
        const [one, two] = [play(seed, profile, moves), play(seed, profile, moves)]
        expect([...two.answers.values()]).toEqual([...one.answers.values()])
        expect(two.effects).toEqual(one.effects)
      }),
      { numRuns: 60 },
    )
  })

  it('draws for each machine alone: what another does changes nothing for it', () => {
    const lifeOf = (others: readonly string[]) => {
      const sim = new SimDrive({ profile: 'normal', limits: 0 })
      for (const other of others)
        sim.send('POST', '/apps/pool/machines', { name: other, region: 'ord', config: CONFIG })
      const id = sim.send('POST', '/apps/pool/machines', { name: 'mine', region: 'iad', config: CONFIG })
      sim.settle()
      const held = [...sim.world.machines.values()].find(({ name }) => name === 'mine')
      return [sim.answers.get(id)?.body, held?.events]
    }
    expect(lifeOf(['x', 'y', 'z'])).toEqual(lifeOf([]))
  })
})
