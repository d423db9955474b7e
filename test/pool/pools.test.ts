/** A pool at work, in virtual time: machines for jobs out of it, and the rounds that keep it. */
import { afterEach, describe, expect, it } from 'vitest'
import { PlatformError } from '../../schema/error.ts'
import { memoryPoolStore } from '../fake/memory-pool-store.ts'
import { MemoryRider, rideWith } from '../fake/memory-rider.ts'
import { FLY_LIKE, LOCAL_LIKE } from '../fake/virtual-provider.ts'
import type { MachineId } from '../../schema/id.ts'
import { ProviderError } from '../../src/pool/machine-provider.ts'
import { warmShare } from '../../src/pool/explanation.ts'
import type { PooledMachine } from '../../src/pool/machine.ts'
import { LOCK, poolWorld, states, type PoolWorld } from './pool-world.ts'

const CLAIM = { pool: 'p', generations: ['g1'], holds: false }

describe('a pool', () => {
  let world: PoolWorld
  afterEach(() => world.close())
  const open = (...given: Parameters<typeof poolWorld>): PoolWorld => (world = poolWorld(...given))
  const owner = (fence = 1) => ({ jobId: world.job(), fence })

  it('has machines ready before there is a job', async () => {
    open({ ready: 3 }).open()
    await world.pass(60_000)
    expect(states(await world.list())).toEqual(['ready', 'ready', 'ready'])
  })

  it('renews its lead well before it ends, and not with every round (U1)', async () => {
    open({ ready: 3 })
    const lead = world.store.lead.bind(world.store)
    const times: number[] = []
    world.store.lead = async (...asked) => {
      times.push(world.clock.now())
      return await lead(...asked)
    }
    world.open()
    await world.pass(60_000)
    const gaps = times.slice(1).map((at, n) => at - (times[n] ?? 0))
    expect(Math.max(...gaps)).toBeLessThan(5_000)
    expect(Math.min(...gaps)).toBeGreaterThan(3_000)
  })

  it('gives a job a machine that is ready, by a resume that its boot id proves', async () => {
    const host = open().open()
    await world.pass(60_000)
    const before = world.clock.now()
    const machine = await world.settle(host.open(owner(), LOCK))
    expect(machine.obtained).toMatchObject({ resume: 'resumed', machineId: expect.stringMatching(/^mch_/) })
    expect(world.clock.now() - before).toBeLessThan(500)
    await world.settle(machine.destroy())
  })

  it('tells its provider of a job before it claims a machine for it', async () => {
    const { provider, store } = open({ ready: 1 })
    const order: string[] = []
    const host = world.open('here', {
      provider: { ...provider, expect: (lock) => void order.push(lock === LOCK ? 'expect' : 'another') },
      store: {
        ...store,
        claim: (claim) => {
          order.push('claim')
          return store.claim(claim)
        },
      },
    })
    await world.pass(60_000)
    const machine = await world.settle(host.open(owner(), LOCK))
    expect(order).toEqual(['expect', 'claim'])
    await world.settle(machine.destroy())
  })

  for (const traits of [FLY_LIKE, LOCAL_LIKE])
    it(`gives a job the machine that was claimed with its lease, of a pool whose machines are reached by ${traits.reach} (V7)`, async () => {
      let claims = 0
      const { store } = open({ traits })
      const host = world.open('here', {
        store: { ...store, claim: async (...asked) => (claims++, store.claim(...asked)) },
      })
      await world.pass(60_000)
      const one = owner()
      rideWith(host.ahead?.(one))
      const [claimed] = (await world.list()).filter((machine) => machine.owner !== null)
      expect(claimed?.owner).toMatchObject(one)
      const machine = await world.settle(host.open(one, LOCK))
      expect(machine.obtained).toMatchObject({ resume: 'resumed', machineId: claimed?.id })
      expect(claims).toBe(0)
      await world.settle(machine.destroy())
      // Only once: the next attempt claims its own.
      const next = await world.settle(host.open({ ...one, fence: 2 }, LOCK))
      expect({ claims, isOther: next.obtained.machineId !== claimed?.id }).toEqual({ claims: 1, isOther: true })
      await world.settle(next.destroy())
    })

  it('claims a machine as ever where none came with the lease (V7)', async () => {
    const host = open().open()
    const one = owner()
    rideWith(host.ahead?.(one))
    await world.pass(60_000)
    const machine = await world.settle(host.open(one, LOCK))
    expect(machine.obtained.resume).toBe('resumed')
    await world.settle(machine.destroy())
  })

  it('lets a machine go that came with a lease where there is no attempt, and keeps nothing of it (V7, V3)', async () => {
    const host = open({ traits: LOCAL_LIKE }).open()
    await world.pass(60_000)
    const one = owner()
    const rider = host.ahead?.(one)
    rideWith(rider)
    const [claimed] = (await world.list()).filter((machine) => machine.owner !== null)
    rider?.leave()
    await world.pass(5_000)
    expect((await world.list()).filter((machine) => machine.owner !== null)).toEqual([])
    expect((await world.store.find(claimed?.id ?? ('' as MachineId)))?.state).toBe('gone')
    const machine = await world.settle(host.open(one, LOCK))
    expect(machine.obtained.machineId).not.toBe(claimed?.id)
    // A word that comes too late is about nothing that there is.
    rider?.leave()
    await world.pass(1_000)
    expect((await world.list()).filter((other) => other.owner !== null)).toHaveLength(1)
    await world.settle(machine.destroy())
  })

  it('looks whether it has a machine where nobody knows whether one came with the lease (V7)', async () => {
    const host = open().open()
    await world.pass(60_000)
    for (const isClaimed of [true, false]) {
      const one = owner()
      const rider = host.ahead?.(one)
      if (!(rider instanceof MemoryRider)) throw new TypeError('stores in memory make riders of their own')
      // The store did it, and its answer was lost.
      if (isClaimed)
        await world.store.claim({
          ...CLAIM,
          places: world.provider.places,
          owner: { ...one, linesUrl: null },
          now: world.clock.now(),
          deadline: world.clock.now() + 60_000,
        })
      rider.doubt()
      const owned = (await world.list()).filter((machine) => machine.owner !== null)
      expect(owned).toHaveLength(isClaimed ? 1 : 0)
      const machine = await world.settle(host.open(one, LOCK))
      if (isClaimed) expect(machine.obtained.machineId).toBe(owned[0]?.id)
      expect((await world.list()).filter((other) => other.owner?.jobId === one.jobId)).toHaveLength(1)
      await world.settle(machine.destroy())
    }
  })

  it('says cold of one whose snapshot was lost: the job never knew, only waited (I16)', async () => {
    const host = open().open()
    await world.pass(60_000)
    const ready = (await world.list()).map(({ id }) => id)
    for (const id of ready) world.provider.forget(id)
    const machine = await world.settle(host.open(owner(), LOCK))
    expect(machine.obtained.resume).toBe('cold')
    expect(ready).toContain(machine.obtained.machineId)
    await world.settle(machine.destroy())
  })

  it('makes one where there is none, for that very job', async () => {
    const host = open({ ready: 0 }).open()
    const machine = await world.settle(host.open(owner(), LOCK))
    expect(machine.obtained.resume).toBe('created')
    const owned = (await world.list()).filter(({ owner }) => owner !== null)
    expect(owned.map(({ id }) => id)).toEqual([machine.obtained.machineId])
    await world.settle(machine.destroy())
  })

  it('gives a machine nothing that is its no more (V1)', async () => {
    const host = open().open()
    await world.pass(60_000)
    const one = owner()
    const opening = host.open(one, LOCK)
    opening.catch(() => {})
    await world.pass(50)
    // Somebody else has let it go while it was waking.
    const [waking] = (await world.list()).filter(({ state }) => state === 'waking')
    if (waking === undefined) throw new Error('one is waking')
    const { stepMachine } = await import('../../src/pool/machine.ts')
    const step = stepMachine(waking, { type: 'retire', now: world.clock.now(), fault: 'a test' })
    if (step !== undefined) await world.store.change([step], null)
    const machine = await world.settle(opening)
    expect(machine.obtained.machineId).not.toBe(waking.id)
    expect(world.provider.machines.get(waking.id)?.holds).toEqual([])
    await world.settle(machine.destroy())
  })

  it('gives up a machine that does not come, and takes another under the same lease (V2)', async () => {
    open({
      troubleOf: (verb, _id, nth) =>
        verb === 'start' && world.provider.calls.filter((call) => call.verb === 'start').length === 1 && nth === 1
          ? { fault: 'state', tookEffect: false }
          : undefined,
    })
    const host = world.open()
    await world.pass(60_000)
    const machine = await world.settle(host.open(owner(), LOCK))
    const given = [...world.provider.machines.values()].filter(({ holds }) => holds.length > 0)
    expect(given.map(({ id }) => id)).toEqual([machine.obtained.machineId])
    await world.settle(machine.destroy())
  })

  it('sends a used machine by way of a stop back to the reserve, clean (V3)', async () => {
    const host = open({ ready: 1 }).open()
    await world.pass(60_000)
    const machine = await world.settle(host.open(owner(), LOCK))
    const { machineId } = machine.obtained
    await world.settle(machine.destroy())
    await world.pass(20_000)
    const row = machineId === null ? undefined : await world.store.find(machineId)
    expect(row).toMatchObject({ boots: 2, tainted: 1, owner: null })
    expect(world.provider.calls.filter(({ id }) => id === machineId).map(({ verb }) => verb)).toContain('stop')
  })

  it('destroys a used machine where no stop cleans it, and has another ready (V3)', async () => {
    const host = open({ traits: LOCAL_LIKE, ready: 1 }).open()
    await world.pass(5_000)
    const machine = await world.settle(host.open(owner(), LOCK))
    const held = (await world.list()).find(({ state }) => state === 'busy')
    if (held === undefined) throw new Error('no machine is busy')
    await world.settle(machine.destroy())
    // Nothing was left of it, so nobody had to be asked, and one change says it.
    expect(await world.store.find(held.id)).toMatchObject({ state: 'gone', version: held.version + 1 })
    await world.pass(5_000)
    expect(states(await world.list())).toEqual(['ready'])
  })

  it('orders no more machines than there may be, however many jobs come at once', async () => {
    const host = open({ ready: 0, limits: { machinesMax: 3 } }).open()
    const asked = Array.from({ length: 8 }, async () => host.open(owner(), LOCK))
    const ended = Promise.allSettled(asked)
    await world.pass(1_000)
    expect(await world.list()).toHaveLength(3)
    const results = await world.settle(ended)
    expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(3)
  })

  it('takes the machine of an earlier attempt away, whose process is not heard of any more (V4)', async () => {
    const host = open({ ready: 2 }).open()
    await world.pass(60_000)
    const { jobId } = owner()
    const first = await world.settle(host.open({ jobId, fence: 1 }, LOCK))
    await expect(world.settle(host.open({ jobId, fence: 1 }, LOCK))).rejects.toMatchObject({ code: 'fence_stale' })
    const second = await world.settle(host.open({ jobId, fence: 2 }, LOCK))
    expect(second.obtained.machineId).not.toBe(first.obtained.machineId)
    const owned = (await world.list()).filter((one) => one.owner !== null)
    expect(owned).toMatchObject([{ id: second.obtained.machineId, owner: { jobId, fence: 2 } }])
    await world.settle(second.destroy())
  })

  it('lets go of machines whose attempt is over and whose process is not there (U3)', async () => {
    open({ ready: 1 })
    const host = world.open('here', { isOver: async () => true })
    await world.pass(60_000)
    const { machineId } = (await world.settle(host.open(owner(), LOCK))).obtained
    await world.pass(30_000)
    expect(machineId && (await world.store.find(machineId))).toMatchObject({ state: 'busy' })
    await world.pass(120_000)
    expect(machineId && (await world.store.find(machineId))).toMatchObject({ owner: null, boots: 2 })
  })

  it('ends nothing because its provider does not answer (U4)', async () => {
    open({ ready: 2 })
    const look = { isAway: false }
    const provider = {
      ...world.provider,
      look: async (machine: PooledMachine) => {
        if (look.isAway) throw new ProviderError('ambiguous', 'nobody answers')
        return await world.provider.look(machine)
      },
      list: async () => {
        throw new ProviderError('ambiguous', 'nobody answers')
      },
    }
    const host = world.open('here', { provider })
    await world.pass(60_000)
    look.isAway = true
    await world.pass(200_000)
    expect(states(await world.list())).toEqual(['ready', 'ready'])
    expect(host.explain().faults[0]).toMatchObject({ verb: 'list', why: 'nobody answers' })
  })

  it('says why it is as it is', async () => {
    const host = open({ ready: 2 }).open()
    await world.pass(60_000)
    await world.settle((await world.settle(host.open(owner(), LOCK))).destroy())
    const { leads, target, counts, given, actions } = host.explain()
    expect({ leads, counts, given }).toMatchObject({ leads: true, given: { resumed: 1 } })
    expect(target?.why).toMatch(/ready/)
    expect(actions.at(-1)).toMatchObject({ type: 'create', why: expect.stringMatching(/^0 of 2 are ready/) })
    expect(warmShare(host.explain())).toBe(1)
    expect(warmShare({ given: {} })).toBeNull()
  })

  it('waits while all machines that there may be are taken, and goes on when one is free', async () => {
    const host = open({ ready: 0, limits: { machinesMax: 1 } }).open()
    const first = await world.settle(host.open(owner(), LOCK))
    const second = host.open(owner(), LOCK)
    await world.pass(5_000)
    await world.settle(first.destroy())
    const machine = await world.settle(second)
    expect(await world.list()).toHaveLength(1)
    await world.settle(machine.destroy())
  })

  it('is kept by one process at a time, and by the next when that is gone (U1)', async () => {
    open({ ready: 2 })
    const one = world.open('one')
    world.open('two')
    await world.pass(60_000)
    expect(states(await world.list())).toEqual(['ready', 'ready'])
    await world.settle(one.close())
    for (const { id } of await world.list()) world.provider.kill(id)
    await world.pass(60_000)
    expect(states(await world.list())).toEqual(['ready', 'ready'])
  })

  it('ends its machines when it closes, also where that cannot be recorded', async () => {
    const { store, provider } = open({ traits: LOCAL_LIKE, ready: 1 })
    let isAway = false
    let isEnded = false
    const away: typeof store = {
      ...store,
      list: async (pool) => (isAway ? Promise.reject(new Error('the database is away')) : store.list(pool)),
    }
    const pool = world.open('here', {
      store: away,
      provider: { ...provider, close: async () => void (isEnded = true) },
    })
    await world.pass(3_000)
    isAway = true
    await expect(world.settle(pool.close())).rejects.toThrow('the database is away')
    expect(isEnded).toBe(true)
    isAway = false
  })

  it('takes a machine though somebody else has let an earlier attempt of its job go meanwhile (V4)', async () => {
    open({ ready: 1 })
    const { store } = world
    let isFirst = true
    const late: typeof store = {
      ...store,
      claim: async (request) => {
        if (!isFirst) return await store.claim(request)
        isFirst = false
        throw new PlatformError('fence_stale', 'The job has another machine, which is gone when it is looked for.')
      },
    }
    const host = world.open('here', { store: late })
    await world.pass(60_000)
    const machine = await world.settle(host.open(owner(2), LOCK))
    expect(machine.obtained.machineId).not.toBeNull()
    await world.settle(machine.destroy())
  })

  it('goes on after rounds that failed (U2)', async () => {
    open({ ready: 1 })
    const store = memoryPoolStore()
    let fails = 5
    const failing = {
      ...store,
      list: async (pool: string) => (fails-- > 0 ? Promise.reject(new Error('no')) : store.list(pool)),
    }
    world.open('here', { store: failing })
    await world.pass(60_000)
    expect(states(await store.list('p'))).toEqual(['ready'])
  })

  it('asks again for what a provider did not do, or did without saying so', async () => {
    open({
      ready: 2,
      troubleOf: (verb, _id, nth) =>
        verb === 'create' && nth <= 2 ? { fault: 'ambiguous', tookEffect: nth === 2 } : undefined,
    }).open()
    await world.pass(120_000)
    expect(states(await world.list())).toEqual(['ready', 'ready'])
    expect(world.provider.machines.size).toBe(2)
  })
})
