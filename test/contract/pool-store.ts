/** What every store of a pool keeps, whatever it keeps it in; titles cite src/pool/pool-store.ts. */
import * as fc from 'fast-check'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { makeId, type JobId } from '../../schema/id.ts'
import {
  CLAIMABLE,
  orderMachine,
  stepMachine,
  type MachineCommand,
  type PooledMachine,
} from '../../src/pool/machine.ts'
import type { ClaimRequest, Leadership, PoolStore } from '../../src/pool/pool-store.ts'
import { fakeChance } from '../fake/fake-clock.ts'

const NOW = 1_700_000_000_000
const isClaimable = ({ state }: Pick<PooledMachine, 'state'>): boolean => CLAIMABLE.includes(state)

export function poolStoreContract(
  name: string,
  open: () => Promise<{ readonly store: PoolStore; readonly close: () => Promise<void> }>,
): void {
  describe(`a store of a pool: ${name}`, () => {
    const chance = fakeChance(name)
    let store: PoolStore
    let close: () => Promise<void>
    beforeAll(async () => ({ store, close } = await open()))
    afterAll(() => close())
    /** Each test has a pool of its own. */
    let pool = ''
    let pools = 0
    beforeEach(() => (pool = `pool ${++pools}`))

    const job = (): JobId => makeId('job', NOW, chance.bytes(16))
    const ownerOf = (jobId: JobId, fence = 1) => ({ jobId, fence, linesUrl: null })
    const order = (change: Partial<PooledMachine> = {}): PooledMachine => ({
      ...orderMachine(
        { id: makeId('mch', NOW, chance.bytes(16)), pool, place: 'here', generation: 'g1', now: NOW },
        null,
      ),
      ...change,
    })
    const claim = (change: Partial<ClaimRequest> = {}) =>
      store.claim({
        pool,
        places: ['here'],
        owner: ownerOf(job()),
        generations: ['g1'],
        now: NOW,
        deadline: NOW + 10_000,
        holds: false,
        ...change,
      })
    async function leadOf(holder: string, now: number): Promise<Leadership> {
      const lead = await store.lead(pool, holder, now, now + 10)
      if (lead === undefined) throw new Error('another leads')
      return lead
    }
    async function take(machine: PooledMachine, ...commands: readonly MachineCommand[]): Promise<PooledMachine> {
      let current = machine
      for (const command of commands) {
        const step = stepMachine(current, command)
        if (step === undefined) throw new Error(`${command.type} does not apply to a machine that is ${current.state}`)
        expect(await store.change([step], null)).toEqual([true])
        current = step.next
      }
      return current
    }
    async function ordered(change: Partial<PooledMachine> = {}): Promise<PooledMachine> {
      const machine = order(change)
      await store.add([machine], null)
      return machine
    }
    const up = (machine: PooledMachine, now = NOW) =>
      take(machine, { type: 'created', now, providerId: 'p' }, { type: 'up', now, bootId: `boot ${machine.id}` })
    const ready = async (now = NOW, change: Partial<PooledMachine> = {}) =>
      take(await up(await ordered(change), now), { type: 'suspend', now }, { type: 'suspended', now })

    describe('rows', () => {
      it('gives back what was written, and lists what is not gone', async () => {
        const [one, two] = [await ready(), await ordered({ fault: 'it said \0 nothing' })]
        expect(await store.find(one.id)).toEqual(one)
        await take(two, { type: 'gone', now: NOW })
        expect(await store.list(pool)).toEqual([one])
        expect(await store.list(`${pool}, another`)).toEqual([])
      })

      it('changes nothing that was decided on another version (D1)', async () => {
        const machine = await ordered()
        const step = stepMachine(machine, { type: 'created', now: NOW, providerId: 'p' })
        const other = stepMachine(machine, { type: 'retire', now: NOW, fault: 'f' })
        if (step === undefined || other === undefined) throw new Error('both apply')
        expect(await store.change([step, other], null)).toEqual([true, false])
        expect(await store.find(machine.id)).toEqual(step.next)
      })

      it('forgets what is long gone, and nothing else', async () => {
        const [old, late, live] = [await ordered(), await ordered(), await ordered()]
        await take(old, { type: 'gone', now: NOW })
        await take(late, { type: 'gone', now: NOW + 1 })
        expect(await store.sweep(pool, NOW + 1)).toBe(1)
        expect(await store.find(old.id)).toBeUndefined()
        expect(await store.find(late.id)).toBeDefined()
        expect(await store.find(live.id)).toBeDefined()
      })
    })

    describe('a claim', () => {
      it('takes a hot machine before a ready one, then one on its way, then a clean reserve', async () => {
        const reserve = await take(await ready(), { type: 'stop', now: NOW }, { type: 'stopped', now: NOW })
        const booting = await take(await ordered(), { type: 'created', now: NOW, providerId: 'p' })
        const asleep = await ready()
        const hot = await up(await ordered())
        const found = [await claim(), await claim(), await claim(), await claim()]
        expect(found.map((one) => one?.machine.id)).toEqual([hot.id, asleep.id, booting.id, reserve.id])
        expect(found.map((one) => [one?.from, one?.verb])).toEqual([
          ['hot', null],
          ['ready', 'start'],
          ['booting', null],
          ['reserve', 'start'],
        ])
        expect(await claim()).toBeUndefined()
      })

      it('takes the newest generation first, and of the ready the freshest; the oldest stay idle', async () => {
        const [old, fresh] = [await ready(NOW), await ready(NOW + 5)]
        const next = await ready(NOW - 5, { generation: 'g2' })
        const generations = ['g2', 'g1']
        const found = [await claim({ generations }), await claim({ generations }), await claim({ generations })]
        expect(found.map((one) => one?.machine.id)).toEqual([next.id, fresh.id, old.id])
      })

      it('takes the best there is by the pure order, whatever is there, until nothing is left', async () => {
        const states = [...CLAIMABLE, 'stopping', 'retiring', 'gone'] as const
        const some = fc.record({
          state: fc.constantFrom(...states),
          generation: fc.constantFrom('g0', 'g1', 'g2'),
          place: fc.constantFrom('here', 'there', 'elsewhere'),
          idleSince: fc.option(fc.integer({ min: NOW - 3, max: NOW })),
          isUsed: fc.boolean(),
        })
        const [generations, places] = [
          ['g2', 'g1'],
          ['here', 'there'],
        ]
        await fc.assert(
          fc.asyncProperty(fc.array(some, { maxLength: 8 }), async (given) => {
            pool = `pool ${++pools}`
            const machines = given.map(({ isUsed, ...change }) =>
              order({ ...change, bootId: 'boot', ...(isUsed && !isClaimable(change) ? { boots: 1, tainted: 1 } : {}) }),
            )
            for (const machine of machines) await store.add([machine], null)
            const rank = ({ generation, state, idleSince }: PooledMachine): number =>
              1e9 * generations.indexOf(generation) +
              1e6 * CLAIMABLE.indexOf(state) +
              (NOW - (idleSince ?? 0) > 1e5 ? 1e5 : NOW - (idleSince ?? 0))
            const expected = machines
              .filter(
                ({ state, generation, place }) =>
                  isClaimable({ state }) && generations.includes(generation) && places.includes(place),
              )
              .toSorted((a, b) => rank(a) - rank(b) || (a.id < b.id ? -1 : 1))
              .map(({ id }) => id)
            const taken: string[] = []
            for (;;) {
              const claimed = await claim({ generations, places })
              if (claimed === undefined) break
              taken.push(claimed.machine.id)
            }
            expect(taken).toEqual(expected)
          }),
          { numRuns: 25 },
        )
      })

      it('takes nothing of another pool, place or generation', async () => {
        await ready(NOW, { place: 'there' })
        await ready(NOW, { pool: `${pool}, another` })
        await ready(NOW, { generation: 'g0' })
        expect(await claim()).toBeUndefined()
      })

      it('gives a machine that waits for its job, and that its errand is left to the claimer for a while (D5)', async () => {
        const machine = await ready()
        const owner = ownerOf(job())
        const claimed = await claim({ owner })
        expect(claimed?.machine).toMatchObject({
          state: 'waking',
          owner,
          deadline: NOW + 10_000,
          version: machine.version + 1,
        })
        expect(await store.find(machine.id)).toEqual(claimed?.machine)
        expect(await store.errands(pool, ['here'], NOW, 10)).toEqual([])
        expect(await store.errands(pool, ['here'], NOW + 60_000, 10)).toMatchObject([
          { machineId: machine.id, verb: 'start' },
        ])
      })

      it('holds at once a machine whose pipes the claimer has, in the same commit, with nothing left to ask', async () => {
        const machine = await ready()
        const claimed = await claim({ holds: true })
        const { boots, bootId } = machine
        expect(claimed).toMatchObject({ from: 'ready', verb: 'start' })
        expect(claimed?.machine).toMatchObject({ state: 'busy', tainted: boots, bootId, uses: 1, deadline: null })
        expect(await store.find(machine.id)).toEqual(claimed?.machine)
        expect(await store.errands(pool, ['here'], NOW + 60_000, 10)).toEqual([])
      })

      it('is refused to an attempt that has a machine, and to a job that has one under another fence (D2, D3)', async () => {
        await ready()
        await ready()
        const owner = ownerOf(job(), 3)
        await claim({ owner })
        await expect(claim({ owner })).rejects.toMatchObject({ code: 'fence_stale' })
        await expect(claim({ owner: { ...owner, fence: 4 } })).rejects.toMatchObject({ code: 'fence_stale' })
        await expect(
          store.add([orderMachine({ ...order(), now: NOW }, { owner, deadline: NOW })], null),
        ).rejects.toMatchObject({ code: 'fence_stale' })
        expect(await claim()).toBeDefined()
      })

      it('gives many at once another machine each (D6)', async () => {
        const machines = await Promise.all(Array.from({ length: 8 }, () => ready()))
        const claims = await Promise.all(Array.from({ length: 12 }, () => claim()))
        const ids = claims.flatMap((one) => (one === undefined ? [] : [one.machine.id]))
        expect(new Set(ids)).toEqual(new Set(machines.map(({ id }) => id)))
        expect(ids).toHaveLength(8)
      })

      it('never takes a machine again that a job has been in, before it was stopped (D4)', async () => {
        const machine = await ready()
        const owner = ownerOf(job())
        await claim({ owner, holds: true })
        const busy = await store.find(machine.id)
        if (busy === undefined) throw new Error('it is there')
        const stopping = await take(busy, { type: 'release', now: NOW, cleansByStop: true })
        expect(await claim()).toBeUndefined()
        await take(stopping, { type: 'stopped', now: NOW })
        expect((await claim())?.machine.id).toBe(machine.id)
      })
    })

    describe('a machine that comes for its job', () => {
      it('is held for its own attempt alone, once, and asked again it is the same', async () => {
        const machine = await ready()
        const owner = ownerOf(job(), 2)
        await claim({ owner })
        expect(await store.hold(machine.id, { ...owner, fence: 1 }, 'b', NOW)).toBeUndefined()
        expect(await store.hold(machine.id, ownerOf(job(), 2), 'b', NOW)).toBeUndefined()
        const held = await store.hold(machine.id, owner, 'b', NOW)
        expect(held).toMatchObject({ state: 'busy', bootId: 'b', uses: 1, deadline: null })
        expect(held?.tainted).toBe(held?.boots)
        expect(await store.hold(machine.id, owner, 'b', NOW + 9)).toEqual(held)
        expect(await store.hold(machine.id, owner, 'another boot', NOW)).toBeUndefined()
        expect(await store.errands(pool, ['here'], NOW + 60_000, 10)).toEqual([])
      })

      it('is given nothing once it was let go', async () => {
        const machine = await ready()
        const owner = ownerOf(job())
        const claimed = await claim({ owner })
        if (claimed === undefined) throw new Error('one is ready')
        await take(claimed.machine, { type: 'release', now: NOW, cleansByStop: true })
        expect(await store.hold(machine.id, owner, 'b', NOW)).toBeUndefined()
      })
    })

    describe('errands', () => {
      it('are due with the change that decided them, the oldest first, and end with the next (D5)', async () => {
        const [one, two] = [await ordered({ since: NOW + 2 }), await ordered({ since: NOW + 1 })]
        expect(await store.errands(pool, ['here'], NOW, 10)).toEqual([])
        const due = await store.errands(pool, ['here'], NOW + 2, 10)
        expect(due.map(({ machineId, verb, tries }) => [machineId, verb, tries])).toEqual([
          [two.id, 'create', 0],
          [one.id, 'create', 0],
        ])
        expect(await store.errands(pool, ['there'], NOW + 2, 10)).toEqual([])
        expect(await store.errands(pool, ['here'], NOW + 2, 1)).toHaveLength(1)
        await take(one, { type: 'created', now: NOW, providerId: 'p' })
        expect(await store.errands(pool, ['here'], NOW + 2, 10)).toHaveLength(1)
      })

      it('are put off with what was tried counted, and not for a machine that has moved on (D5)', async () => {
        const machine = await ordered()
        const [errand] = await store.errands(pool, ['here'], NOW, 1)
        if (errand === undefined) throw new Error('one is due')
        expect(await store.postpone(errand, NOW + 100)).toBe(true)
        expect(await store.errands(pool, ['here'], NOW + 99, 1)).toEqual([])
        expect(await store.errands(pool, ['here'], NOW + 100, 1)).toMatchObject([{ tries: 1 }])
        await take(machine, { type: 'created', now: NOW, providerId: 'p' })
        expect(await store.postpone(errand, NOW + 200)).toBe(false)
      })
    })

    describe('the lead', () => {
      it('is one process until its time is over, and rises with each that takes it (D7)', async () => {
        const first = await store.lead(pool, 'a', NOW, NOW + 10)
        expect(await store.lead(pool, 'b', NOW + 9, NOW + 19)).toBeUndefined()
        expect(await store.lead(pool, 'a', NOW + 9, NOW + 19)).toEqual(first)
        const second = await store.lead(pool, 'b', NOW + 19, NOW + 29)
        expect(second?.epoch).toBeGreaterThan(first?.epoch ?? 0)
        expect(await store.lead(`${pool}, another`, 'a', NOW, NOW + 10)).toBeDefined()
      })

      it('lost, orders and changes nothing any more (D7)', async () => {
        const machine = await ordered()
        const lead = (await store.lead(pool, 'a', NOW, NOW + 10)) ?? null
        await store.lead(pool, 'b', NOW + 10, NOW + 20)
        const step = stepMachine(machine, { type: 'retire', now: NOW, fault: null })
        if (step === undefined) throw new Error('it applies')
        expect(await store.change([step], lead)).toEqual([false])
        expect(await store.add([order()], lead)).toBe(false)
        expect(await store.list(pool)).toEqual([machine])
      })

      it('keeps what it expects for whoever leads next, and lost, keeps no more (D7)', async () => {
        expect(await store.expectation(pool)).toBeUndefined()
        const first = await leadOf('a', NOW)
        expect(await store.keepExpectation(pool, { seen: 1 }, first)).toBe(true)
        const second = await leadOf('b', NOW + 10)
        expect(await store.keepExpectation(pool, { seen: 2 }, first)).toBe(false)
        expect(await store.expectation(pool)).toEqual({ seen: 1 })
        expect(await store.keepExpectation(pool, { seen: 3 }, second)).toBe(true)
        expect(await store.expectation(pool)).toEqual({ seen: 3 })
        expect(await store.expectation(`${pool}, another`)).toBeUndefined()
      })
    })

    it('counts who was given a job since a moment, those that are gone by now among them', async () => {
      await up(await ordered())
      const claimed = await claim()
      if (claimed === undefined) throw new Error('one is there')
      const { machine } = claimed
      expect(await store.started(pool, 0)).toBe(0)
      const held = await store.hold(machine.id, { jobId: machine.owner!.jobId, fence: 1 }, 'b1', NOW + 5)
      await store.hold(machine.id, { jobId: machine.owner!.jobId, fence: 1 }, 'b1', NOW + 9)
      expect([await store.started(pool, NOW + 4), await store.started(pool, NOW + 5)]).toEqual([1, 0])
      await take(held!, { type: 'gone', now: NOW + 6 })
      expect(await store.started(pool, NOW + 4)).toBe(1)
    })

    it('counts who was given it with the claim as well', async () => {
      await up(await ordered())
      expect((await claim({ holds: true }))?.machine).toMatchObject({ state: 'busy', heldAt: NOW })
      expect(await store.started(pool, NOW - 1)).toBe(1)
    })
  })
}
