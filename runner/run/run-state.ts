/** The state of a job's runs: plain data, so that a replay can be compared with it. */
import type { Approval } from '../../schema/approval.ts'
import type { BaseAnswer, Todo } from '../../schema/base-tool.ts'
import type { Elicited } from '../../schema/elicitation.ts'
import type { Outcome, Question } from '../../schema/event.ts'
import type { ExpertKey } from '../../schema/expert-key.ts'
import type { Sha256 } from '../../schema/hash.ts'
import type { QuestionId, RunId } from '../../schema/id.ts'
import type { Json } from '../../schema/json.ts'
import type { Message, ToolCallPart, ToolResultPart } from '../../schema/message.ts'
import type { Steering } from '../../schema/steering.ts'
import type { Context } from '../../schema/context.ts'
import type { Listed } from './catalog.ts'

/** A chain of delegations longer than this is a mistake: each level multiplies what a job may cost. */
export const DEPTH_MAX = 8

/** A question of a call, and how far it has come. */
export interface Asking {
  readonly question: Question
  readonly asked: boolean
  readonly answer: { readonly value: Json } | null
  /** The time for an answer is over, and none came. */
  readonly isExpired: boolean
}

export interface Once {
  /** It may have taken effect. */
  readonly isStarted: boolean
  /** How often a human had it made again. */
  readonly retries: number
  /** What a human is asked once nobody can know what came of it. */
  readonly asking: Asking | null
}

/** Where a call of the current step leads, and how far it has come. */
export type Path =
  | { readonly to: 'skill'; readonly skill: string; readonly tool: string }
  | ({ readonly to: 'human' } & Asking)
  | { readonly to: 'delegate'; readonly runId: RunId; readonly expertKey: ExpertKey; readonly query: string }
  | { readonly to: 'base'; readonly answer: BaseAnswer }
  | { readonly to: 'nobody'; readonly text: string }

export interface Call {
  readonly part: ToolCallPart
  readonly path: Path
  /** What must be approved before the path is taken; null when nothing must, or when it was. An answer here is a no. */
  readonly approval: (Asking & Approval) | null
  /** The approval that was given, once it was. */
  readonly granted: (Asking & Approval) | null
  /** What the log says of a call that is made once unless a human has it made again; null for any other. */
  readonly once: Once | null
  /** What its skill asked a human, in order. */
  readonly elicited: readonly Elicited[]
  /** The arguments that a human approved in place of the model's; null for the model's own. */
  readonly edited: Json | null
  readonly result: ToolResultPart | null
}

export interface Ending {
  readonly outcome: Outcome
  readonly reason: string
  readonly message: string | null
  readonly result: string | null
  readonly structured?: Json
}

export interface Run {
  readonly id: RunId
  readonly expertKey: ExpertKey
  readonly parent: { readonly runId: RunId; readonly callId: string } | null
  readonly depth: number
  readonly turn: 'generate' | 'calls' | 'stepEnd' | 'end'
  /** When it came to its turn, in events of the job: whoever has waited longest generates first. */
  readonly turnSince: number
  /** The step in hand; 0 before the first. */
  readonly stepNumber: number
  /** Generations of this run itself, and how many it may have; null for no limit of its own. */
  readonly steps: number
  readonly stepsMax: number | null
  readonly messageCount: number
  /** How full the model's window is, and whether the conversation must be compacted. */
  readonly context: Context
  /** What no state hash covers yet, so that a step's end costs what is new and not the conversation. */
  readonly newMessages: readonly Message[]
  readonly stateHash: Sha256 | null
  readonly calls: readonly Call[]
  /** The text of the last generation: the result, when it called nothing or completed. */
  readonly text: string
  /** How many results of this run did not fit its expert's rule, and whether this step's is one of them. */
  readonly rejections: number
  readonly isRejected: boolean
  readonly todos: readonly Todo[]
  /** Whether the step in hand is the last though it called something: its model attempted completion, and may. */
  readonly isComplete: boolean
  readonly failure: { readonly code: string; readonly message: string } | null
  /** The question of a budget that the run waits for, or that stopped it; and how often it was held. */
  readonly hold: { readonly questionId: QuestionId; readonly stopped: boolean } | null
  readonly asks: number
  /** The last step whose calls a budget has counted. */
  readonly countedStep: number
  readonly finished: Ending | null
}

/** Whether the step in hand ends its run, unless its result is rejected. */
export function isLast({ calls, isComplete }: Run): boolean {
  return calls.length === 0 || isComplete
}

export interface JobRuns {
  readonly runs: Readonly<Record<RunId, Run>>
  /** Runs that have not finished, in the order of their start. */
  readonly active: readonly RunId[]
  /** The coordinator's runs. */
  readonly roots: readonly RunId[]
  /** Queries that no run has taken up. */
  readonly steering: Steering
  /** Tools as they were first listed, by expert and skill. */
  readonly listed: Readonly<Record<string, Listed>>
  readonly asked: Readonly<Record<QuestionId, { readonly runId: RunId; readonly callId: string }>>
  /** Generations of all runs. */
  readonly steps: number
  readonly stepsMax: number | null
  /** The job's own budget counts calls. */
  readonly countsCalls: boolean
  /** What questions of budgets were answered with. */
  readonly verdicts: Readonly<Record<QuestionId, 'raised' | 'stopped'>>
  readonly events: number
  /** How often the log became another job's. */
  readonly forks: number
  readonly canceled: boolean
}
