/** What a model reads and writes. */
import type { Json, JsonObject } from './json.ts'

export interface TextPart {
  readonly type: 'text'
  readonly text: string
}

/** The model's thinking; `metadata` is what its provider wants back to accept the thinking again. */
export interface ReasoningPart {
  readonly type: 'reasoning'
  readonly text: string
  readonly metadata?: JsonObject
}

export interface ImagePart {
  readonly type: 'image'
  readonly mediaType: string
  readonly base64: string
}

/**
 * A call that the model asks for. `callId` is ours: `call_<step>_<index>`, unique within a run.
 * `name` is `skill/tool`, or `delegate/<alias>` for a delegation.
 */
export interface ToolCallPart {
  readonly type: 'toolCall'
  readonly callId: string
  readonly name: string
  readonly args: Json
  /** What the provider wants back with the call (a thought signature, say). */
  readonly metadata?: JsonObject
}

export interface ToolResultPart {
  readonly type: 'toolResult'
  readonly callId: string
  readonly name: string
  readonly content: readonly (TextPart | ImagePart)[]
  /** The result as data, when the tool has an output schema. */
  readonly structured?: Json
  readonly isError: boolean
}

/** What one generation gives. */
export type GeneratedPart = TextPart | ReasoningPart | ToolCallPart

export type Message =
  | { readonly role: 'user'; readonly content: readonly (TextPart | ImagePart)[] }
  | { readonly role: 'expert'; readonly content: readonly GeneratedPart[] }
  | { readonly role: 'tool'; readonly content: readonly ToolResultPart[] }

/** A tool as a model sees it; `inputSchema` is JSON Schema. */
export interface ToolDefinition {
  readonly name: string
  readonly description: string
  readonly inputSchema: JsonObject
  /** JSON Schema of the structured result; left out when the tool promises none. A model is not shown it. */
  readonly outputSchema?: JsonObject
  /** What its server says of the tool's effects; left out when it says nothing. A model is not shown it. */
  readonly annotations?: ToolAnnotations
}

/** MCP's hints, as the server gave them: words of whoever wrote the skill, to be believed no further than the skill. */
export interface ToolAnnotations {
  readonly title?: string
  readonly readOnlyHint?: boolean
  readonly destructiveHint?: boolean
  readonly idempotentHint?: boolean
  readonly openWorldHint?: boolean
}

/** What stays the same from step to step of a run: the system prompt and the tools on offer. */
export interface Prompt {
  readonly instruction: string
  readonly tools: readonly ToolDefinition[]
}

/** All text of some parts, joined. */
export function textOf(parts: readonly { readonly type: string; readonly text?: string }[]): string {
  return parts
    .filter((part) => part.type === 'text')
    .map((part) => part.text ?? '')
    .join('')
}
