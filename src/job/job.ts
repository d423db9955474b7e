/**
 * A job's life: decide and evolve. Statuses: queued → running → (queued | waiting | finished), finished → queued.
 *
 * J1 A lease is granted only while none is live.
 * J2 Fences only rise, by one with every lease.
 * J3 Nothing follows the end except jobContinued; a canceled job stays ended.
 * J4 Only the holder of the current fence records, rests, abandons or finishes.
 * J5 An answer goes to exactly one open question of this job, once, and satisfies its schema; arguments that it edits
 *    satisfy their tool's.
 * J6 A cancel ends a job that no machine holds at once, and one that a machine holds when the machine lets go.
 * J7 The end of the coordinator's run is the end of the job, in the same decision.
 * J8 A job that waits has an open question; a rested job whose questions are all answered is queued.
 * J9 A job fails after `barrenAttemptsMax` leases in a row that brought nothing. One that a server lost, since it died,
 *    counts a quarter; one that got no machine, a sixty-fourth; one of a server that was stopped, nothing. It says how
 *    the last of them ended.
 * J10 The summary (steps, usage, runs, questions, tree, machine) is what the events say, each counted once.
 * J11 An imported job is history: nobody answers, continues, cancels or runs it.
 * J12 A question with a time for its answer expires when that is over: once, whoever says so, and takes no answer then.
 * J13 A query that an open job took is read by a run, begins the next, or comes with the next continuation; none is lost.
 */
import type { Budget } from '../../schema/budget.ts'
import type { Cancellation } from '../../schema/cancellation.ts'
import type { Decider } from '../../schema/decider.ts'
import { unreachable } from '../../schema/decider.ts'
import { isRefusal, refuse, type Refusal } from '../../schema/error.ts'
import type { JobFact, NewEvent, Outcome, SteerMode } from '../../schema/event.ts'
import type { Sha256 } from '../../schema/hash.ts'
import type { ApplicationId, JobId, QuestionId } from '../../schema/id.ts'
import type { Json, JsonObject } from '../../schema/json.ts'
import { refuseAnswer } from './answer.ts'
import { noSteering, steer } from '../../schema/steering.ts'
import { answersWith, openBudgetQuestions, refuseBudget } from './job-budget.ts'
import { barrenAfter, explainExhausted, NOTHING_LEFT, type AttemptEnd, type Barren } from './barren.ts'
import { blankJob, evolve, waits, type Job, type JobChange } from './job-fold.ts'
import { isOpen, type QuestionSummary } from './job-summary.ts'
import { isLive, type Lease } from './lease.ts'

export { blankJob, evolve }
export type { Job, JobChange }

/** How a job ends. */
export interface Ending {
  readonly outcome: Outcome
  readonly reason: string
  readonly message: string | null
  readonly result: string | null
  readonly structured?: Json
  readonly cancellation?: Cancellation
}

/** What ends a canceled job carries the receipt, when whoever ends it could make one. */
interface Canceling {
  readonly cancellation?: Cancellation | undefined
}

/** Every command carries `now`, epoch ms, which stamps its events. */
export type JobCommand = { readonly now: number } & (
  | ({ readonly type: 'create' } & Extract<JobFact, { type: 'jobCreated' }>['data'])
  /** `lease` is the row's, which `now` is held against. Takes over from a lease that has ended. */
  | ({
      readonly type: 'grant'
      readonly holder: string
      readonly lease: Lease | null
      readonly barrenAttemptsMax: number
    } & Canceling)
  /** Anyone says that the lease has ended. */
  | ({
      readonly type: 'expire'
      readonly lease: Lease | null
      readonly reason: string
      readonly barrenAttemptsMax: number
    } & Canceling)
  /** The holder says that its machine is gone. */
  | ({
      readonly type: 'abandon'
      readonly fence: number
      readonly reason: string
      readonly detail?: string | undefined
      readonly barrenAttemptsMax: number
    } & Canceling)
  /** What happened in the machine that holds the fence: facts of runs and of the host, and `machineStarted`. */
  | { readonly type: 'record'; readonly fence: number; readonly events: readonly NewEvent[] }
  /** The holder's machine waits for humans. */
  | ({ readonly type: 'rest'; readonly fence: number; readonly barrenAttemptsMax: number } & Canceling)
  | ({ readonly type: 'finish'; readonly fence: number } & Ending)
  | {
      readonly type: 'answer'
      readonly questionId: QuestionId
      readonly value: Json
      readonly argsHash: Sha256 | null
      /** What the tool takes whose call the question is about, where the job's lock pins it. */
      readonly input?: JsonObject | undefined
    }
  /** Anyone says that time has passed. */
  | { readonly type: 'expireQuestions' }
  | {
      readonly type: 'continue'
      readonly query: string | null
      readonly maxSteps: number | null
      /** How an open job takes the query; `queue` by default. */
      readonly mode?: SteerMode
      readonly budget?: Budget | undefined
    }
  | ({ readonly type: 'cancel' } & Canceling)
)

type CommandOf<Type extends JobCommand['type']> = Extract<JobCommand, { readonly type: Type }>

/** The decider of one job. */
export function jobDecider(id: JobId, applicationId: ApplicationId): Decider<Job, JobCommand, JobChange, Refusal> {
  return { initial: blankJob(id, applicationId), decide, evolve }
}

/** The facts that a command leads to, or why not. Facts of the job stand in no run. */
export function decide(job: Job, command: JobCommand): readonly JobChange[] | Refusal {
  const { now } = command
  if (job.imported === true) return refuse('job_imported', `Job ${job.id} was imported: it can be read and forked.`)
  switch (command.type) {
    case 'create':
      return create(job, command)
    case 'grant':
      return grant(job, command)
    case 'expire':
      if (job.status !== 'running') return refuse('fence_stale', `Job ${job.id} is ${job.status}: it has no lease.`)
      if (isLive(command.lease, now)) return leaseIsLive(job, command.lease)
      return endAttempt(job, command)
    case 'abandon':
      return refuseFence(job, command.fence) ?? endAttempt(job, command)
    case 'record':
      return refuseFence(job, command.fence) ?? record(job, command)
    case 'rest':
      return refuseFence(job, command.fence) ?? rest(job, command)
    case 'finish': {
      const { outcome, reason, message, result, cancellation } = command
      const ending = { outcome, reason, message, result, ...(cancellation === undefined ? {} : { cancellation }) }
      return refuseFence(job, command.fence) ?? [finished(now, ending)]
    }
    case 'answer':
      return answer(job, command)
    case 'expireQuestions':
      return expireQuestions(job, now)
    case 'continue':
      return proceed(job, command)
    case 'cancel':
      return cancel(job, command)
    default:
      return unreachable(command)
  }
}

// ---- creation and leases

function create(job: Job, command: CommandOf<'create'>): readonly JobChange[] | Refusal {
  if (job.expertKey !== '') return refuse('revision_conflict', `Job ${job.id} exists.`)
  const { expertKey, query, userId, model, maxSteps, lockHash, inputTreeHash, budget } = command
  const bounded = budget === undefined ? {} : { budget }
  const data = { expertKey, query, userId, model, maxSteps, lockHash, inputTreeHash, ...bounded }
  return [change(command.now, { type: 'jobCreated', data })]
}

function grant(job: Job, command: CommandOf<'grant'>): readonly JobChange[] | Refusal {
  const { now, holder, lease } = command
  const granted = change(now, { type: 'leaseGranted', data: { fence: job.fence + 1, holder } })
  switch (job.status) {
    case 'queued':
      return [granted]
    case 'running': {
      if (isLive(lease, now)) return leaseIsLive(job, lease)
      const ended = endAttempt(job, { ...command, reason: 'lease_lost' })
      return ended.some((event) => event.type === 'jobFinished') ? ended : [...ended, granted]
    }
    case 'waiting':
      return refuse('job_waiting', `Job ${job.id} waits for an answer.`)
    case 'finished':
      return refuse('job_finished', `Job ${job.id} has finished.`)
    default:
      return unreachable(job.status)
  }
}

/** The end of a lease that did not end well, and of the job when it was canceled or has used up its attempts. */
function endAttempt(
  job: Job,
  command: AttemptEnd & { readonly now: number; readonly barrenAttemptsMax: number } & Canceling,
): readonly JobChange[] {
  const { now, reason, detail, barrenAttemptsMax } = command
  const said = detail === undefined ? {} : { detail }
  const ended = change(now, { type: 'leaseExpired', data: { fence: job.fence, reason, ...said } })
  const end = endOfUnheld(job, command, barrenAfter(job, command), barrenAttemptsMax)
  return end === undefined ? [ended] : [ended, end]
}

/** What ends a job whose machine has let go of it; undefined when it goes on. */
function endOfUnheld(
  job: Job,
  { now, cancellation }: { readonly now: number } & Canceling,
  barren: Barren,
  barrenAttemptsMax: number,
): JobChange | undefined {
  if (job.cancelRequested) return canceled(now, cancellation)
  if (barren.barrenAttempts < barrenAttemptsMax) return undefined
  const message = explainExhausted(job.id, barren)
  return finished(now, { outcome: 'failed', reason: 'attempts_exhausted', message, result: null })
}

function leaseIsLive(job: Job, lease: Lease): Refusal {
  return refuse('job_running', `Job ${job.id} is held by ${lease.holder} under fence ${lease.fence}.`)
}

function refuseFence(job: Job, fence: number): Refusal | undefined {
  if (job.status === 'running' && job.fence === fence) return undefined
  return refuse('fence_stale', `Fence ${fence} no longer holds job ${job.id}, which is ${job.status} at ${job.fence}.`)
}

// ---- what a machine's keeper says

const KEEPER_ONLY: ReadonlySet<string> = new Set<JobFact['type']>([
  'jobCreated',
  'leaseGranted',
  'leaseExpired',
  'answered',
  'questionExpired',
  'jobContinued',
  'cancelRequested',
  'jobRested',
  'jobFinished',
  'jobForked',
  'jobImported',
])

function record(job: Job, command: CommandOf<'record'>): readonly JobChange[] | Refusal {
  const runs = new Map(job.runs.map((run) => [run.id, run.parentRunId]))
  const known: ReadonlySet<string | null> = new Set(runs.keys())
  let { steering = noSteering } = job
  let end: JobChange | undefined
  for (const event of command.events) {
    if (KEEPER_ONLY.has(event.type)) return refuse('protocol_breach', `A machine proposed ${event.type} of ${job.id}.`)
    if (event.type === 'runStarted' && event.runId !== null && !runs.has(event.runId))
      runs.set(event.runId, event.data.parent?.runId ?? null)
    if (event.runId !== null && !runs.has(event.runId))
      return refuse(
        'protocol_breach',
        `${event.type} belongs to run ${event.runId}, which job ${job.id} does not have.`,
      )
    if (event.type === 'questionAsked' && event.data.question.runId !== event.runId)
      return refuse('protocol_breach', `Question ${event.data.question.id} names a run other than ${event.runId}.`)
    if (event.type !== 'runStarted' || !known.has(event.runId)) steering = steer(steering, event)
    if (event.type === 'runFinished' && event.runId !== null && runs.get(event.runId) === null) {
      // A query that came before the end of the run was known to it is what the next run begins with.
      if (steering.queued.length > 0) continue
      end = finished(command.now, event.data)
    }
  }
  const events = command.events.map((event) => ({ ...event, at: command.now }))
  return end === undefined ? events : [...events, end]
}

function rest(job: Job, command: CommandOf<'rest'>): readonly JobChange[] {
  const { now } = command
  const questionIds = job.questions.filter(isOpen).map((question) => question.id)
  const rested = change(now, { type: 'jobRested', data: { questionIds } })
  if (waits(job)) return job.cancelRequested ? [rested, canceled(now, command.cancellation)] : [rested]
  const end = endOfUnheld(job, command, barrenAfter(job, NOTHING_LEFT), command.barrenAttemptsMax)
  return end === undefined ? [rested] : [rested, end]
}

// ---- what people say

function answer(job: Job, command: CommandOf<'answer'>): readonly JobChange[] | Refusal {
  const { now, questionId, value, argsHash, input } = command
  const question = job.questions.find((question) => question.id === questionId)
  if (question === undefined) return refuse('question_not_found', `Job ${job.id} has no question ${questionId}.`)
  if (question.expired === true || isDue(question, now))
    return refuse('question_expired', `Question ${questionId} was to be answered by ${momentOf(question.dueAt)}.`)
  if (question.answeredAt !== null) return refuse('question_answered', `Question ${questionId} has been answered.`)
  if (!isOpen(question))
    return refuse('question_withdrawn', `Job ${job.id} went on without an answer to ${questionId}.`)
  if (job.status === 'finished') return refuse('job_finished', `Job ${job.id} has finished.`)
  if (job.cancelRequested) return refuse('job_canceled', `Job ${job.id} is being canceled.`)
  if (argsHash !== null && argsHash !== question.argsHash)
    return refuse('args_hash_mismatch', `Question ${questionId} asks about ${question.argsHash}, not ${argsHash}.`)
  return refuseAnswer(question, value, input) ?? [change(now, { type: 'answered', data: { questionId, value } })]
}

/** What is due in a job that has ended or is being canceled is over with it. */
function expireQuestions(job: Job, now: number): readonly JobChange[] {
  if (job.status === 'finished' || job.cancelRequested) return []
  return job.questions
    .filter((question) => isDue(question, now))
    .map(({ id }) => change(now, { type: 'questionExpired', data: { questionId: id } }))
}

function isDue({ answeredAt, withdrawnAt, dueAt }: QuestionSummary, now: number): boolean {
  return withdrawnAt === undefined && answeredAt === null && dueAt !== undefined && dueAt <= now
}

function momentOf(at: number | undefined): string {
  return at === undefined ? 'a time that has passed' : new Date(at).toISOString()
}
/** Ends after which the coordinator's last run can go on, given more. */
const LIMITED: ReadonlySet<string | null> = new Set(['step_limit', 'budget_exhausted'])

function proceed(job: Job, command: CommandOf<'continue'>): readonly JobChange[] | Refusal {
  const { now, query, maxSteps, budget, mode = 'queue' } = command
  if (query === null && maxSteps === null && budget === undefined)
    return refuse('nothing_to_continue', `Job ${job.id} was given neither a query nor a larger maxSteps or budget.`)
  if (budget !== undefined && job.status !== 'finished') return raise(job, command, budget)
  switch (job.status) {
    case 'waiting':
      if (query === null) return refuse('job_waiting', `Job ${job.id} waits for an answer.`)
      return queue(job, now, query, maxSteps, mode)
    case 'queued':
    case 'running':
      if (query === null) return refuse('job_running', `Job ${job.id} is ${job.status}.`)
      return queue(job, now, query, maxSteps, mode)
    case 'finished':
      if (job.outcome === 'canceled') return refuse('job_canceled', `Job ${job.id} was canceled.`)
      if (query === null && !LIMITED.has(job.reason))
        return refuse('job_finished', `Job ${job.id} ended with ${job.reason}, not at a limit.`)
      if (query === null && job.reason === 'budget_exhausted' && budget === undefined)
        return refuse('input_invalid', `Job ${job.id} ended because its budget was exhausted: raise the budget.`)
      if (query === null && job.reason === 'step_limit' && maxSteps === null)
        return refuse('input_invalid', `Job ${job.id} ended at its step limit: raise maxSteps.`)
      if (maxSteps !== null && maxSteps <= job.steps)
        return refuse('input_invalid', `maxSteps ${maxSteps} is not above the ${job.steps} steps of job ${job.id}.`)
      const data = { query: withLeft(job, query), maxSteps, ...(budget === undefined ? {} : { budget }) }
      return (
        (budget === undefined ? undefined : refuseBudget(job, budget)) ?? [change(now, { type: 'jobContinued', data })]
      )
    default:
      return unreachable(job.status)
  }
}

/** A budget for an open job answers what it asks about one; a query may come with it. */
function raise(job: Job, command: CommandOf<'continue'>, budget: Budget): readonly JobChange[] | Refusal {
  const { now, query, maxSteps, mode = 'queue' } = command
  if (job.cancelRequested) return refuse('job_canceled', `Job ${job.id} is being canceled.`)
  if (openBudgetQuestions(job).length === 0)
    return refuse('job_running', `Job ${job.id} is ${job.status} and asks nothing about a budget.`)
  if (query === null && maxSteps !== null)
    return refuse('job_running', `Job ${job.id} is ${job.status}: maxSteps comes with a query.`)
  const answers = answersWith(openBudgetQuestions(job), budget)
  if (isRefusal(answers)) return answers
  const more = query === null ? [] : queue(job, now, query, maxSteps, mode)
  if (isRefusal(more)) return more
  return [...answers.map((data) => change(now, { type: 'answered' as const, data })), ...more]
}

/** Queries that may wait to be read: more are a client that does not look at its job. */
export const QUEUED_MAX = 64

function queue(
  job: Job,
  now: number,
  query: string,
  maxSteps: number | null,
  mode: SteerMode,
): readonly JobChange[] | Refusal {
  if (job.cancelRequested) return refuse('job_canceled', `Job ${job.id} is being canceled.`)
  if (maxSteps !== null && maxSteps <= job.steps)
    return refuse('input_invalid', `maxSteps ${maxSteps} is not above the ${job.steps} steps of job ${job.id}.`)
  if ((job.steering ?? noSteering).queued.length >= QUEUED_MAX)
    return refuse('limit_exceeded', `${QUEUED_MAX} queries wait to be read by job ${job.id}`)
  return [change(now, { type: 'jobContinued', data: { query, maxSteps, mode } })]
}

/** With what the job's end left unread. */
function withLeft(job: Job, query: string | null): string | null {
  return query === null ? null : [...(job.steering ?? noSteering).left, query].join('\n\n')
}

/** The coordinator's run is over, and a query that it did not read asks for another. */
export function wantsNextRun({ runs, steering = noSteering }: Job): boolean {
  return steering.queued.length > 0 && runs.findLast((run) => run.parentRunId === null)?.status === 'finished'
}

function cancel(job: Job, { now, cancellation }: CommandOf<'cancel'>): readonly JobChange[] | Refusal {
  switch (job.status) {
    case 'queued':
    case 'waiting':
      return [canceled(now, cancellation)]
    case 'running':
      return job.cancelRequested ? [] : [change(now, { type: 'cancelRequested', data: { reason: 'canceled_by_user' } })]
    case 'finished':
      return refuse('job_finished', `Job ${job.id} has finished.`)
    default:
      return unreachable(job.status)
  }
}

// ---- facts

function change(at: number, fact: JobFact): JobChange {
  return { ...fact, runId: null, expertKey: null, stepNumber: null, v: 1, at }
}

function finished(at: number, ending: Ending): JobChange {
  return change(at, { type: 'jobFinished', data: ending })
}

function canceled(at: number, cancellation: Cancellation | undefined): JobChange {
  const ending = { outcome: 'canceled', reason: 'canceled_by_user', message: null, result: null } as const
  return finished(at, cancellation === undefined ? ending : { ...ending, cancellation })
}
