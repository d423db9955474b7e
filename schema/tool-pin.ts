/**
 * The tools that a lock pins, and how an offer differs from them. The registry writes a pin, the runner compares what
 * a skill lists with it, and the control plane what a machine says that it lists.
 */
import { canonical } from './hash.ts'
import type { JsonObject } from './json.ts'
import type { Lock, LockedExpert, LockedInteractiveSkill, LockedSkill } from './lock.ts'
import type { ToolDefinition } from './message.ts'

/** A skill whose tools are a server's, over MCP. */
export type ServedSkill = Exclude<LockedSkill, LockedInteractiveSkill>

/** The skill that a lock has under these names, when a server offers its tools. Names come from anywhere. */
export function servedSkill(lock: Lock | undefined, expertKey: string, skill: string): ServedSkill | undefined {
  const experts: Readonly<Record<string, LockedExpert>> = lock?.experts ?? {}
  const expert = Object.hasOwn(experts, expertKey) ? experts[expertKey] : undefined
  return expert === undefined ? undefined : servedSkillOf(expert, skill)
}

/** The expert's skill of this name, when a server offers its tools. */
export function servedSkillOf(expert: LockedExpert, skill: string): ServedSkill | undefined {
  const locked = Object.hasOwn(expert.skills, skill) ? expert.skills[skill] : undefined
  return locked === undefined || locked.type === 'interactiveSkill' ? undefined : locked
}

/** What a tool, by the name that a model calls it, takes as the lock pins it; undefined when the lock does not say. */
export function pinnedInput(lock: Lock, expertKey: string, toolName: string): JsonObject | undefined {
  const slash = toolName.indexOf('/')
  const skill = servedSkill(lock, expertKey, toolName.slice(0, Math.max(0, slash)))
  return skill?.tools?.find(({ name }) => name === toolName.slice(slash + 1))?.inputSchema
}

/** What of a skill's tools is on offer: `pick` alone, if given, without what `omit` names. */
export function onOffer(skill: ServedSkill, tools: readonly ToolDefinition[]): readonly ToolDefinition[] {
  return tools.filter((tool) => (skill.pick?.includes(tool.name) ?? true) && !skill.omit.includes(tool.name))
}

/** The tools that a model is shown before the skill was ever started; undefined when it must be started first. */
export function toolsBeforeStart(skill: ServedSkill): readonly ToolDefinition[] | undefined {
  return skill.lazyInit ? skill.tools : undefined
}

/** Named in a sentence, at most. */
const DIFFERENCES_MAX = 3

/**
 * How `listed` differs from what was pinned or recorded, in a few words; undefined when it does not, in whatever order
 * it lists. What a pin leaves out, such as an output schema, is not compared: older ones knew nothing of it.
 */
export function driftOf(pinned: readonly ToolDefinition[], listed: readonly ToolDefinition[]): string | undefined {
  const before = new Map(pinned.map((tool) => [tool.name, tool]))
  const now = new Set(listed.map((tool) => tool.name))
  const differences = [
    ...pinned.flatMap(({ name }) => (now.has(name) ? [] : [`${name} is gone`])),
    ...listed.flatMap((tool) => {
      const known = before.get(tool.name)
      if (known === undefined) return [`${tool.name} is new`]
      const changed = changedParts(known, tool)
      return changed.length === 0 ? [] : [`${tool.name} has another ${changed.join(', another ')}`]
    }),
  ]
  if (differences.length === 0) return undefined
  const more = differences.length - DIFFERENCES_MAX
  const named = differences.slice(0, DIFFERENCES_MAX).join('; ')
  return more > 0 ? `${named}; and ${more} more` : named
}

const PARTS = {
  description: 'description',
  inputSchema: 'input schema',
  outputSchema: 'output schema',
  annotations: 'set of annotations',
} as const

function changedParts(known: ToolDefinition, now: ToolDefinition): readonly string[] {
  const parts = Object.keys(PARTS) as (keyof typeof PARTS)[] // they are its keys
  return parts
    .filter((part) => {
      const pinned = known[part]
      return pinned !== undefined && canonical(pinned) !== canonical(now[part] ?? null)
    })
    .map((part) => PARTS[part])
}
