/** Claims of several applications: who is next, and what a quota holds back. */
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { PlatformError } from '../../schema/error.ts'
import type { ApplicationId } from '../../schema/id.ts'
import { anApplication, anotherApplication } from './given.ts'
import { accepted, claimed, jobsWorld, LIMITS, request, thrownBy, type JobsWorld } from './jobs-world.ts'

async function put({ jobs }: JobsWorld, applicationId: ApplicationId, count: number): Promise<void> {
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
