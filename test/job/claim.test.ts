/** Claims of several applications: who is next, and what a quota holds back. */
import { describe, expect, it } from 'vitest'
import type { ApplicationId } from '../../schema/id.ts'
import { anApplication, anotherApplication } from './given.ts'
import { accepted, claimed, jobsWorld, LIMITS, request, type JobsWorld } from './jobs-world.ts'

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
    expect(await world.jobs.claim('keeper-1')).toBeUndefined()
    expect(await world.jobs.demand()).toEqual({ queued: 0, running: 2 })
    await put(world, anotherApplication, 1)
    expect(await world.jobs.demand()).toEqual({ queued: 1, running: 2 })
    expect(await owners(world, 1)).toEqual([anotherApplication])
    await world.jobs.finish(first, { outcome: 'completed', reason: 'completed', message: null, result: 'done' })
    expect(await owners(world, 1)).toEqual([anApplication])
    expect(await world.jobs.claim('keeper-1')).toBeUndefined()
  })
})
