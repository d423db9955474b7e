/** What a pool does for its machines, its demand and its policy: some cases by hand, and what holds for all of them. */
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { JobId, MachineId } from '../../schema/id.ts'
import { noDemand, type Demand } from '../../src/pool/demand.ts'
import { DEADLINES_MS, isClean, orderMachine, type MachineState, type PooledMachine } from '../../src/pool/machine.ts'
import { initialPace, suspendsAt } from '../../src/pool/pace.ts'
import { planPool, poolPolicy, type Action, type PoolView } from '../../src/pool/plan.ts'
import { FLY_LIKE, LOCAL_LIKE } from '../fake/virtual-provider.ts'

const NOW = 10_000_000
const HOUR = 3_600_000
let made = 0

function machine(state: MachineState, change: Partial<PooledMachine> = {}): PooledMachine {
  const id = `mch_${String((made += 1)).padStart(6, '0')}` as MachineId
  const isOwned = state === 'waking' || state === 'busy'
  return {
    ...orderMachine({ id, pool: 'p', place: 'here', generation: 'g1', now: NOW - 60_000 }, null),
    state,
    owner: isOwned ? { jobId: 'job_1' as JobId, fence: 1, linesUrl: null } : null,
    tainted: state === 'busy' || state === 'stopping' ? 1 : 0,
    idleSince: state === 'ready' || state === 'reserve' ? NOW - 60_000 : null,
    deadline: DEADLINES_MS[state] === undefined ? null : NOW + 30_000,
    ...change,
  }
}
const machines = (...states: readonly MachineState[]) => states.map((state) => machine(state))

function view(
  change: Partial<Omit<PoolView, 'policy'>> & { readonly policy?: Partial<PoolView['policy']> } = {},
): PoolView {
  return {
    machines: [],
    demand: noDemand(NOW),
    traits: FLY_LIKE,
    places: ['here'],
    generation: 'g1',
    pace: initialPace,
    memory: { wanted: [], panicUntil: 0, shrankAt: 0, refreshedAt: NOW, replacedAt: 0 },
    now: NOW,
    ...change,
    policy: { ...poolPolicy, readyMin: 2, machinesMax: 50, ...change.policy },
  }
}
const types = (actions: readonly Action[]): readonly string[] => actions.map(({ type }) => type)
const act = (change: Parameters<typeof view>[0]) => planPool(view(change)).actions

describe('the plan of a pool', () => {
  it('orders what is not ready, and says why', () => {
    expect(act({})).toEqual([
      {
        type: 'create',
        place: 'here',
        why: '0 of 2 are ready or on their way: 2 ready, as the policy says whatever comes',
      },
      {
        type: 'create',
        place: 'here',
        why: '0 of 2 are ready or on their way: 2 ready, as the policy says whatever comes',
      },
    ])
  })

  it('counts what is on its way (PL1)', () => {
    expect(act({ machines: machines('creating', 'booting') })).toEqual([])
    const lost = machine('creating', { since: NOW - 300_000 })
    expect(types(act({ machines: [lost, machine('ready')] }))).toEqual(['create'])
  })

  it('takes from the reserve before it orders, and waits for what is being cleaned', () => {
    const [spare] = machines('reserve')
    expect(act({ machines: [machine('ready'), spare!] })).toMatchObject([{ type: 'boot', machine: { id: spare!.id } }])
    expect(act({ machines: machines('ready', 'stopping') })).toEqual([])
    expect(types(act({ machines: machines('ready', 'stopping'), traits: LOCAL_LIKE }))).toEqual(['create'])
  })

  it('grows with what comes: ready for the lead, and in all for as long as jobs take', () => {
    const demand: Demand = { ...noDemand(NOW), fast: 5, slow: 5, busy: 600, stable: 100, sudden: 100 }
    const { target } = planPool(view({ demand, policy: { machinesMax: 2_000 } }))
    expect(target.ready).toBe(29)
    expect(target.machines).toBeGreaterThan(600)
    expect(target.why).toMatch(/^5.00 jobs per second come, and 3.7 s make a machine ready: 29 ready/)
  })

  it('keeps a machine hot for a while where suspending is slow, and suspends it at once where it is not', () => {
    const hot = (since: number) => [machine('hot', { since }), machine('ready')]
    expect(act({ machines: hot(NOW - 9_999) })).toEqual([])
    expect(act({ machines: hot(NOW - 10_000) })).toMatchObject([
      { type: 'suspend', why: 'nobody has wanted it for 10.0 s' },
    ])
    expect(act({ machines: hot(NOW), traits: LOCAL_LIKE })).toMatchObject([
      { type: 'suspend', why: 'nobody waits for it' },
    ])
    expect(act({ machines: hot(NOW), traits: { ...LOCAL_LIKE, suspends: false } })).toEqual([])
  })

  it('suspends no more at once than may be (PL5, I23)', () => {
    const eight = Array.from({ length: 8 }, () => machine('hot'))
    expect(types(act({ machines: eight, policy: { readyMin: 8 } }))).toEqual(Array(5).fill('suspend'))
    const [three, elsewhere] = [machines('suspending', 'suspending', 'suspending'), machine('hot', { place: 'there' })]
    const more = act({ machines: [...three, ...eight, elsewhere], policy: { readyMin: 12 } })
    expect(types(more)).toEqual(Array(3).fill('suspend'))
  })

  it('shrinks only once the whole delay wanted less, one at a time, the longest idle first (PL4, I14)', () => {
    const [old, young, younger] = [NOW - HOUR, NOW - 2_000, NOW - 1_000].map((idleSince) =>
      machine('ready', { idleSince }),
    )
    const three = [young!, old!, younger!]
    const wanted = [{ at: NOW - 299_999, ready: 3, machines: 3 }]
    const memory = { ...view().memory!, wanted }
    expect(act({ machines: three, memory })).toEqual([])
    const later = act({ machines: three, memory, now: NOW + 1 })
    expect(later).toMatchObject([{ type: 'stop', machine: { id: old!.id } }])
    expect(act({ machines: three, memory, now: NOW + 1, traits: LOCAL_LIKE })).toMatchObject([{ type: 'retire' }])
  })

  it('gives nothing up for what is only on its way, and counts a surplus once (PL4, I15)', () => {
    expect(act({ machines: machines('ready', 'ready', 'booting') })).toEqual([])
    const hot = machine('hot', { since: NOW - 1_000 })
    expect(types(act({ machines: [...machines('ready', 'ready'), hot] }))).toEqual(['stop'])
  })

  it('shrinks nothing for a whole delay when it has just begun to lead (PL4, I14)', () => {
    const four = machines('ready', 'ready', 'ready', 'ready')
    const first = planPool(view({ machines: four, memory: null }))
    expect(first.actions).toEqual([])
    const then = (now: number) => types(act({ machines: four, memory: first.memory, now }))
    expect([then(NOW + 299_999), then(NOW + 300_000)]).toEqual([[], ['stop']])
  })

  it('shrinks nothing in a panic (PL4, I14)', () => {
    const memory = { ...view().memory!, panicUntil: NOW + 1 }
    expect(act({ machines: machines('ready', 'ready', 'ready'), memory })).toEqual([])
    const demand = { ...noDemand(NOW), sudden: 10 }
    const { target, memory: after } = planPool(view({ machines: machines('ready', 'ready', 'ready'), demand }))
    expect(target.isPanic).toBe(true)
    expect(after.panicUntil).toBe(NOW + 60_000)
  })

  it('wants those at work, and who come while a machine is made: a rate of ten seconds does not last', () => {
    const often = { ...noDemand(NOW), slow: 1, fast: 3, busy: 100 }
    const busy = Array.from({ length: 100 }, () => machine('busy'))
    const { target } = planPool(view({ machines: busy, demand: often, policy: { machinesMax: 200 } }))
    // 3 a second for 11.7 s: 35, and 2.33 times the root of it. Erlang for one a second of 100 s: 122.
    expect(target.machines).toBe(100 + 35 + 14)
    expect(
      planPool(view({ machines: busy, demand: { ...often, fast: 1 }, policy: { machinesMax: 200 } })).target.machines,
    ).toBe(122)
  })

  it('boots what came to the reserve last, so that what nobody needs stays idle and is given up (PL4)', () => {
    const [old, young] = [NOW - HOUR, NOW - 1_000].map((idleSince) => machine('reserve', { idleSince }))
    const [boot] = act({ machines: [machine('ready'), old!, young!] })
    expect(boot).toMatchObject({ type: 'boot', machine: { id: young!.id } })
  })

  it('gives up what was in reserve for long, and nobody wants', () => {
    const kept = (idleSince: number) =>
      act({ machines: [...machines('ready', 'ready'), machine('reserve', { idleSince })] })
    expect(kept(NOW - 1_799_999)).toEqual([])
    expect(kept(NOW - 1_800_000)).toMatchObject([{ type: 'retire' }])
  })

  it('keeps in reserve, however long, what is wanted for the load (PL7)', () => {
    const demand: Demand = { ...noDemand(NOW), fast: 0.1, slow: 0.1, busy: 4 }
    const { target } = planPool(view({ demand }))
    const ready = Array.from({ length: target.ready }, () => machine('ready', { idleSince: NOW - HOUR }))
    const spare = (count: number) => Array.from({ length: count }, () => machine('reserve', { idleSince: NOW - HOUR }))
    const missing = target.machines - target.ready
    expect(missing).toBeGreaterThan(0)
    expect(act({ demand, machines: [...ready, ...spare(missing)] })).toEqual([])
    expect(types(act({ demand, machines: [...ready, ...spare(missing + 1)] }))).toEqual(['retire'])
    expect(types(act({ demand, machines: [...ready, ...spare(missing - 1)] }))).toEqual(['create'])
  })

  it('replaces an older generation while there are enough of the new one, and the reserve first (PL6, I15)', () => {
    const old = machine('ready', { generation: 'g0' })
    // One new one is made beside it first.
    expect(types(act({ machines: [old, machine('ready')] }))).toEqual(['create'])
    expect(act({ machines: [old, ...machines('ready', 'creating')] })).toEqual([])
    expect(act({ machines: [old, ...machines('ready', 'ready')] })).toMatchObject([
      { type: 'retire', machine: { id: old.id }, why: 'its generation is g0, and new ones are g1' },
    ])
    const busy = machine('busy', { generation: 'g0' })
    expect(act({ machines: [busy, ...machines('ready', 'ready')] })).toEqual([])
    const spare = machine('reserve', { generation: 'g0' })
    expect(act({ machines: [spare, ...machines('ready', 'ready')] })).toMatchObject([{ type: 'retire' }])
    // A pool that is full has no room for both.
    expect(types(act({ machines: [old, machine('ready')], policy: { machinesMax: 2 } }))).toEqual(['retire'])
  })

  it('begins a new generation with canaries, and gives nothing up for it before one has come up (PL8, I15)', () => {
    const old = Array.from({ length: 10 }, () => machine('ready', { generation: 'g0' }))
    const policy = { readyMin: 10 }
    const first = act({ machines: old, policy })
    expect(first).toMatchObject([{ type: 'create', why: expect.stringMatching(/^the first of generation g1/) }])
    const canary = machine('creating')
    expect(act({ machines: [...old, canary], policy })).toEqual([])
    // What was used goes on while nothing says that the newest comes up.
    const used = machine('reserve', { generation: 'g0', boots: 2, tainted: 1, uses: 1 })
    expect(types(act({ machines: [...old.slice(3), used, canary], policy }))).toEqual(['boot'])
    expect(act({ machines: [...old, used, canary], policy })).toEqual([])
    const up = machine('hot', { bootId: 'b', since: NOW })
    expect(types(act({ machines: [...old, up], policy }))).toEqual(['retire'])
    expect(act({ machines: old, policy: { readyMin: 10, machinesMax: 10 } })).toMatchObject([{ type: 'retire' }])
    const hundred = Array.from({ length: 100 }, () => machine('ready', { generation: 'g0' }))
    expect(types(act({ machines: hundred, policy: { readyMin: 100, machinesMax: 200 } }))).toEqual(['create', 'create'])
  })

  it('orders nothing of a generation that does not come up', () => {
    const pace = { ...initialPace, unfit: { g1: { failures: 3, until: NOW + 1, ms: 60_000, why: null } } }
    expect(act({ pace })).toEqual([])
    expect(act({ pace, now: NOW + 1 })).toHaveLength(2)
  })

  it('makes anew what was suspended for long or used often, one in a minute', () => {
    const memory = { ...view().memory!, refreshedAt: NOW - 60_000 }
    const stale = machine('ready', { idleSince: NOW - 6 * HOUR })
    expect(types(act({ machines: [stale, machine('ready')], memory }))).toEqual(['stop'])
    expect(act({ machines: [stale, machine('ready')] })).toEqual([])
    const worn = machine('reserve', { uses: 100, boots: 101, tainted: 100 })
    expect(types(act({ machines: [worn, ...machines('ready', 'ready')], memory }))).toEqual(['retire'])
  })

  it('orders where there is room, and nothing where orders are refused', () => {
    const pace = { ...initialPace, resting: { full: { until: NOW + 1, ms: 1 } } }
    expect(act({ places: ['full', 'open'], pace }).map((one) => one.type === 'create' && one.place)).toEqual([
      'open',
      'open',
    ])
    expect(act({ pace: { ...initialPace, refused: { until: NOW + 1, why: 'no' } } })).toEqual([])
    expect(act({ pace: { ...initialPace, orders: 1 } })).toHaveLength(1)
  })
})

const aMachine = fc
  .record({
    state: fc.constantFrom<MachineState[]>(
      'creating',
      'booting',
      'hot',
      'suspending',
      'ready',
      'waking',
      'busy',
      'stopping',
      'reserve',
      'retiring',
      'quarantined',
    ),
    generation: fc.constantFrom('g0', 'g1', 'g1', 'g1'),
    place: fc.constantFrom('here', 'there'),
    ageMs: fc.oneof(fc.nat(20_000), fc.nat(8 * HOUR)),
    uses: fc.nat(120),
    // No store has such a row while it is idle (D4); the plan does not rely on it.
    tainted: fc.constantFrom(0, 0, 0, 1),
  })
  .map(({ state, ageMs, ...one }) =>
    machine(state, {
      ...one,
      since: NOW - ageMs,
      idleSince: state === 'ready' || state === 'reserve' ? NOW - ageMs : null,
    }),
  )
const aDemand = fc
  .record({
    fast: fc.double({ min: 0, max: 20, noNaN: true }),
    busy: fc.nat(50),
    // What is many times what there is would be a rush for as long as it stays, and nothing shrinks in one.
    sudden: fc.oneof(fc.constant(0), fc.nat(8), fc.nat(60)),
    dispersion: fc.constantFrom(1, 2, 10),
  })
  .map((one): Demand => ({ ...noDemand(NOW), ...one, slow: one.fast / 2, stable: one.sudden / 2 }))
const aView = fc
  .record({
    machines: fc.array(aMachine, { maxLength: 40 }),
    demand: aDemand,
    traits: fc.constantFrom(FLY_LIKE, LOCAL_LIKE, { ...LOCAL_LIKE, suspends: false }),
    policy: fc.record({ readyMin: fc.nat(5), machinesMax: fc.nat(60) }),
  })
  .map((one) => view({ ...one, places: ['here', 'there'] }))
const holds = (check: (given: PoolView, actions: readonly Action[]) => void): void =>
  fc.assert(
    fc.property(aView, (given) => check(given, planPool(given).actions)),
    { numRuns: 500 },
  )

describe('every plan of a pool', () => {
  it('stays within the most that there may be (PL2, I9)', () => {
    holds(({ machines: all, policy }, actions) => {
      const orders = actions.filter(({ type }) => type === 'create').length
      if (orders > 0) expect(all.length + orders).toBeLessThanOrEqual(policy.machinesMax)
    })
  })

  it('asks nothing of machines that are waking, busy or no longer clean, and one thing of each (PL3, I10)', () => {
    holds((_given, actions) => {
      const asked = actions.flatMap((one) => (one.type === 'create' ? [] : [one.machine]))
      for (const one of asked) {
        expect(one.owner).toBeNull()
        expect(isClean(one)).toBe(true)
      }
      expect(new Set(asked).size).toBe(asked.length)
    })
  })

  it('never has more suspends under way at a place than may be (PL5, I23)', () => {
    holds(({ machines: all, pace }, actions) => {
      for (const place of ['here', 'there']) {
        const asked = actions.filter((one) => one.type === 'suspend' && one.machine.place === place).length
        const before = all.filter((one) => one.state === 'suspending' && one.place === place).length
        if (asked > 0) expect(before + asked).toBeLessThanOrEqual(suspendsAt(pace, place))
      }
    })
  })

  it('gives up at most one of a kind, and none while it grows (PL4)', () => {
    holds(({ machines: all }, actions) => {
      const ended = actions.filter((one) => one.type === 'retire')
      expect(ended.length).toBeLessThanOrEqual(1)
      if (actions.some(({ type }) => type === 'create' || type === 'boot'))
        for (const one of ended) expect(one).toMatchObject({ machine: { generation: 'g0' } })
      expect(all.length).toBeGreaterThanOrEqual(ended.length)
    })
  })

  it('says the same of the same, and why', () => {
    holds((given, actions) => {
      expect(planPool(given).actions).toEqual(actions)
      for (const { why } of actions) expect(why).not.toBe('')
    })
  })
})

describe('a pool whose demand stays as it is', () => {
  /** What becomes of what was on its way, and of what the plan asked for, in the time between two looks. */
  function after(given: PoolView, actions: readonly Action[], now: number): readonly PooledMachine[] {
    const { traits } = given
    const asked = new Map(
      actions.flatMap((one) => (one.type === 'create' ? [] : [[one.machine.id, one.type] as const])),
    )
    const there = { boot: 'booting', suspend: 'suspending', stop: 'stopping', retire: 'retiring' } as const
    const made = actions.flatMap((one) =>
      one.type === 'create' ? [machine('creating', { place: one.place, since: now })] : [],
    )
    return [...given.machines, ...made].flatMap((one): readonly PooledMachine[] => {
      const told = asked.get(one.id)
      const state = told === undefined ? one.state : there[told]
      const idle = { since: now, idleSince: now, deadline: null, tainted: 0 }
      if (state === 'retiring' || (state === 'stopping' && !traits.cleansByStop)) return []
      if (state === 'stopping') return [{ ...one, ...idle, state: 'reserve' }]
      if (state === 'creating' || state === 'booting' || state === 'suspending')
        return [{ ...one, ...idle, state: traits.suspends ? 'ready' : 'hot' }]
      return [one]
    })
  }

  it('comes to rest: everything that is wanted is there, and nothing more is asked for (PL7)', () => {
    fc.assert(
      fc.property(aView, (drawn) => {
        // Time alone makes nothing anew here.
        let given: PoolView = { ...drawn, policy: { ...drawn.policy, readyKeptMs: Infinity } }
        const look = (): readonly Action[] => {
          const { actions, memory } = planPool(given)
          const now = given.now + 30_000
          given = { ...given, memory, now, demand: { ...given.demand, at: now }, machines: after(given, actions, now) }
          return actions
        }
        for (let looks = 0; looks < 600; looks++) look()
        expect(Array.from({ length: 120 }, look).flat()).toEqual([])
      }),
      { numRuns: 150 },
    )
  })
})
