/** Claims of several applications: who is next, and what a quota holds back. */
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { PlatformError } from '../../schema/error.ts'
import type { ApplicationId } from '../../schema/id.ts'
import { openJobs, type Attempt } from '../../src/job/jobs.ts'
import type { Owner } from '../../src/job/place.ts'
import { memoryContentStore } from '../fake/memory-content-store.ts'
import { MemoryRider } from '../fake/memory-rider.ts'
import { anApplication, anotherApplication } from './given.ts'
import { accepted, claimed, jobsWorld, LIMITS, request, thrownBy, type JobsWorld } from './jobs-world.ts'

const ENDING = { outcome: 'completed', reason: 'completed', message: null, result: 'done' } as const

async function put({ jobs }: Pick<JobsWorld, 'jobs'>, applicationId: ApplicationId, count: number): Promise<void> {
  for (let n = 0; n < count; n++) accepted(await jobs.create(applicationId, request()))
}

/** Whose jobs the next claims are. */
async function owners(world: JobsWorld, count: number): Promise<readonly ApplicationId[]> {
  const found: ApplicationId[] = []
  for (let n = 0; n < count; n++) {
    const { jobId } = await claimed(world)
    for (const id of [anApplication, anotherApplication])
      if ((await world.jobs.find(id, jobId)) !== undefined) found.push(id)
  }
  return found
}

describe('a claim', () => {
  it('gives a job of the application that has fewest running, though another has queued a thousand before', async () => {
    const world = jobsWorld()
    await put(world, anApplication, 1000)
    expect(await owners(world, 3)).toEqual([anApplication, anApplication, anApplication])
    await put(world, anotherApplication, 4)
    // The one that came last catches up, then both go on in turn, and the one that is left has all.
    const next = await owners(world, 6)
    expect(next.slice(0, 3)).toEqual([anotherApplication, anotherApplication, anotherApplication])
    expect(next.slice(3)).toEqual([anApplication, anotherApplication, anApplication])
  })

  it('gives an application no more machines than its quota, and one more when a job has ended', async () => {
    const world = jobsWorld({ limits: { ...LIMITS, quota: 2 } })
    await put(world, anApplication, 5)
    const [first] = [await claimed(world), await claimed(world)]
    expect(await world.jobs.claim('keeper-1', 1)).toEqual([])
    expect(await world.jobs.demand()).toEqual({ queued: 0, running: 2 })
    await put(world, anotherApplication, 1)
    expect(await world.jobs.demand()).toEqual({ queued: 1, running: 2 })
    expect(await owners(world, 1)).toEqual([anotherApplication])
    await world.jobs.finish(first, { outcome: 'completed', reason: 'completed', message: null, result: 'done' })
    expect(await owners(world, 1)).toEqual([anApplication])
    expect(await world.jobs.claim('keeper-1', 1)).toEqual([])
  })

  it('gives as many jobs at once as there are places, the same ones as one claim after the other (G1, G2, G3, G4)', async () => {
    const queues = fc.array(fc.constantFrom(anApplication, anotherApplication), { maxLength: 12 })
    const quotas = fc.option(fc.integer({ min: 1, max: 5 }))
    await fc.assert(
      fc.asyncProperty(queues, quotas, fc.integer({ min: 1, max: 10 }), async (queue, quota, places) => {
        const worlds = [
          jobsWorld({ limits: { ...LIMITS, quota } }),
          jobsWorld({ limits: { ...LIMITS, quota } }),
        ] as const
        for (const world of worlds)
          for (const applicationId of queue) {
            await put(world, applicationId, 1)
            await world.clock.advance(1)
          }
        const [together, apart] = worlds
        const single: string[] = []
        for (let n = 0; n < places; n++)
          for (const { jobId } of await apart.jobs.claim('keeper-1', 1)) single.push(jobId)
        const several = (await together.jobs.claim('keeper-1', places)).map(({ jobId }) => jobId)
        expect(several).toEqual(single)
      }),
      { numRuns: 100 },
    )
  })

  it('gives the places of jobs with which another was faster to the next in line', async () => {
    const world = jobsWorld()
    await put(world, anApplication, 7)
    const both = await Promise.all([world.jobs.claim('keeper-1', 2), world.jobs.claim('keeper-2', 3)])
    expect(both.map((attempts) => attempts.length)).toEqual([2, 3])
    expect(new Set(both.flat().map(({ jobId }) => jobId)).size).toBe(5)
  })

  it('keeps what it was granted though the store failed for another job, and throws where nothing was', async () => {
    const world = jobsWorld()
    await put(world, anApplication, 3)
    let appends = 0
    world.log.before = async (verb) => {
      if (verb === 'append' && ++appends === 2) throw new PlatformError('database_unavailable', 'lost')
    }
    expect(await world.jobs.claim('keeper-1', 3)).toHaveLength(2)
    world.log.before = async () => {
      throw new PlatformError('database_unavailable', 'lost')
    }
    expect(await thrownBy(world.jobs.claim('keeper-1', 3))).toBe('database_unavailable')
  })

  it('has what rides along made with each lease, and says where no attempt came of it', async () => {
    const world = jobsWorld()
    const fates: Record<string, string[]> = {}
    const ride = ({ jobId, fence }: Owner) => {
      const fate: string[] = (fates[`${jobId} ${fence}`] = [])
      return new MemoryRider(
        () => void fate.push('made'),
        () => {},
        () => void fate.push('left'),
      )
    }
    await put(world, anApplication, 1)
    const [first] = await world.jobs.claim('keeper-1', 1, ride)
    if (first === undefined) throw new Error('there is one')
    expect(fates[`${first.jobId} 1`]).toEqual(['made'])
    await world.jobs.finish(first, ENDING)

    // Of two who are after the same job one has it.
    const job = accepted(await world.jobs.create(anApplication, request()))
    const both: string[][] = []
    const competing = (owner: Owner) => {
      const rider = ride(owner)
      both.push(fates[`${owner.jobId} ${owner.fence}`] ?? [])
      return rider
    }
    const all = await Promise.all(['one', 'two'].map(async (name) => world.jobs.claim(name, 1, competing)))
    expect(all.flat().map(({ jobId }) => jobId)).toEqual([job.id])
    expect(both.map((fate) => fate.join(' ')).toSorted()).toEqual(['left', 'made'])
    for (const one of all.flat()) await world.jobs.finish(one, ENDING)

    // A lease whose history cannot be read has no attempt.
    const unread = accepted(await world.jobs.create(anApplication, request()))
    world.log.before = async (verb) => {
      if (verb === 'read') throw new PlatformError('database_unavailable', 'away')
    }
    expect(await thrownBy(world.jobs.claim('keeper-1', 1, ride))).toBe('database_unavailable')
    world.log.before = async () => {}
    expect(fates[`${unread.id} 1`]?.toSorted()).toEqual(['left', 'made'])

    // Nor has a job that ends with its lease, since its lock is lost.
    const lockless = accepted(await world.jobs.create(anApplication, request()))
    const fresh = openJobs({ ...world.dependencies, content: memoryContentStore() })
    expect(await fresh.claim('keeper-1', 1, ride)).toEqual([])
    expect(fates[`${lockless.id} 1`]).toEqual(['made', 'left'])
  })

  it('gives a history that ends with its lease, whatever is appended while it is read', async () => {
    const world = jobsWorld()
    await put(world, anApplication, 1)
    const appended = Promise.withResolvers<void>()
    world.log.after = async (verb) => {
      if (verb === 'append') appended.resolve()
    }
    world.log.before = async (verb) => {
      if (verb !== 'read') return
      world.log.before = async () => {}
      await appended.promise
      const [job] = await world.jobs.list(anApplication, {}, 1, null)
      if (job !== undefined) accepted(await world.jobs.cancel(anApplication, job.id))
    }
    const attempt = await claimed(world)
    expect(attempt.history.map(({ type }) => type)).toEqual(['jobCreated', 'leaseGranted'])
    expect((await world.jobs.record(attempt, [])).map(({ type }) => type)).toEqual(['cancelRequested'])
  })
})

/** A world with places for jobs that begin with their creation, and what became of each place. */
function beginnings(places: number, given: Parameters<typeof jobsWorld>[0] = {}) {
  const world = jobsWorld(given)
  const begun: Attempt[] = []
  const fate = { taken: 0, left: 0 }
  const withdraw = world.jobs.offer({
    holder: 'keeper-1',
    take() {
      if (fate.taken - fate.left >= places) return undefined
      fate.taken += 1
      return {
        ride: () => undefined,
        begin: (attempt) => void begun.push(attempt),
        leave: () => void (fate.left += 1),
      }
    },
  })
  return { ...world, begun, fate, withdraw }
}
describe('a job that is created where a place is free', () => {
  it('begins with its creation: one append of two events, and a lease like any other', async () => {
    const { jobs, log, begun, fate } = beginnings(1)
    const job = accepted(await jobs.create(anApplication, request()))
    expect(job).toMatchObject({ status: 'queued', revision: 1 })
    expect(await jobs.find(anApplication, job.id)).toMatchObject({ status: 'running', revision: 2 })
    expect(log.calls.get('claimable')).toBeUndefined()
    expect(log.calls.get('append')).toBeUndefined()
    const [attempt] = begun
    if (attempt === undefined) throw new Error('it did not begin')
    expect(attempt).toMatchObject({ jobId: job.id, fence: 1, applicationId: anApplication })
    expect(attempt.history).toEqual(await jobs.events(anApplication, job.id, 0, 10))
    expect(attempt.history.map(({ type }) => type)).toEqual(['jobCreated', 'leaseGranted'])
    // Member by member: prompts are made of it, and every later machine reads it as it is kept.
    expect(JSON.stringify(attempt.lock)).toBe(JSON.stringify(await jobs.lock(anApplication, job.id)))
    expect(await jobs.claim('keeper-2', 1)).toEqual([])
    expect(await jobs.renew(attempt)).toBe(true)
    await jobs.finish(attempt, ENDING)
    expect((await jobs.find(anApplication, job.id))?.status).toBe('finished')
    expect(fate).toEqual({ taken: 1, left: 0 })
  })

  it('is queued where there is no place, where another waits, and where nobody offers any', async () => {
    const world = beginnings(1)
    await put(world, anApplication, 2)
    expect(world.begun).toHaveLength(1)
    expect(world.fate).toEqual({ taken: 1, left: 0 })
    const waiting = beginnings(2)
    waiting.withdraw()
    await put(waiting, anApplication, 1)
    const again = waiting.jobs.offer({
      holder: 'keeper-1',
      take: () => ({ ride: () => undefined, begin() {}, leave: () => left.push(1) }),
    })
    const left: number[] = []
    await put(waiting, anApplication, 1)
    again()
    expect(left).toEqual([1])
    expect(await waiting.jobs.claim('keeper-2', 5)).toHaveLength(2)
  })

  it('never passes by one that waits, nor its quota, and gives back each place that it does not need (L7)', async () => {
    const acts = fc.array(
      fc.oneof(
        fc.record({ act: fc.constant('create' as const), by: fc.constantFrom(anApplication, anotherApplication) }),
        fc.record({ act: fc.constant('claim' as const), places: fc.integer({ min: 1, max: 3 }) }),
        fc.record({ act: fc.constant('finish' as const) }),
        fc.record({ act: fc.constant('wait' as const), ms: fc.constantFrom(1, LIMITS.leaseMs / 2) }),
      ),
      { maxLength: 25 },
    )
    const quotas = fc.option(fc.integer({ min: 1, max: 3 }))
    let all = 0
    await fc.assert(
      fc.asyncProperty(acts, quotas, fc.integer({ min: 0, max: 3 }), async (steps, quota, places) => {
        const { jobs, log, clock, begun, fate } = beginnings(places, { limits: { ...LIMITS, quota } })
        const held: Attempt[] = []
        for (const step of steps) {
          await clock.advance(step.act === 'wait' ? step.ms : 1)
          if (step.act === 'create') {
            const waiting = await log.claimable(clock.now(), 1, quota)
            const before = (await log.demand(clock.now(), null)).running
            const count = begun.length
            const { id } = accepted(await jobs.create(step.by, request()))
            if (begun.length === count) continue
            expect(begun.at(-1)?.jobId).toBe(id)
            expect(waiting).toEqual([])
            expect((await log.demand(clock.now(), null)).running).toBe(before + 1)
            held.push(...begun.slice(count))
            if (quota !== null) {
              const own = await Promise.all(held.map(({ jobId }) => jobs.find(step.by, jobId)))
              expect(own.filter((job) => job?.status === 'running').length).toBeLessThanOrEqual(quota)
            }
          } else if (step.act === 'claim') held.push(...(await jobs.claim('keeper-2', step.places)))
          else if (step.act === 'finish') {
            const one = held.shift()
            // Its lease may be lost by now.
            if (one !== undefined) await jobs.finish(one, ENDING).catch(() => {})
          }
        }
        expect(fate.taken).toBe(begun.length + fate.left)
        all += begun.length
      }),
      { numRuns: 150 },
    )
    expect(all).toBeGreaterThan(50)
  })

  it('has what rides along made where it begins, and left where it does not', async () => {
    const { jobs, dependencies } = jobsWorld()
    const another = openJobs(dependencies)
    const fates: string[][] = []
    jobs.offer({
      holder: 'keeper-1',
      take: () => ({
        ride() {
          const fate: string[] = []
          fates.push(fate)
          return new MemoryRider(
            () => void fate.push('made'),
            () => {},
            () => void fate.push('left'),
          )
        },
        begin: () => {},
        leave: () => {},
      }),
    })
    accepted(await jobs.create(anApplication, request()))
    expect(fates).toEqual([['made']])
    await put({ jobs: another }, anApplication, 1)
    accepted(await jobs.create(anApplication, request()))
    expect(fates).toEqual([['made'], ['left']])
  })

  it('begins, and once, though the answer of the store was lost', async () => {
    const { jobs, log, begun, fate } = beginnings(1)
    log.after = async (verb) => {
      if (verb === 'create') throw new PlatformError('database_unavailable', 'lost')
    }
    const job = accepted(await jobs.create(anApplication, request()))
    expect(begun.map(({ jobId }) => jobId)).toEqual([job.id])
    expect((await jobs.record(begun[0] as Attempt, [])).length).toBe(0)
    expect(fate).toEqual({ taken: 1, left: 0 })
  })

  it('is not driven twice where it was queued, the answer was lost, and its own process looks for jobs meanwhile', async () => {
    const { jobs, log, begun, fate, withdraw } = beginnings(5)
    withdraw()
    const first = accepted(await jobs.create(anApplication, request()))
    const places = {
      ride: () => undefined,
      begin: (attempt: Attempt) => void begun.push(attempt),
      leave: () => void (fate.left += 1),
    }
    jobs.offer({ holder: 'keeper-1', take: () => places })
    log.after = async (verb) => {
      if (verb === 'create') throw new PlatformError('database_unavailable', 'lost')
    }
    const claims: Attempt[] = []
    log.before = async (verb) => {
      if (verb !== 'find') return
      log.before = async () => {}
      claims.push(...(await jobs.claim('keeper-1', 5)))
    }
    const second = accepted(await jobs.create(anApplication, request()))
    expect(claims.map(({ jobId }) => jobId)).toEqual([first.id])
    expect({ begun, left: fate.left }).toEqual({ begun: [], left: 1 })
    expect((await jobs.claim('keeper-1', 5)).map(({ jobId }) => jobId)).toEqual([second.id])
  })

  it('gives its place back when the store is away, and when the request is refused or known', async () => {
    const { jobs, log, begun, fate } = beginnings(3)
    log.before = async (verb) => {
      if (verb === 'create' || verb === 'find') throw new PlatformError('database_unavailable', 'away')
    }
    expect(await thrownBy(jobs.create(anApplication, request()))).toBe('database_unavailable')
    log.before = async () => {}
    await jobs.create(anApplication, request({ expertKey: 'nobody' }))
    const ids = [0, 1].map(async () => accepted(await jobs.create(anApplication, request({ idempotencyKey: 'k' }))).id)
    expect(new Set(await Promise.all(ids)).size).toBe(1)
    expect(begun).toHaveLength(1)
    expect(fate.taken - fate.left).toBe(1)
  })

  it('wakes who claims when an end makes room under a quota', async () => {
    const { jobs, begun } = beginnings(2, { limits: { ...LIMITS, quota: 1 } })
    accepted(await jobs.create(anApplication, request()))
    accepted(await jobs.create(anApplication, request()))
    await new Promise((resolve) => setImmediate(resolve))
    let calls = 0
    const stop = jobs.onClaimable(() => (calls += 1))
    await jobs.finish(begun[0] as Attempt, ENDING)
    expect(calls).toBe(1)
    stop()
  })
})
