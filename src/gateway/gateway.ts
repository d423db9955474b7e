/** The verb of the gateway: one generation, by whichever provider the model's name says. */
import type { ApplicationId } from '../../schema/id.ts'
import type { LockedExpert } from '../../schema/lock.ts'
import type { GeneratedPart, Message, Prompt } from '../../schema/message.ts'
import type { Usage } from '../../schema/usage.ts'
import type { Price } from './price.ts'

export interface GenerateRequest {
  readonly applicationId: ApplicationId
  /** `provider/model`; for `rehearsal/<file>` the file is read from `expert.package`. */
  readonly model: string
  readonly expert: LockedExpert
  /** 1 for the run's first generation. */
  readonly stepNumber: number
  readonly prompt: Prompt
  readonly messages: readonly Message[]
  /** A summary of the messages is asked for, by the last of them: only a rehearsal must know. */
  readonly purpose?: 'compaction'
  /** The most that the model may write; left out: what its provider allows. A rehearsal says what it says. */
  readonly outputTokensMax?: number
}

export interface Generated {
  /** Tool calls carry our call ids, `call_<step>_<index>`. */
  readonly parts: readonly GeneratedPart[]
  readonly usage: Usage
  readonly finishReason: string
  /** Tokens that the model reads at most; null when that is not known. */
  readonly contextWindow: number | null
}

/** What a stream brings of it. */
export type Streamed = Omit<Generated, 'contextWindow'>

export interface Gateway {
  /**
   * Retries what is worth retrying, with backoff and a limit. Throws PlatformError model_not_found, model_key_missing,
   * model_key_refused, model_overloaded, model_refused, model_stalled, model_timeout, model_error,
   * context_exceeded, rehearsal_diverged, rehearsal_invalid, or the signal's reason. Deltas are shown and never stored: when an attempt breaks off after some, a delta in brackets
   * says so, and those of the next attempt follow from the start.
   */
  generate(
    request: GenerateRequest,
    onDelta: (kind: 'text' | 'reasoning', text: string) => void,
    signal: AbortSignal,
  ): Promise<Generated>
  /** What a model costs; undefined when that is not known. */
  price(model: string): Price | undefined
  /** Refuses a model name whose provider is unknown, before a job is made for it. */
  knows(model: string): boolean
}
