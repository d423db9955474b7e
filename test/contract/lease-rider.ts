/** What a claim of a machine keeps that goes in the commit of its owner's lease, whatever jobs and machines are kept in. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { PlatformError } from '../../schema/error.ts'
import { makeId, type JobId, type MachineId } from '../../schema/id.ts'
import type { Beginning, JobLog } from '../../src/job/job-log.ts'
import { orderMachine, stepMachine, type MachineCommand, type PooledMachine } from '../../src/pool/machine.ts'
import type { Claimed, ClaimRequest, PoolStore } from '../../src/pool/pool-store.ts'
import { fakeChance } from '../fake/fake-clock.ts'
import { aLockHash, beginningOf, created, jobIdOf, tell, type Told } from '../job/given.ts'

export interface LeaseRiderSubject {
  readonly log: JobLog
  /** Of the same database. */
  readonly store: PoolStore
  close(): Promise<void>
}

const NOW = 2000
const HOLDER = 'machine-keeper-1'

/** A claim that is to go with a lease, and what became of it. */
export function riderFor(
  store: PoolStore,
  jobId: JobId,
  given: Partial<ClaimRequest> & { readonly fence?: number } = {},
) {
  const { fence = 1, ...change } = given
  const owner = { jobId, fence, linesUrl: null }
  const request = {
    pool: 'p',
    places: ['here'],
    owner,
    generations: ['g1'],
    now: NOW,
    deadline: NOW + 10_000,
    holds: true,
  }
  const news = { claimed: [] as Claimed[], doubts: 0, left: 0 }
  const rider = store.rider(
    { ...request, ...change },
    {
      claimed: (claimed) => void news.claimed.push(claimed),
      doubted: () => void (news.doubts += 1),
      left: () => void (news.left += 1),
    },
  )
  return { rider, news }
}

export function leaseRiderContract(name: string, open: () => Promise<LeaseRiderSubject>): void {
  describe(`a claim that goes with a lease (${name})`, () => {
    const chance = fakeChance(name)
    let subject: LeaseRiderSubject
    let log: JobLog
    let store: PoolStore
    beforeEach(async () => {
      subject = await open()
      ;({ log, store } = subject)
    })
    afterEach(async () => subject.close())

    async function machine(...commands: readonly MachineCommand[]): Promise<PooledMachine> {
      const id = makeId('mch', NOW, chance.bytes(16))
      let current = orderMachine({ id, pool: 'p', place: 'here', generation: 'g1', now: NOW }, null)
      await store.add([current], null)
      for (const command of commands) {
        const step = stepMachine(current, command)
        if (step === undefined) throw new Error(`${command.type} does not apply to a machine that is ${current.state}`)
        await store.change([step], null)
        current = step.next
      }
      return current
    }
    const ready = (): Promise<PooledMachine> => {
      const at = { now: NOW }
      return machine(
        { type: 'created', providerId: 'p', ...at },
        { type: 'up', bootId: 'b', ...at },
        { type: 'suspend', ...at },
        { type: 'suspended', ...at },
      )
    }
    async function put(n: number): Promise<Told> {
      const told = created(jobIdOf(n), { now: 1000 + n })
      await log.create(told.job, told.events, aLockHash, null)
      return told
    }
    /** Grants a lease with what rides along. */
    async function grant(told: Told, rider: Beginning['rider'], now = NOW): Promise<Told> {
      const stored = await log.find(told.job.id)
      const lease = { holder: HOLDER, fence: told.job.fence + 1, until: now + 100 }
      const command = {
        type: 'grant',
        now,
        holder: HOLDER,
        lease: stored?.lease ?? null,
        barrenAttemptsMax: 9,
      } as const
      const next = tell(told, command)
      await log.append(told.head, next.job, next.events.slice(told.events.length), null, { lease, rider })
      return next
    }
    const ownerOf = async (id: MachineId) => (await store.find(id))?.owner ?? null

    it('is made with the lease: the same machine, in the same state, as by a claim after it', async () => {
      const [apart, ahead] = [await put(1), await put(2)]
      const claims: Claimed[] = []
      for (const told of [apart, ahead])
        for (const holds of [true, false]) {
          const one = await ready()
          const jobId = jobIdOf(told === apart ? (holds ? 11 : 12) : holds ? 21 : 22)
          const made = created(jobId, { now: 1500 })
          await log.create(made.job, made.events, aLockHash, null)
          if (told === apart) {
            const owner = { jobId, fence: 1, linesUrl: null }
            const request = {
              pool: 'p',
              places: ['here'],
              owner,
              generations: ['g1'],
              now: NOW,
              deadline: NOW + 10_000,
              holds,
            }
            const claimed = await store.claim(request)
            if (claimed !== undefined) claims.push(claimed)
          } else {
            const { rider, news } = riderFor(store, jobId, { holds })
            await grant(made, rider)
            expect(news).toMatchObject({ doubts: 0, left: 0 })
            claims.push(...news.claimed)
          }
          expect((await store.find(one.id))?.owner).toEqual({ jobId, fence: 1, linesUrl: null })
        }
      expect(claims).toHaveLength(4)
      const shape = ({ machine: { id: _id, owner: _owner, ...rest }, from, verb }: Claimed) => ({ ...rest, from, verb })
      expect(claims.slice(2).map(shape)).toEqual(claims.slice(0, 2).map(shape))
      expect(claims.map(({ machine: { state }, from }) => [state, from])).toEqual([
        ['busy', 'ready'],
        ['waking', 'ready'],
        ['busy', 'ready'],
        ['waking', 'ready'],
      ])
      for (const { machine } of claims) expect(await store.find(machine.id)).toEqual(machine)
    })

    it('is made with a job that begins, and not with one that is queued', async () => {
      const one = await ready()
      await put(1)
      const queued = created(jobIdOf(2), { now: NOW })
      const first = riderFor(store, queued.job.id)
      await log.create(queued.job, queued.events, aLockHash, null, { ...beginningOf(queued), rider: first.rider })
      expect(first.news.claimed).toEqual([])
      expect(await ownerOf(one.id)).toBeNull()
      for (const { job } of await log.claimable(NOW, 9, null))
        await grant(job.id === queued.job.id ? queued : created(jobIdOf(1), { now: 1001 }), undefined)
      const begun = created(jobIdOf(3), { now: NOW })
      const second = riderFor(store, begun.job.id)
      const { job } = await log.create(begun.job, begun.events, aLockHash, null, {
        ...beginningOf(begun),
        rider: second.rider,
      })
      expect(job.lease?.fence).toBe(1)
      expect(second.news.claimed.map(({ machine }) => machine.id)).toEqual([one.id])
      expect(await ownerOf(one.id)).toMatchObject({ jobId: begun.job.id, fence: 1 })
    })

    it('costs no lease where no machine is to be had', async () => {
      const told = await put(1)
      const { rider, news } = riderFor(store, told.job.id)
      const next = await grant(told, rider)
      expect((await log.find(told.job.id))?.head).toEqual(next.head)
      expect(news).toEqual({ claimed: [], doubts: 0, left: 0 })
    })

    it('takes the best machine, and of those that the claim may have', async () => {
      const reserve = await machine(
        { type: 'created', providerId: 'p', now: NOW },
        { type: 'up', bootId: 'b', now: NOW },
        { type: 'stop', now: NOW },
        { type: 'stopped', now: NOW },
      )
      const asleep = await ready()
      const ids: (MachineId | undefined)[] = []
      for (const [n, change] of [{ pool: 'q' }, { generations: ['g2'] }, { places: ['there'] }, {}, {}, {}].entries()) {
        const told = await put(n + 1)
        const { rider, news } = riderFor(store, told.job.id, change)
        await grant(told, rider)
        ids.push(news.claimed[0]?.machine.id)
      }
      expect(ids).toEqual([undefined, undefined, undefined, asleep.id, reserve.id, undefined])
    })

    it('takes no machine where the lease went to another', async () => {
      const machines = [await ready(), await ready(), await ready()]
      const told = await put(1)
      const all = [1, 2, 3].map(() => riderFor(store, told.job.id))
      const done = await Promise.allSettled(all.map(async ({ rider }) => grant(told, rider)))
      expect(done.filter(({ status }) => status === 'fulfilled')).toHaveLength(1)
      for (const [i, one] of done.entries()) {
        if (one.status === 'rejected') expect((one.reason as PlatformError).code).toBe('revision_conflict')
        expect(all[i]?.news.claimed).toHaveLength(one.status === 'fulfilled' ? 1 : 0)
      }
      const owners = await Promise.all(machines.map(({ id }) => ownerOf(id)))
      expect(owners.filter((owner) => owner !== null)).toHaveLength(1)
    })

    it('leaves a job to its lease where an earlier attempt still has a machine (V4, D3)', async () => {
      const [first, second] = [await ready(), await ready()]
      const told = await put(1)
      const early = riderFor(store, told.job.id)
      const held = await grant(told, early.rider)
      const late = riderFor(store, told.job.id, { fence: 2 })
      const next = await grant(held, late.rider, NOW + 100)
      expect(next.job.fence).toBe(2)
      expect((await log.find(told.job.id))?.lease?.fence).toBe(2)
      expect({ early: early.news.claimed.length, late: late.news.claimed.length }).toEqual({ early: 1, late: 0 })
      const owners = [await ownerOf(first.id), await ownerOf(second.id)].filter((owner) => owner !== null)
      expect(owners).toEqual([{ jobId: told.job.id, fence: 1, linesUrl: null }])
    })

    it('gives every job that begins at once another machine (D6)', async () => {
      const machines = await Promise.all(Array.from({ length: 8 }, ready))
      const all = Array.from({ length: 8 }, (_, n) => created(jobIdOf(n), { now: NOW }))
      const taken = await Promise.all(
        all.map(async (told) => {
          const { rider, news } = riderFor(store, told.job.id)
          await log.create(told.job, told.events, aLockHash, null, { ...beginningOf(told), rider })
          return news.claimed.map(({ machine: one }) => one.id)
        }),
      )
      const ids = taken.flat()
      // One that looked while another held its row has none, and claims it afterwards.
      expect(new Set(ids).size).toBe(ids.length)
      expect(machines.map(({ id }) => id)).toEqual(expect.arrayContaining(ids))
    })

    it('is found again by its owner, who asks for no other (D2)', async () => {
      await ready()
      const one = await ready()
      const told = await put(1)
      const { rider, news } = riderFor(store, told.job.id)
      await grant(told, rider)
      const owner = { jobId: told.job.id, fence: 1, linesUrl: null }
      const request = { pool: 'p', places: ['here'], owner, generations: ['g1'], now: NOW, deadline: NOW, holds: true }
      const again = await store.claim({ ...request, isAgain: true })
      expect(again?.machine).toEqual(news.claimed[0]?.machine)
      await expect(store.claim(request)).rejects.toMatchObject({ code: 'fence_stale' })
      const free = await store.claim({ ...request, owner: { ...owner, jobId: jobIdOf(2) }, isAgain: true })
      expect(free?.machine.id).not.toBe(again?.machine.id)
      expect([one.id, again?.machine.id, free?.machine.id].filter((id) => id === one.id)).toHaveLength(2)
    })

    it('says when nobody comes for it', async () => {
      const { rider, news } = riderFor(store, jobIdOf(1))
      rider.leave()
      expect(news).toEqual({ claimed: [], doubts: 0, left: 1 })
    })
  })
}
