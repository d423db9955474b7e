/**
 * The lines that every start and every step says, checked by hand: a value that passes here passes the shapes of
 * control-line.ts and comes out of them as it is. Whatever does not, goes to those shapes, which know the rest and say
 * what is wrong. A machine lives for one job, and what its processes do a few times costs what it takes to compile.
 */
import { PROTOCOL_VERSION } from './control.ts'
import type { InwardLine, MachineLine, RunnerLine, SupervisorLine } from './control.ts'
import { parseId } from './id.ts'
import { isJsonObject, type Json, type JsonObject } from './json.ts'

const HASH = /^[0-9a-f]{64}$/
const NAME_CHARS_MAX = 512

/** What a runner says to the control plane: what happened in a run, the wish for a generation, its end. */
export function isHotMachineLine(value: Json): value is JsonObject & MachineLine {
  if (!isJsonObject(value)) return false
  if (value['type'] === 'event') return hasSize(value, 2) && isFact(value['event'])
  return isGenerate(value) || isDone(value)
}

/** What a machine is told: how its skills start, a job with its history, and answers to requests. */
export function isHotInwardLine(value: Json): value is JsonObject & InwardLine {
  return isJsonObject(value) && (value['type'] === 'skills' ? isSkills(value) : isHotHostLine(value))
}

function isHotHostLine(value: JsonObject): boolean {
  switch (value['type']) {
    case 'reply':
      return isReply(value)
    case 'recorded':
      return hasSize(value, 2) && isRecorded(value['event'])
    case 'go':
      return hasSize(value, 1)
    case 'start':
      return isStart(value)
    default:
      return false
  }
}

/** What a runner says to the supervisor: the same as to the control plane, and to skills. */
export function isHotRunnerLine(value: Json): value is JsonObject & RunnerLine {
  if (!isJsonObject(value)) return false
  const { type } = value
  if (type === 'frame') return isFrame(value) && isJsonObject(value['frame'])
  if (type === 'open' || type === 'close') return isOfCompartment(value, 3)
  return isHotMachineLine(value)
}

/** What the supervisor says to a runner: the same as the control plane, and what skills say. */
export function isHotSupervisorLine(value: Json): value is JsonObject & SupervisorLine {
  if (!isJsonObject(value)) return false
  const { type } = value
  if (type === 'frame') return isFrame(value)
  return type === 'opened' ? isOfCompartment(value, 3) : isHotHostLine(value)
}

/** With as many members as are looked at, there is none besides. */
function hasSize(value: JsonObject, members: number): boolean {
  return Object.keys(value).length === members
}

function isReply(line: JsonObject): boolean {
  return hasSize(line, 4) && isCount(line['id']) && line['ok'] === true && has(line, 'value')
}

function isSkills(line: JsonObject): boolean {
  const { skills } = line
  return hasSize(line, 2) && Array.isArray(skills) && skills.every(isSkillLaunch)
}

function isSkillLaunch(one: Json): boolean {
  if (!isJsonObject(one) || !isTexts(one['requiredEnv'])) return false
  const { expertKey, skill, launch, packages, memoryEnds } = one
  const more = [packages, memoryEnds].filter((given) => given !== undefined).length
  if (!hasSize(one, 4 + more) || (packages !== undefined && !isPackages(packages))) return false
  if (memoryEnds !== undefined && typeof memoryEnds !== 'string') return false
  if (typeof expertKey !== 'string' || typeof skill !== 'string' || !isJsonObject(launch)) return false
  const { file, args, cwd, feeds, environment, ownGroup } = launch
  if (!hasSize(launch, 6) || typeof file !== 'string' || typeof cwd !== 'string' || !isTexts(args)) return false
  if (typeof ownGroup !== 'boolean' || !isJsonObject(environment) || !isTexts(Object.values(environment))) return false
  return Array.isArray(feeds) && feeds.every(isFeed)
}

function isPackages(packages: Json): boolean {
  if (!isJsonObject(packages) || !hasSize(packages, 2) || typeof packages['directory'] !== 'string') return false
  return typeof packages['treeHash'] === 'string' && HASH.test(packages['treeHash'])
}

function isFeed(feed: Json): boolean {
  if (!isJsonObject(feed) || !hasSize(feed, 3) || !isCount(feed['fd'])) return false
  const fd = Number(feed['fd'])
  if (fd < 3 || fd > 64) return false
  return feed['type'] === 'bytes'
    ? typeof feed['base64'] === 'string'
    : feed['type'] === 'options' && isTexts(feed['options'])
}

function isTexts(value: Json | undefined): boolean {
  return Array.isArray(value) && value.every((one) => typeof one === 'string')
}

function isStart(line: JsonObject): boolean {
  const { protocol, jobId, fence, lock, model, treeHash, inputTreeHash, historyCount } = line
  if (!hasSize(line, 9) || protocol !== PROTOCOL_VERSION || parseId('job', jobId) === undefined) return false
  if (!isJsonObject(lock) || !isJsonObject(lock['experts']) || !isCount(fence) || !isCount(historyCount)) return false
  const areHashes = [treeHash, inputTreeHash].every((hash) => hash === null || isHash(hash))
  return areHashes && (model === null || typeof model === 'string')
}

function isRecorded(event: Json | undefined): boolean {
  return isJsonObject(event) && typeof event['type'] === 'string' && isJsonObject(event['data'])
}

function isDone(line: JsonObject): boolean {
  const { type, reason } = line
  return type === 'done' && hasSize(line, 2) && (reason === 'rested' || reason === 'finished' || reason === 'canceled')
}

function isOfCompartment(line: JsonObject, members: number): boolean {
  return hasSize(line, members) && isName(line['expertKey']) && isName(line['skill'])
}

function isFrame(line: JsonObject): boolean {
  return isOfCompartment(line, 4) && has(line, 'frame')
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
  switch (type) {
    case 'stepFinished':
      return hasSize(data, 1) && isHash(data['stateHash'])
    case 'toolReturned': {
      const { durationMs, result } = data
      return hasSize(data, 2) && typeof durationMs === 'number' && durationMs >= 0 && isResult(result)
    }
    case 'runStarted':
      return isOpening(data)
    default:
      return false
  }
}

function isOpening(data: JsonObject): boolean {
  const { query, parent, continues, depth } = data
  // One that another run asked for, or that goes on with one, is not what every job starts with.
  return hasSize(data, 4) && typeof query === 'string' && parent === null && continues === null && isCount(depth)
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
