/** A call that a model made and that has not returned yet, and what its expert's lock says of it. */
import { approvalFor, type Approval } from '../../schema/approval.ts'
import { isBaseCall } from '../../schema/base-tool.ts'
import { effectOf } from '../../schema/effect.ts'
import type { InteractiveTool } from '../../schema/expert.ts'
import type { QuestionId } from '../../schema/id.ts'
import type { LockedExpert } from '../../schema/lock.ts'
import type { ToolCallPart } from '../../schema/message.ts'
import { servedSkillOf } from '../../schema/tool-pin.ts'
import type { Put } from './elicited.ts'

export interface OpenCall {
  readonly part: ToolCallPart
  readonly questionId: QuestionId | undefined
  /** Of a call that may be made once: whether it has been, and by a machine that is gone. */
  readonly isStarted?: boolean
  readonly isLost?: boolean
  /** What its human was asked about its outcome, and how often they had it made again. */
  readonly outcomeId?: QuestionId
  readonly retries?: number
  /** Questions that its skill put, in order. */
  readonly elicited?: readonly Put[]
  /** The fork of the log in which its approval must be given anew. */
  readonly fork?: number
}

/** Stands in a run's open calls for the step that called nothing. */
export const LAST = ''
export const NO_CALL: ToolCallPart = { type: 'toolCall', callId: LAST, name: '', args: null }

/** What the rules of its expert ask of a call; those that ask a human themselves need no approval. */
export function approvalOf(expert: LockedExpert, call: ToolCallPart): Approval | undefined {
  if (interactiveTool(expert, call) !== undefined || isBaseCall(expert, call)) return undefined
  const approval = approvalFor(expert.approvals, call.name, call.args)
  return approval === undefined || aliasOf(call) === undefined ? approval : { ...approval, edits: false }
}

/** Whether it may be made once, and again only when its human says so. */
export function isOnce(expert: LockedExpert, { name }: ToolCallPart): boolean {
  const slash = name.indexOf('/')
  const owner = name.slice(0, Math.max(0, slash))
  return effectOf(servedSkillOf(expert, owner)?.effects, name.slice(slash + 1)) === 'once'
}

/** The name of the delegate that it calls; undefined when it calls a tool. */
export function aliasOf(call: ToolCallPart): string | undefined {
  return call.name.startsWith('delegate/') ? call.name.slice('delegate/'.length) : undefined
}

/** The tool by which it asks a human; undefined when it calls another. */
export function interactiveTool(expert: LockedExpert, call: ToolCallPart): InteractiveTool | undefined {
  const slash = call.name.indexOf('/')
  const skillName = call.name.slice(0, Math.max(0, slash))
  const toolName = call.name.slice(slash + 1)
  const skill = Object.hasOwn(expert.skills, skillName) ? expert.skills[skillName] : undefined
  if (skill?.type !== 'interactiveSkill' || !Object.hasOwn(skill.tools, toolName)) return undefined
  return skill.tools[toolName]
}
