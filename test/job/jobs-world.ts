/** Jobs on fakes, ready to be used and to be made to fail. */
import { isRefusal, PlatformError, type Refusal } from '../../schema/error.ts'
import type { JobSummary } from '../../src/job/job-summary.ts'
import { openJobs, type Attempt, type CreateJob, type Jobs, type JobsDependencies } from '../../src/job/jobs.ts'
import { fakeChance, fakeClock, type FakeClock } from '../fake/fake-clock.ts'
import { fakeExpertSource, lockedExpert, lockOf } from '../fake/fake-expert-source.ts'
import { memoryContentStore, type MemoryContentStore } from '../fake/memory-content-store.ts'
import { memoryJobLog, type MemoryJobLog } from '../fake/memory-job-log.ts'
import { anApplication } from './given.ts'

export const LIMITS: JobsDependencies['limits'] = {
  queryBytesMax: 262_144,
  fileBytesMax: 1000,
  filesBytesMax: 1500,
  filesMax: 3,
  leaseMs: 10_000,
  barrenAttemptsMax: 3,
  conflictRetriesMax: 5,
  quota: null,
}

export const HELLO = lockOf(lockedExpert('hello-expert'))

export interface JobsWorld {
  readonly jobs: Jobs
  readonly log: MemoryJobLog
  readonly content: MemoryContentStore
  readonly clock: FakeClock
  /** For another process on the same stores. */
  readonly dependencies: JobsDependencies
}

export function jobsWorld(given: Partial<JobsDependencies> = {}): JobsWorld {
  const log = memoryJobLog()
  const content = memoryContentStore()
  const clock = fakeClock()
  const experts = fakeExpertSource(
    HELLO,
    lockOf(
      lockedExpert('lead', { delegates: { reader: lockedExpert('reader').key } }),
      lockedExpert('reader', { model: null }),
    ),
    lockOf(lockedExpert('stranger', { model: 'nobody/model-1' })),
  )
  const models = { knows: (model: string) => model.startsWith('rehearsal/') || model.startsWith('openai/') }
  const dependencies = { log, experts, content, models, clock, chance: fakeChance(), limits: LIMITS, ...given }
  return { jobs: openJobs(dependencies), log, content, clock, dependencies }
}

export function request(given: Partial<CreateJob> = {}): CreateJob {
  return {
    expertKey: 'hello-expert',
    query: 'Say hello',
    files: [],
    userId: null,
    model: null,
    maxSteps: null,
    idempotencyKey: null,
    ...given,
  }
}

export function accepted<Value>(answer: Value | Refusal): Value {
  if (isRefusal(answer)) throw new Error(`refused: ${answer.refused} ${answer.message}`)
  return answer
}

export async function newJob({ jobs }: JobsWorld, given: Partial<CreateJob> = {}): Promise<JobSummary> {
  return accepted(await jobs.create(anApplication, request(given)))
}

export async function claimed({ jobs }: JobsWorld, holder = 'keeper-1'): Promise<Attempt> {
  const [attempt] = await jobs.claim(holder, 1)
  if (attempt === undefined) throw new Error('there was nothing to claim')
  return attempt
}

/** The code that a promise is rejected with. */
export async function thrownBy(promise: Promise<unknown>): Promise<string> {
  return promise.then(
    () => 'nothing was thrown',
    (error: unknown) => (error instanceof PlatformError ? error.code : String(error)),
  )
}
