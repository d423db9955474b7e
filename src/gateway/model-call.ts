/** A run's prompt and messages as the AI SDK wants them. Pure; what is sent is listed here and nothing else is. */
import { unreachable } from '../../schema/decider.ts'
import { isJsonObject, type Json } from '../../schema/json.ts'
import type { GeneratedPart, ImagePart, Message, Prompt, TextPart, ToolResultPart } from '../../schema/message.ts'
import type { ModelSettings, ProviderName, ReasoningEffort } from '../../schema/model-settings.ts'
import { PROVIDER_FACTS, type CallOptions } from './provider.ts'
import type { ToolNames } from './tool-name.ts'

type WirePrompt = CallOptions['prompt']
type WireMessage = WirePrompt[number]
type WireOf<Role extends WireMessage['role']> = Extract<WireMessage, { role: Role }>
type WireFile = Extract<WireOf<'user'>['content'][number], { type: 'file' }>
type WireExpertPart = WireOf<'assistant'>['content'][number]
type WireResult = Extract<WireOf<'tool'>['content'][number], { type: 'tool-result' }>
type WireOptions = NonNullable<WireMessage['providerOptions']>

/** Enough for one turn; unknown Claude models would be cut at 4096 without it. */
const ANTHROPIC_OUTPUT_TOKENS_MAX = 32_000

/** What marks the end of what a provider may keep cached between steps. */
const CACHED: WireOptions = { anthropic: { cacheControl: { type: 'ephemeral' } } }

/**
 * Per provider. OpenAI keeps nothing: a stored answer would be referred to by its ids, and our call ids are not its.
 * Anthropic's pings show that a long thought is not a stall.
 */
const PROVIDER_OPTIONS: Readonly<Record<ProviderName, WireOptions>> = {
  anthropic: { anthropic: { includePings: true } },
  openai: { openai: { store: false } },
  google: {},
  'openai-compatible': {},
  ollama: {},
}

export interface ModelCallSettings {
  readonly reasoningBudget?: ModelSettings['reasoningBudget']
  /** The most that the model may write; left out: what its provider allows. */
  readonly outputTokensMax?: number | undefined
}

export function modelCall(
  provider: ProviderName,
  prompt: Prompt,
  messages: readonly Message[],
  names: ToolNames,
  { reasoningBudget, outputTokensMax }: ModelCallSettings = {},
): CallOptions {
  const thinking = reasoningBudget === undefined ? {} : thinkingFor(provider, reasoningBudget)
  const most = Math.min(outputTokensMax ?? Infinity, provider === 'anthropic' ? ANTHROPIC_OUTPUT_TOKENS_MAX : Infinity)
  const tools = prompt.tools.map(({ name, description, inputSchema }) => ({
    type: 'function' as const,
    name: names.toWire(name),
    description,
    // JSON Schema of one draft or another, as the skill wrote it; the SDK's type is draft 7's.
    inputSchema: inputSchema as (NonNullable<CallOptions['tools']>[number] & { type: 'function' })['inputSchema'],
  }))
  return {
    prompt: wirePrompt(provider, prompt.instruction, messages, names),
    ...thinking,
    providerOptions: merged(PROVIDER_OPTIONS[provider], thinking.providerOptions),
    ...(tools.length === 0 ? {} : { tools, toolChoice: { type: 'auto' } }),
    ...(most === Infinity ? {} : { maxOutputTokens: most }),
  }
}

/** The least that Anthropic takes for a budget in tokens. */
const ANTHROPIC_THINKING_MIN = 1024

/**
 * A word is the SDK's own, which it turns into what the model knows. Tokens are said where a provider counts them, and
 * are the nearest word elsewhere.
 */
function thinkingFor(
  provider: ProviderName,
  budget: ReasoningEffort | number,
): { readonly reasoning?: ReasoningEffort; readonly providerOptions?: WireOptions } {
  if (typeof budget === 'string') return { reasoning: budget }
  if (budget === 0) return { reasoning: 'none' }
  switch (provider) {
    case 'anthropic': {
      const budgetTokens = Math.max(ANTHROPIC_THINKING_MIN, budget)
      return { providerOptions: { anthropic: { thinking: { type: 'enabled', budgetTokens } } } }
    }
    case 'google':
      return { providerOptions: { google: { thinkingConfig: { thinkingBudget: budget } } } }
    case 'openai':
    case 'openai-compatible':
    case 'ollama':
      return { reasoning: budget <= 512 ? 'minimal' : budget <= 2048 ? 'low' : budget <= 8192 ? 'medium' : 'high' }
    default:
      return unreachable(provider)
  }
}

function merged(one: WireOptions, other: WireOptions | undefined): WireOptions {
  if (other === undefined) return one
  const providers = new Set([...Object.keys(one), ...Object.keys(other)])
  return Object.fromEntries([...providers].map((name) => [name, { ...one[name], ...other[name] }]))
}

function wirePrompt(
  provider: ProviderName,
  instruction: string,
  messages: readonly Message[],
  names: ToolNames,
): WirePrompt {
  const { imagesInResults } = PROVIDER_FACTS[provider]
  const wire = messages.flatMap((message) => wireMessages(message, names, imagesInResults))
  const last = wire.at(-1)
  if (last !== undefined) wire[wire.length - 1] = { ...last, providerOptions: CACHED }
  if (instruction === '') return wire
  return [{ role: 'system', content: instruction, providerOptions: CACHED }, ...wire]
}

/** None for a message without content: providers refuse those. */
function wireMessages(message: Message, names: ToolNames, imagesInResults: boolean): WireMessage[] {
  switch (message.role) {
    case 'user': {
      const content = message.content.flatMap((part) => wireContent(part))
      return content.length === 0 ? [] : [{ role: 'user', content }]
    }
    case 'expert': {
      const content = message.content.flatMap((part) => wireExpertPart(part, names))
      return content.length === 0 ? [] : [{ role: 'assistant', content }]
    }
    case 'tool': {
      if (message.content.length === 0) return []
      const content = message.content.map((result) => wireResult(result, names, imagesInResults))
      const images = imagesInResults ? [] : imagesOf(message.content, names)
      return [{ role: 'tool', content }, ...(images.length === 0 ? [] : [{ role: 'user' as const, content: images }])]
    }
    default:
      return unreachable(message)
  }
}

function wireContent(part: TextPart | ImagePart): WireOf<'user'>['content'] {
  if (part.type === 'image') return [wireFile(part)]
  return part.text === '' ? [] : [{ type: 'text', text: part.text }]
}

/** Inline bytes only: a URL here would be fetched by the provider. */
function wireFile({ mediaType, base64 }: ImagePart): WireFile {
  return { type: 'file', mediaType, data: { type: 'data', data: base64 } }
}

function wireExpertPart(part: GeneratedPart, names: ToolNames): WireExpertPart[] {
  switch (part.type) {
    case 'text':
      return part.text === '' ? [] : [{ type: 'text', text: part.text }]
    case 'reasoning':
      return [{ type: 'reasoning', text: part.text, ...wireMetadata(part) }]
    case 'toolCall': {
      // Arguments that were no object stay in the log as they came; providers take objects alone.
      const input = isJsonObject(part.args) ? part.args : { unparsed: part.args }
      return [
        {
          type: 'tool-call',
          toolCallId: part.callId,
          toolName: names.toWire(part.name),
          input,
          ...wireMetadata(part),
        },
      ]
    }
    default:
      return unreachable(part)
  }
}

function wireMetadata({ metadata }: { readonly metadata?: Json }): { readonly providerOptions?: WireOptions } {
  // It is what the provider gave with the part, so it has the provider's shape.
  return metadata === undefined ? {} : { providerOptions: metadata as WireOptions }
}

function wireResult(result: ToolResultPart, names: ToolNames, imagesInResults: boolean): WireResult {
  const named = { type: 'tool-result' as const, toolCallId: result.callId, toolName: names.toWire(result.name) }
  const images = result.content.filter((part) => part.type === 'image')
  const texts = result.content.filter((part) => part.type === 'text').map((part) => part.text)
  if (images.length > 0 && imagesInResults && !result.isError) {
    const value = result.content.flatMap((part) => wireContent(part))
    return { ...named, output: { type: 'content', value } }
  }
  if (images.length > 0 && !imagesInResults) texts.push(`[images: ${images.length}, in the next message]`)
  return { ...named, output: { type: result.isError ? 'error-text' : 'text', value: texts.join('\n') } }
}

function imagesOf(results: readonly ToolResultPart[], names: ToolNames): WireOf<'user'>['content'] {
  return results.flatMap((result) => {
    const images = result.content.filter((part) => part.type === 'image')
    if (images.length === 0) return []
    return [
      { type: 'text' as const, text: `Images from ${names.toWire(result.name)}:` },
      ...images.map((image) => wireFile(image)),
    ]
  })
}
