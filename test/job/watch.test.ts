/** Watching a job: the log and nothing but the log, whatever the reader does. */
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { JobEvent } from '../../schema/event.ts'
import type { JobId } from '../../schema/id.ts'
import type { Attempt, Delta } from '../../src/job/jobs.ts'
import {
  anApplication,
  anotherApplication,
  ofRun,
  runFinished,
  runIdOf,
  runStarted,
  stepFinished,
  aLockHash,
} from './given.ts'
import { accepted, claimed, jobsWorld, newJob, thrownBy, type JobsWorld } from './jobs-world.ts'

const never = new AbortController().signal

async function collect(items: AsyncIterable<JobEvent | Delta>): Promise<(JobEvent | Delta)[]> {
  const all: (JobEvent | Delta)[] = []
  for await (const item of items) all.push(item)
  return all
}

async function running(world: JobsWorld): Promise<{ id: JobId; attempt: Attempt; runId: ReturnType<typeof runIdOf> }> {
  const { id } = await newJob(world)
  const attempt = await claimed(world)
  const runId = runIdOf(id)
  await world.jobs.record(attempt, [runStarted(runId)])
  return { id, attempt, runId }
}

function delta(jobId: JobId, runId: string, stepNumber: number, text: string): Delta {
  return { type: 'delta', jobId, runId, expertKey: 'hello-expert@1.0.0', stepNumber, kind: 'text', text }
}

describe('a watch', () => {
  it('delivers the log as it comes and ends with the job (W1, W2)', async () => {
    const world = jobsWorld()
    const { id, attempt, runId } = await running(world)
    const seen = collect(world.jobs.watch(anApplication, id, 0, never))
    for (let n = 1; n <= 5; n++) await world.jobs.record(attempt, [stepFinished(runId, n)])
    await world.jobs.record(attempt, [runFinished(runId)])
    expect(await seen).toEqual(await world.jobs.events(anApplication, id, 0, 100))
    expect(world.log.listeners()).toBe(0)
  })

  it('resumed any number of times delivers the log, each event once (W1)', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.nat(4), { maxLength: 8 }), fc.nat(250), async (cuts, steps) => {
        const world = jobsWorld()
        const { id, attempt, runId } = await running(world)
        const all = Array.from({ length: steps }, (_, n) => stepFinished(runId, n + 1))
        await world.jobs.record(attempt, [...all, runFinished(runId)])
        const seen: JobEvent[] = []
        const after = (): number => seen.at(-1)?.seq ?? 0
        for (const cut of cuts) {
          let left = cut
          for await (const event of world.jobs.watch(anApplication, id, after(), never)) {
            if (event.type !== 'delta') seen.push(event)
            if (left-- === 0) break
          }
        }
        for await (const event of world.jobs.watch(anApplication, id, after(), never))
          if (event.type !== 'delta') seen.push(event)
        expect(seen).toEqual(await world.jobs.events(anApplication, id, 0, 1000))
        expect(world.log.listeners()).toBe(0)
      }),
      { numRuns: 30 },
    )
  })

  it('misses nothing that is appended between subscribing and the first read (W1)', async () => {
    const world = jobsWorld()
    const { id, attempt, runId } = await running(world)
    const { head } = attempt
    let isFirst = true
    world.log.before = async (verb) => {
      if (verb !== 'read' || !isFirst) return
      isFirst = false
      await world.jobs.record(attempt, [stepFinished(runId, 1), runFinished(runId)])
    }
    const seen = await collect(world.jobs.watch(anApplication, id, head.revision, never))
    expect(seen.map((event) => event.type)).toEqual(['stepFinished', 'runFinished', 'jobFinished'])
  })

  it.each([
    ['this process', true],
    ['another', false],
  ])('misses nothing that %s appends while a page is being read (W1)', async (_, isOurs) => {
    const world = jobsWorld()
    const { id, attempt, runId } = await running(world)
    const log = { ...world.log }
    let n = 0
    world.log.onAppend = (jobId, wake) => log.onAppend(jobId, (appended) => (isOurs ? wake(appended) : wake()))
    world.log.read = async (...args) => {
      const page = await log.read(...args)
      const more = isOurs ? 5 : 1
      for (let i = 0; i < more && n < 5; i++) await world.jobs.record(attempt, [stepFinished(runId, ++n)])
      if (n === 5) await world.jobs.record(attempt, [runFinished(runId)])
      if (n === 5) n++
      return page
    }
    const seen = await collect(world.jobs.watch(anApplication, id, 0, never))
    expect(seen).toEqual(await world.jobs.events(anApplication, id, 0, 100))
    expect(seen).toHaveLength(10)
  })

  it('reads the log where the appends of this process do not follow what it has delivered (W1)', async () => {
    const world = jobsWorld()
    const { id, attempt, runId } = await running(world)
    const log = { ...world.log }
    let wakes = 0
    // Every other append seems to be another process's, whose wake-up is late.
    world.log.onAppend = (jobId, wake) =>
      log.onAppend(jobId, (appended) => {
        if (wakes++ % 2 === 1) wake(appended)
      })
    const seen = collect(world.jobs.watch(anApplication, id, 0, never))
    for (let n = 1; n <= 7; n++) await world.jobs.record(attempt, [stepFinished(runId, n)])
    await world.jobs.record(attempt, [runFinished(runId)])
    expect(await seen).toEqual(await world.jobs.events(anApplication, id, 0, 100))
  })

  it('ends at once after the end of a finished job, and goes on with a continued one (W2)', async () => {
    const world = jobsWorld()
    const { id, attempt, runId } = await running(world)
    await world.jobs.record(attempt, [runFinished(runId)])
    const { revision } = attempt.head
    expect(await collect(world.jobs.watch(anApplication, id, revision, never))).toEqual([])
    expect(await collect(world.jobs.watch(anApplication, id, revision + 100, never))).toEqual([])
    const again = { jobId: id, query: 'More', answer: null, maxSteps: null, idempotencyKey: null }
    accepted(await world.jobs.continue(anApplication, again))
    const seen = collect(world.jobs.watch(anApplication, id, 0, never))
    // It has read all there is, an end among it, and waits.
    await new Promise((resolve) => setImmediate(resolve))
    accepted(await world.jobs.cancel(anApplication, id))
    expect((await seen).map((event) => event.type)).toEqual([
      'jobCreated',
      'leaseGranted',
      'runStarted',
      'runFinished',
      'jobFinished',
      'jobContinued',
      'jobFinished',
    ])
  })

  it('ends when its signal aborts, also while it waits (W2)', async () => {
    const world = jobsWorld()
    const { id } = await running(world)
    const leaving = new AbortController()
    const items = world.jobs.watch(anApplication, id, 3, leaving.signal)
    const seen = collect(items)
    // Once it waits, a wake-up for no reason leaves it waiting.
    await new Promise((resolve) => setImmediate(resolve))
    leaving.abort()
    expect(await seen).toEqual([])
    expect(world.log.listeners()).toBe(0)
  })

  it('holds nothing for a reader that has stalled', async () => {
    const world = jobsWorld()
    const { id, attempt, runId } = await running(world)
    const watch = world.jobs.watch(anApplication, id, 0, never)[Symbol.asyncIterator]()
    await watch.next()
    world.log.calls.clear()
    for (let n = 1; n <= 2000; n++) world.jobs.show(delta(id, runId, 1, `${n}`))
    for (let n = 1; n <= 300; n++) await world.jobs.record(attempt, [stepFinished(runId, n)])
    await world.jobs.record(attempt, [runFinished(runId)])
    expect(world.log.calls.get('read')).toBeUndefined()
    const seen: (JobEvent | Delta)[] = []
    for (let item = await watch.next(); item.done !== true; item = await watch.next()) seen.push(item.value)
    const events = seen.filter((item) => item.type !== 'delta')
    expect(events).toEqual(await world.jobs.events(anApplication, id, 1, 1000))
    expect(seen.length - events.length).toBeLessThanOrEqual(64)
  })

  it('shows deltas while live, and none after the event of their generation (W3)', async () => {
    const world = jobsWorld()
    const { id, attempt, runId } = await running(world)
    const watch = world.jobs.watch(anApplication, id, 3, never)[Symbol.asyncIterator]()
    const first = watch.next()
    await new Promise((resolve) => setImmediate(resolve))
    world.jobs.show(delta(id, runId, 1, 'Hel'))
    expect((await first).value).toMatchObject({ type: 'delta', text: 'Hel' })
    // The reader is slow: when it comes back, this generation is over and the next one has begun.
    world.jobs.show(delta(id, runId, 1, 'lo'))
    const usage = { inputTokens: 1, cachedInputTokens: 0, outputTokens: 1, reasoningTokens: 0, costUsd: null }
    const generated = { parts: [], usage, model: 'm', finishReason: 'stop', promptHash: aLockHash, durationMs: 1 }
    await world.jobs.record(attempt, [ofRun(runId, 1, { type: 'generated', data: generated })])
    world.jobs.show(delta(id, runId, 2, 'Next'))
    await new Promise((resolve) => setImmediate(resolve))
    expect((await watch.next()).value).toMatchObject({ type: 'generated' })
    expect((await watch.next()).value).toMatchObject({ type: 'delta', text: 'Next' })
    await world.jobs.record(attempt, [runFinished(runId)])
    const rest: string[] = []
    for (let item = await watch.next(); item.done !== true; item = await watch.next()) rest.push(item.value.type)
    expect(rest).toEqual(['runFinished', 'jobFinished'])
  })

  it("finds no other application's job", async () => {
    const world = jobsWorld()
    const { id } = await running(world)
    expect(await thrownBy(collect(world.jobs.watch(anotherApplication, id, 0, never)))).toBe('job_not_found')
    expect(world.log.listeners()).toBe(0)
  })
})
