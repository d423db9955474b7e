/**
 * Parsers of the lines between control plane, supervisor and runner: text in, a typed line or a fault out.
 * Nothing here throws on what a peer wrote. What comes from inside a machine is checked to its leaves;
 * what the control plane says is checked as far as its envelope, since it is the one that is trusted.
 */
import * as z from 'zod'
import { LINE_BYTES_MAX, PROGRESS_CHARS_MAX, PROTOCOL_VERSION } from './control.ts'
import type { InwardLine, MachineLine, RunnerLine, SupervisorLine } from './control.ts'
import { RESUMPTION_KEY_CHARS_MAX, RESUMPTION_STATE_CHARS_MAX } from './elicitation.ts'
import { OUTCOMES, QUESTION_PURPOSES, type JobEvent, type Question, type Resumption, type RunFact } from './event.ts'
import { isHotInwardLine, isHotMachineLine, isHotRunnerLine, isHotSupervisorLine } from './hot-line.ts'
import { parseId, type JobId, type QuestionId, type RunId } from './id.ts'
import { isJsonObject, type Json, type JsonObject } from './json.ts'
import type { Sha256 } from './hash.ts'
import type { Lock } from './lock.ts'
import { isLineFault, type LineFault } from './lines.ts'

/** Deeper JSON is refused: whatever walks a value may recurse without fear. */
export const JSON_DEPTH_MAX = 64
/** A longer text is looked at for its depth before it is parsed: built first, it could fill the memory. */
const SHORT_CHARS_MAX = 64 * 1024

/** One line as it travels, newline included. */
export function printLine(line: InwardLine | MachineLine | RunnerLine): string {
  return `${JSON.stringify(line)}\n`
}

/** What a machine says to the control plane. */
export function parseMachineLine(text: string): MachineLine | LineFault {
  return parseLine(text, isHotMachineLine, machineLine)
}

/** What a machine is told. */
export function parseInwardLine(text: string): InwardLine | LineFault {
  return parseLine(text, isHotInwardLine, inwardLine)
}

/** What the runner says to its supervisor. */
export function parseRunnerLine(text: string): RunnerLine | LineFault {
  return parseLine(text, isHotRunnerLine, runnerLine)
}

/** What the supervisor says to its runner. */
export function parseSupervisorLine(text: string): SupervisorLine | LineFault {
  return parseLine(text, isHotSupervisorLine, supervisorLine)
}

/**
 * Any JSON text of at most JSON_DEPTH_MAX levels whose numbers are finite: the rule for every frame and line, for
 * whoever relays them without reading further.
 */
export function parseJson(text: string): { readonly value: Json } | LineFault {
  if (text.length > LINE_BYTES_MAX) return { fault: 'too_long', message: `A line is above ${LINE_BYTES_MAX} bytes.` }
  if (text.length > SHORT_CHARS_MAX && isDeep(text))
    return { fault: 'too_deep', message: `A line nests deeper than ${JSON_DEPTH_MAX} levels.` }
  let value: Json
  try {
    value = JSON.parse(text) as Json // JSON.parse gives JSON
  } catch {
    return { fault: 'not_json', message: 'A line is not JSON.' }
  }
  const fault = faultIn(value, 1)
  if (fault === 'deep') return { fault: 'too_deep', message: `A line nests deeper than ${JSON_DEPTH_MAX} levels.` }
  if (fault === 'infinite') return { fault: 'invalid', message: 'A line holds a number that JSON cannot give back.' }
  return { value }
}

function parseLine<Line>(
  text: string,
  isHot: (value: Json) => value is Json & Line,
  shape: z.ZodType<Line>,
): Line | LineFault {
  const parsed = parseJson(text)
  if (isLineFault(parsed)) return parsed
  if (isHot(parsed.value)) return parsed.value
  const line = shape.safeParse(parsed.value)
  if (line.success) return line.data
  const issue = line.error.issues[0]
  const type = isJsonObject(parsed.value) ? parsed.value['type'] : undefined
  const name = typeof type === 'string' ? `A line of type ${JSON.stringify(type.slice(0, 40))}` : 'A line without type'
  if (issue?.code === 'invalid_union' && issue.path.join('.') === 'type')
    return { fault: 'unknown_type', message: `${name} does not belong here.` }
  return { fault: 'invalid', message: `${name} is wrong at ${issue?.path.join('.') || 'its root'}: ${issue?.message}.` }
}

/** Counts brackets outside strings, so that depth is known before any value is built. */
function isDeep(text: string): boolean {
  let depth = 0
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    if (code === 0x22) i = closingQuote(text, i)
    else if (code === 0x5b || code === 0x7b) {
      depth += 1
      if (depth > JSON_DEPTH_MAX) return true
    } else if (code === 0x5d || code === 0x7d) depth -= 1
  }
  return false
}

function closingQuote(text: string, open: number): number {
  let at = open
  for (;;) {
    at = text.indexOf('"', at + 1)
    if (at === -1) return text.length
    let slashes = 0
    while (text.charCodeAt(at - 1 - slashes) === 0x5c) slashes += 1
    if (slashes % 2 === 0) return at
  }
}

/** `depth` is how many levels a value has at least when it is an array or an object here. */
function faultIn(value: Json, depth: number): 'deep' | 'infinite' | undefined {
  // 1e400 parses to Infinity, which no canonical text can hold.
  if (typeof value === 'number') return Number.isFinite(value) ? undefined : 'infinite'
  if (typeof value !== 'object' || value === null) return undefined
  if (depth > JSON_DEPTH_MAX) return 'deep'
  for (const member of Array.isArray(value) ? value : Object.values(value)) {
    const fault = faultIn(member, depth + 1)
    if (fault !== undefined) return fault
  }
  return undefined
}

// ---- leaves

const text = z.string()
const name = z.string().min(1).max(512)
const count = z.int().min(0)
const jobId = z.custom<JobId>((value) => parseId('job', value) !== undefined, 'not a job id')
const runId = z.custom<RunId>((value) => parseId('run', value) !== undefined, 'not a run id')
const questionId = z.custom<QuestionId>((value) => parseId('que', value) !== undefined, 'not a question id')
const hash = z.custom<Sha256>((value) => typeof value === 'string' && /^[0-9a-f]{64}$/.test(value), 'not a SHA-256')
// What JSON.parse gave is Json; it is kept as it is, `__proto__` members included, and never merged into anything.
const json = z.custom<Json>((value) => value !== undefined, 'missing')
const jsonObject = z.custom<JsonObject>((value) => isJsonObject(value), 'not an object')
const base64 = z.string().regex(/^[A-Za-z0-9+/]*={0,2}$/, 'not base64')

const textPart = z.object({ type: z.literal('text'), text })
const imagePart = z.object({
  type: z.literal('image'),
  mediaType: z.string().regex(/^image\/[a-z0-9.+-]{1,60}$/, 'not an image type'),
  base64,
})
const toolResult = z.object({
  type: z.literal('toolResult'),
  callId: name,
  name,
  content: z.array(z.discriminatedUnion('type', [textPart, imagePart])),
  structured: json.exactOptional(),
  isError: z.boolean(),
})
const annotations = z.object({
  title: z.string().max(1024).exactOptional(),
  readOnlyHint: z.boolean().exactOptional(),
  destructiveHint: z.boolean().exactOptional(),
  idempotentHint: z.boolean().exactOptional(),
  openWorldHint: z.boolean().exactOptional(),
})
const tool = z.object({
  name,
  description: text,
  inputSchema: jsonObject,
  outputSchema: jsonObject.exactOptional(),
  annotations: annotations.exactOptional(),
})
const question = z.object({
  id: questionId,
  runId,
  callId: name,
  purpose: z.enum(QUESTION_PURPOSES).exactOptional(),
  kind: z.enum(['confirm', 'ask', 'choose', 'schema']),
  title: z.string().max(10_000),
  schema: jsonObject,
  toolName: name,
  args: json,
  argsHash: hash,
  timeoutSeconds: z.int().min(1).exactOptional(),
}) satisfies z.ZodType<Question>
const resumption = z.object({
  key: z.string().max(RESUMPTION_KEY_CHARS_MAX),
  from: count,
  of: count,
  state: z.string().max(RESUMPTION_STATE_CHARS_MAX).nullable(),
}) satisfies z.ZodType<Resumption>

// ---- facts that a machine may propose

const place = { runId, expertKey: name, stepNumber: count }
/** A fact of a run in its place, checked to its leaves. */
export const runFact = z.discriminatedUnion('type', [
  z.object({
    ...place,
    type: z.literal('runStarted'),
    data: z.object({
      query: text,
      parent: z.object({ runId, callId: name }).nullable(),
      continues: runId.nullable(),
      depth: count,
    }),
  }),
  z.object({
    ...place,
    type: z.literal('toolsListed'),
    data: z.object({ skill: name, tools: z.array(tool).max(1024) }),
  }),
  z.object({
    ...place,
    type: z.literal('skillFailed'),
    data: z.object({ skill: name, code: name, message: z.string().max(65_536) }),
  }),
  z.object({
    ...place,
    type: z.literal('toolReturned'),
    data: z.object({ result: toolResult, durationMs: z.number().min(0) }),
  }),
  z.object({
    ...place,
    type: z.literal('questionAsked'),
    data: z.object({ question, resumption: resumption.exactOptional() }),
  }),
  z.object({ ...place, type: z.literal('outputRejected'), data: z.object({ message: z.string().max(65_536) }) }),
  z.object({ ...place, type: z.literal('steered'), data: z.object({ queries: z.array(text).min(1).max(256) }) }),
  z.object({ ...place, type: z.literal('stepFinished'), data: z.object({ stateHash: hash }) }),
  z.object({
    ...place,
    type: z.literal('runFinished'),
    data: z.object({
      outcome: z.enum(OUTCOMES),
      reason: name,
      message: text.nullable(),
      result: text.nullable(),
      structured: json.exactOptional(),
    }),
  }),
]) satisfies z.ZodType<RunFact>

// ---- lines from inside a machine

const ready = z.object({ type: z.literal('ready'), protocol: z.literal(PROTOCOL_VERSION), bootId: name })
const event = z.object({ type: z.literal('event'), event: runFact })
const blob = z.object({ type: z.literal('blob'), hash, offset: count, last: z.boolean(), base64 })
const workspace = z.object({ type: z.literal('workspace'), treeHash: hash })
const log = z.object({ type: z.literal('log'), source: name, text })
const alive = z.object({ type: z.literal('alive') })
const progress = z.object({
  type: z.literal('progress'),
  runId,
  callId: name,
  text: z.string().max(PROGRESS_CHARS_MAX),
})
/** A prompt as a machine sends it and the content store keeps it. */
export const prompt = z.object({ instruction: text, tools: z.array(tool) })
const generate = z.object({
  type: z.literal('request'),
  id: count,
  method: z.literal('generate'),
  params: z.object({
    runId,
    expertKey: name,
    stepNumber: z.int().min(1),
    promptHash: hash,
    prompt: prompt.exactOptional(),
    purpose: z.literal('compaction').exactOptional(),
    messageCount: count,
  }),
})
const reserve = z.object({
  type: z.literal('request'),
  id: count,
  method: z.literal('reserve'),
  params: z.object({ runId, expertKey: name, stepNumber: z.int().min(1) }),
})
const runnerRequest = z.discriminatedUnion('method', [generate, reserve])
const otherRequest = z.discriminatedUnion('method', [
  z.object({
    type: z.literal('request'),
    id: count,
    method: z.literal('blob'),
    params: z.object({ hash: name, offset: count }),
  }),
  z.object({
    type: z.literal('request'),
    id: count,
    method: z.literal('secrets'),
    params: z.object({ expertKey: name, skill: name }),
  }),
  z.object({
    type: z.literal('request'),
    id: count,
    method: z.literal('permit'),
    params: z.object({
      expertKey: name,
      toolName: name,
      argsHash: hash,
      callKey: hash.exactOptional(),
      handedBack: hash.exactOptional(),
    }),
  }),
])
const request = z.discriminatedUnion('method', [runnerRequest, otherRequest])

const compartment = { expertKey: name, skill: name }
const done = z.object({
  type: z.literal('done'),
  reason: z.enum(['rested', 'finished', 'canceled']),
  skills: z.array(z.object(compartment)).max(1024).exactOptional(),
})
const frame = z.object({ ...compartment, type: z.literal('frame'), frame: json })
// An array would be a batch, which nobody here looks into.
const runnerFrame = z.object({ ...compartment, type: z.literal('frame'), frame: jsonObject })
const open = z.object({ ...compartment, type: z.literal('open') })
const close = z.object({ ...compartment, type: z.literal('close') })
const opened = z.object({ ...compartment, type: z.literal('opened') })
const closed = z.object({ ...compartment, type: z.literal('closed'), code: name, message: text })

// ---- lines from the control plane: trusted, so only their envelope is looked at

const lock = z.custom<Lock>((value) => isJsonObject(value) && isJsonObject(value['experts']), 'not a lock')
const recordedEvent = z.custom<JobEvent>(
  (value) => isJsonObject(value) && typeof value['type'] === 'string' && isJsonObject(value['data']),
  'not an event',
)
const start = z.object({
  type: z.literal('start'),
  protocol: z.literal(PROTOCOL_VERSION),
  jobId,
  fence: count,
  lock,
  model: text.nullable(),
  treeHash: hash.nullable(),
  inputTreeHash: hash.nullable(),
  historyCount: count,
})
const recorded = z.object({ type: z.literal('recorded'), event: recordedEvent })
const go = z.object({ type: z.literal('go') })
const reply = z.discriminatedUnion('ok', [
  z.object({ type: z.literal('reply'), id: count, ok: z.literal(true), value: json }),
  z.object({
    type: z.literal('reply'),
    id: count,
    ok: z.literal(false),
    error: z.object({ code: text, message: text }),
  }),
])
const cancel = z.object({ type: z.literal('cancel'), reason: text })

const machineLine: z.ZodType<MachineLine> = z.discriminatedUnion('type', [
  ready,
  event,
  blob,
  workspace,
  request,
  done,
  log,
  alive,
  progress,
  open,
  close,
  runnerFrame,
])
const descriptor = z.number().int().min(3).max(64)
const launch = z.object({
  file: text,
  args: z.array(text),
  cwd: text,
  feeds: z.array(
    z.discriminatedUnion('type', [
      z.object({ fd: descriptor, type: z.literal('bytes'), base64: text }),
      z.object({ fd: descriptor, type: z.literal('options'), options: z.array(text) }),
    ]),
  ),
  environment: z.record(text, text),
  ownGroup: z.boolean(),
})
const skills = z.object({
  type: z.literal('skills'),
  skills: z.array(
    z.object({
      expertKey: text,
      skill: text,
      requiredEnv: z.array(text),
      launch,
      memoryEnds: text.exactOptional(),
      packages: z.object({ treeHash: hash, directory: text }).exactOptional(),
    }),
  ),
})
const inwardLine: z.ZodType<InwardLine> = z.discriminatedUnion('type', [
  skills,
  start,
  recorded,
  go,
  reply,
  cancel,
  opened,
  closed,
  frame,
])
const runnerLine: z.ZodType<RunnerLine> = z.discriminatedUnion('type', [
  event,
  runnerRequest,
  done,
  open,
  close,
  runnerFrame,
  log,
  alive,
  progress,
])
const supervisorLine: z.ZodType<SupervisorLine> = z.discriminatedUnion('type', [
  start,
  recorded,
  go,
  reply,
  cancel,
  opened,
  closed,
  frame,
])
