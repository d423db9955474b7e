/**
 * The lines that every step says, checked by hand: a value that passes here passes the shapes of control-line.ts and
 * comes out of them as it is. Whatever does not, goes to those shapes, which know the rest and say what is wrong.
 */
import type { HostLine, MachineLine, RunnerLine, SupervisorLine } from './control.ts'
import { parseId } from './id.ts'
import { isJsonObject, type Json, type JsonObject } from './json.ts'

const HASH = /^[0-9a-f]{64}$/
const NAME_CHARS_MAX = 512

/** What a step says to the control plane: a result, its end, the wish for a generation. */
export function isHotMachineLine(value: Json): value is JsonObject & MachineLine {
  if (!isJsonObject(value)) return false
  if (value['type'] === 'event') return hasSize(value, 2) && isFact(value['event'])
  return isGenerate(value)
}

/** What the control plane answers a step's request with. */
export function isHotHostLine(value: Json): value is JsonObject & HostLine {
  return isJsonObject(value) && isReply(value)
}

/** What a step says to the supervisor: the same as to the control plane, and a message for a skill. */
export function isHotRunnerLine(value: Json): value is JsonObject & RunnerLine {
  if (!isJsonObject(value)) return false
  if (value['type'] === 'frame') return isFrame(value) && isJsonObject(value['frame'])
  return isHotMachineLine(value)
}

/** What the supervisor says to a step: an answer, and a message of a skill. */
export function isHotSupervisorLine(value: Json): value is JsonObject & SupervisorLine {
  if (!isJsonObject(value)) return false
  return value['type'] === 'frame' ? isFrame(value) : isReply(value)
}

/** With as many members as are looked at, there is none besides. */
function hasSize(value: JsonObject, members: number): boolean {
  return Object.keys(value).length === members
}

function isReply(line: JsonObject): boolean {
  return (
    line['type'] === 'reply' && hasSize(line, 4) && isCount(line['id']) && line['ok'] === true && has(line, 'value')
  )
}

function isFrame(line: JsonObject): boolean {
  return hasSize(line, 4) && isName(line['expertKey']) && isName(line['skill']) && has(line, 'frame')
}

function isGenerate(line: JsonObject): boolean {
  const { type, id, method, params } = line
  if (type !== 'request' || method !== 'generate' || !hasSize(line, 4) || !isCount(id)) return false
  if (!isJsonObject(params) || !hasSize(params, 5) || !isInRun(params) || params['stepNumber'] === 0) return false
  return isHash(params['promptHash']) && isCount(params['messageCount'])
}

function isFact(fact: Json | undefined): boolean {
  if (!isJsonObject(fact) || !hasSize(fact, 5) || !isInRun(fact)) return false
  const { type, data } = fact
  if (!isJsonObject(data)) return false
  if (type === 'stepFinished') return hasSize(data, 1) && isHash(data['stateHash'])
  if (type !== 'toolReturned' || !hasSize(data, 2)) return false
  const { durationMs, result } = data
  return typeof durationMs === 'number' && durationMs >= 0 && isResult(result)
}

function isResult(result: Json | undefined): boolean {
  if (!isJsonObject(result) || !hasSize(result, has(result, 'structured') ? 6 : 5)) return false
  const { type, callId, name, content, isError } = result
  if (type !== 'toolResult' || typeof isError !== 'boolean' || !Array.isArray(content)) return false
  return isName(callId) && isName(name) && content.every(isTextPart)
}

function isTextPart(part: Json): boolean {
  return isJsonObject(part) && hasSize(part, 2) && part['type'] === 'text' && typeof part['text'] === 'string'
}

function isInRun(value: JsonObject): boolean {
  return parseId('run', value['runId']) !== undefined && isName(value['expertKey']) && isCount(value['stepNumber'])
}

function isCount(value: Json | undefined): boolean {
  return Number.isSafeInteger(value) && (value as number) >= 0 // it is a number
}

function isName(value: Json | undefined): boolean {
  return typeof value === 'string' && value.length >= 1 && value.length <= NAME_CHARS_MAX
}

function isHash(value: Json | undefined): boolean {
  return typeof value === 'string' && HASH.test(value)
}

function has(value: JsonObject, member: string): boolean {
  return Object.hasOwn(value, member)
}
