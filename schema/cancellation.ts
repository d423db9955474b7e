/** The receipt of a canceled job: what was ended, what was under way, and of what nobody knows whether it took effect. */
import type { CallEffect } from './effect.ts'
import type { QuestionId, RunId } from './id.ts'

export interface CanceledRun {
  readonly runId: RunId
  readonly expertKey: string
  readonly stepNumber: number
}

/** `notStarted` never reached its tool, `noEffect` changes nothing, `unknown` may have taken effect. */
export const CALL_OUTCOMES = ['notStarted', 'noEffect', 'unknown'] as const
export type CallOutcome = (typeof CALL_OUTCOMES)[number]

export interface CanceledCall {
  readonly runId: RunId
  readonly callId: string
  readonly toolName: string
  /** As its expert's author declared it; null for nothing. */
  readonly effect: CallEffect | null
  readonly outcome: CallOutcome
}

/** What was ended with the machine. */
export interface CanceledMachine {
  readonly host: string
  /** `expert skill` of each compartment that ran; null when the machine did not say so before it was ended. */
  readonly skills: readonly string[] | null
  /** Processes that it had, as its host counted them; all are gone. */
  readonly processes: number
}

export interface Cancellation {
  /** From the wish to the end; 0 when nothing held the job. */
  readonly durationMs: number
  readonly stopped: {
    /** The coordinator's and those of delegates, in the order of their start. */
    readonly runs: readonly CanceledRun[]
    /** Questions that nobody needs to answer any more. */
    readonly questions: readonly QuestionId[]
    /** Null when no machine held the job, or when it had gone before. */
    readonly machine: CanceledMachine | null
  }
  readonly inFlight: {
    /** Generations that were cut. */
    readonly generations: readonly CanceledRun[]
    /** Calls without a result, whatever is known of them. */
    readonly calls: readonly CanceledCall[]
  }
  /** Of `inFlight`, the calls whose outcome is unknown. */
  readonly unknown: { readonly calls: readonly CanceledCall[] }
}
