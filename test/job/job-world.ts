/**
 * A job in a small world with a row, a lease and time. Moves are drawn around the edges: fences around the current
 * one, times around the lease's end, questions of this job and of another. After each move an account that is kept
 * apart from the decider says what must have come of it.
 */
import * as fc from 'fast-check'
import { isRefusal, type Refusal } from '../../schema/error.ts'
import type { NewEvent } from '../../schema/event.ts'
import { sha256 } from '../../schema/hash.ts'
import { blankJob, decide, evolve, type Job, type JobChange, type JobCommand } from '../../src/job/job.ts'
import type { Lease } from '../../src/job/lease.ts'
import {
  anApplication,
  aLockHash,
  aQuestion,
  jobIdOf,
  ofRun,
  questionAsked,
  runFinished,
  runIdOf,
  runStarted,
  stepFinished,
} from './given.ts'

/** What is tested: the real functions, or ones with a fault. */
export interface Core {
  readonly decide: typeof decide
  readonly evolve: typeof evolve
}
export const realCore: Core = { decide, evolve }

const LEASE_MS = 100
const BARREN_MAX = 2
const jobId = jobIdOf(1)
const root = runIdOf(jobId)
const delegate = runIdOf(jobId, 'delegate')
const QUESTIONS = ['one', 'two', 'three'].map((name) => aQuestion(jobId, root, name))
const foreignQuestion = aQuestion(jobIdOf(2), root, 'one')

export interface Move {
  readonly kind: (typeof KINDS)[number]
  /** Which of several: a fact, a question, a value. */
  readonly pick: number
  /** Beside the edge (-1, +1) or on it (0). */
  readonly offset: number
}

const KINDS = [
  'tick',
  'grant',
  'expire',
  'abandon',
  'record',
  'ask',
  'step',
  'endRoot',
  'rest',
  'finish',
  'answer',
  'continue',
  'read',
  'cancel',
] as const

/** Weighted so that histories get somewhere: leases are taken, steps made, questions asked. */
export const moves: fc.Arbitrary<readonly Move[]> = fc.array(
  fc.record({
    kind: fc.oneof(
      { weight: 4, arbitrary: fc.constant('grant' as const) },
      { weight: 3, arbitrary: fc.constantFrom('ask' as const, 'answer' as const, 'rest' as const, 'tick' as const) },
      { weight: 1, arbitrary: fc.constantFrom('continue' as const, 'read' as const) },
      { weight: 3, arbitrary: fc.constantFrom(...KINDS) },
    ),
    pick: fc.nat(11),
    offset: fc.oneof({ weight: 4, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: fc.constantFrom(-1, 1) }),
  }),
  { minLength: 1, maxLength: 40, size: 'max' },
)

/** The account: what must be so, told by other means than the decider's state. */
interface Account {
  fences: number
  lease: Lease | null
  ended: 'no' | 'canceled' | 'other'
  canceling: boolean
  barren: number
  progressed: boolean
  steps: number
  outputTokens: number
  asked: Set<string>
  answered: Set<string>
  /** Questions whose run has ended without an answer. */
  withdrawn: Set<string>
  /** Queries that wait, and those that an end left, in order. */
  queued: { readonly query: string; readonly interrupts: boolean }[]
  left: string[]
  rootIsOver: boolean
}

export class Breach extends Error {}

function must(holds: boolean, what: string): asserts holds {
  if (!holds) throw new Breach(what)
}

/** Plays moves against a core and throws a Breach at the first thing that is not so. */
export function play(
  core: Core,
  history: readonly Move[],
): { readonly job: Job; readonly changes: readonly JobChange[] } {
  let job = blankJob(jobId, anApplication)
  let now = 1000
  const changes: JobChange[] = []
  const account: Account = {
    fences: 0,
    lease: null,
    ended: 'no',
    canceling: false,
    barren: 0,
    progressed: false,
    steps: 0,
    outputTokens: 0,
    asked: new Set(),
    answered: new Set(),
    withdrawn: new Set(),
    queued: [],
    left: [],
    rootIsOver: false,
  }
  const created: JobCommand = {
    type: 'create',
    now,
    expertKey: 'hello-expert@1.0.0',
    query: 'Say hello',
    userId: null,
    model: null,
    maxSteps: 3,
    lockHash: aLockHash,
    inputTreeHash: null,
  }
  const run = (command: JobCommand): void => {
    const before = job
    const given = core.decide(before, command)
    const added = isRefusal(given) ? [] : given
    for (const change of added) {
      account.lease = watchLease(account, change, command)
      watchLife(account, change)
      count(account, change)
      job = core.evolve(job, change)
      changes.push(change)
    }
    checkCommand(before, job, command, given, account)
    checkState(job, account)
  }
  run(created)
  for (const move of history) {
    if (move.kind === 'tick') now = account.lease === null ? now + 1 : Math.max(now, account.lease.until + move.offset)
    else run(commandOf(move, job, now, account.lease))
  }
  let again = blankJob(jobId, anApplication)
  for (const change of changes) again = core.evolve(again, change)
  must(JSON.stringify(again) === JSON.stringify(job), 'J10: the fold of the log is the state')
  return { job, changes }
}

// ---- moves as commands

function commandOf(
  { kind, pick, offset }: Exclude<Move, 'tick'>,
  job: Job,
  now: number,
  lease: Lease | null,
): JobCommand {
  const fence = job.fence + offset
  const barrenAttemptsMax = BARREN_MAX
  switch (kind) {
    case 'grant':
      return { type: 'grant', now, holder: `holder-${pick}`, lease, barrenAttemptsMax }
    case 'expire':
      return { type: 'expire', now, lease, reason: 'lease_lost', barrenAttemptsMax }
    case 'abandon':
      return {
        type: 'abandon',
        now,
        fence,
        reason: ['server_stopped', 'machine_failed', 'machine_failed', 'machine_provider_failed'][pick % 4] ?? '',
        barrenAttemptsMax,
      }
    case 'record':
      return { type: 'record', now, fence, events: FACTS[pick % FACTS.length] ?? [] }
    case 'ask':
      return { type: 'record', now, fence, events: [runStarted(root), questionAsked(pickOf(QUESTIONS, pick))] }
    case 'step':
      return {
        type: 'record',
        now,
        fence,
        events: [runStarted(root), ofRun(root, 1, generated), stepFinished(root, 1)],
      }
    case 'endRoot': {
      const ending = pick % 2 === 0 ? {} : { outcome: 'failed', reason: 'step_limit', result: null }
      return { type: 'record', now, fence, events: [runStarted(root), runFinished(root, ending), workspaceChanged] }
    }
    case 'rest':
      return { type: 'rest', now, fence, barrenAttemptsMax }
    case 'finish':
      return { type: 'finish', now, fence, outcome: 'failed', reason: 'model_error', message: 'why', result: null }
    case 'answer': {
      const question = pick === 11 ? foreignQuestion : pickOf(QUESTIONS, pick)
      const value = offset === 1 ? 'yes' : pick % 2 === 0
      const argsHash = offset === -1 ? sha256('other') : pick % 3 === 0 ? null : question.argsHash
      return { type: 'answer', now, questionId: question.id, value, argsHash }
    }
    case 'continue':
      return {
        type: 'continue',
        now,
        query: pick % 3 === 0 ? null : `Go on ${pick}`,
        maxSteps: pick % 2 === 0 ? job.steps + offset : null,
        mode: pick % 4 === 1 ? 'interrupt' : 'queue',
      }
    case 'read': {
      const queries = (job.steering?.queued ?? []).map(({ query }) => query).slice(0, pick % 2 === 0 ? 1 : undefined)
      return {
        type: 'record',
        now,
        fence,
        events: [runStarted(root), ofRun(root, 1, { type: 'steered', data: { queries } })],
      }
    }
    case 'cancel':
      return { type: 'cancel', now }
    default:
      throw new TypeError(`${kind} is no command`)
  }
}

const usage = { inputTokens: 5, cachedInputTokens: 1, outputTokens: 7, reasoningTokens: 0, costUsd: null }
const generated = {
  type: 'generated',
  data: { parts: [], usage, model: 'm', finishReason: 'stop', promptHash: aLockHash, durationMs: 1 },
}
const toolReturned = {
  type: 'toolReturned',
  data: { result: { type: 'toolResult', callId: 'c', name: 'a/b', content: [], isError: false }, durationMs: 1 },
}
const workspaceChanged = ofRun(root, 1, { type: 'workspaceChanged', data: { treeHash: sha256('tree') } })
const strangeFinish = { outcome: 'completed', reason: 'completed', message: null, result: 'forged' }

const FACTS: readonly (readonly NewEvent[])[] = [
  [runStarted(root)],
  [runStarted(root), runStarted(delegate, { runId: root, callId: 'call_1_0' })],
  [runStarted(root), ofRun(root, 1, generated)],
  [runStarted(root), ofRun(root, 1, toolReturned)],
  // A delegate's end is not the job's.
  [runStarted(root), runStarted(delegate, { runId: root, callId: 'call_1_0' }), runFinished(delegate)],
  [stepFinished(runIdOf(jobId, 'of nobody'), 1)],
  [
    runStarted(root),
    { type: 'jobFinished', data: strangeFinish, runId: null, expertKey: null, stepNumber: null, v: 1 } as NewEvent,
  ],
  [runStarted(root), questionAsked({ ...pickOf(QUESTIONS, 0), runId: delegate })].map((event) => ({
    ...event,
    runId: root,
  })),
]

function pickOf<Item>(items: readonly Item[], pick: number): Item {
  const item = items[pick % items.length]
  if (item === undefined) throw new TypeError('nothing to pick from')
  return item
}

// ---- the account

/** J1 and J2, by the row alone. */
function watchLease(account: Account, change: JobChange, command: JobCommand): Lease | null {
  switch (change.type) {
    case 'leaseGranted':
      must(
        account.lease === null || account.lease.until <= command.now,
        'J1: a lease is granted only while none is live',
      )
      must(change.data.fence === account.fences + 1, 'J2: fences rise by one')
      account.fences = change.data.fence
      return { holder: change.data.holder, fence: change.data.fence, until: command.now + LEASE_MS }
    case 'leaseExpired':
      must(change.data.fence === account.fences, 'J2: the lease that ends is the current one')
      return null
    case 'jobRested':
    case 'jobFinished':
      return null
    default:
      return account.lease
  }
}

/** J3, J5 and J9's count. */
function watchLife(account: Account, change: JobChange): void {
  if (account.ended !== 'no')
    must(change.type === 'jobContinued' && account.ended === 'other', 'J3: nothing follows the end but jobContinued')
  const endLease = (blame: number): void => {
    account.barren = account.progressed ? 0 : account.barren + blame
    account.progressed = false
  }
  switch (change.type) {
    case 'leaseGranted':
      account.progressed = false
      break
    case 'leaseExpired':
      endLease({ server_stopped: 0, lease_lost: 1 / 4, machine_provider_failed: 1 / 64 }[change.data.reason] ?? 1)
      break
    case 'jobRested':
      if (isWaiting(account)) {
        account.barren = 0
        account.progressed = false
      } else endLease(1)
      break
    case 'toolReturned':
    case 'stepFinished':
      account.progressed = true
      break
    case 'questionAsked':
      account.asked.add(change.data.question.id)
      break
    case 'answered':
      must(account.asked.has(change.data.questionId), 'J5: only a question that was asked is answered')
      must(!account.answered.has(change.data.questionId), 'J5: a question is answered once')
      must(typeof change.data.value === 'boolean', 'J5: an answer satisfies the schema')
      account.answered.add(change.data.questionId)
      break
    case 'cancelRequested':
      must(!account.canceling, 'J6: a cancel is requested once')
      account.canceling = true
      break
    case 'jobFinished':
      account.ended = change.data.outcome === 'canceled' ? 'canceled' : 'other'
      if (account.ended === 'other') account.left.push(...account.queued.map(({ query }) => query))
      account.queued = []
      break
    case 'runFinished':
      // All questions of this world are of the coordinator's run.
      if (change.runId === root)
        for (const id of account.asked) if (!account.answered.has(id)) account.withdrawn.add(id)
      break
    case 'steered':
      account.queued.splice(0, change.data.queries.length)
      break
    case 'jobContinued': {
      const { query, mode } = change.data
      if (account.ended === 'no') {
        must(query !== null && mode !== undefined, 'J13: an open job takes a query, and says how')
        account.queued.push({ query, interrupts: mode === 'interrupt' })
        break
      }
      must(mode === undefined, 'J13: a finished job goes on with a query at once')
      if (query !== null) {
        const left = account.left.splice(0)
        must(
          left.every((one) => query.includes(one)),
          'J13: what the end left unread comes with the next query',
        )
      }
      account.ended = 'no'
      account.canceling = false
      account.barren = 0
      break
    }
    default:
      break
  }
}

function count(account: Account, change: JobChange): void {
  if (change.type === 'stepFinished') account.steps++
  if (change.type === 'generated') account.outputTokens += change.data.usage.outputTokens
}

function openOf(account: Account): number {
  return account.asked.size - account.answered.size - account.withdrawn.size
}

/** It waits for a human, and no query has come that does not wait. */
function isWaiting(account: Account): boolean {
  return openOf(account) > 0 && !account.queued.some(({ interrupts }) => interrupts)
}

/** What must be so after any move. */
function checkState(job: Job, account: Account): void {
  must(job.fence === account.fences, 'J2: the job knows its fence')
  must((job.status === 'running') === (account.lease !== null), 'J1: running is being held')
  must((job.status === 'finished') === (account.ended !== 'no'), 'J3: finished is ended')
  must((job.status === 'finished') === (job.outcome !== null), 'J3: an outcome is an end')
  if (job.status === 'waiting') must(isWaiting(account), 'J8: a job that waits has an open question')
  const queued = (job.steering?.queued ?? []).map(({ query }) => query)
  must(queued.join() === account.queued.map(({ query }) => query).join(), 'J13: queries wait until they are read')
  if (job.status === 'waiting' || job.status === 'queued') must(!account.canceling, 'J6: a canceled job ends unheld')
  if (job.status === 'queued') must(account.barren < BARREN_MAX, 'J9: a barren job does not go on')
  must(job.barrenAttempts === account.barren || job.status === 'finished', 'J9: barren attempts are counted')
  must(job.steps === account.steps, 'J10: steps are counted once')
  must(job.runs.reduce((sum, run) => sum + run.steps, 0) === account.steps, 'J10: steps are counted by run')
  must(job.usage.outputTokens === account.outputTokens, 'J10: usage is counted once')
  must(job.questions.length === account.asked.size, 'J10: questions are kept once')
  const answered = job.questions.filter((question) => question.answeredAt !== null)
  must(answered.length === account.answered.size, 'J5: answers are kept')
  if (job.status === 'finished')
    must(
      job.runs.every((run) => run.status === 'finished'),
      'J7: runs end with the job',
    )
}

/** The exact post-condition of one command. */
function checkCommand(
  before: Job,
  job: Job,
  command: JobCommand,
  given: readonly JobChange[] | Refusal,
  account: Account,
): void {
  const code = isRefusal(given) ? given.refused : null
  const types = isRefusal(given) ? [] : given.map((change) => change.type)
  const says = (wanted: string | null, rule: string): void =>
    must(code === wanted, `${rule}: ${command.type} of a ${before.status} job says ${code}, not ${wanted}`)
  if (!isRefusal(given))
    must(
      given.every((change) => change.at === command.now),
      'J10: events bear their moment',
    )
  switch (command.type) {
    case 'grant': {
      const isFree =
        before.status === 'queued' || (before.status === 'running' && !isLiveAt(command.lease, command.now))
      must(isFree === (code === null), 'J1: a free job is granted, another is not')
      const taken = before.status === 'running' && isFree
      if (taken) must(types[0] === 'leaseExpired', 'J1: a take-over says that the old lease has ended')
      if (taken && before.cancelRequested) must(job.outcome === 'canceled', 'J6: a canceled job is not claimed again')
      break
    }
    case 'expire':
      must(
        (code === null) === (before.status === 'running' && !isLiveAt(command.lease, command.now)),
        'J1: a live lease does not expire',
      )
      if (code === null && before.cancelRequested)
        must(job.outcome === 'canceled', 'J6: it ends when the machine is gone')
      break
    case 'abandon':
    case 'finish':
    case 'rest':
      says(holds(before, command.fence) ? null : 'fence_stale', 'J4')
      if (code === null && command.type === 'finish') must(job.status === 'finished', 'J4: the holder ends the job')
      if (code === null && command.type === 'rest' && !before.cancelRequested && job.status !== 'finished')
        must(job.status === (isWaiting(account) ? 'waiting' : 'queued'), 'J8: it waits only for an open question')
      if (code === null && before.cancelRequested && command.type !== 'finish')
        must(job.outcome === 'canceled', 'J6: it ends when the machine lets go')
      if (job.reason === 'attempts_exhausted')
        must(account.barren >= BARREN_MAX, 'J9: not before its attempts are used up')
      break
    case 'record': {
      const forged = command.events.some((event) => event.type === 'jobFinished')
      const strange = command.events.some((event) => event.type === 'stepFinished' && event.runId !== root)
      const crossed = command.events.some(
        (event) => event.type === 'questionAsked' && event.data.question.runId !== event.runId,
      )
      const breach =
        forged || crossed || (strange && !before.runs.some((run) => run.id !== root && run.id !== delegate))
      says(!holds(before, command.fence) ? 'fence_stale' : breach ? 'protocol_breach' : null, 'J4')
      const end = command.events.find((event) => event.type === 'runFinished' && event.runId === root)
      if (code !== null) break
      const goesOn = (before.steering?.queued.length ?? 0) > 0
      must(
        (types.at(-1) === 'jobFinished') === (end !== undefined && !goesOn),
        'J7: the end of the root run is the end of the job, unless a query waits for the next (J13)',
      )
      if (end?.type === 'runFinished' && !goesOn)
        must(job.outcome === end.data.outcome && job.result === end.data.result, 'J7: the job ends as its run')
      break
    }
    case 'answer': {
      const question = before.questions.find((each) => each.id === command.questionId)
      const wanted =
        question === undefined
          ? 'question_not_found'
          : question.answeredAt !== null
            ? 'question_answered'
            : question.withdrawnAt !== undefined
              ? 'question_withdrawn'
              : before.status === 'finished'
                ? 'job_finished'
                : before.cancelRequested
                  ? 'job_canceled'
                  : command.argsHash !== null && command.argsHash !== question.argsHash
                    ? 'args_hash_mismatch'
                    : typeof command.value !== 'boolean'
                      ? 'answer_invalid'
                      : null
      says(wanted, 'J5')
      if (code !== null) break
      must(types.join() === 'answered', 'J5: an answer is one event')
      must(job.status === (before.status === 'waiting' ? 'queued' : before.status), 'J5: an answer wakes a waiting job')
      must(
        job.questions.find((each) => each.id === command.questionId)?.answer === command.value,
        'J5: the answer is kept',
      )
      break
    }
    case 'continue': {
      const { query, maxSteps } = command
      const wanted =
        query === null && maxSteps === null
          ? 'nothing_to_continue'
          : before.status !== 'finished' && query !== null
            ? before.cancelRequested
              ? 'job_canceled'
              : maxSteps !== null && maxSteps <= before.steps
                ? 'input_invalid'
                : null
            : before.status === 'waiting'
              ? 'job_waiting'
              : before.status !== 'finished'
                ? 'job_running'
                : before.outcome === 'canceled'
                  ? 'job_canceled'
                  : query === null && before.reason !== 'step_limit'
                    ? 'job_finished'
                    : maxSteps !== null && maxSteps <= before.steps
                      ? 'input_invalid'
                      : null
      says(wanted, 'J3')
      const wakes = before.status === 'finished' || (before.status === 'waiting' && command.mode === 'interrupt')
      if (code === null)
        must(
          job.status === (wakes ? 'queued' : before.status) && job.maxSteps === (maxSteps ?? before.maxSteps),
          'J3: it is queued with its limit',
        )
      break
    }
    case 'cancel':
      says(before.status === 'finished' ? 'job_finished' : null, 'J6')
      if (before.status === 'queued' || before.status === 'waiting')
        must(job.outcome === 'canceled', 'J6: it ends at once')
      if (before.status === 'running') must(job.status === 'running' && job.cancelRequested, 'J6: it is asked for')
      break
    default:
      break
  }
}

function holds(job: Job, fence: number): boolean {
  return job.status === 'running' && job.fence === fence
}

function isLiveAt(lease: Lease | null, now: number): boolean {
  return lease !== null && now < lease.until
}
