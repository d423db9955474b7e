/**
 * What a skill's server asks a human in the middle of a call (MCP's elicitation): the question that it becomes, and what
 * the server hears. Who asks and for which call is ours to say; what is asked is the server's word. It asks for a form
 * to be filled in, or for a page to be visited, which nobody but the human opens.
 */
import type { Question, Resumption } from './event.ts'
import { hashOf, type Sha256 } from './hash.ts'
import { deriveId, type JobId, type RunId } from './id.ts'
import { isJsonObject, type Json, type JsonObject } from './json.ts'
import type { ToolCallPart } from './message.ts'
import { titleOf } from './question.ts'
import { parseToolSchema } from './tool-schema.ts'

/** Questions of one call: a tool whose words differ at every try would ask for ever. */
export const ELICITATIONS_MAX = 16
const MESSAGE_CHARS_MAX = 10_000
const URL_CHARS_MAX = 2048
/** Characters of a server's state, which the log keeps with the question. */
export const RESUMPTION_STATE_CHARS_MAX = 65_536
export const RESUMPTION_KEY_CHARS_MAX = 256

/** A form as a server wants it filled in, or the page that it wants its human to visit. */
export type Elicitation =
  | { readonly message: string; readonly requestedSchema: JsonObject }
  | { readonly message: string; readonly url: string }

/** How the server hears of the answer; `cancel` when nobody gave one. A page that was visited has no content. */
export type ElicitationReply =
  | { readonly action: 'accept'; readonly content?: JsonObject }
  | { readonly action: 'decline' | 'cancel' }

/** A question of a call and how it was closed; null while it is open. */
export interface Elicited {
  readonly question: Question
  readonly reply: ElicitationReply | null
  /** Null for a server that waits for the answer, and asks again when the call is made again. */
  readonly resumption: Resumption | null
}

/** What was asked, or in a few words why nobody can be asked that. */
export function readElicitation(value: Json): Elicitation | string {
  if (!isJsonObject(value)) return 'the message is missing'
  const { message, requestedSchema: schema, url, mode } = value
  if (typeof message !== 'string' || message.trim() === '') return 'the message is missing'
  if (message.length > MESSAGE_CHARS_MAX) return `the message is longer than ${MESSAGE_CHARS_MAX} characters`
  if (mode !== undefined && mode !== 'form' && mode !== 'url') return `the mode ${JSON.stringify(mode)} is unknown`
  if (mode === 'url' || (mode === undefined && url !== undefined)) {
    if (typeof url !== 'string') return 'the url is missing'
    const fault = urlFault(url)
    return fault === undefined ? { message, url } : `the url ${fault}`
  }
  if (!isJsonObject(schema)) return 'the requestedSchema is missing'
  // What an author may not write, a server may not ask with: a value must be cheap to check.
  const parsed = parseToolSchema(JSON.stringify(schema), 'arguments')
  return typeof parsed === 'string' ? `the requestedSchema ${parsed}` : { message, requestedSchema: schema }
}

/** A person must be able to read where it leads before they go there. */
function urlFault(text: string): string | undefined {
  if (text.length > URL_CHARS_MAX) return `is longer than ${URL_CHARS_MAX} characters`
  const url = URL.parse(text)
  if (url === null || url.protocol !== 'https:' || !/^https:\/\/[\x21-\x7e]+$/.test(text)) return 'is no https URL'
  if (url.username !== '' || url.password !== '') return 'holds a user or a password'
  if (!text.startsWith(`https://${url.host}`)) return 'does not show its host as it is'
  if (url.hostname.split('.').some((label) => label.startsWith('xn--'))) return 'hides its host in Punycode ("xn--…")'
  return undefined
}

/** The question of an open call; `nth` counts those of the same words that the call put before. */
export function elicitationQuestionOf(
  jobId: JobId,
  runId: RunId,
  call: ToolCallPart,
  asked: Elicitation,
  nth: number,
  timeoutSeconds?: number,
): Question {
  const argsHash = wordsOf(asked)
  return {
    id: deriveId('que', jobId, runId, call.callId, argsHash, 'elicitation', nth),
    runId,
    callId: call.callId,
    ...shapeOf(call, asked),
    toolName: call.name,
    args: asked,
    argsHash,
    purpose: 'elicitation',
    ...(timeoutSeconds === undefined ? {} : { timeoutSeconds }),
  }
}

function shapeOf(call: ToolCallPart, asked: Elicitation): Pick<Question, 'kind' | 'title' | 'schema'> {
  if ('url' in asked) {
    // The address first: however long the server talks, it is not cut off.
    const title = titleOf(`${call.name} asks you to visit ${asked.url} and says: ${asked.message}`, null)
    return { kind: 'confirm', title, schema: { type: 'boolean' } }
  }
  const { $schema: _, ...form } = asked.requestedSchema
  const title = titleOf(`${call.name} asks: ${asked.message}`, null)
  return { kind: 'schema', title, schema: { anyOf: [form, { const: false }] } }
}

function wordsOf(asked: Elicitation): Sha256 {
  return hashOf(asked)
}

/** `false` declines; an object that fits the form accepts, and so does `true` from who has visited the page. */
export function elicitationReply(answer: Json): ElicitationReply {
  if (isJsonObject(answer)) return { action: 'accept', content: answer }
  return { action: answer === true ? 'accept' : 'decline' }
}

/** Those of the same words and form. */
export function sameWords<One extends { readonly question: Pick<Question, 'argsHash'> }>(
  elicited: readonly One[],
  asked: Elicitation,
): readonly One[] {
  const argsHash = wordsOf(asked)
  return elicited.filter(({ question }) => question.argsHash === argsHash)
}

/**
 * All that were asked, but for those that came together and were not all recorded before a machine died: the call is
 * made again as if it had not asked them, and its server asks them again.
 */
export function wholeRounds<One extends { readonly resumption: Resumption | null }>(
  elicited: readonly One[],
): readonly One[] {
  const last = elicited.at(-1)?.resumption ?? null
  return last !== null && elicited.length - last.from < last.of ? elicited.slice(0, last.from) : elicited
}

/** What a call hands back to the server that asked: as the params of MCP name it. */
export interface InputResponses {
  readonly inputResponses: Readonly<Record<string, ElicitationReply>>
  readonly requestState?: string
}

/** What the call that is made again must hand back; undefined when its server asks anew. */
export function inputResponsesOf(
  elicited: readonly Pick<Elicited, 'reply' | 'resumption'>[],
): InputResponses | undefined {
  const last = elicited.at(-1)?.resumption
  if (last === undefined || last === null) return undefined
  const together = elicited.flatMap(({ reply, resumption }) =>
    reply !== null && resumption?.from === last.from ? [[resumption.key, reply] as const] : [],
  )
  const inputResponses = Object.fromEntries(together)
  return last.state === null ? { inputResponses } : { inputResponses, requestState: last.state }
}

/** What of the params of a call's frame hands something back: to be compared with what is owed; undefined for nothing. */
export function handedBackIn(params: Json | undefined): Sha256 | undefined {
  if (!isJsonObject(params)) return undefined
  const { inputResponses, requestState } = params
  if (inputResponses === undefined && requestState === undefined) return undefined
  return hashOf({ inputResponses: inputResponses ?? null, requestState: requestState ?? null })
}

/** The same of what is owed. */
export function handedBackOf(owed: InputResponses): Sha256 {
  return hashOf({ inputResponses: owed.inputResponses as unknown as Json, requestState: owed.requestState ?? null }) // replies are JSON
}
