/** Jobs and events in a given state, made by the decider itself. */
import { replay } from '../../schema/decider.ts'
import { isRefusal } from '../../schema/error.ts'
import { chain, genesisHash, type JobEvent, type NewEvent, type Question } from '../../schema/event.ts'
import { hashOf, sha256 } from '../../schema/hash.ts'
import { deriveId, makeId, type ApplicationId, type JobId, type RunId } from '../../schema/id.ts'
import { blankJob, decide, evolve, type Job, type JobCommand } from '../../src/job/job.ts'
import type { Beginning, LogHead } from '../../src/job/job-log.ts'

const encoder = new TextEncoder()

export const anApplication = makeId('app', 1, encoder.encode('application-one-'))
export const anotherApplication = makeId('app', 2, encoder.encode('another-one-here'))
export const aLockHash = sha256('a lock')

/** A job id that sorts by `n`. */
export function jobIdOf(n: number): JobId {
  return makeId('job', 1_700_000_000_000 + n, sha256Bytes(`job ${n}`))
}

export function runIdOf(jobId: JobId, name = 'root'): RunId {
  return deriveId('run', jobId, name)
}

function sha256Bytes(text: string): Uint8Array {
  return Uint8Array.from(sha256(text).slice(0, 32), (char) => char.codePointAt(0) ?? 0)
}

/** A job with its log: what a store would hold. */
export interface Told {
  readonly job: Job
  readonly head: LogHead
  readonly events: readonly JobEvent[]
}

export function nothingTold(jobId: JobId, applicationId: ApplicationId = anApplication): Told {
  return { job: blankJob(jobId, applicationId), head: { revision: 0, hash: genesisHash(jobId) }, events: [] }
}

/** The job after a command that must not be refused. */
export function tell(told: Told, command: JobCommand): Told {
  const changes = decide(told.job, command)
  if (isRefusal(changes)) throw new Error(`${command.type} was refused: ${changes.refused} ${changes.message}`)
  const events = chain(told.job.id, told.head.revision, told.head.hash, command.now, changes)
  const last = events.at(-1)
  const head = last === undefined ? told.head : { revision: last.seq, hash: last.hash }
  return { job: replay({ initial: told.job, evolve }, events), head, events: [...told.events, ...events] }
}

export interface Given {
  readonly now?: number
  readonly applicationId?: ApplicationId
  readonly userId?: string
  readonly expertKey?: string
}

/** A job that was just created. */
export function created(jobId: JobId, given: Given = {}): Told {
  return tell(nothingTold(jobId, given.applicationId), {
    type: 'create',
    now: given.now ?? 1000,
    expertKey: given.expertKey ?? 'hello-expert@1.0.0',
    query: 'Say hello',
    userId: given.userId ?? null,
    model: null,
    maxSteps: null,
    lockHash: aLockHash,
    inputTreeHash: null,
  })
}

/** How a job goes on that begins with its creation. */
export function beginningOf(told: Told, quota: number | null = null): Beginning & Told {
  const now = told.events.at(-1)?.at ?? 0
  const holder = 'machine-keeper-1'
  const begun = tell(told, { type: 'grant', now, holder, lease: null, barrenAttemptsMax: 3 })
  const lease = { holder, fence: begun.job.fence, until: now + 100 }
  return { ...begun, events: begun.events.slice(told.events.length), lease, quota }
}

/** A fact of a run in its place. */
export function ofRun(runId: RunId, stepNumber: number, fact: unknown): NewEvent {
  const placed = { ...(fact as NewEvent), runId, expertKey: 'hello-expert@1.0.0', stepNumber, v: 1 }
  return placed as NewEvent
}

export function runStarted(runId: RunId, parent: { runId: RunId; callId: string } | null = null): NewEvent {
  const data = { query: 'Say hello', parent, continues: null, depth: parent === null ? 0 : 1 }
  return ofRun(runId, 0, { type: 'runStarted', data })
}

export function stepFinished(runId: RunId, stepNumber: number): NewEvent {
  return ofRun(runId, stepNumber, { type: 'stepFinished', data: { stateHash: sha256(`step ${stepNumber}`) } })
}

export function runFinished(runId: RunId, ending: Record<string, unknown> = {}): NewEvent {
  const data = { outcome: 'completed', reason: 'completed', message: null, result: 'hello', ...ending }
  return ofRun(runId, 1, { type: 'runFinished', data })
}

export function aQuestion(jobId: JobId, runId: RunId, name: string, given: Partial<Question> = {}): Question {
  const args = { change: name }
  return {
    id: deriveId('que', jobId, runId, name),
    runId,
    callId: `call_1_${name.length}`,
    kind: 'confirm',
    title: `Apply ${name}?`,
    schema: { type: 'boolean' },
    toolName: 'human/approve_fix',
    args,
    argsHash: hashOf(args),
    ...given,
  }
}

export function questionAsked(question: Question): NewEvent {
  return ofRun(question.runId, 1, { type: 'questionAsked', data: { question } })
}
