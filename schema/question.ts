/**
 * Ids and questions that follow from their causes alone, so that whoever derives them, a runner after a crash or
 * the control plane that checks it, gets the same.
 */
import { approvalSchema, type Approval } from './approval.ts'
import { unreachable } from './decider.ts'
import type { Question, QuestionKind } from './event.ts'
import type { InteractiveTool } from './expert.ts'
import { hashOf } from './hash.ts'
import { deriveId, type JobId, type RunId } from './id.ts'
import { isJsonObject, type Json, type JsonObject } from './json.ts'
import type { ToolCallPart } from './message.ts'

/** The coordinator's run for a job's first query (`ordinal` 0), or for its n-th continuation. */
export function rootRunId(jobId: JobId, ordinal: number): RunId {
  return deriveId('run', jobId, null, ordinal)
}

/** The run that a call to a delegate opens. */
export function delegateRunId(jobId: JobId, parentRunId: RunId, callId: string): RunId {
  return deriveId('run', jobId, parentRunId, callId)
}

/** A title longer than this is cut: it is read by a person, in a list. */
const TITLE_CHARS_MAX = 2000
/** Control and direction characters: a title says what it says and nothing else. */
const UNPRINTABLE = /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff]/g

/** The question that a call to an interactive tool puts; undefined when a choice has nothing to choose from. */
export function questionOf(
  jobId: JobId,
  runId: RunId,
  call: ToolCallPart,
  tool: InteractiveTool,
): Question | undefined {
  const schema = answerSchemaOf(tool.kind, call.args, tool)
  if (schema === undefined) return undefined
  const argsHash = hashOf(call.args)
  return {
    id: deriveId('que', jobId, runId, call.callId, argsHash),
    runId,
    callId: call.callId,
    kind: tool.kind,
    // A human who is asked without a word must at least see what asks.
    title: titleOf(tool.description.trim() === '' ? `${call.name}: what do you answer?` : tool.description, call.args),
    schema,
    toolName: call.name,
    args: call.args,
    argsHash,
    ...timeoutOf(tool),
  }
}

function timeoutOf({ timeoutSeconds }: { readonly timeoutSeconds?: number }): Pick<Question, 'timeoutSeconds'> {
  return timeoutSeconds === undefined ? {} : { timeoutSeconds }
}

/** The question whether a call that a rule of approval covers may be made. */
export function approvalQuestionOf(jobId: JobId, runId: RunId, call: ToolCallPart, approval: Approval): Question {
  const argsHash = hashOf(call.args)
  return {
    id: deriveId('que', jobId, runId, call.callId, argsHash),
    runId,
    callId: call.callId,
    kind: 'confirm',
    title: titleOf(`May ${call.name} be called?`, call.args),
    schema: approvalSchema(approval),
    toolName: call.name,
    args: call.args,
    argsHash,
    ...timeoutOf(approval),
  }
}

/**
 * An approval that was given in the job that a fork was made of, asked again in the fork: `fork` counts the forks in
 * the log. No answer to the first is one to this.
 */
export function askedAgain(question: Question, fork: number): Question {
  return { ...question, id: deriveId('que', question.id, 'fork', fork) }
}

function answerSchemaOf(kind: QuestionKind, args: Json, tool: InteractiveTool): JsonObject | undefined {
  switch (kind) {
    case 'confirm':
      return { type: 'boolean' }
    case 'ask':
      return { type: 'string' }
    case 'choose': {
      const options = optionsOf(args) ?? optionsInSchema(tool)
      return options === undefined ? undefined : { type: 'string', enum: options }
    }
    case 'schema':
      return tool.answerSchema ?? {}
    default:
      return unreachable(kind)
  }
}

function optionsOf(args: Json): readonly string[] | undefined {
  return isJsonObject(args) ? strings(args['options']) : undefined
}

/** Fixed choices stand in the answer schema, or in the input schema of `options`. */
function optionsInSchema(tool: InteractiveTool): readonly string[] | undefined {
  const fixed = strings(tool.answerSchema?.['enum'])
  if (fixed !== undefined) return fixed
  const properties = tool.inputSchema['properties']
  const options = isJsonObject(properties) ? properties['options'] : undefined
  if (!isJsonObject(options)) return undefined
  const items = options['items']
  return (
    strings(options['enum']) ??
    strings(options['default']) ??
    (isJsonObject(items) ? strings(items['enum']) : undefined)
  )
}

function strings(value: Json | undefined): readonly string[] | undefined {
  if (!Array.isArray(value) || value.length === 0) return undefined
  const texts = value.filter((item): item is string => typeof item === 'string')
  return texts.length === value.length ? [...new Set(texts)] : undefined
}

/** Plain text: the tool's description, then its arguments, one a line. */
export function titleOf(description: string, args: Json): string {
  const named = isJsonObject(args) ? Object.entries(args) : args === null ? [] : [['value', args] as const]
  const lines = named
    .filter(([name]) => name !== 'options')
    .map(([name, value]) => `${name}: ${typeof value === 'string' ? value : JSON.stringify(value)}`)
  const title = [description.trim(), ...lines]
    .filter((line) => line !== '')
    .join('\n')
    .replace(UNPRINTABLE, '')
  const chars = Array.from(title)
  return chars.length > TITLE_CHARS_MAX ? `${chars.slice(0, TITLE_CHARS_MAX - 1).join('')}…` : title
}
