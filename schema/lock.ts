/**
 * A lock: an expert, its delegates and its skills, transitively, at exact versions with integrity.
 * Made when a version is published, pinned by a job; a machine refuses whatever is not in it.
 */
import type { ApprovalRule } from './approval.ts'
import type { BaseTools } from './base-tool.ts'
import type { Budget } from './budget.ts'
import type { CompactionRule } from './compaction-rule.ts'
import type { EffectTable } from './effect.ts'
import type { ExpertKey } from './expert-key.ts'
import type { InteractiveTool } from './expert.ts'
import type { ToolDefinition } from './message.ts'
import type { ModelSettings } from './model-settings.ts'
import type { OutputRule } from './output.ts'

/** Subresource integrity of a package tarball: `sha512-<base64>`. */
export type Integrity = `sha512-${string}`

export interface LockedPackage {
  readonly name: string
  readonly version: string
  readonly integrity: Integrity
}

/** One package of a skill's installation: `path` is where it goes, `node_modules/...`, relative to the root. */
export interface InstalledPackage extends LockedPackage {
  readonly path: string
}

export interface LockedStdioSkill {
  readonly type: 'mcpStdioSkill'
  /** Hash over `packages`: names the installation on disk. */
  readonly installHash: string
  readonly packages: readonly InstalledPackage[]
  /** The file that Node runs, relative to the installation's root. */
  readonly entry: string
  readonly args: readonly string[]
  /** Tools on offer; null means all but those omitted. */
  readonly pick: readonly string[] | null
  readonly omit: readonly string[]
  readonly rule: string | null
  readonly requiredEnv: readonly string[]
  readonly allowedDomains: readonly string[]
  /** Start on first use rather than when the run starts. */
  readonly lazyInit: boolean
  /** `system`: the compartment sees the programs of its computer, read-only. Left out: Node and nothing else. */
  readonly programs?: 'system'
  /**
   * The tools on offer as they were at publish: a skill that lists others answers nothing. Left out when nobody could
   * list them then; they are listed when the run starts, and recorded.
   */
  readonly tools?: readonly ToolDefinition[]
  /** Why the tools are not pinned, as half a sentence, for people. */
  readonly unpinned?: string
  /** A run of the expert fails when this skill does; left out when the model is told and goes on. */
  readonly required?: true
  /** What may happen when a call of each tool is made again; left out when the author says nothing. */
  readonly effects?: EffectTable
  /** How long a human may take to answer what the skill asks in a call; left out for no limit. */
  readonly questionTimeoutSeconds?: number
}

export interface LockedInteractiveSkill {
  readonly type: 'interactiveSkill'
  readonly rule: string | null
  readonly tools: Readonly<Record<string, InteractiveTool>>
}

/** A skill on the network. Its machine never reaches it: the control plane does, and keeps its secrets. */
export interface LockedRemoteSkill {
  /** Streamable HTTP, or the older protocol where the server knows no other; or the older one at once. */
  readonly type: 'mcpHttpSkill' | 'mcpSseSkill'
  readonly endpoint: string
  /** Values may hold `${NAME}` for each name of `requiredEnv`. */
  readonly headers: Readonly<Record<string, string>>
  readonly pick: readonly string[] | null
  readonly omit: readonly string[]
  readonly rule: string | null
  readonly requiredEnv: readonly string[]
  readonly lazyInit: boolean
  /** As of a stdio skill, and what follows. */
  readonly effects?: EffectTable
  readonly tools?: readonly ToolDefinition[]
  readonly unpinned?: string
  readonly required?: true
  readonly questionTimeoutSeconds?: number
}

export type LockedSkill = LockedStdioSkill | LockedRemoteSkill | LockedInteractiveSkill

export interface LockedExpert {
  readonly key: ExpertKey
  readonly name: string
  readonly version: string
  /** The package that holds it; a rehearsal's file is read from here. */
  readonly package: LockedPackage
  readonly description: string
  readonly instruction: string
  /** `provider/model`, or null: the job must name one. */
  readonly model: string | null
  /** A run's own limit; null for none but the job's. */
  readonly maxSteps: number | null
  /** Alias, as the expert file writes it without its range, to the delegate's exact key. */
  readonly delegates: Readonly<Record<string, ExpertKey>>
  readonly skills: Readonly<Record<string, LockedSkill>>
  /** What one run may cost, and all that it delegates to with it; left out for no bound. */
  readonly budget?: Budget
  /** When its conversation is compacted; left out for the usual rule. */
  readonly compaction?: CompactionRule
  /** Calls of this expert that a human must approve; left out when there are none. */
  readonly approvals?: readonly ApprovalRule[]
  /** What a run's result must be; left out when any text will do. */
  readonly output?: OutputRule
  /** How its model is asked; left out for the gateway's own rule. */
  readonly modelSettings?: ModelSettings
  /** The tools that it has without a skill; left out when it has none. */
  readonly base?: BaseTools
}

export interface Lock {
  readonly version: 1
  readonly coordinator: ExpertKey
  readonly experts: Readonly<Record<ExpertKey, LockedExpert>>
}
