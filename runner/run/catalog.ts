/** The tools that a model sees, and what a call to one of them aims at. */
import { baseTools } from '../../schema/base-tool.ts'
import { refuse, type Refusal } from '../../schema/error.ts'
import type { InteractiveTool } from '../../schema/expert.ts'
import type { ExpertKey } from '../../schema/expert-key.ts'
import { isJsonObject, type JsonObject } from '../../schema/json.ts'
import { argumentFault } from '../../schema/json-schema.ts'
import type { Lock, LockedExpert } from '../../schema/lock.ts'
import type { ToolCallPart, ToolDefinition } from '../../schema/message.ts'
import { onOffer, toolsBeforeStart, type ServedSkill } from '../../schema/tool-pin.ts'

/** What each skill of an expert said that it offers, by the skill's name. */
export type Listed = Readonly<Record<string, readonly ToolDefinition[]>>

/** The name that stands before a delegate's alias; no skill may bear it. */
export const DELEGATE = 'delegate'

const DELEGATE_INPUT: JsonObject = {
  type: 'object',
  properties: { query: { type: 'string', description: 'What the expert is to do, with everything it must know.' } },
  required: ['query'],
  additionalProperties: false,
}

/** The skills that must be started, and their tools listed, before the expert's first generation. */
export function skillsToList(expert: LockedExpert, listed: Listed): readonly string[] {
  return Object.entries(expert.skills).flatMap(([name, skill]) =>
    skill.type === 'interactiveSkill' || knownTools(name, skill, listed) !== undefined ? [] : [name],
  )
}

/** What a skill offers: as its lock pins it, or else as it listed it; undefined while nobody knows. */
export function knownTools(name: string, skill: ServedSkill, listed: Listed): readonly ToolDefinition[] | undefined {
  return toolsBeforeStart(skill) ?? own(listed, name)
}

/**
 * All tools of an expert, in the order of its file: `skill/tool`, then `base/<tool>` and `delegate/<alias>`.
 * Refuses names that collide, since a call must aim at one thing.
 */
export function catalogOf(lock: Lock, expert: LockedExpert, listed: Listed): readonly ToolDefinition[] | Refusal {
  const tools: ToolDefinition[] = []
  for (const [skillName, skill] of Object.entries(expert.skills)) {
    const offered =
      skill.type === 'interactiveSkill'
        ? Object.entries(skill.tools).map(([name, tool]) => ({ ...tool, name }))
        : onOffer(skill, knownTools(skillName, skill, listed) ?? [])
    for (const { name, description, inputSchema } of offered)
      tools.push({ name: `${skillName}/${name}`, description, inputSchema })
  }
  tools.push(...baseTools(expert))
  for (const [alias, key] of Object.entries(expert.delegates)) {
    const description = lock.experts[key]?.description ?? ''
    tools.push({ name: `${DELEGATE}/${alias}`, description, inputSchema: DELEGATE_INPUT })
  }
  const seen = new Set<string>()
  for (const { name } of tools) {
    if (seen.has(name)) return refuse('tool_name_taken', `Expert ${expert.key} has two tools named ${name}.`)
    seen.add(name)
  }
  return tools
}

/** What a call aims at; `nobody` says why in words for the model. */
export type Aim =
  | { readonly at: 'skill'; readonly skill: string; readonly tool: string }
  | { readonly at: 'human'; readonly tool: InteractiveTool }
  | { readonly at: 'delegate'; readonly expertKey: ExpertKey; readonly query: string }
  | { readonly at: 'nobody'; readonly text: string }

/** Total: whatever a model calls aims at something, if only at nobody. */
export function aimOf(lock: Lock, expert: LockedExpert, listed: Listed, call: ToolCallPart): Aim {
  const slash = call.name.indexOf('/')
  const owner = call.name.slice(0, Math.max(slash, 0))
  const rest = call.name.slice(slash + 1)
  const unknown = { at: 'nobody', text: `There is no tool ${call.name}.` } as const
  if (owner === DELEGATE) return aimAtDelegate(lock, expert, rest, call) ?? unknown
  const skill = own(expert.skills, owner)
  if (skill === undefined) return unknown
  if (skill.type === 'interactiveSkill') {
    const tool = own(skill.tools, rest)
    if (tool === undefined) return unknown
    const fault = argumentFault(tool.inputSchema, call.args)
    return fault === undefined ? { at: 'human', tool } : invalid(call, fault)
  }
  const tool = onOffer(skill, knownTools(owner, skill, listed) ?? []).find((tool) => tool.name === rest)
  if (tool === undefined) return unknown
  if (!isJsonObject(call.args)) return invalid(call, 'they must be one JSON object')
  const fault = argumentFault(tool.inputSchema, call.args)
  return fault === undefined ? { at: 'skill', skill: owner, tool: rest } : invalid(call, fault)
}

function aimAtDelegate(lock: Lock, expert: LockedExpert, alias: string, call: ToolCallPart): Aim | undefined {
  const expertKey = own(expert.delegates, alias)
  if (expertKey === undefined || own(lock.experts, expertKey) === undefined) return undefined
  const query = isJsonObject(call.args) ? call.args['query'] : undefined
  if (typeof query !== 'string' || query.trim() === '') return invalid(call, 'query must be a text that says something')
  return { at: 'delegate', expertKey, query }
}

function invalid(call: ToolCallPart, fault: string): Aim {
  return { at: 'nobody', text: `The arguments of ${call.name} do not fit its schema: ${fault}.` }
}

/** A member of the record itself: names come from a model, and `constructor` is one. */
function own<Value>(record: Readonly<Record<string, Value>>, name: string): Value | undefined {
  return Object.hasOwn(record, name) ? record[name] : undefined
}
