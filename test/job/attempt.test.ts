/** Driving a job under a lease: one append a record, whatever others do meanwhile, and nothing once the lease is gone. */
import { describe, expect, it } from 'vitest'
import { PlatformError } from '../../schema/error.ts'
import { firstBroken, type NewEvent } from '../../schema/event.ts'
import { anApplication, ofRun, runFinished, runIdOf, runStarted, stepFinished } from './given.ts'
import { accepted, claimed, jobsWorld, newJob, thrownBy } from './jobs-world.ts'

describe('a claim', () => {
  it('gives the oldest job with its lock and history, and each job to one claimer', async () => {
    const world = jobsWorld()
    const ids: string[] = []
    for (let n = 0; n < 5; n++) {
      ids.push((await newJob(world, { model: 'openai/gpt' })).id)
      await world.clock.advance(1)
    }
    const first = await claimed(world)
    expect(first).toMatchObject({ jobId: ids[0], fence: 1, model: 'openai/gpt', applicationId: anApplication })
    expect(first.lock.coordinator).toBe('hello-expert@1.0.0')
    expect(first.history.map((event) => event.type)).toEqual(['jobCreated', 'leaseGranted'])
    expect(first.head.revision).toBe(2)
    const rest = await Promise.all(Array.from({ length: 8 }, (_, n) => world.jobs.claim(`keeper-${n}`, 1)))
    const got = rest.flat().map(({ jobId }) => jobId)
    expect(got.toSorted()).toEqual(ids.slice(1).toSorted())
  })

  it('takes over when the lease has ended, and not a moment before', async () => {
    const world = jobsWorld()
    await newJob(world)
    const first = await claimed(world)
    await world.clock.advance(9_999)
    expect(await world.jobs.claim('keeper-2', 1)).toEqual([])
    expect(await world.jobs.renew(first)).toBe(true)
    await world.clock.advance(9_999)
    expect(await world.jobs.claim('keeper-2', 1)).toEqual([])
    await world.clock.advance(1)
    const second = await claimed(world, 'keeper-2')
    expect(second.fence).toBe(2)
    expect(second.history.slice(-2).map((event) => event.type)).toEqual(['leaseExpired', 'leaseGranted'])
    expect(await world.jobs.renew(first)).toBe(false)
    expect(await thrownBy(world.jobs.record(first, [runStarted(runIdOf(first.jobId))]))).toBe('fence_stale')
    await world.jobs.abandon(first, 'too late to matter')
    expect((await world.jobs.find(anApplication, first.jobId))?.status).toBe('running')
  })

  it('fails a job after three machines that got nowhere, and not while there is progress', async () => {
    const world = jobsWorld()
    const { id } = await newJob(world)
    for (let n = 1; n <= 3; n++) {
      const attempt = await claimed(world)
      expect(attempt.fence).toBe(n)
      if (n === 1) await world.jobs.record(attempt, [runStarted(runIdOf(id)), stepFinished(runIdOf(id), 1)])
      await world.jobs.abandon(attempt, 'machine_failed', `try ${n}`)
    }
    expect((await world.jobs.find(anApplication, id))?.status).toBe('queued')
    await world.jobs.abandon(await claimed(world), 'machine_failed', 'try 4')
    const job = await world.jobs.find(anApplication, id)
    expect(job).toMatchObject({ outcome: 'failed', reason: 'attempts_exhausted' })
    expect(job?.message).toMatch(
      /the last 3 ended with machine_failed \(try 2\); then with machine_failed \(try 3\); then with machine_failed \(try 4\)$/,
    )
    expect(job).not.toHaveProperty('barrenEnds')
    expect(await world.jobs.claim('keeper', 1)).toEqual([])
  })

  it('fails a job whose lock is lost, rather than claim it for ever', async () => {
    const world = jobsWorld()
    const { id } = await newJob(world)
    world.content.contents.clear()
    expect(await world.jobs.claim('keeper', 1)).toEqual([])
    expect(await world.jobs.find(anApplication, id)).toMatchObject({ outcome: 'failed', reason: 'content_missing' })
  })
})

describe('a record', () => {
  it('costs one append and reads nothing, however long the log is', async () => {
    const world = jobsWorld()
    const { id } = await newJob(world)
    const attempt = await claimed(world)
    const runId = runIdOf(id)
    await world.jobs.record(attempt, [runStarted(runId)])
    world.log.calls.clear()
    for (let n = 1; n <= 50; n++) await world.jobs.record(attempt, [stepFinished(runId, n)])
    expect(Object.fromEntries(world.log.calls)).toEqual({ append: 50 })
    expect((await world.jobs.find(anApplication, id))?.steps).toBe(50)
  })

  it('shows its fence to the store, which keeps it as the second lock (T3)', async () => {
    const world = jobsWorld()
    const { id } = await newJob(world)
    const attempt = await claimed(world)
    const { log } = world
    const store = { ...log }
    const fences: (number | null)[] = []
    log.append = async (expected, job, events, fence, change) => {
      fences.push(fence)
      return store.append(expected, job, events, fence, change)
    }
    await world.jobs.record(attempt, [runStarted(runIdOf(id))])
    accepted(await world.jobs.cancel(anApplication, id))
    await world.jobs.abandon(attempt, 'canceled_by_user')
    // The abandon collides with the cancel once, and comes again.
    expect(fences).toEqual([1, null, 1, 1])
  })

  it('comes after whatever others appended meanwhile, once, in a chain that holds (T1)', async () => {
    const world = jobsWorld()
    const { id } = await newJob(world)
    const attempt = await claimed(world)
    const runId = runIdOf(id)
    const seen = [...attempt.history]
    seen.push(...(await world.jobs.record(attempt, [runStarted(runId)])))
    accepted(await world.jobs.cancel(anApplication, id))
    const batches = Array.from({ length: 10 }, (_, n) => world.jobs.record(attempt, [stepFinished(runId, n + 1)]))
    for (const batch of await Promise.all(batches)) seen.push(...batch)
    const events = await world.jobs.events(anApplication, id, 0, 1000)
    expect(seen).toEqual(events)
    expect(firstBroken(id, events)).toBeUndefined()
    expect(attempt.head).toEqual({ revision: events.length, hash: events.at(-1)?.hash })
  })

  it('is there once when the answer of its commit was lost (T1)', async () => {
    const world = jobsWorld()
    const { id } = await newJob(world)
    const attempt = await claimed(world)
    const runId = runIdOf(id)
    world.log.after = async (verb) => {
      world.log.after = async () => {}
      if (verb === 'append') throw new Error('the connection broke')
    }
    const seen = await world.jobs.record(attempt, [runStarted(runId)])
    expect(seen.map((event) => event.type)).toEqual(['runStarted'])
    const next = await world.jobs.record(attempt, [stepFinished(runId, 1)])
    expect(next.map((event) => event.seq)).toEqual([4])
    expect((await world.jobs.events(anApplication, id, 0, 10)).map((event) => event.type)).toEqual([
      'jobCreated',
      'leaseGranted',
      'runStarted',
      'stepFinished',
    ])
  })

  it('can be tried again when its commit did not happen', async () => {
    const world = jobsWorld()
    const { id } = await newJob(world)
    const attempt = await claimed(world)
    const runId = runIdOf(id)
    world.log.before = async (verb) => {
      if (verb === 'append') throw new PlatformError('not_ready', 'no database')
    }
    expect(await thrownBy(world.jobs.record(attempt, [runStarted(runId)]))).toBe('not_ready')
    world.log.before = async () => {}
    expect(await world.jobs.record(attempt, [runStarted(runId)])).toHaveLength(1)
  })

  it('gives up after so many conflicts', async () => {
    const world = jobsWorld()
    const { id } = await newJob(world)
    const attempt = await claimed(world)
    world.log.before = async (verb) => {
      if (verb === 'append') throw new PlatformError('revision_conflict', 'always')
    }
    world.log.calls.clear()
    expect(await thrownBy(world.jobs.record(attempt, [runStarted(runIdOf(id))]))).toBe('revision_conflict')
    expect(world.log.calls.get('append')).toBe(6)
  })

  it("ends the job with the coordinator's run, and takes nothing after (T3)", async () => {
    const world = jobsWorld()
    const { id } = await newJob(world)
    const attempt = await claimed(world)
    const runId = runIdOf(id)
    const seen = await world.jobs.record(attempt, [runStarted(runId), stepFinished(runId, 1), runFinished(runId)])
    expect(seen.at(-1)?.type).toBe('jobFinished')
    expect(await world.jobs.find(anApplication, id)).toMatchObject({
      status: 'finished',
      outcome: 'completed',
      result: 'hello',
      steps: 1,
      runs: [{ status: 'finished', outcome: 'completed', steps: 1 }],
    })
    expect((await world.log.find(id))?.lease).toBeNull()
    expect(await thrownBy(world.jobs.record(attempt, [stepFinished(runId, 2)]))).toBe('fence_stale')
    await world.jobs.abandon(attempt, 'machine_failed')
    expect((await world.jobs.events(anApplication, id, 0, 100)).at(-1)?.type).toBe('jobFinished')
  })

  it('refuses what a machine may not say', async () => {
    const world = jobsWorld()
    const { id } = await newJob(world)
    const attempt = await claimed(world)
    const bad: readonly NewEvent[] = [
      { type: 'cancelRequested', data: { reason: 'x' }, runId: null, expertKey: null, stepNumber: null, v: 1 },
      stepFinished(runIdOf(id, 'of nobody'), 1),
      ofRun(runIdOf(id), 1, { type: 'answered', data: { questionId: 'que_1', value: true } }),
    ]
    for (const event of bad) expect(await thrownBy(world.jobs.record(attempt, [event]))).toBe('protocol_breach')
    expect(await world.jobs.events(anApplication, id, 2, 10)).toEqual([])
  })
})
