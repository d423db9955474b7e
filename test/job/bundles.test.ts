/** Jobs carried out of one platform and into another. */
import { afterEach, describe, expect, it } from 'vitest'
import { readBundle } from '../../schema/bundle.ts'
import { isRefusal, PlatformError } from '../../schema/error.ts'
import { chain, firstBroken, genesisHash, type JobEvent, type NewEvent } from '../../schema/event.ts'
import { canonical, sha256 } from '../../schema/hash.ts'
import type { JobId } from '../../schema/id.ts'
import type { Lock } from '../../schema/lock.ts'
import { openBundles } from '../../src/job/bundles.ts'
import { openForks } from '../../src/job/forks.ts'
import type { ForkJob } from '../../src/job/job-input.ts'
import { openDeltaHub, watchJob } from '../../src/job/watch.ts'
import { fakeChance, fakeClock } from '../fake/fake-clock.ts'
import { fakeExpertSource } from '../fake/fake-expert-source.ts'
import { memoryContentStore } from '../fake/memory-content-store.ts'
import { memoryJobLog } from '../fake/memory-job-log.ts'
import type { Process } from '../attempt/attempt-world.ts'
import { chunksOf, LOCK, runBundledJob, type BundledJob } from '../support/bundled-job.ts'
import { anApplication, anotherApplication } from './given.ts'
import { LIMITS } from './jobs-world.ts'

const open: Process[] = []
afterEach(async () => {
  for (const process of open.splice(0)) await process.attempts.close()
})
const aJob = (): Promise<BundledJob> => runBundledJob((process) => open.push(process))

/** Another platform, at which these experts are published. */
function elsewhere(...published: readonly Lock[]) {
  const log = memoryJobLog()
  const content = memoryContentStore()
  const clock = fakeClock()
  const models = { knows: () => true }
  const stores = { log, content, clock, models, chance: fakeChance('elsewhere'), limits: LIMITS }
  const bundles = openBundles({ log, content, clock })
  const forks = openForks({ ...stores, experts: fakeExpertSource(...published) })
  return {
    log,
    content,
    bundles,
    import: (text: string, as = anotherApplication) => bundles.import(as, chunksOf(text)),
    fork: (jobId: JobId, given: Partial<ForkJob> = {}) => forks.fork(anotherApplication, forking(jobId, given)),
  }
}

function forking(jobId: JobId, given: Partial<ForkJob>): ForkJob {
  const nothing = { seq: null, query: null, model: null, maxSteps: null, instruction: null, expertKey: null }
  return { jobId, ...nothing, idempotencyKey: null, ...given }
}

const codeOf = async (act: Promise<unknown>): Promise<string> => {
  try {
    const answer = await act
    return isRefusal(answer) ? answer.refused : 'done'
  } catch (error) {
    if (error instanceof PlatformError) return error.code
    throw error
  }
}

describe('an export', () => {
  it('is the log up to where it ended when it was asked for, and what that names (BE1)', async () => {
    const { bundles, jobId, log, events } = await aJob()
    const lines = await bundles.export(anApplication, jobId, { files: true })
    const stored = await log.find(jobId)
    const head = stored?.head ?? { revision: 0, hash: genesisHash(jobId) }
    const late = { v: 1, type: 'jobContinued', runId: null, expertKey: null, stepNumber: null } as const
    const later = { ...late, data: { query: 'more', maxSteps: null } }
    if (stored !== undefined)
      await log.append(head, stored.job, chain(jobId, head.revision, head.hash, 9, [later]), null)
    let text = ''
    for await (const line of lines) text += line
    const read: JobEvent[] = []
    for await (const part of readBundle(chunksOf(text))) if (part.type === 'event') read.push(part.event)
    expect(read).toEqual(events)
  })

  it('is for the application whose job it is', async () => {
    const { bundles, jobId } = await aJob()
    expect(await codeOf(bundles.export(anotherApplication, jobId, { files: true }))).toBe('job_not_found')
  })

  it('breaks off when content is lost, so that nobody takes it for whole', async () => {
    const job = await aJob()
    const [, tree] = [...job.events].flatMap((event) =>
      event.type === 'workspaceChanged' ? ['', event.data.treeHash] : [],
    )
    job.content.contents.delete(tree as never)
    expect(await codeOf(job.text())).toBe('content_missing')
  })
})

describe('an import', () => {
  it('is the same history under the importer, at its end marked as brought (BE3, J11)', async () => {
    const { jobId, events, text } = await aJob()
    const there = elsewhere()
    const job = await there.import(await text())
    expect(job).toMatchObject({
      id: jobId,
      applicationId: anotherApplication,
      imported: true,
      status: 'finished',
      outcome: 'completed',
      revision: events.length + 1,
    })
    const log = await there.log.read(jobId, 0, 1000)
    expect(log.slice(0, -1)).toEqual(events)
    expect(log.at(-1)).toMatchObject({ type: 'jobImported', data: { headHash: events.at(-1)?.hash } })
    expect(firstBroken(jobId, log)).toBeUndefined()
    expect(await there.log.claimable(1e12, 10, null)).toEqual([])
  })

  it('is watched to its end, which is not the end that it had (W2)', async () => {
    const { jobId, events, text } = await aJob()
    const { log, ...there } = elsewhere()
    await there.import(await text())
    const seen: string[] = []
    const signal = new AbortController().signal
    for await (const { type } of watchJob({ log, hub: openDeltaHub() }, anotherApplication, jobId, 0, signal))
      seen.push(type)
    expect(seen).toEqual([...events.map(({ type }) => type), 'jobImported'])
  })

  it('can be exported again, and imported from there', async () => {
    const job = await aJob()
    const [there, beyond] = [elsewhere(), elsewhere()]
    await there.import(await job.text())
    let text = ''
    for await (const line of await there.bundles.export(anotherApplication, job.jobId, { files: true })) text += line
    expect(await beyond.import(text)).toMatchObject({ imported: true, revision: job.events.length + 2 })
  })

  it('is refused where the job is, whoever asks', async () => {
    const { bundles, text } = await aJob()
    for (const application of [anApplication, anotherApplication])
      expect(await codeOf(bundles.import(application, chunksOf(await text())))).toBe('job_exists')
  })

  it('is found again when the answer of the store was lost, and refused when another was faster', async () => {
    const { jobId, text } = await aJob()
    const [lost, raced] = [elsewhere(), elsewhere()]
    lost.log.after = async (verb) => {
      if (verb === 'create') throw new PlatformError('database_unavailable', 'the answer is lost')
    }
    expect(await lost.import(await text())).toMatchObject({ id: jobId, imported: true })
    const bundle = await text()
    raced.log.before = async (verb) => {
      raced.log.before = async () => {}
      if (verb === 'create') throw new Error('unreachable')
      await raced.import(bundle, anApplication)
    }
    expect(await codeOf(raced.import(bundle))).toBe('job_exists')
  })

  it('takes no content that the bundle does not bring, though the store has it (BE2)', async () => {
    const { text, content } = await aJob()
    const there = elsewhere()
    for (const bytes of content.contents.values()) await there.content.put(bytes)
    const lines = (await text()).split('\n').slice(0, -1)
    for (const [i, line] of lines.entries()) {
      if (!line.startsWith('{"type":"content"')) continue
      const kept = lines
        .toSpliced(i, 1)
        .slice(0, -1)
        .map((one) => `${one}\n`)
      const robbed = `${kept.join('')}${JSON.stringify({ type: 'end', contents: 4, hash: sha256(kept.join('')) })}\n`
      await expect(there.import(robbed)).rejects.toThrow(/is missing|is named by nothing before it/)
    }
    expect(there.log.calls.get('create')).toBeUndefined()
  })

  it('is refused without the files that its log names', async () => {
    const { text } = await aJob()
    expect(await codeOf(elsewhere().import(await text({ files: false })))).toBe('bundle_invalid')
  })

  it('is refused when its leases are none that a decider grants (J2)', async () => {
    const forged = await forge(await aJob(), (event) =>
      event.type === 'leaseGranted' ? { ...event, data: { ...event.data, fence: 900_000_000 } } : event,
    )
    await expect(elsewhere().import(forged)).rejects.toThrow(/grants fence 900000000 after fence 0/)
  })
})

describe('a fork of an imported job', () => {
  it('goes on here as any other, with its files, when its experts are published here (FK5)', async () => {
    const { jobId, text, events } = await aJob()
    const there = elsewhere(LOCK)
    await there.import(await text())
    const fork = await there.fork(jobId)
    expect(fork).toMatchObject({ status: 'queued', forkedFrom: { jobId }, applicationId: anotherApplication })
    if (isRefusal(fork)) return
    expect(fork.imported).toBeUndefined()
    const tree = events.findLast((event) => event.type === 'workspaceChanged')
    expect(fork.treeHash).toBe(tree?.data.treeHash)
    const [claimable] = await there.log.claimable(1e12, 10, null)
    expect(claimable?.job.id).toBe(fork.id)
  })

  it('is refused where they are not, or are others than the bundle says (FK5)', async () => {
    const job = await aJob()
    const nowhere = elsewhere()
    await nowhere.import(await job.text())
    expect(await codeOf(nowhere.fork(job.jobId))).toBe('lock_unpublished')

    // The same name and version, and a skill that wants a secret more.
    const { lead, files } = partsOfLock()
    const greedy = { ...lead, skills: { ...lead.skills, files: { ...files, requiredEnv: ['PROVIDER_KEY'] } } }
    const there = elsewhere(LOCK)
    await there.import(
      await forge(job, (event) => event, { ...LOCK, experts: { ...LOCK.experts, [lead.key]: greedy } }),
    )
    expect(await codeOf(there.fork(job.jobId))).toBe('lock_unpublished')
  })

  it('may have been told another instruction before (FK5)', async () => {
    const job = await aJob()
    const { lead } = partsOfLock()
    const told = { ...LOCK, experts: { ...LOCK.experts, [lead.key]: { ...lead, instruction: 'Do it backwards.' } } }
    const there = elsewhere(LOCK)
    await there.import(await forge(job, (event) => event, told))
    expect(await codeOf(there.fork(job.jobId))).toBe('done')
  })

  it('makes no call because of a yes that was said elsewhere, but may ask anew (FK6)', async () => {
    const job = await aJob()
    // The delegate's step ends between the answer and the result of the call that asked.
    const order = await forge(job, (event) => event, LOCK, reorderAnswer)
    const there = elsewhere(LOCK)
    await there.import(order)
    const log = await there.log.read(job.jobId, 0, 1000)
    const answered = log.findIndex(({ type }) => type === 'answered')
    const seq = log.findIndex(({ type }, i) => i > answered && type === 'stepFinished') + 1
    expect(await codeOf(there.fork(job.jobId, { seq }))).toBe('job_imported')
    expect(await codeOf(there.fork(job.jobId, { seq, query: 'and now?' }))).toBe('done')
    expect(await codeOf(there.fork(job.jobId))).toBe('done')
  })
})

function partsOfLock() {
  const lead = LOCK.experts[LOCK.coordinator]
  const files = lead?.skills['files']
  if (lead === undefined || files === undefined) throw new Error('the team has changed')
  return { lead, files }
}

/** The answer moves before the first end of a step, as if the human had been quick. */
function reorderAnswer(events: readonly JobEvent[]): readonly JobEvent[] {
  const answered = events.findIndex(({ type }) => type === 'answered')
  const asked = events.findIndex(({ type }) => type === 'questionAsked')
  const answer = events[answered]
  if (answer === undefined) throw new Error('nobody answered')
  return events.toSpliced(answered, 1).toSpliced(asked + 1, 0, answer)
}

/** A bundle that a stranger made: every hash is right, and not everything is true. */
async function forge(
  job: BundledJob,
  change: (event: JobEvent) => JobEvent,
  lock: Lock = LOCK,
  order: (events: readonly JobEvent[]) => readonly JobEvent[] = (events) => events,
): Promise<string> {
  const lockHash = await job.content.put(new TextEncoder().encode(canonical(lock)))
  const facts = order(job.events).map((event) => {
    const { v, type, runId, expertKey, stepNumber, data } = change(event)
    const changed = type === 'jobCreated' ? { ...data, lockHash } : data
    return { v, type, runId, expertKey, stepNumber, data: changed } as NewEvent
  })
  const log = memoryJobLog()
  const events = chain(job.jobId, 0, genesisHash(job.jobId), 1000, facts)
  const stored = await job.log.find(job.jobId)
  if (stored === undefined) throw new Error('the job is gone')
  await log.create(stored.job, events, lockHash, null)
  const { bundles } = { bundles: openBundles({ log, content: job.content, clock: fakeClock() }) }
  let text = ''
  for await (const line of await bundles.export(anApplication, job.jobId, { files: true })) text += line
  return text
}
