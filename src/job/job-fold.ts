/** How each event changes a job: the fold that every list, page and decision reads. */
import type { NewEvent, Question } from '../../schema/event.ts'
import type { Sha256 } from '../../schema/hash.ts'
import type { ApplicationId, JobId } from '../../schema/id.ts'
import type { Json } from '../../schema/json.ts'
import { addUsage, noUsage, type Usage } from '../../schema/usage.ts'
import { interrupts, noSteering, steer, type Steering } from '../../schema/steering.ts'
import { barrenAfter, NOT_BARREN, NOTHING_LEFT, type Barren } from './barren.ts'
import { isWithdrawnBy, keepLedger } from './job-budget.ts'
import { contextAfter, type RunContext } from './run-context.ts'
import { isOpen, type JobSummary, type QuestionSummary, type RunSummary } from './job-summary.ts'

/** The decider's state: what a list shows, and what decisions need besides. */
export interface Job extends Omit<JobSummary, 'revision'>, Barren {
  /** The fence of the last lease granted; 0 before the first. */
  readonly fence: number
  /** The current lease has brought a tool result or a step. */
  readonly progressed: boolean
  readonly cancelRequested: boolean
}

/** An event with its moment, before the log has numbered and chained it: what decide gives and evolve takes. */
export type JobChange = NewEvent & { readonly at: number }

/** The state before a job's first event. */
export function blankJob(id: JobId, applicationId: ApplicationId): Job {
  return {
    id,
    applicationId,
    userId: null,
    status: 'queued',
    outcome: null,
    reason: null,
    message: null,
    expertKey: '',
    query: null,
    model: null,
    maxSteps: null,
    result: null,
    steps: 0,
    usage: noUsage,
    runs: [],
    questions: [],
    machine: null,
    lockHash: '' as Sha256, // replaced by jobCreated, before which nobody sees the job
    inputTreeHash: null,
    treeHash: null,
    createdAt: 0,
    updatedAt: 0,
    fence: 0,
    ...NOT_BARREN,
    progressed: false,
    cancelRequested: false,
  }
}

/** The job after `event`. Total: an event that fits nothing changes nothing but `updatedAt`. */
export function evolve(before: Job, event: JobChange): Job {
  const isKnown = event.type === 'runStarted' && before.runs.some((run) => run.id === event.runId)
  const waiting = before.steering ?? steeringOfOld(before)
  const steering = isKnown ? waiting : steer(waiting, event)
  const ledger = keepLedger(before, event)
  const counted = ledger === undefined ? before : { ...before, ledger }
  return fillContext(changeBy(reviveRun({ ...counted, updatedAt: event.at, steering }, event), event), event)
}

function changeBy(job: Job, event: JobChange): Job {
  switch (event.type) {
    case 'jobCreated': {
      const { budget: _, ...data } = event.data
      return { ...job, ...data, status: 'queued', createdAt: event.at }
    }
    case 'leaseGranted':
      return { ...job, status: 'running', fence: event.data.fence, progressed: false, machine: null }
    case 'machineStarted':
      return { ...job, machine: event.data }
    case 'leaseExpired':
      return { ...job, status: 'queued', ...barrenAfter(job, event.data), progressed: false }
    case 'answered':
      return answered(job, event.data.questionId, event)
    case 'questionExpired':
      return expired(job, event.data.questionId, event.at)
    case 'jobContinued': {
      const maxSteps = event.data.maxSteps ?? job.maxSteps
      if (event.data.mode !== undefined) {
        const status = job.status === 'waiting' && event.data.mode === 'interrupt' ? 'queued' : job.status
        return { ...job, status, maxSteps }
      }
      const open = { outcome: null, reason: null, message: null, result: null, cancelRequested: false } as const
      // Without a query it is the coordinator's last run that goes on.
      const root = event.data.query === null ? job.runs.findLast((run) => run.parentRunId === null) : undefined
      const continued = withoutStructured(root === undefined ? job : changeRun(job, root.id, reopen))
      return { ...continued, ...open, status: 'queued', maxSteps, ...NOT_BARREN, progressed: false }
    }
    case 'cancelRequested':
      return { ...job, cancelRequested: true }
    case 'jobRested': {
      if (waits(job)) return { ...job, status: 'waiting', ...NOT_BARREN, progressed: false }
      return { ...job, status: 'queued', ...barrenAfter(job, NOTHING_LEFT), progressed: false }
    }
    case 'jobForked':
      return forked(job, event)
    case 'jobImported':
      return imported(job)
    case 'jobFinished':
      return { ...job, ...event.data, status: 'finished', runs: job.runs.map((run) => endRun(run, event.data)) }
    case 'generated':
      return used(job, event.runId, event.data.usage)
    case 'compacted':
      return used(job, event.runId, event.data.usage)
    case 'compactionFailed':
    case 'generationInterrupted':
      return event.data.usage === null ? job : used(job, event.runId, event.data.usage)
    case 'budgetHeld':
      return changeRun(job, event.runId, (run) => ({ ...run, status: 'waiting', heldBy: event.data.questionId }))
    case 'budgetReserved':
      return job
    case 'generationFailed':
    case 'steered':
    case 'toolsListed':
    case 'skillFailed':
    case 'outputRejected':
      return job
    case 'workspaceChanged':
      return { ...job, treeHash: event.data.treeHash }
    case 'runStarted':
      return startRun(job, event)
    case 'toolReturned': {
      const { callId } = event.data.result
      return { ...withdraw(job, event, (question) => question.callId === callId), progressed: true }
    }
    case 'questionAsked':
      return asked(job, event.data.question, event.at)
    case 'stepFinished':
      return {
        ...changeRun(job, event.runId, (run) => ({ ...run, steps: run.steps + 1 })),
        steps: job.steps + 1,
        progressed: true,
      }
    case 'runFinished':
      return changeRun(
        withdraw(job, event, () => true),
        event.runId,
        (run) => endRun(run, event.data),
      )
    default:
      // A log may be newer than this code: what it does not know, it does not count.
      return job
  }
}

/** A fork stands where its parent stood, without machine and cancel; with a query, what was open there is over. */
function forked(job: Job, event: Extract<JobChange, { type: 'jobForked' }>): Job {
  const { parentJobId, parentSeq, query, model, maxSteps, lockHash } = event.data
  const over = { outcome: 'canceled', reason: 'forked', result: null } as const
  return {
    ...withoutStructured(job),
    status: 'queued',
    outcome: null,
    reason: null,
    message: null,
    result: null,
    model: model ?? job.model,
    maxSteps: maxSteps ?? job.maxSteps,
    lockHash,
    runs: query === null ? job.runs : job.runs.map((run) => endRun(run, over)),
    questions:
      query === null
        ? job.questions.map((question) => askedAnew(question, event.at))
        : job.questions.filter((question) => question.answeredAt !== null),
    machine: null,
    createdAt: event.at,
    ...NOT_BARREN,
    progressed: false,
    cancelRequested: false,
    forkedFrom: { jobId: parentJobId, seq: parentSeq },
  }
}

/** A fork's human has the whole time for what the parent left open. */
function askedAnew(question: QuestionSummary, at: number): QuestionSummary {
  return question.answeredAt === null ? { ...question, ...dueOf(question, at) } : question
}

/** What a bundle brought goes on no more, wherever it stood. */
function imported(job: Job): Job {
  const over = { outcome: 'canceled', reason: 'imported', message: null, result: null } as const
  const ended = job.status === 'finished' ? job : { ...job, ...over, runs: job.runs.map((run) => endRun(run, over)) }
  return { ...ended, status: 'finished', machine: null, cancelRequested: false, imported: true }
}

/** Nothing can move until a human answers. */
export function waits({ questions, steering = noSteering }: Pick<Job, 'questions' | 'steering'>): boolean {
  return questions.some(isOpen) && !interrupts(steering)
}

/** A job of before queries could wait: the one of its creation does until a run has begun with it. */
function steeringOfOld(job: Job): Steering {
  return job.status !== 'finished' && job.runs.length === 0 ? { ...noSteering, wanted: job.query } : noSteering
}

/** Questions whose call has returned, or whose run has ended, without an answer. */
function withdraw(job: Job, event: JobChange, concerns: (question: QuestionSummary) => boolean): Job {
  const isLeft = (question: QuestionSummary) =>
    isOpen(question) && concerns(question) && isWithdrawnBy(job.runs, question, event.runId)
  if (!job.questions.some(isLeft)) return job
  const questions = job.questions.map((one) => (isLeft(one) ? { ...one, withdrawnAt: event.at } : one))
  return changeRun({ ...job, questions }, event.runId, (run) =>
    run.status !== 'waiting' || questions.some((one) => one.runId === run.id && isOpen(one))
      ? run
      : { ...run, status: 'running' },
  )
}

function used(job: Job, runId: string | null, usage: Usage): Job {
  const counted = changeRun(job, runId, (run) => ({ ...run, usage: addUsage(run.usage ?? noUsage, usage) }))
  return { ...counted, usage: addUsage(job.usage, usage) }
}

function changeRun(job: Job, runId: string | null, alter: (run: RunSummary) => RunSummary): Job {
  const index = job.runs.findLastIndex((run) => run.id === runId)
  const run = job.runs[index]
  return run === undefined ? job : { ...job, runs: job.runs.with(index, alter(run)) }
}

/** A fact that changes no messages of a run costs nothing here. */
function fillContext(job: Job, event: JobChange): Job {
  if (event.runId === null) return job
  const run = job.runs.findLast(({ id }) => id === event.runId)
  if (run === undefined || (event.type === 'runStarted' && run.context !== undefined)) return job
  const before = event.type === 'runStarted' ? contextBefore(job, event.data.continues) : run.context
  const context = contextAfter(before, event)
  return context === undefined || context === run.context ? job : changeRun(job, run.id, (one) => ({ ...one, context }))
}

function contextBefore(job: Job, continues: string | null): RunContext | undefined {
  return continues === null ? undefined : job.runs.find(({ id }) => id === continues)?.context
}

function startRun(job: Job, event: Extract<JobChange, { type: 'runStarted' }>): Job {
  const { runId, expertKey, data } = event
  if (runId === null || job.runs.some((run) => run.id === runId)) return job
  const run: RunSummary = {
    id: runId,
    expertKey: expertKey ?? job.expertKey,
    parentRunId: data.parent?.runId ?? null,
    query: data.query,
    status: 'running',
    outcome: null,
    reason: null,
    result: null,
    steps: 0,
    usage: noUsage,
  }
  return { ...job, runs: [...job.runs, run] }
}

/** A run that generates again after its end, because its job was continued, runs again. */
function reviveRun(job: Job, event: JobChange): Job {
  if (event.type !== 'generated' && event.type !== 'stepFinished') return job
  const run = job.runs.find((run) => run.id === event.runId)
  return run?.status === 'finished' ? changeRun(job, run.id, reopen) : job
}

function withoutStructured<Ended extends { readonly structured?: Json }>(ended: Ended): Omit<Ended, 'structured'> {
  const { structured: _, ...rest } = ended
  return rest
}

function reopen(ended: RunSummary): RunSummary {
  const { heldBy: _, ...run } = withoutStructured(ended)
  return { ...run, status: 'running', outcome: null, reason: null, result: null }
}

function endRun(run: RunSummary, ending: Pick<RunSummary, 'outcome' | 'reason' | 'result' | 'structured'>): RunSummary {
  if (run.status === 'finished') return run
  const { outcome, reason, result, structured } = ending
  const data = structured === undefined ? {} : { structured }
  return { ...run, status: 'finished', outcome, reason, result, ...data }
}

function asked(job: Job, question: Question, askedAt: number): Job {
  if (job.questions.some((other) => other.id === question.id)) return job
  const asked = { ...question, askedAt, answeredAt: null, answer: null, ...dueOf(question, askedAt) }
  const questions = [...job.questions, asked]
  return changeRun({ ...job, questions }, question.runId, (run) => ({ ...run, status: 'waiting' }))
}

function dueOf({ timeoutSeconds }: Question, from: number): { readonly dueAt?: number } {
  return timeoutSeconds === undefined ? {} : { dueAt: from + timeoutSeconds * 1000 }
}

/** When the first of the open questions is due, epoch ms; null for never. */
export function nextDueAt(job: Job): number | null {
  if (job.status === 'finished' || job.cancelRequested) return null
  const due = job.questions.flatMap((question) => (isOpen(question) ? (question.dueAt ?? []) : []))
  return due.length === 0 ? null : Math.min(...due)
}

function answered(job: Job, id: string, event: Extract<JobChange, { type: 'answered' }>): Job {
  return closeQuestion(job, id, { answeredAt: event.at, answer: event.data.value })
}

function expired(job: Job, id: string, at: number): Job {
  return closeQuestion(job, id, { answeredAt: at, answer: null, expired: true })
}

function closeQuestion(job: Job, id: string, closing: Partial<QuestionSummary>): Job {
  const index = job.questions.findIndex((question) => question.id === id)
  const question = job.questions[index]
  if (question === undefined || !isOpen(question)) return job
  const questions = job.questions.with(index, { ...question, ...closing })
  const status = job.status === 'waiting' ? 'queued' : job.status
  const stillWaits = questions.some((other) => other.runId === question.runId && isOpen(other))
  const runs = job.runs.map((run) => (run.heldBy === id && run.status === 'waiting' ? reopen(run) : run))
  return changeRun({ ...job, runs, questions, status }, question.runId, (run) =>
    stillWaits || run.status !== 'waiting' ? run : { ...run, status: 'running' },
  )
}
