/** Tokens and money, and how they add up. */

export interface Usage {
  readonly inputTokens: number
  /** The part of inputTokens that the provider read from its cache. */
  readonly cachedInputTokens: number
  readonly outputTokens: number
  /** The part of outputTokens spent on reasoning. */
  readonly reasoningTokens: number
  /** US dollars; null while the price of a model is not known. */
  readonly costUsd: number | null
}

export const noUsage: Usage = {
  inputTokens: 0,
  cachedInputTokens: 0,
  outputTokens: 0,
  reasoningTokens: 0,
  costUsd: 0,
}

/** The sum; an unknown cost makes the sum unknown. */
export function addUsage(a: Usage, b: Usage): Usage {
  return {
    inputTokens: a.inputTokens + b.inputTokens,
    cachedInputTokens: a.cachedInputTokens + b.cachedInputTokens,
    outputTokens: a.outputTokens + b.outputTokens,
    reasoningTokens: a.reasoningTokens + b.reasoningTokens,
    costUsd: a.costUsd === null || b.costUsd === null ? null : a.costUsd + b.costUsd,
  }
}
