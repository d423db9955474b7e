/**
 * What a skill's server asks a human in the middle of a call (MCP's elicitation, as a form): the question that it
 * becomes, and what the server hears. Who asks and for which call is ours to say; what is asked is the server's word.
 */
import type { Question } from './event.ts'
import { hashOf } from './hash.ts'
import { deriveId, type JobId, type RunId } from './id.ts'
import { isJsonObject, type Json, type JsonObject } from './json.ts'
import type { ToolCallPart } from './message.ts'
import { titleOf } from './question.ts'
import { parseToolSchema } from './tool-schema.ts'

/** Questions of one call: a tool whose words differ at every try would ask for ever. */
export const ELICITATIONS_MAX = 16
const MESSAGE_CHARS_MAX = 10_000

/** A form as a server wants it filled in. */
export interface Elicitation {
  readonly message: string
  readonly requestedSchema: JsonObject
}

/** How the server hears of the answer. */
export type ElicitationReply =
  | { readonly action: 'accept'; readonly content: JsonObject }
  | { readonly action: 'decline' | 'cancel' }

/** A question of a call and how it was closed; null while it is open. */
export interface Elicited {
  readonly question: Question
  readonly reply: ElicitationReply | null
}

/** What was asked, or in a few words why nobody can be asked that. */
export function readElicitation(value: Json): Elicitation | string {
  const message = isJsonObject(value) ? value['message'] : undefined
  const schema = isJsonObject(value) ? value['requestedSchema'] : undefined
  if (typeof message !== 'string' || message.trim() === '') return 'the message is missing'
  if (message.length > MESSAGE_CHARS_MAX) return `the message is longer than ${MESSAGE_CHARS_MAX} characters`
  if (!isJsonObject(schema)) return 'the requestedSchema is missing'
  // What an author may not write, a server may not ask with: a value must be cheap to check.
  const parsed = parseToolSchema(JSON.stringify(schema), 'arguments')
  return typeof parsed === 'string' ? `the requestedSchema ${parsed}` : { message, requestedSchema: schema }
}

/** The question of an open call; `nth` counts those of the same words that the call put before. */
export function elicitationQuestionOf(
  jobId: JobId,
  runId: RunId,
  call: ToolCallPart,
  { message, requestedSchema }: Elicitation,
  nth: number,
): Question {
  const args = { message, requestedSchema }
  const argsHash = hashOf(args)
  const { $schema: _, ...form } = requestedSchema
  return {
    id: deriveId('que', jobId, runId, call.callId, argsHash, 'elicitation', nth),
    runId,
    callId: call.callId,
    kind: 'schema',
    title: titleOf(`${call.name} asks: ${message}`, null),
    schema: { anyOf: [form, { const: false }] },
    toolName: call.name,
    args,
    argsHash,
    purpose: 'elicitation',
  }
}

/** The answer `false` declines; an object that fits the form accepts. */
export function elicitationReply(answer: Json): ElicitationReply {
  return isJsonObject(answer) ? { action: 'accept', content: answer } : { action: 'decline' }
}

/** Those of the same words and form. */
export function sameWords(
  elicited: readonly Elicited[],
  { message, requestedSchema }: Elicitation,
): readonly Elicited[] {
  const argsHash = hashOf({ message, requestedSchema })
  return elicited.filter(({ question }) => question.argsHash === argsHash)
}
