/** How an expert wants its model to be asked: part of the expert file and of the lock, kept by the gateway. */
import * as z from 'zod'

/** The first parts of models' names: providers of models, and recorded turns. */
export const PROVIDERS = ['anthropic', 'openai', 'google', 'openai-compatible', 'ollama'] as const
export type ProviderName = (typeof PROVIDERS)[number]
export const REHEARSAL = 'rehearsal'

/** Where a package may have the turns of `rehearsal/<name>`: the first that is there counts. */
export function rehearsalPaths(name: string): readonly [toml: string, json: string] {
  return [`rehearsals/${name}.toml`, `rehearsals/${name}.json`]
}

export const REASONING_EFFORTS = ['none', 'minimal', 'low', 'medium', 'high'] as const
export type ReasoningEffort = (typeof REASONING_EFFORTS)[number]

/** What is left out is the gateway's own rule. */
export interface ModelSettings {
  /** How much the model may think before it answers: a word, or tokens. */
  readonly reasoningBudget?: ReasoningEffort | number
  /** Attempts after the first. */
  readonly maxRetries?: number
  /** For one generation, retries included, in ms. */
  readonly timeoutMs?: number
}

/** The keys as a file writes them. */
export const modelSettingsShape = {
  reasoningBudget: z
    .union([z.number().int().min(0).max(1_000_000), z.enum(REASONING_EFFORTS)], {
      error: () => `must be ${REASONING_EFFORTS.map((word) => `"${word}"`).join(', ')}, or whole tokens up to 1000000`,
    })
    .optional(),
  maxRetries: z.number().int().min(0).max(100).optional(),
  timeout: z.number().int().min(1).max(86_400_000).optional(),
}
type Written = { readonly [Key in keyof typeof modelSettingsShape]?: z.infer<(typeof modelSettingsShape)[Key]> }

/** An expert's settings: its own, and the file's where it has none; null when neither says anything. */
export function printModelSettings(file: Written, expert: Written): ModelSettings | null {
  const { reasoningBudget, maxRetries, timeout } = {
    reasoningBudget: expert.reasoningBudget ?? file.reasoningBudget,
    maxRetries: expert.maxRetries ?? file.maxRetries,
    timeout: expert.timeout ?? file.timeout,
  }
  const settings: ModelSettings = {
    ...(reasoningBudget === undefined ? {} : { reasoningBudget }),
    ...(maxRetries === undefined ? {} : { maxRetries }),
    ...(timeout === undefined ? {} : { timeoutMs: timeout }),
  }
  return Object.keys(settings).length === 0 ? null : settings
}
