/** Creating a job: everything is checked before anything is written, and it happens once. */
import { describe, expect, it } from 'vitest'
import { PlatformError, refuse } from '../../schema/error.ts'
import { parseId } from '../../schema/id.ts'
import type { CreateJob } from '../../src/job/jobs.ts'
import { fakeExpertSource } from '../fake/fake-expert-source.ts'
import { anApplication, anotherApplication } from './given.ts'
import { accepted, HELLO, jobsWorld, newJob, request, thrownBy } from './jobs-world.ts'

const bytes = (length: number): Uint8Array => new Uint8Array(length)
const file = (path: string, size = 1): CreateJob['files'][number] => ({ path, bytes: bytes(size) })

const BAD: readonly [string, Partial<CreateJob>, string][] = [
  ['no query', { query: null }, 'query_missing'],
  ['an empty query', { query: '' }, 'query_missing'],
  ['a query of spaces', { query: ' \n\t' }, 'query_missing'],
  ['a 2 MB query', { query: 'x'.repeat(2_000_000) }, 'input_too_large'],
  ['a query that is too long in bytes alone', { query: '専'.repeat(100_000) }, 'input_too_large'],
  ['an unknown expert', { expertKey: 'nobody' }, 'expert_not_found'],
  ['an unknown version', { expertKey: 'hello-expert@9.9.9' }, 'version_not_found'],
  ['no expert key at all', { expertKey: '../etc/passwd' }, 'expert_key_invalid'],
  ['a model that does not exist', { model: 'nobody/model-1' }, 'model_not_found'],
  ['an expert whose model does not exist', { expertKey: 'stranger' }, 'model_not_found'],
  ['a delegate without a model', { expertKey: 'lead' }, 'model_missing'],
  ['no steps', { maxSteps: 0 }, 'input_invalid'],
  ['half a step', { maxSteps: 1.5 }, 'input_invalid'],
  ['endless steps', { maxSteps: Infinity }, 'input_invalid'],
  ['an empty idempotency key', { idempotencyKey: '' }, 'input_invalid'],
  ['a long idempotency key', { idempotencyKey: 'k'.repeat(256) }, 'input_invalid'],
  ['an idempotency key with a control character', { idempotencyKey: 'a\u0007b' }, 'input_invalid'],
  ['an empty user', { userId: '' }, 'input_invalid'],
  ['a path that climbs', { files: [file('a/../../b')] }, 'input_invalid'],
  ['an absolute path', { files: [file('/etc/passwd')] }, 'input_invalid'],
  ['a drive', { files: [file('C:/x')] }, 'input_invalid'],
  ['an empty path', { files: [file('')] }, 'input_invalid'],
  ['a path with NUL', { files: [file('a\u0000b')] }, 'input_invalid'],
  ['the same path twice', { files: [file('a/b'), file('./a/b')] }, 'input_invalid'],
  ['paths that differ in case', { files: [file('a/B'), file('a/b')] }, 'input_invalid'],
  ['a file that is a directory as well', { files: [file('a/b/c'), file('A')] }, 'input_invalid'],
  ['too many files', { files: ['a', 'b', 'c', 'd'].map((name) => file(name)) }, 'input_too_large'],
  ['a file that is too large', { files: [file('a', 1001)] }, 'input_too_large'],
  ['files that are too large together', { files: [file('a', 800), file('b', 701)] }, 'input_too_large'],
]

describe('creating a job', () => {
  it.each(BAD)('refuses %s, and writes nothing', async (_, given, code) => {
    const world = jobsWorld()
    expect(await world.jobs.create(anApplication, request(given))).toMatchObject({ refused: code })
    expect(await world.jobs.list(anApplication, {}, 10, null)).toEqual([])
    expect(world.content.contents.size).toBe(0)
  })

  it('takes the largest query and file that its limits allow', async () => {
    const world = jobsWorld()
    const job = await newJob(world, { query: 'x'.repeat(262_144), files: [file('a', 1000), file('b', 500)] })
    expect(job.status).toBe('queued')
  })

  it('shows the job as it was asked for, with its exact expert and its lock', async () => {
    const world = jobsWorld()
    const job = await newJob(world, { userId: 'user-1', model: 'openai/gpt', maxSteps: 7 })
    expect(parseId('job', job.id)).toBe(job.id)
    expect(job).toMatchObject({
      status: 'queued',
      outcome: null,
      expertKey: 'hello-expert@1.0.0',
      query: 'Say hello',
      userId: 'user-1',
      model: 'openai/gpt',
      maxSteps: 7,
      revision: 1,
      inputTreeHash: null,
      createdAt: world.clock.now(),
    })
    expect(Object.keys(job)).not.toContain('fence')
    expect(await world.jobs.lock(anApplication, job.id)).toEqual(HELLO)
    expect(await world.jobs.find(anApplication, job.id)).toEqual(job)
  })

  it('stores the input as tree objects, equal files once', async () => {
    const world = jobsWorld()
    const job = await newJob(world, { files: [file('src/a.ts', 5), file('b.ts', 5)] })
    if (job.inputTreeHash === null) throw new Error('no input tree')
    const decode = async (
      hash: typeof job.inputTreeHash,
    ): Promise<{ entries: { name: string; hash: typeof hash }[] }> =>
      JSON.parse(Buffer.from(await world.content.get(hash)).toString())
    const root = await decode(job.inputTreeHash)
    expect(root.entries.map((entry) => entry.name)).toEqual(['b.ts', 'src'])
    const [, src] = root.entries
    if (src === undefined) throw new Error('no src')
    expect(await decode(src.hash)).toEqual({
      entries: [{ executable: false, hash: root.entries[0]?.hash, name: 'a.ts', sizeBytes: 5, type: 'file' }],
    })
    // The lock, one content, two directories.
    expect(world.content.contents.size).toBe(4)
  })

  it('gives the same job to the same request, and refuses another under its key', async () => {
    const world = jobsWorld()
    const first = await newJob(world, { idempotencyKey: 'order-17', files: [file('a')] })
    const reordered = Object.fromEntries(Object.entries(request({ files: [file('a')] })).toReversed())
    const again = await world.jobs.create(anApplication, { ...request(), ...reordered, idempotencyKey: 'order-17' })
    expect(again).toEqual(first)
    const other = await world.jobs.create(
      anApplication,
      request({ idempotencyKey: 'order-17', files: [{ path: 'a', bytes: Uint8Array.of(1) }] }),
    )
    expect(other).toMatchObject({ refused: 'idempotency_key_reused' })
    expect(await world.jobs.list(anApplication, {}, 10, null)).toHaveLength(1)
    const theirs = accepted(await world.jobs.create(anotherApplication, request({ idempotencyKey: 'order-17' })))
    expect(theirs.id).not.toBe(first.id)
  })

  it('gives the same job also when its expert can no longer be resolved', async () => {
    const experts = { ...fakeExpertSource(HELLO) }
    const world = jobsWorld({ experts })
    const first = await newJob(world, { idempotencyKey: 'order-17' })
    experts.resolve = async () => refuse('expert_not_found', 'it is gone')
    expect(await world.jobs.create(anApplication, request({ idempotencyKey: 'order-17' }))).toEqual(first)
    expect(await world.jobs.create(anApplication, request())).toMatchObject({ refused: 'expert_not_found' })
  })

  it('executes one of fifty equal requests at once', async () => {
    const world = jobsWorld()
    const all = await Promise.all(
      Array.from({ length: 50 }, () => world.jobs.create(anApplication, request({ idempotencyKey: 'k' }))),
    )
    expect(new Set(all.map((job) => accepted(job).id)).size).toBe(1)
  })

  it('answers with the job when the answer of the commit was lost', async () => {
    const world = jobsWorld()
    world.log.after = async () => {
      world.log.after = async () => {}
      throw new Error('the connection broke')
    }
    const job = await newJob(world)
    expect(await world.jobs.find(anApplication, job.id)).toEqual(job)
  })

  it('throws what the store throws when nothing was written', async () => {
    const world = jobsWorld()
    world.log.before = async (verb) => {
      if (verb === 'create') throw new PlatformError('not_ready', 'no database')
    }
    expect(await thrownBy(newJob(world))).toBe('not_ready')
    expect(await world.jobs.list(anApplication, {}, 10, null)).toEqual([])
  })
})
