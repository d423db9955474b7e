/**
 * The lines between a machine and the control plane, as types; PROTOCOL.md says what they mean, clause by clause.
 * One JSON object a line, UTF-8, at most LINE_BYTES_MAX; bigger content goes in several `blob` lines.
 */
import type { Sha256 } from './hash.ts'
import type { JobId, RunId } from './id.ts'
import type { Json } from './json.ts'
import type { JobEvent, Place, RunFact } from './event.ts'
import type { Lock } from './lock.ts'
import type { SkillsLine } from './machine-plan.ts'
import type { Prompt } from './message.ts'

export const PROTOCOL_VERSION = 1

/** What the exit codes of a supervisor mean (P8.3). */
export const EXIT_REASONS: Readonly<Record<number, string>> = {
  0: 'done',
  69: 'orphaned',
  70: 'supervisor_failed',
  74: 'workspace_invalid',
  75: 'runner_ended',
  76: 'protocol_breach',
}
/** A line above this is a breach: it bounds what a hostile machine can make the control plane hold. */
export const LINE_BYTES_MAX = 8 * 1024 * 1024
/** Content bytes in one blob line, before base64. */
export const BLOB_CHUNK_BYTES = 1024 * 1024

// ---- control plane → machine

export interface StartLine {
  readonly type: 'start'
  readonly protocol: typeof PROTOCOL_VERSION
  readonly jobId: JobId
  readonly fence: number
  readonly lock: Lock
  /** The job's model, which overrides each expert's; null for none. */
  readonly model: string | null
  /** The workspace to restore before anything runs; null for an empty one. */
  readonly treeHash: Sha256 | null
  readonly inputTreeHash: Sha256 | null
  /** How many `recorded` lines of history follow before `go`. */
  readonly historyCount: number
}

/** An event of the log: history before `go`; afterwards what others recorded while the machine runs. */
export interface RecordedLine {
  readonly type: 'recorded'
  readonly event: JobEvent
}

export interface GoLine {
  readonly type: 'go'
}

export type ReplyLine =
  | { readonly type: 'reply'; readonly id: number; readonly ok: true; readonly value: Json }
  | {
      readonly type: 'reply'
      readonly id: number
      readonly ok: false
      readonly error: { readonly code: string; readonly message: string }
    }

/** Stop everything and end; the machine answers `done` and exits. */
export interface CancelLine {
  readonly type: 'cancel'
  readonly reason: string
}

export type HostLine =
  | StartLine
  | RecordedLine
  | GoLine
  | ReplyLine
  | CancelLine
  // of skills on the network
  | OpenedLine
  | ClosedLine
  | FrameLine

/** All that a machine hears: what the control plane says, and the one line of whoever started it. */
export type InwardLine = HostLine | SkillsLine

// ---- machine → control plane

export interface ReadyLine {
  readonly type: 'ready'
  readonly protocol: typeof PROTOCOL_VERSION
  readonly bootId: string
}

/** A fact that the runner proposes. */
export interface EventLine {
  readonly type: 'event'
  readonly event: RunFact & Place
}

/** Content to keep, in order of `offset`; the last chunk has `last: true`, and the whole must hash to `hash`. */
export interface BlobLine {
  readonly type: 'blob'
  readonly hash: Sha256
  readonly offset: number
  readonly last: boolean
  readonly base64: string
}

/** The workspace is now this tree; all its content has been sent or was known. From the supervisor only. */
export interface WorkspaceLine {
  readonly type: 'workspace'
  readonly treeHash: Sha256
}

export interface GenerateParams {
  readonly runId: RunId
  readonly expertKey: string
  readonly stepNumber: number
  readonly promptHash: Sha256
  /** Sent when this attempt has not sent this hash before; else left out. */
  readonly prompt?: Prompt
  /** `compaction` asks for a summary of the conversation, with the same prompt, in place of the next message. */
  readonly purpose?: 'compaction'
  /** How many messages the runner believes the run has: a check, since the control plane reads them from the log. */
  readonly messageCount: number
}

/** Leave to make the calls of a run's step, where a budget counts them. From the runner. */
export interface ReserveParams {
  readonly runId: RunId
  readonly expertKey: string
  readonly stepNumber: number
}

export interface BlobParams {
  readonly hash: string
  readonly offset: number
}

/** What a `blob` request is answered with: at most BLOB_CHUNK_BYTES from `offset` on. Tree objects are asked for alike. */
export interface BlobValue {
  readonly base64: string
  readonly last: boolean
}

/** The values of a skill's requiredEnv. From the supervisor only, when it starts that skill's compartment. */
export interface SecretsParams {
  readonly expertKey: string
  readonly skill: string
}

/** A call that waits for leave. From the supervisor only, when a rule of approval covers the call, or it may be made once. */
export interface PermitParams {
  readonly expertKey: string
  /** `skill/tool`. */
  readonly toolName: string
  readonly argsHash: Sha256
  /** Which of its calls it is (schema/effect.ts); a call that may be made once is not permitted without. */
  readonly callKey?: Sha256
  /** What it hands back to a server that asked (schema/elicitation.ts); left out for nothing. */
  readonly handedBack?: Sha256
}

export type RequestLine =
  | { readonly type: 'request'; readonly id: number; readonly method: 'generate'; readonly params: GenerateParams }
  | { readonly type: 'request'; readonly id: number; readonly method: 'reserve'; readonly params: ReserveParams }
  | { readonly type: 'request'; readonly id: number; readonly method: 'blob'; readonly params: BlobParams }
  | { readonly type: 'request'; readonly id: number; readonly method: 'secrets'; readonly params: SecretsParams }
  | { readonly type: 'request'; readonly id: number; readonly method: 'permit'; readonly params: PermitParams }

/** What a `secrets` request is answered with: a value for each name of the skill's requiredEnv, and nothing else. */
export type SecretsValue = Readonly<Record<string, string>>

/** The runner has nothing left to do: it waits for humans (`rested`), or the coordinator's run is over (`finished`). */
export interface DoneLine {
  readonly type: 'done'
  readonly reason: 'rested' | 'finished' | 'canceled'
  /** The supervisor's word: compartments that ran when the job was canceled. */
  readonly skills?: readonly CompartmentName[]
}

/** What a compartment wrote to its stderr, or the supervisor's own word; for operators, never for the log of the job. */
export interface LogLine {
  readonly type: 'log'
  readonly source: string
  readonly text: string
}

/** The runner lives and waits for something. */
export interface AliveLine {
  readonly type: 'alive'
}

/** A runner says that it lives as often. */
export const ALIVE_MS = 15_000

export const PROGRESS_CHARS_MAX = 500

/** How far a call has come, in its tool's words: for whoever watches now, never for the log. */
export interface ProgressLine {
  readonly type: 'progress'
  readonly runId: RunId
  readonly callId: string
  readonly text: string
}

export type MachineLine =
  | ReadyLine
  | EventLine
  | BlobLine
  | WorkspaceLine
  | RequestLine
  | DoneLine
  | LogLine
  | AliveLine
  | ProgressLine
  // of skills on the network
  | OpenLine
  | CloseLine
  | FrameLine

/** So many dropped lines end a machine. */
export const BREACHES_MAX = 10
/** One MCP frame; above it the compartment is closed. It leaves room for the line that carries the frame. */
export const FRAME_BYTES_MAX = 4 * 1024 * 1024

// ---- runner ↔ supervisor ↔ control plane, of skills: in the machine those with a compartment, beyond it those on the
// network (the supervisor relays all lines above besides)

/** One skill's compartment within a machine. */
export interface CompartmentName {
  readonly expertKey: string
  readonly skill: string
}

/** Runner → supervisor: start the compartment if it is not running; answered by `opened` or `closed`. */
export interface OpenLine extends CompartmentName {
  readonly type: 'open'
}

/** Supervisor → runner. */
export interface OpenedLine extends CompartmentName {
  readonly type: 'opened'
}

/** Supervisor → runner: the compartment is gone; `code` is a code of the error catalogue. */
export interface ClosedLine extends CompartmentName {
  readonly type: 'closed'
  readonly code: string
  readonly message: string
}

/** Runner → supervisor: end the compartment. */
export interface CloseLine extends CompartmentName {
  readonly type: 'close'
}

/** One MCP frame, either way. */
export interface FrameLine extends CompartmentName {
  readonly type: 'frame'
  readonly frame: Json
}

export type RunnerLine =
  | EventLine
  | Extract<RequestLine, { method: 'generate' | 'reserve' }>
  | DoneLine
  | OpenLine
  | CloseLine
  | FrameLine
  | LogLine
  | AliveLine
  | ProgressLine
export type SupervisorLine = HostLine
