/** Forking as callers see it: what is refused, what a fork is, and what it leaves alone. */
import { describe, expect, it } from 'vitest'
import { isRefusal } from '../../schema/error.ts'
import { firstBroken } from '../../schema/event.ts'
import type { JobId } from '../../schema/id.ts'
import { sha256 } from '../../schema/hash.ts'
import { openForks } from '../../src/job/forks.ts'
import type { ForkJob } from '../../src/job/job-input.ts'
import { fakeChance } from '../fake/fake-clock.ts'
import { fakeExpertSource } from '../fake/fake-expert-source.ts'
import { anApplication, anotherApplication, ofRun, runFinished, runIdOf, runStarted, stepFinished } from './given.ts'
import { accepted, claimed, HELLO, jobsWorld, LIMITS, newJob } from './jobs-world.ts'

async function forkWorld() {
  const world = jobsWorld()
  const { log, content, clock } = world
  const experts = fakeExpertSource(HELLO)
  const models = { knows: (model: string) => model.startsWith('rehearsal/') }
  const forks = openForks({ log, content, experts, models, clock, chance: fakeChance('forks'), limits: LIMITS })
  const { id } = await newJob(world, { userId: 'alice', maxSteps: 9 })
  const attempt = await claimed(world)
  const runId = runIdOf(id)
  const trees = ['one', 'two'].map((name) => sha256(name))
  const changed = (treeHash: unknown) =>
    ({ ...ofRun(runId, 1, {}), type: 'workspaceChanged', data: { treeHash } }) as never
  await world.jobs.record(attempt, [runStarted(runId), changed(trees[0]), stepFinished(runId, 1)])
  await world.jobs.record(attempt, [changed(trees[1]), stepFinished(runId, 2), runFinished(runId)])
  const events = await log.read(id, 0, 100)
  const [early = 0, late = 0] = events.flatMap(({ type, seq }) => (type === 'stepFinished' ? [seq] : []))
  const ask = (given: Partial<ForkJob> = {}) => forks.fork(anApplication, forking(id, given))
  return { ...world, forks, id, early, late, trees, events, ask }
}

function forking(jobId: JobId, given: Partial<ForkJob>): ForkJob {
  const nothing = { seq: null, query: null, model: null, maxSteps: null, instruction: null, expertKey: null }
  return { jobId, ...nothing, idempotencyKey: null, ...given }
}

describe('a fork', () => {
  it('is a queued job of its own with the workspace of that moment (FK3)', async () => {
    const { ask, id, early, late, trees, log } = await forkWorld()
    const fork = accepted(await ask({ seq: early }))
    expect(fork).toMatchObject({ status: 'queued', outcome: null, steps: 1, treeHash: trees[0], userId: 'alice' })
    expect(fork.forkedFrom).toEqual({ jobId: id, seq: early })
    expect(fork.id).not.toBe(id)
    const events = await log.read(fork.id, 0, 100)
    expect(firstBroken(fork.id, events)).toBeUndefined()
    expect(events).toHaveLength(early + 1)
    expect(accepted(await ask()).forkedFrom).toEqual({ jobId: id, seq: late })
  })

  it('leaves its parent as it was, in its log and in its row (FK2)', async () => {
    const { ask, id, events, log } = await forkWorld()
    const before = await log.find(id)
    accepted(await ask({ query: 'Otherwise' }))
    expect(await log.read(id, 0, 100)).toEqual(events)
    expect(await log.find(id)).toEqual(before)
  })

  it('goes on under a fence above the one that was copied (J2)', async () => {
    const world = await forkWorld()
    const fork = accepted(await world.ask({ seq: world.early }))
    const attempt = await claimed(world)
    expect(attempt).toMatchObject({ jobId: fork.id, fence: 2, treeHash: world.trees[0] })
  })

  it('has another instruction in its own lock, and nothing else in it differs (FK4)', async () => {
    const { ask, id, jobs } = await forkWorld()
    const parent = await jobs.lock(anApplication, id)
    const fork = accepted(await ask({ instruction: 'Do it backwards.', model: 'rehearsal/other.json', maxSteps: 20 }))
    expect(fork).toMatchObject({ model: 'rehearsal/other.json', maxSteps: 20 })
    const lock = await jobs.lock(anApplication, fork.id)
    const key = parent?.coordinator ?? ('' as never)
    expect(lock?.experts[key]?.instruction).toBe('Do it backwards.')
    const old = parent?.experts[key]?.instruction
    expect({ ...lock, experts: { [key]: { ...lock?.experts[key], instruction: old } } }).toEqual(parent)
    const events = await jobs.events(anApplication, fork.id, 0, 100)
    expect(events.at(-1)).toMatchObject({ type: 'jobForked', data: { instructed: key, model: 'rehearsal/other.json' } })
  })

  it('is made once for one idempotency key', async () => {
    const { ask, early } = await forkWorld()
    const first = accepted(await ask({ seq: early, idempotencyKey: 'once' }))
    expect(accepted(await ask({ seq: early, idempotencyKey: 'once' })).id).toBe(first.id)
    expect(await ask({ idempotencyKey: 'once' })).toMatchObject({ refused: 'idempotency_key_reused' })
  })

  it('is refused at what is no checkpoint, of what is no job of the caller, and with what cannot run', async () => {
    const { ask, forks, id, early } = await forkWorld()
    const codes = async (given: Partial<ForkJob>) => {
      const answer = await ask(given)
      return isRefusal(answer) ? answer.refused : undefined
    }
    expect(await codes({ seq: early - 1 })).toBe('checkpoint_not_found')
    expect(await codes({ seq: 999 })).toBe('checkpoint_not_found')
    expect(await codes({ query: ' ' })).toBe('query_missing')
    expect(await codes({ maxSteps: 2 })).toBe('input_invalid')
    expect(await codes({ budget: {} })).toBe('input_invalid')
    expect(await codes({ budget: { outputTokens: 3 } })).toBe('input_invalid')
    expect(await codes({ model: 'nobody/knows' })).toBe('model_not_found')
    expect(await codes({ expertKey: 'hello-expert@1.0.0' })).toBe('input_invalid')
    expect(await codes({ instruction: 'x', expertKey: 'constructor' })).toBe('expert_not_found')
    expect(await codes({ instruction: 'x'.repeat(20 * 1024 + 1) })).toBe('input_too_large')
    expect(await forks.fork(anotherApplication, forking(id, {}))).toMatchObject({ refused: 'job_not_found' })
    const unstarted = accepted(await ask({ seq: early })).id
    expect(await forks.fork(anApplication, forking(unstarted, {}))).toMatchObject({ id: expect.any(String) })
  })
})
