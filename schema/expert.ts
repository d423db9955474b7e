/**
 * The expert file, `senmon.toml`: its types. `expert-file.ts` parses the text into these.
 * Absent optional keys are given their defaults here, so that nobody downstream asks what absence means.
 */
import type { ApprovalRule } from './approval.ts'
import type { BaseChoice } from './base-choice.ts'
import type { Budget } from './budget.ts'
import type { CompactionRule } from './compaction-rule.ts'
import type { EffectTable } from './effect.ts'
import type { JsonObject } from './json.ts'
import type { QuestionKind } from './event.ts'
import type { ModelSettings } from './model-settings.ts'
import type { OutputRule } from './output.ts'

export interface InteractiveTool {
  readonly kind: QuestionKind
  readonly description: string
  /** JSON Schema of the arguments that the model writes when it calls the tool. */
  readonly inputSchema: JsonObject
  /** JSON Schema of the answer, where the kind does not fix it (`schema`). */
  readonly answerSchema: JsonObject | null
  /** How long the human may take; after that the model reads that no answer came. Left out for no limit. */
  readonly timeoutSeconds?: number
}

export interface StdioSkill {
  readonly type: 'mcpStdioSkill'
  /** An npm package that speaks MCP on stdio; `spec` is a version, range or tag, default `latest`. */
  readonly packageName: string
  readonly spec: string
  readonly args: readonly string[]
  readonly pick: readonly string[] | null
  readonly omit: readonly string[]
  readonly rule: string | null
  readonly requiredEnv: readonly string[]
  readonly allowedDomains: readonly string[]
  readonly lazyInit: boolean
  /** Whether the lock pins the tools that the program offers at publish. */
  readonly pin: boolean
  /** Whether a run fails when the skill does. */
  readonly required: boolean
  /** What may happen when a call of each tool is made again; {} says nothing of any. */
  readonly effects: EffectTable
  /** How long a human may take to answer what the skill asks in a call; left out for no limit. */
  readonly questionTimeoutSeconds?: number
}

/** A skill on the network, which the control plane reaches for the machine. */
export interface RemoteSkill {
  readonly type: 'mcpHttpSkill' | 'mcpSseSkill'
  readonly endpoint: string
  /** Values may hold `${NAME}` for each name of `requiredEnv`. */
  readonly headers: Readonly<Record<string, string>>
  readonly pick: readonly string[] | null
  readonly omit: readonly string[]
  readonly rule: string | null
  readonly requiredEnv: readonly string[]
  readonly lazyInit: boolean
  readonly pin: boolean
  readonly required: boolean
  readonly effects: EffectTable
  readonly questionTimeoutSeconds?: number
}

export interface InteractiveSkill {
  readonly type: 'interactiveSkill'
  /** A package whose `skill.toml` brings the tools; null when the file declares them itself. */
  readonly packageName: string | null
  readonly spec: string
  readonly rule: string | null
  readonly tools: Readonly<Record<string, InteractiveTool>>
}

export type Skill = StdioSkill | RemoteSkill | InteractiveSkill

export interface Expert {
  /** As the file writes it. */
  readonly name: string
  readonly version: string | null
  readonly description: string
  readonly instruction: string
  readonly model: string | null
  readonly maxSteps: number | null
  /** Expert keys, with ranges as written. */
  readonly delegates: readonly string[]
  readonly tags: readonly string[]
  readonly skills: Readonly<Record<string, Skill>>
  readonly approvals: readonly ApprovalRule[]
  /** What one run may cost, its delegates included; left out for no bound. */
  readonly budget?: Budget
  /** When its conversation is compacted; left out for the usual rule. */
  readonly compaction?: CompactionRule
  readonly output: OutputRule | null
  readonly modelSettings: ModelSettings | null
  /** What it has of the tools that every expert has. */
  readonly base: BaseChoice
  /** What may happen when a call of each of those is made again, by whole name or glob; left out when nothing is said. */
  readonly effects?: EffectTable
}

/** A whole expert file: never empty. */
export interface ExpertFile {
  readonly experts: Readonly<Record<string, Expert>>
}
