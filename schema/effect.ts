/**
 * What may happen when a call is made again: the class that the author of an expert declares for a tool. Runner,
 * supervisor and control plane ask here, each for itself. No server's own word loosens what an author said.
 */
import { matchesGlob } from './approval.ts'
import { hashOf, type Sha256 } from './hash.ts'
import type { JobId, RunId } from './id.ts'
import { isJsonObject, type Json } from './json.ts'

/** From the loosest to the strictest. */
export const CALL_EFFECTS = ['pure', 'idempotent', 'once'] as const
export type CallEffect = (typeof CALL_EFFECTS)[number]

/** Names or globs of a skill's tools, without the skill's name, and the class of each. */
export type EffectTable = Readonly<Record<string, CallEffect>>

/** Where a call's key stands in the `_meta` of its frame. */
export const CALL_KEY = 'senmon.dev/call-key'

/**
 * The class of a tool: what stands under its very name, else the strictest of the globs that match it. Null when
 * nothing does: such a call is made again after a crash, under its key.
 */
export function effectOf(table: EffectTable | undefined, tool: string): CallEffect | null {
  if (table === undefined) return null
  if (Object.hasOwn(table, tool)) return table[tool] ?? null
  const matching = Object.entries(table).flatMap(([glob, effect]) => (matchesGlob(glob, tool) ? [effect] : []))
  return CALL_EFFECTS.findLast((effect) => matching.includes(effect)) ?? null
}

/** Names a call for ever: the same when it is made again after a crash, another in a fork. */
export function callKeyOf(jobId: JobId, runId: RunId, callId: string): Sha256 {
  return hashOf([jobId, runId, callId])
}

/** The key of a call in the params of its frame; undefined when there is none. */
export function callKeyIn(params: Json | undefined): Sha256 | undefined {
  const meta = isJsonObject(params) ? params['_meta'] : undefined
  const key = isJsonObject(meta) ? meta[CALL_KEY] : undefined
  return typeof key === 'string' && /^[0-9a-f]{64}$/.test(key) ? (key as Sha256) : undefined
}
