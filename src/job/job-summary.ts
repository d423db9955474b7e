/** A job as a list shows it: a fold of its log, kept in the job's row by every append. */
import type { Cancellation } from '../../schema/cancellation.ts'
import type { JobStatus, MachineFacts, Outcome, Question } from '../../schema/event.ts'
import type { Sha256 } from '../../schema/hash.ts'
import type { ApplicationId, JobId, QuestionId } from '../../schema/id.ts'
import type { Json } from '../../schema/json.ts'
import type { Ledger } from '../../schema/ledger.ts'
import type { Steering } from '../../schema/steering.ts'
import type { Usage } from '../../schema/usage.ts'
import type { RunContext } from './run-context.ts'

export interface QuestionSummary extends Question {
  /** Epoch ms. */
  readonly askedAt: number
  readonly answeredAt: number | null
  readonly answer: Json | null
  /** When its time is over, epoch ms; left out when it has none. */
  readonly dueAt?: number
  /** Its time is over and no answer came; `answeredAt` is then when that was. */
  readonly expired?: true
  /** Epoch ms: when the call that asked went on without an answer. */
  readonly withdrawnAt?: number
}

/** Whether it can still be answered. */
export function isOpen({ answeredAt, withdrawnAt }: QuestionSummary): boolean {
  return answeredAt === null && withdrawnAt === undefined
}

export interface RunSummary {
  readonly id: string
  readonly expertKey: string
  readonly parentRunId: string | null
  readonly query: string
  readonly status: 'running' | 'waiting' | 'finished'
  readonly outcome: Outcome | null
  readonly reason: string | null
  readonly result: string | null
  /** The result as data, of an expert that owes one. */
  readonly structured?: Json
  readonly steps: number
  /** What its own generations took; absent in rows of before it was counted. */
  readonly usage?: Usage
  /** How full its model's window is; absent in rows of before it was kept. */
  readonly context?: RunContext
  /** The question of a budget that it waits for. */
  readonly heldBy?: QuestionId
}

export interface JobSummary {
  readonly id: JobId
  readonly applicationId: ApplicationId
  readonly userId: string | null
  readonly status: JobStatus
  readonly outcome: Outcome | null
  /** The code that explains the status or outcome; null while there is nothing to explain. */
  readonly reason: string | null
  readonly message: string | null
  /** The coordinator's exact key. */
  readonly expertKey: string
  readonly query: string | null
  readonly model: string | null
  readonly maxSteps: number | null
  readonly result: string | null
  /** The result as data, when the coordinator owes one. */
  readonly structured?: Json
  /** Steps taken by all runs together. */
  readonly steps: number
  readonly usage: Usage
  readonly runs: readonly RunSummary[]
  readonly questions: readonly QuestionSummary[]
  readonly machine: MachineFacts | null
  readonly lockHash: Sha256
  readonly inputTreeHash: Sha256 | null
  readonly treeHash: Sha256 | null
  readonly revision: number
  /** The job and the event that it goes on from, when a fork made it. */
  readonly forkedFrom?: { readonly jobId: JobId; readonly seq: number }
  /** Queries that wait to be read, and what the job's end left unread. */
  readonly steering?: Steering
  /** What the job's own budget has seen; absent for a job without one. */
  readonly ledger?: Ledger
  /** A bundle brought it: it can be read and forked, and nothing else. */
  readonly imported?: true
  /** What the end of a canceled job ended. */
  readonly cancellation?: Cancellation
  readonly createdAt: number
  readonly updatedAt: number
}
