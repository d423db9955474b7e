/** What a supervisor looks at in the MCP frames that it relays; it reads no further. */
import { approvalFor, type ApprovalRule } from '../../schema/approval.ts'
import { callKeyIn, effectOf, type EffectTable } from '../../schema/effect.ts'
import type { CompartmentName, PermitParams } from '../../schema/control.ts'
import { handedBackIn } from '../../schema/elicitation.ts'
import { hashOf } from '../../schema/hash.ts'
import { isJsonObject, type Json } from '../../schema/json.ts'
import { servedCallIn } from '../../schema/served-call.ts'

/** The id of a request that is a call, as text that tells 1 from "1"; undefined for any other frame. */
export function toolCallOf(frame: Json): string | undefined {
  if (!isJsonObject(frame) || servedCallIn(frame) === undefined) return undefined
  return idOf(frame['id'])
}

/** What calls of a skill are held back for. */
export interface Guard {
  readonly rules: readonly ApprovalRule[]
  readonly effects: EffectTable | undefined
}

/**
 * The leave that a frame needs: undefined for none, `never` when it is a call of which nobody can say whether a rule
 * covers it, or which of the calls that may be made once it is.
 */
export function leaveFor(
  { rules, effects }: Guard,
  { expertKey, skill }: CompartmentName,
  frame: Json,
): PermitParams | 'never' | undefined {
  const hasOnce = Object.values(effects ?? {}).includes('once')
  if (rules.length === 0 && !hasOnce) return undefined
  const call = servedCallIn(frame)
  if (call === undefined || !isJsonObject(frame)) return undefined
  if (call === 'unclear') return 'never'
  const { tool, args } = call
  const toolName = `${skill}/${tool}`
  const isOnce = effectOf(effects, tool) === 'once'
  if (!isOnce && approvalFor(rules, toolName, args) === undefined) return undefined
  const callKey = callKeyIn(frame['params'])
  if (idOf(frame['id']) === undefined || (isOnce && callKey === undefined)) return 'never'
  const handedBack = handedBackIn(frame['params'])
  return {
    expertKey,
    toolName,
    argsHash: hashOf(args),
    ...(callKey === undefined ? {} : { callKey }),
    ...(handedBack === undefined ? {} : { handedBack }),
  }
}

/** The id of the request that the frame answers; undefined when it answers none. */
export function answeredBy(frame: Json): string | undefined {
  if (!isJsonObject(frame) || frame['method'] !== undefined) return undefined
  return idOf(frame['id'])
}

function idOf(id: Json | undefined): string | undefined {
  return typeof id === 'string' || typeof id === 'number' ? JSON.stringify(id) : undefined
}

/** An answer in place of the skill's: the request failed with this sentence. */
export function refusalFrame(frame: Json, message: string): Json {
  const id = isJsonObject(frame) ? (frame['id'] ?? null) : null
  return { jsonrpc: '2.0', id, error: { code: -32_000, message } }
}
