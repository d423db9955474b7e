/**
 * The verb that forks: a new job that begins with what another job was at one of its checkpoints.
 *
 * FK1 A fork's log begins with the parent's facts up to the checkpoint, at the same seq and moment, and says so.
 * FK2 Forking writes nothing to the parent.
 * FK3 The workspace and the input of a fork are the trees of that moment, which its log names.
 * FK4 A fork's own lock differs from the parent's in the instruction that was asked for, and in nothing else.
 * FK5 A fork of an imported job runs what is published here, or does not run: a bundle's lock is a stranger's word.
 * FK6 A fork of an imported job makes no call because of an approval that was not given here.
 * FK7 A fork's budget counts what its log says was used before the checkpoint, and answers what that budget asked.
 */
import type { Chance, Clock } from '../../schema/clock.ts'
import { replay } from '../../schema/decider.ts'
import { isRefusal, PlatformError, refuse, type Refusal } from '../../schema/error.ts'
import { originOf, rechain, type JobEvent, type NewEvent } from '../../schema/event.ts'
import type { ExpertKey } from '../../schema/expert-key.ts'
import { canonical, type Sha256 } from '../../schema/hash.ts'
import { makeId, type ApplicationId, type JobId } from '../../schema/id.ts'
import type { Lock } from '../../schema/lock.ts'
import type { ExpertSource } from '../expert/expert-source.ts'
import type { ContentStore } from '../workspace/content-store.ts'
import { readAll } from './attempt.ts'
import { answersWith, openJobBudgetQuestions, refuseBudget } from './job-budget.ts'
import { hashFork, refuseFork, refuseModels, type ForkJob, type QueryLimits } from './job-input.ts'
import type { JobLog } from './job-log.ts'
import type { JobSummary } from './job-summary.ts'
import { blankJob, evolve, type Job } from './job.ts'
import { summarize } from './jobs.ts'

export interface ForksDependencies {
  readonly log: JobLog
  readonly content: ContentStore
  readonly experts: Pick<ExpertSource, 'resolve'>
  readonly models: { knows(model: string): boolean }
  readonly clock: Clock
  readonly chance: Chance
  readonly limits: QueryLimits
}

export interface Forks {
  /** Refuses with `job_not_found`, `checkpoint_not_found`, and whatever creating a job refuses with. */
  fork(applicationId: ApplicationId, input: ForkJob): Promise<JobSummary | Refusal>
}

type ForkFact = Extract<NewEvent, { type: 'jobForked' }>
type AnswerFact = Extract<NewEvent, { type: 'answered' }>

/** The log of a fork from the parent's whole log and the seq of a checkpoint in it. */
export function forkLog(
  jobId: JobId,
  parent: readonly JobEvent[],
  seq: number,
  at: number,
  changes: Pick<ForkFact['data'], 'query' | 'model' | 'maxSteps' | 'budget' | 'lockHash' | 'instructed'>,
  answers: readonly AnswerFact['data'][] = [],
): readonly JobEvent[] {
  const copied = parent.slice(0, seq)
  const last = copied.at(-1)
  if (last === undefined) throw new TypeError(`the fork ${jobId} begins with nothing`)
  const data = {
    parentJobId: last.jobId,
    parentSeq: last.seq,
    parentHash: last.hash,
    // The parent may be a fork that is forked before the place where it became one.
    originJobId: originOf(last.jobId, parent),
    ...changes,
  }
  const place = { v: 1, runId: null, expertKey: null, stepNumber: null, at } as const
  const fork = { ...place, type: 'jobForked', data } as const
  return rechain(jobId, [...copied, fork, ...answers.map((data) => ({ ...place, type: 'answered', data }) as const)])
}

/** The seq of a checkpoint: the one at `seq`, or the last. */
function seqOfCheckpoint(jobId: JobId, events: readonly JobEvent[], seq: number | null): number | Refusal {
  const found = events.findLast((event) => event.type === 'stepFinished' && (seq === null || event.seq === seq))
  const place = seq === null ? '' : ` at seq ${seq}`
  return found?.seq ?? refuse('checkpoint_not_found', `Job ${jobId} has no checkpoint${place}.`)
}

export function openForks(dependencies: ForksDependencies): Forks {
  const { log, content, experts, models, clock, chance, limits } = dependencies

  async function readLock(lockHash: Sha256): Promise<Lock> {
    // Written when the job was created or imported, and the content store has checked it against its hash.
    return JSON.parse(new TextDecoder().decode(await content.get(lockHash))) as Lock
  }

  /** The lock must be what this registry made of the same version, instructions aside: they allow nothing. */
  async function refuseUnpublished(lock: Lock): Promise<Refusal | undefined> {
    const published = await experts.resolve(lock.coordinator)
    if (!isRefusal(published) && canonical(uninstructed(published)) === canonical(uninstructed(lock))) return undefined
    const why = isRefusal(published) ? published.message : 'what is published here under that key is not the same.'
    return refuse('lock_unpublished', `The job ran ${lock.coordinator.slice(0, 200)}: ${why}`)
  }

  async function fork(applicationId: ApplicationId, input: ForkJob): Promise<JobSummary | Refusal> {
    const refused = refuseFork(input, limits)
    if (refused !== undefined) return refused
    const stored = await log.find(input.jobId)
    if (stored?.job.applicationId !== applicationId) return refuse('job_not_found', `There is no job ${input.jobId}.`)
    const history = await readAll(log, input.jobId, 0)
    const seq = seqOfCheckpoint(input.jobId, history, input.seq)
    if (isRefusal(seq)) return seq
    const parent = replay({ initial: blankJob(input.jobId, applicationId), evolve }, history.slice(0, seq))
    if (input.maxSteps !== null && input.maxSteps <= parent.steps)
      return refuse('input_invalid', `maxSteps ${input.maxSteps} is not above the ${parent.steps} steps of the fork.`)
    const answers = answersOf(parent, input)
    if (isRefusal(answers)) return answers
    const parentLock = await readLock(parent.lockHash)
    if (stored.job.imported === true) {
      const unknown = await refuseUnpublished(parentLock)
      if (unknown !== undefined) return unknown
      const approved = input.query === null && openApproval(parent, history.slice(0, seq))
      if (approved !== false)
        return refuse('job_imported', `At that checkpoint ${approved} was approved elsewhere and is still to be made.`)
    }
    const lock = instruct(parentLock, input)
    if (isRefusal(lock)) return lock
    const unfit = refuseModels(lock.lock, input.model ?? parent.model, (model) => models.knows(model))
    if (unfit !== undefined) return unfit
    const { query, model, maxSteps, budget } = input
    const { instructed } = lock
    const changes = { query, model, maxSteps, instructed, ...(budget === undefined ? {} : { budget }) }
    const lockHash =
      instructed === null ? parent.lockHash : await content.put(new TextEncoder().encode(canonical(lock.lock)))
    const now = clock.now()
    const id = makeId('job', now, chance.bytes(16))
    const events = forkLog(id, history, seq, now, { ...changes, lockHash }, answers)
    const job = replay({ initial: blankJob(id, applicationId), evolve }, events)
    const idempotency =
      input.idempotencyKey === null ? null : { key: input.idempotencyKey, requestHash: hashFork(input) }
    try {
      return summarize((await log.create(job, events, lockHash, idempotency)).job)
    } catch (error) {
      if (error instanceof PlatformError && error.code === 'idempotency_key_reused')
        return refuse(error.code, error.message)
      // The commit may have happened though its answer was lost: then the job is there.
      const made = await log.find(id).catch(() => undefined)
      if (made === undefined) throw error
      return summarize(made)
    }
  }

  return { fork }
}

/** The answers that the fork's budget is to what the parent's asked at the checkpoint, or why it cannot be (FK7). */
function answersOf(parent: Job, { query, budget }: ForkJob): readonly AnswerFact['data'][] | Refusal {
  if (budget === undefined) return []
  // With a query, what was open is over, and its questions with it.
  return refuseBudget(parent, budget) ?? (query === null ? answersWith(openJobBudgetQuestions(parent), budget) : [])
}

function uninstructed(lock: Lock): Lock {
  const experts = Object.entries(lock.experts).map(([key, expert]) => [key, { ...expert, instruction: '' }] as const)
  return { ...lock, experts: Object.fromEntries(experts) }
}

/** The tool of a call that has an answer and no result; false when there is none. */
function openApproval({ questions, runs }: Job, events: readonly JobEvent[]): string | false {
  const returned = new Set(
    events.flatMap((event) => (event.type === 'toolReturned' ? [`${event.runId} ${event.data.result.callId}`] : [])),
  )
  const isOpen = (runId: string): boolean => runs.some((run) => run.id === runId && run.status !== 'finished')
  // A budget is raised for the whole job, and no call waits for it.
  const open = questions.find(
    ({ answeredAt, runId, callId, purpose }) =>
      answeredAt !== null && purpose !== 'budget' && isOpen(runId) && !returned.has(`${runId} ${callId}`),
  )
  return open?.toolName ?? false
}

/** The lock with another instruction for one of its experts, and whose that is. */
function instruct(
  lock: Lock,
  { instruction, expertKey }: Pick<ForkJob, 'instruction' | 'expertKey'>,
): { readonly lock: Lock; readonly instructed: ExpertKey | null } | Refusal {
  if (instruction === null) return { lock, instructed: null }
  const key = (expertKey ?? lock.coordinator) as ExpertKey // looked up by what it says, and found or not
  const expert = Object.hasOwn(lock.experts, key) ? lock.experts[key] : undefined
  if (expert === undefined)
    return refuse('expert_not_found', `The job's lock has no expert ${key.slice(0, 200)}; name one by its exact key.`)
  const experts = { ...lock.experts, [key]: { ...expert, instruction } }
  return { lock: { ...lock, experts }, instructed: key }
}
