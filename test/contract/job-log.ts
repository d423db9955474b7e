/** What every job log keeps, whatever it is made of. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { PlatformError, type ErrorCode } from '../../schema/error.ts'
import { firstBroken, type JobEvent } from '../../schema/event.ts'
import { sha256 } from '../../schema/hash.ts'
import type { JobId } from '../../schema/id.ts'
import type { AppendChange, JobLog, LogHead } from '../../src/job/job-log.ts'
import type { JobCommand } from '../../src/job/job.ts'
import {
  aLockHash,
  anApplication,
  anotherApplication,
  aQuestion,
  beginningOf,
  created,
  jobIdOf,
  questionAsked,
  runIdOf,
  runStarted,
  stepFinished,
  tell,
  type Given,
  type Told,
} from '../job/given.ts'

export interface JobLogSubject {
  readonly log: JobLog
  /** Another process's view of the same store; it may be the same object. */
  readonly other: JobLog
  close(): Promise<void>
}

const HOLDER = 'machine-keeper-1'
const codeOf = async (promise: Promise<unknown>): Promise<ErrorCode | 'nothing was thrown'> =>
  promise.then(
    () => 'nothing was thrown' as const,
    (error: unknown) => {
      if (error instanceof PlatformError) return error.code
      throw error
    },
  )

/** `open` gives an empty store. */
export function jobLogContract(subject: string, open: () => Promise<JobLogSubject>): void {
  describe(`the job log (${subject})`, () => {
    let opened: JobLogSubject
    let log: JobLog
    beforeEach(async () => {
      opened = await open()
      log = opened.log
    })
    afterEach(async () => opened.close())

    const argsOf = ({ job, events }: Told) => [job, events, aLockHash, null] as const

    async function put(n: number, given: Given = {}): Promise<Told> {
      const told = created(jobIdOf(n), { now: 1000 + n, ...given })
      await log.create(told.job, told.events, aLockHash, null)
      return told
    }
    /** Tells the job a command and appends what follows. */
    async function append(
      told: Told,
      command: JobCommand,
      fence: number | null = null,
      change: AppendChange = {},
      to: JobLog = log,
    ): Promise<Told> {
      const next = tell(told, command)
      const head = await to.append(told.head, next.job, next.events.slice(told.events.length), fence, change)
      expect(head).toEqual(next.head)
      return next
    }
    /** Grants a lease at `now` for `leaseMs`. */
    async function grant(told: Told, now: number, leaseMs = 100): Promise<Told> {
      const lease = { holder: HOLDER, fence: told.job.fence + 1, until: now + leaseMs }
      return append(told, { type: 'grant', now, holder: HOLDER, lease: null, barrenAttemptsMax: 3 }, null, { lease })
    }

    describe('create', () => {
      it('writes the row and its first event together (L4)', async () => {
        const told = created(jobIdOf(1), { userId: 'user-1' })
        const { job, isNew } = await log.create(told.job, told.events, aLockHash, null)
        expect(isNew).toBe(true)
        expect(job).toEqual({ job: told.job, head: told.head, lockHash: aLockHash, lease: null })
        expect(await log.find(told.job.id)).toEqual(job)
        expect(await log.read(told.job.id, 0, 10)).toEqual(told.events)
      })

      it('gives the job of then to the same idempotent request, and writes nothing', async () => {
        const first = created(jobIdOf(1))
        const again = created(jobIdOf(2))
        const idempotency = { key: 'order-17', requestHash: sha256('a request') }
        await log.create(first.job, first.events, aLockHash, idempotency)
        const { job, isNew } = await log.create(again.job, again.events, aLockHash, idempotency)
        expect({ id: job.job.id, isNew }).toEqual({ id: first.job.id, isNew: false })
        expect(await log.find(again.job.id)).toBeUndefined()
        expect(await log.read(again.job.id, 0, 10)).toEqual([])
        expect(await log.findRequest(anApplication, 'order-17')).toEqual({
          jobId: first.job.id,
          requestHash: idempotency.requestHash,
        })
        expect(await log.findRequest(anApplication, 'order-18')).toBeUndefined()
      })

      it('throws idempotency_key_reused for another request, and writes nothing', async () => {
        const first = created(jobIdOf(1))
        const other = created(jobIdOf(2))
        await log.create(first.job, first.events, aLockHash, { key: 'k', requestHash: sha256('one') })
        const code = await codeOf(
          log.create(other.job, other.events, aLockHash, { key: 'k', requestHash: sha256('two') }),
        )
        expect(code).toBe('idempotency_key_reused')
        expect(await log.find(other.job.id)).toBeUndefined()
      })

      it('keeps the idempotency keys of two applications apart', async () => {
        const mine = created(jobIdOf(1))
        const theirs = created(jobIdOf(2), { applicationId: anotherApplication })
        const idempotency = { key: 'k', requestHash: sha256('one') }
        await log.create(mine.job, mine.events, aLockHash, idempotency)
        expect((await log.create(theirs.job, theirs.events, aLockHash, idempotency)).isNew).toBe(true)
        expect(await log.findRequest(anotherApplication, 'k')).toMatchObject({ jobId: theirs.job.id })
      })

      it('creates one job of many equal requests at once', async () => {
        const idempotency = { key: 'k', requestHash: sha256('one') }
        const all = Array.from({ length: 16 }, (_, n) => created(jobIdOf(n)))
        const answers = await Promise.all(
          all.map((told, n) =>
            (n % 2 === 0 ? log : opened.other).create(told.job, told.events, aLockHash, idempotency),
          ),
        )
        expect(answers.filter((answer) => answer.isNew)).toHaveLength(1)
        expect(new Set(answers.map((answer) => answer.job.job.id)).size).toBe(1)
        expect(await log.list(anApplication, {}, 100, null)).toHaveLength(1)
      })
    })

    describe('create, of a job that may begin with it', () => {
      /** Creates a job at `now` that begins where it may, for 100 ms; whether it did. */
      async function begin(
        n: number,
        given: Given & { readonly quota?: number } = {},
        by: JobLog = log,
      ): Promise<boolean> {
        const told = created(jobIdOf(n), { now: 2000, ...given })
        const beginning = beginningOf(told, given.quota ?? null)
        const { job, isNew } = await by.create(told.job, told.events, aLockHash, null, beginning)
        const hasBegun = job.lease !== null
        const { head, job: state } = hasBegun ? beginning : told
        const lease = hasBegun ? beginning.lease : null
        expect({ job, isNew }).toEqual({ job: { job: state, head, lockHash: aLockHash, lease }, isNew: true })
        expect(await log.find(told.job.id)).toEqual(job)
        const events = [...told.events, ...(hasBegun ? beginning.events : [])]
        expect(await log.read(told.job.id, 0, 10)).toEqual(events)
        expect(firstBroken(told.job.id, events)).toBeUndefined()
        return hasBegun
      }

      it('gives it its lease in the same commit where nothing waits, and as good a lease as any (L7, L4)', async () => {
        expect(await begin(1)).toBe(true)
        expect(await begin(2)).toBe(true)
        expect(await log.claimable(2099, 10, null)).toEqual([])
        expect(await log.demand(2099, null)).toEqual({ queued: 0, running: 2 })
        expect((await log.claimable(2100, 10, null)).map(({ job }) => job.id)).toEqual([1, 2].map(jobIdOf))
        expect(await log.renew(jobIdOf(1), 1, 3000)).toBe(true)
        expect((await log.claimable(2100, 10, null)).map(({ job }) => job.id)).toEqual([jobIdOf(2)])
      })

      it('queues it where another is queued, whoever created that and whosever it is (L7)', async () => {
        await opened.other.create(...argsOf(created(jobIdOf(1), { applicationId: anotherApplication })))
        expect(await begin(2)).toBe(false)
        expect((await log.claimable(2000, 10, null)).map(({ job }) => job.id)).toEqual([2, 1].map(jobIdOf).toSorted())
      })

      it('queues it where another has lost its lease, at that very moment (L7)', async () => {
        await grant(await put(1), 1900)
        expect(await begin(2, { now: 1999 })).toBe(true)
        expect(await begin(3, { now: 2000 })).toBe(false)
      })

      it('begins though others wait for an answer or have ended (L7)', async () => {
        const held = await grant(await put(1), 1000)
        const runId = runIdOf(held.job.id)
        const events = [runStarted(runId), questionAsked(aQuestion(held.job.id, runId, 'fix'))]
        const asked = await append(held, { type: 'record', now: 1001, fence: 1, events }, 1)
        await append(asked, { type: 'rest', now: 1002, fence: 1, barrenAttemptsMax: 3 }, 1, { lease: null })
        await append(await put(2), { type: 'cancel', now: 1003 })
        expect(await begin(3)).toBe(true)
      })

      it('queues it where its own application has its quota, and another begins though that waits (L7)', async () => {
        expect(await begin(1, { quota: 2 })).toBe(true)
        expect(await begin(2, { quota: 2 })).toBe(true)
        expect(await begin(3, { quota: 2, applicationId: anotherApplication })).toBe(true)
        expect(await begin(4, { quota: 2 })).toBe(false)
        // Who waits for nothing but its own quota keeps nobody waiting.
        expect(await begin(5, { quota: 2, applicationId: anotherApplication })).toBe(true)
        expect(await begin(6, { quota: 3, applicationId: anotherApplication })).toBe(false)
      })

      it('gives the job of then to the same idempotent request, begun or not, and writes nothing', async () => {
        const idempotency = { key: 'order-17', requestHash: sha256('a request') }
        const [first, again] = [created(jobIdOf(1), { now: 2000 }), created(jobIdOf(2), { now: 2001 })]
        const beginning = beginningOf(first)
        const made = await log.create(first.job, first.events, aLockHash, idempotency, beginning)
        expect(made).toMatchObject({ isNew: true, job: { lease: beginning.lease } })
        const known = await log.create(again.job, again.events, aLockHash, idempotency, beginningOf(again))
        expect(known).toEqual({ isNew: false, job: made.job })
        expect(await log.find(again.job.id)).toBeUndefined()
        const other = { ...idempotency, requestHash: sha256('another') }
        expect(await codeOf(log.create(again.job, again.events, aLockHash, other, beginningOf(again)))).toBe(
          'idempotency_key_reused',
        )
      })

      it('wakes who watches it, with all that was written', async () => {
        const told = created(jobIdOf(1), { now: 2000 })
        const beginning = beginningOf(told)
        const woken = Promise.withResolvers<readonly JobEvent[]>()
        const stop = log.onAppend(told.job.id, (appended) => {
          if (appended !== undefined) woken.resolve(appended)
        })
        await log.create(told.job, told.events, aLockHash, null, beginning)
        expect(await woken.promise).toEqual([...told.events, ...beginning.events])
        stop()
      })
    })

    describe('append', () => {
      it('numbers events 1..n without gap or duplicate, in a chain that holds (L1)', async () => {
        let told = await grant(await put(1), 2000)
        const runId = runIdOf(told.job.id)
        for (let n = 1; n <= 5; n++) {
          const events = n === 1 ? [runStarted(runId), stepFinished(runId, n)] : [stepFinished(runId, n)]
          told = await append(told, { type: 'record', now: 2000 + n, fence: 1, events }, 1)
        }
        const events = await log.read(told.job.id, 0, 100)
        expect(events.map((event) => event.seq)).toEqual([1, 2, 3, 4, 5, 6, 7, 8])
        expect(firstBroken(told.job.id, events)).toBeUndefined()
        expect(events).toEqual(told.events)
        expect(await log.find(told.job.id)).toEqual({
          job: told.job,
          head: told.head,
          lockHash: aLockHash,
          lease: { holder: HOLDER, fence: 1, until: 2100 },
        })
      })

      it('keeps events as they were given, however many come at once (L1)', async () => {
        let told = await grant(await put(1), 2000)
        const runId = runIdOf(told.job.id)
        told = await append(told, { type: 'record', now: 2001, fence: 1, events: [runStarted(runId)] }, 1)
        for (const count of [1, 2, 3, 4, 5, 9]) {
          const before = told.events.length
          const steps = Array.from({ length: count }, (_, n) => stepFinished(runId, before + n))
          told = await append(told, { type: 'record', now: 2001 + count, fence: 1, events: steps }, 1)
          expect(await log.read(told.job.id, before, 100)).toEqual(told.events.slice(before))
          expect((await log.find(told.job.id))?.head).toEqual(told.head)
        }
        expect(firstBroken(told.job.id, told.events)).toBeUndefined()
      })

      it('writes nothing when the head is not the expected one (L2)', async () => {
        const told = await put(1)
        const before = await append(told, { type: 'cancel', now: 3000 })
        const stale = tell(told, { type: 'cancel', now: 3001 })
        const wrongHash: LogHead = { revision: before.head.revision, hash: sha256('something else') }
        const ahead: LogHead = { revision: before.head.revision + 1, hash: before.head.hash }
        for (const expected of [told.head, wrongHash, ahead]) {
          expect(await codeOf(log.append(expected, stale.job, stale.events.slice(1), null))).toBe('revision_conflict')
        }
        expect(await log.read(told.job.id, 0, 10)).toEqual(before.events)
        expect((await log.find(told.job.id))?.job).toEqual(before.job)
      })

      it('lets one of many appenders win at each revision (L1, L2)', async () => {
        let told = await grant(await put(1), 2000)
        const runId = runIdOf(told.job.id)
        told = await append(told, { type: 'record', now: 2001, fence: 1, events: [runStarted(runId)] }, 1)
        for (let round = 1; round <= 3; round++) {
          const candidates = Array.from({ length: 8 }, (_, n) =>
            tell(told, { type: 'record', now: 3000 + n, fence: 1, events: [stepFinished(runId, round)] }),
          )
          const codes = await Promise.all(
            candidates.map((next, n) =>
              codeOf((n % 2 === 0 ? log : opened.other).append(told.head, next.job, next.events.slice(-1), 1)),
            ),
          )
          expect(codes.filter((code) => code === 'nothing was thrown')).toHaveLength(1)
          expect(codes.filter((code) => code === 'revision_conflict')).toHaveLength(7)
          const winner = candidates[codes.indexOf('nothing was thrown')]
          if (winner === undefined) throw new Error('nobody won')
          told = winner
        }
        const events = await log.read(told.job.id, 0, 100)
        expect(events).toEqual(told.events)
        expect(firstBroken(told.job.id, events)).toBeUndefined()
      })

      it('refuses a fence once a later one was granted (L3)', async () => {
        const first = await grant(await put(1), 2000)
        const runId = runIdOf(first.job.id)
        const stale = tell(first, { type: 'record', now: 2050, fence: 1, events: [runStarted(runId)] })
        const lease = { holder: 'machine-keeper-2', fence: 2, until: 2300 }
        const old = { holder: HOLDER, fence: 1, until: 2100 }
        const taken = await append(
          first,
          { type: 'grant', now: 2100, holder: 'machine-keeper-2', lease: old, barrenAttemptsMax: 3 },
          null,
          { lease },
        )
        const events = stale.events.slice(first.events.length)
        expect(await codeOf(log.append(first.head, stale.job, events, 1))).toBe('fence_stale')
        expect(await codeOf(log.append(taken.head, stale.job, events, 1))).toBe('fence_stale')
        expect(await codeOf(log.append(taken.head, stale.job, events, 3))).toBe('fence_stale')
        expect(await log.read(first.job.id, 0, 100)).toEqual(taken.events)
        await append(taken, { type: 'record', now: 2150, fence: 2, events: [runStarted(runId)] }, 2)
      })

      it('refuses a fence whose lease was given up (L3)', async () => {
        const held = await grant(await put(1), 2000)
        const runId = runIdOf(held.job.id)
        const stale = tell(held, { type: 'record', now: 2050, fence: 1, events: [runStarted(runId)] })
        const command = { type: 'abandon', now: 2040, fence: 1, reason: 'died', barrenAttemptsMax: 3 } as const
        const given = await append(held, command, 1, { lease: null })
        expect((await log.find(held.job.id))?.lease).toBeNull()
        const events = stale.events.slice(held.events.length)
        expect(await codeOf(log.append(given.head, stale.job, events, 1))).toBe('fence_stale')
        expect(await log.read(held.job.id, 0, 100)).toEqual(given.events)
      })

      it('refuses a lease while a renewed one is live (L6)', async () => {
        const held = await grant(await put(1), 2000)
        const seen = { holder: HOLDER, fence: 1, until: 2100 }
        expect(await log.renew(held.job.id, 1, 2200)).toBe(true)
        const takeOver = async (now: number): Promise<Told> =>
          append(held, { type: 'grant', now, holder: 'other', lease: seen, barrenAttemptsMax: 3 }, null, {
            lease: { holder: 'other', fence: 2, until: now + 100 },
          })
        expect(await codeOf(takeOver(2199))).toBe('revision_conflict')
        expect((await log.find(held.job.id))?.lease).toEqual({ ...seen, until: 2200 })
        await takeOver(2200)
        expect((await log.find(held.job.id))?.lease).toEqual({ holder: 'other', fence: 2, until: 2300 })
      })

      it('takes an append without a fence while a lease is live, and leaves the lease', async () => {
        const held = await grant(await put(1), 2000)
        await append(held, { type: 'cancel', now: 2001 })
        expect((await log.find(held.job.id))?.lease).toEqual({ holder: HOLDER, fence: 1, until: 2100 })
      })

      it('keeps an idempotency key with the events, and takes it once', async () => {
        const told = await put(1)
        const other = await put(2)
        const idempotency = { key: 'cancel-1', requestHash: sha256('cancel job 1') }
        await append(told, { type: 'cancel', now: 3000 }, null, { idempotency })
        const kept = { jobId: told.job.id, requestHash: idempotency.requestHash }
        expect(await log.findRequest(anApplication, 'cancel-1')).toEqual(kept)
        const code = await codeOf(append(other, { type: 'cancel', now: 3000 }, null, { idempotency }))
        expect(code).toBe('idempotency_key_reused')
        expect((await log.find(other.job.id))?.job).toEqual(other.job)
        expect(await log.read(other.job.id, 0, 10)).toEqual(other.events)
      })

      it('throws job_not_found for a job that is not there', async () => {
        const told = created(jobIdOf(1))
        const next = tell(told, { type: 'cancel', now: 3000 })
        expect(await codeOf(log.append(told.head, next.job, next.events.slice(1), null))).toBe('job_not_found')
        expect(await log.read(told.job.id, 0, 10)).toEqual([])
      })

      it('keeps every text that JSON can hold', async () => {
        const told = await grant(await put(1), 2000)
        const runId = runIdOf(told.job.id)
        const title = 'NUL \u0000, half \ud800, 専門, 𝄞, \u202e, "quotes", \\u0000'
        const question = aQuestion(told.job.id, runId, 'q', { title, schema: { const: [1e21, -0.5, null, title] } })
        const events = [runStarted(runId), questionAsked(question)]
        const next = await append(told, { type: 'record', now: 2001, fence: 1, events }, 1)
        const read = await log.read(told.job.id, 0, 10)
        expect(firstBroken(told.job.id, read)).toBeUndefined()
        expect(read).toEqual(next.events)
        expect((await log.find(told.job.id))?.job).toEqual(next.job)
      })
    })

    describe('reading', () => {
      it('reads pages after a cursor whose union is the log (L5)', async () => {
        let told = await grant(await put(1), 2000)
        const runId = runIdOf(told.job.id)
        const steps = Array.from({ length: 9 }, (_, n) => stepFinished(runId, n + 1))
        told = await append(told, { type: 'record', now: 2001, fence: 1, events: [runStarted(runId), ...steps] }, 1)
        const read: JobEvent[] = []
        for (let page = await log.read(told.job.id, 0, 5); page.length > 0;) {
          expect(page.length).toBeLessThanOrEqual(5)
          read.push(...page)
          page = await log.read(told.job.id, read.at(-1)?.seq ?? 0, 5)
        }
        expect(read).toEqual(told.events)
        expect(await log.read(told.job.id, 100, 5)).toEqual([])
        expect(await log.read(jobIdOf(99), 0, 5)).toEqual([])
        expect(await log.find(jobIdOf(99))).toBeUndefined()
      })

      it("lists an application's jobs newest first, by page and by filter", async () => {
        const jobs: Told[] = []
        for (let n = 1; n <= 5; n++)
          jobs.push(
            await put(n, { userId: n % 2 === 0 ? 'even' : 'odd', expertKey: n < 4 ? '@a/b/c@1.0.0' : 'd@2.0.0' }),
          )
        await put(6, { applicationId: anotherApplication })
        const [, second] = jobs
        if (second === undefined) throw new Error('no second job')
        await append(second, { type: 'cancel', now: 3000 })
        const ids = async (...args: Parameters<JobLog['list']>): Promise<readonly JobId[]> =>
          (await log.list(...args)).map((stored) => stored.job.id)
        const all = [5, 4, 3, 2, 1].map(jobIdOf)
        expect(await ids(anApplication, {}, 10, null)).toEqual(all)
        expect(await ids(anApplication, {}, 2, null)).toEqual(all.slice(0, 2))
        expect(await ids(anApplication, {}, 2, jobIdOf(4))).toEqual(all.slice(2, 4))
        expect(await ids(anApplication, { userId: 'even' }, 10, null)).toEqual([4, 2].map(jobIdOf))
        expect(await ids(anApplication, { status: 'finished' }, 10, null)).toEqual([jobIdOf(2)])
        expect(await ids(anApplication, { expertName: '@a/b/c' }, 10, null)).toEqual([3, 2, 1].map(jobIdOf))
        expect(await ids(anApplication, { expertName: 'd', userId: 'odd' }, 10, null)).toEqual([jobIdOf(5)])
        expect(await ids(anApplication, { expertName: '@a/b' }, 10, null)).toEqual([])
      })
    })

    describe('leases', () => {
      it('offers queued jobs and those whose lease has ended, oldest first', async () => {
        const third = await put(3)
        const first = await put(1)
        const second = await put(2)
        const ids = async (now: number, limit = 10): Promise<readonly JobId[]> =>
          (await log.claimable(now, limit, null)).map((stored) => stored.job.id)
        expect(await ids(2000)).toEqual([1, 2, 3].map(jobIdOf))
        expect(await ids(2000, 2)).toEqual([1, 2].map(jobIdOf))
        await grant(first, 2000)
        await append(third, { type: 'cancel', now: 2001 })
        expect(await ids(2099)).toEqual([second.job.id])
        expect(await ids(2100)).toEqual([1, 2].map(jobIdOf))
        expect((await log.claimable(2100, 1, null))[0]?.lease).toEqual({ holder: HOLDER, fence: 1, until: 2100 })
      })

      it('offers each application its share, whoever asks for more, and no more than its quota', async () => {
        const first = [await put(1), await put(2)]
        for (let n = 3; n <= 20; n++) await put(n)
        for (let n = 21; n <= 23; n++) await put(n, { applicationId: anotherApplication })
        const numbers = async (now: number, limit: number, quota: number | null = null): Promise<readonly number[]> =>
          (await log.claimable(now, limit, quota)).map(({ job }) => all.indexOf(job.id))
        const all = Array.from({ length: 24 }, (_, n) => jobIdOf(n))
        expect(await numbers(2000, 7)).toEqual([1, 21, 2, 22, 3, 23, 4])
        expect(await numbers(2000, 7, 2)).toEqual([1, 21, 2, 22])
        for (const told of first) await grant(told, 2000)
        // Two of one run: the other is given two before the next of the first.
        expect(await numbers(2099, 5)).toEqual([21, 22, 3, 23, 4])
        expect(await numbers(2099, 5, 2)).toEqual([21, 22])
        expect(await log.demand(2099, null)).toEqual({ queued: 21, running: 2 })
        expect(await log.demand(2099, 3)).toEqual({ queued: 4, running: 2 })
        // Whose lease has ended waits like any other, and runs no longer.
        expect(await numbers(2100, 4)).toEqual([1, 21, 2, 22])
        expect(await numbers(2100, 9, 1)).toEqual([1, 21])
        expect(await log.demand(2100, null)).toEqual({ queued: 23, running: 0 })
      })

      it('does not offer a job that waits', async () => {
        const held = await grant(await put(1), 2000)
        const runId = runIdOf(held.job.id)
        const events = [runStarted(runId), questionAsked(aQuestion(held.job.id, runId, 'fix'))]
        const asked = await append(held, { type: 'record', now: 2001, fence: 1, events }, 1)
        await append(asked, { type: 'rest', now: 2002, fence: 1, barrenAttemptsMax: 3 }, 1, { lease: null })
        expect(await log.claimable(9000, 10, null)).toEqual([])
      })

      it('renews the lease of the current fence only, without an event', async () => {
        const held = await grant(await put(1), 2000)
        expect(await log.renew(held.job.id, 1, 2500)).toBe(true)
        expect(await log.renew(held.job.id, 2, 9000)).toBe(false)
        expect(await log.renew(held.job.id, 0, 9000)).toBe(false)
        expect(await log.renew(jobIdOf(99), 1, 9000)).toBe(false)
        expect(await log.claimable(2499, 10, null)).toEqual([])
        expect(await log.claimable(2500, 10, null)).toHaveLength(1)
        expect((await log.find(held.job.id))?.head).toEqual(held.head)
        const command = { type: 'abandon', now: 2040, fence: 1, reason: 'died', barrenAttemptsMax: 3 } as const
        await append(held, command, 1, { lease: null })
        expect(await log.renew(held.job.id, 1, 9000)).toBe(false)
      })
    })

    describe('deadlines', () => {
      const asking = async (n: number, timeoutSeconds: number | null) => {
        const queued = await put(n)
        const grant = { type: 'grant', now: 2000, holder: HOLDER, lease: null, barrenAttemptsMax: 5 } as const
        const held = tell(queued, grant)
        const root = runIdOf(jobIdOf(n))
        const question = aQuestion(jobIdOf(n), root, 'q', timeoutSeconds === null ? {} : { timeoutSeconds })
        const events = [runStarted(root), questionAsked(question)]
        const asked = tell(held, { type: 'record', now: 3000, fence: 1, events })
        const rested = tell(asked, { type: 'rest', now: 3000, fence: 1, barrenAttemptsMax: 5 })
        await log.append(queued.head, rested.job, rested.events.slice(queued.events.length), null)
        return rested
      }
      const dueAt = async (now: number) => (await log.due(now, 10)).map(({ job }) => job.id)

      it('offer the jobs whose question is due, the longest due first, until it is closed', async () => {
        const late = await asking(1, 20)
        await asking(2, 10)
        await asking(3, null)
        await put(4)
        expect(await dueAt(12_999)).toEqual([])
        expect(await dueAt(13_000)).toEqual([jobIdOf(2)])
        expect(await dueAt(23_000)).toEqual([jobIdOf(2), jobIdOf(1)])
        expect((await log.due(23_000, 1)).map(({ job }) => job.id)).toEqual([jobIdOf(2)])
        const closed = tell(late, { type: 'expireQuestions', now: 23_000 })
        await log.append(late.head, closed.job, closed.events.slice(late.events.length), null)
        expect(await dueAt(23_000)).toEqual([jobIdOf(2)])
      })
    })

    describe('wake-ups', () => {
      it('wake a watcher after an append, by this process or another, until it stops', async () => {
        for (const [n, writer] of [log, opened.other].entries()) {
          const told = await put(n)
          let stopped = 0
          const stopEarly = log.onAppend(told.job.id, () => stopped++)
          stopEarly()
          stopEarly()
          stopped = 0
          let seen: readonly JobEvent[] = []
          let stop = (): void => {}
          const woken = new Promise<void>((resolve, reject) => {
            stop = log.onAppend(told.job.id, () => {
              log.read(told.job.id, 1, 10).then((events) => {
                seen = events
                if (events.length > 0) resolve() // a wake-up for no reason reads nothing
              }, reject)
            })
          })
          await append(told, { type: 'cancel', now: 3000 }, null, {}, writer)
          await woken
          stop()
          expect(seen.map((event) => event.type)).toEqual(['jobFinished'])
          expect(stopped).toBe(0)
        }
      })

      it('wake whoever waits for claimable jobs, when one is created and when one is queued again', async () => {
        const wokenWhen = (count: number): { readonly woken: Promise<void>; readonly stop: () => void } => {
          let stop = (): void => {}
          const woken = new Promise<void>((resolve, reject) => {
            stop = log.onClaimable(() => {
              log.claimable(2050, 10, null).then((jobs) => {
                if (jobs.length === count) resolve()
              }, reject)
            })
          })
          return { woken, stop }
        }
        const first = wokenWhen(1)
        const told = await put(1)
        await first.woken
        first.stop()
        const held = await grant(told, 2000)
        const second = wokenWhen(1)
        const command = { type: 'abandon', now: 2040, fence: 1, reason: 'died', barrenAttemptsMax: 3 } as const
        await append(held, command, 1, { lease: null })
        await second.woken
        second.stop()
      })
    })
  })
}
