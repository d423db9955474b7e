/**
 * The providers by the first part of a model's name. Everything is given explicitly: a provider package that finds no
 * base URL or key in its settings would read the environment of the process, and keys belong to applications.
 */
import { createAnthropic } from '@ai-sdk/anthropic'
import { createGoogleGenerativeAI } from '@ai-sdk/google'
import { createOpenAI, type OpenAIProvider } from '@ai-sdk/openai'
import { createOpenAICompatible } from '@ai-sdk/openai-compatible'
import { unreachable } from '../../schema/decider.ts'
import { PROVIDERS, REHEARSAL, type ProviderName } from '../../schema/model-settings.ts'

/** A model object of the AI SDK; a string would be sent to a gateway that is not ours. */
export type Model = ReturnType<OpenAIProvider['languageModel']>
export type CallOptions = Parameters<Model['doStream']>[0]
type StreamOf<Result> = Result extends { readonly stream: ReadableStream<infer Part> } ? Part : never
export type StreamPart = StreamOf<Awaited<ReturnType<Model['doStream']>>>

/** Where providers are reached. From the configuration of the server alone: an application that could name one could reach any host. */
export type BaseUrls = Readonly<Partial<Record<ProviderName, string>>>

interface ProviderFacts {
  /** The secret of the application that holds the key; null for none. */
  readonly keyName: string | null
  readonly keyRequired: boolean
  /** null: known only when configured. */
  readonly baseUrl: string | null
  /** False: a tool's result is text, so images go in a message of their own. */
  readonly imagesInResults: boolean
}

export const PROVIDER_FACTS: Readonly<Record<ProviderName, ProviderFacts>> = {
  anthropic: {
    keyName: 'ANTHROPIC_API_KEY',
    keyRequired: true,
    baseUrl: 'https://api.anthropic.com/v1',
    imagesInResults: true,
  },
  openai: {
    keyName: 'OPENAI_API_KEY',
    keyRequired: true,
    baseUrl: 'https://api.openai.com/v1',
    imagesInResults: true,
  },
  google: {
    keyName: 'GOOGLE_GENERATIVE_AI_API_KEY',
    keyRequired: true,
    baseUrl: 'https://generativelanguage.googleapis.com/v1beta',
    imagesInResults: true,
  },
  'openai-compatible': {
    keyName: 'OPENAI_COMPATIBLE_API_KEY',
    keyRequired: false,
    baseUrl: null,
    imagesInResults: false,
  },
  ollama: { keyName: null, keyRequired: false, baseUrl: null, imagesInResults: false },
}

export interface ModelName {
  readonly provider: ProviderName | typeof REHEARSAL
  readonly name: string
}

const MODEL_NAME = /^(?<provider>[a-z-]+)\/(?<name>[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,199})$/
/** A file's name without its folder and ending. */
const REHEARSAL_NAME = /^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$/

/** undefined when the text has not the shape, or the provider is unknown or not configured. */
export function parseModelName(text: string, baseUrls: BaseUrls): ModelName | undefined {
  const { provider, name } = MODEL_NAME.exec(text)?.groups ?? {}
  if (provider === undefined || name === undefined) return undefined
  if (provider === REHEARSAL) return REHEARSAL_NAME.test(name) ? { provider, name } : undefined
  const known = PROVIDERS.find((known) => known === provider)
  if (known === undefined || baseUrlOf(known, baseUrls) === undefined) return undefined
  return { provider: known, name }
}

function baseUrlOf(provider: ProviderName, baseUrls: BaseUrls): string | undefined {
  const baseUrl = (baseUrls[provider] ?? PROVIDER_FACTS[provider].baseUrl ?? '').replace(/\/+$/, '')
  if (baseUrl === '') return undefined
  return provider === 'ollama' && !baseUrl.endsWith('/v1') ? `${baseUrl}/v1` : baseUrl
}

export function openModel(
  { provider, name }: { readonly provider: ProviderName; readonly name: string },
  key: string | undefined,
  baseUrls: BaseUrls,
  fetch: typeof globalThis.fetch,
): Model {
  const baseURL = baseUrlOf(provider, baseUrls)
  if (baseURL === undefined) throw new TypeError(`no base URL for ${provider}`)
  const settings = { baseURL, fetch: withoutRedirects(fetch) }
  switch (provider) {
    case 'anthropic':
      return createAnthropic({ ...settings, apiKey: key ?? '' }).languageModel(name)
    case 'openai':
      return createOpenAI({ ...settings, apiKey: key ?? '' }).responses(name)
    case 'google':
      return createGoogleGenerativeAI({ ...settings, apiKey: key ?? '' }).languageModel(name)
    case 'openai-compatible':
    case 'ollama': {
      const authorized = key === undefined ? settings : { ...settings, apiKey: key }
      return createOpenAICompatible({ ...authorized, name: provider, includeUsage: true }).chatModel(name)
    }
    default:
      return unreachable(provider)
  }
}

/** A redirect would carry the key to another host. */
function withoutRedirects(fetch: typeof globalThis.fetch): typeof globalThis.fetch {
  return async (input, init) => await fetch(input, { ...init, redirect: 'error' })
}
