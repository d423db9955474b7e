/**
 * How full the context of a run is, and when its conversation must be compacted: a part of the fold of its facts, the
 * same for the runner that asks for a compaction and for the control plane that checks whether one is owed.
 */
import { COMPACTION, type CompactionRule } from './compaction-rule.ts'
import type { Usage } from './usage.ts'
import type { Message } from './message.ts'

export interface Context {
  /** Of the messages that the next generation reads: as counted by the provider, and from there on an estimate. */
  readonly tokens: number
  /** What the model reads at most; null while it is not known. */
  readonly window: number | null
  /** How often the conversation was compacted. */
  readonly compactions: number
  /** The provider said that the messages are too many, with this. */
  readonly exceeded: string | null
  /** It was compacted since the last generation, or that failed: it is not tried again before the next. */
  readonly isTried: boolean
}

export const noContext: Context = { tokens: 0, window: null, compactions: 0, exceeded: null, isTried: false }

/** The code of a generation that failed because its messages were too many. */
export const CONTEXT_EXCEEDED = 'context_exceeded'

/** Of a step: what the model said, and what it read of its calls. */
const MESSAGES_A_STEP = 2
/** Fewer messages between the first and those that stay are not worth it. */
export const REPLACED_MIN = 2

/** After a generation: what it read and wrote is what the next one reads. */
export function contextAfterGeneration(
  context: Context,
  { usage, contextWindow }: { readonly usage: Usage; readonly contextWindow?: number },
): Context {
  const tokens = usage.inputTokens + usage.outputTokens
  return { ...context, tokens, window: contextWindow ?? null, exceeded: null, isTried: false }
}

/** The share of the window that is full, four digits after the point; null while the window is not known. */
export function shareOf({ tokens, window }: Pick<Context, 'tokens' | 'window'>): number | null {
  return window === null || window === 0 ? null : Math.round((tokens / window) * 1e4) / 1e4
}

/** After a message that nobody has counted. */
export function contextAfterMessage(context: Context, message: Message): Context {
  return { ...context, tokens: context.tokens + estimateTokens(message) }
}

/** After a compaction: how many tokens are left is known with the next generation. */
export function contextAfterCompaction(context: Context, summary: Message): Context {
  const { compactions } = context
  return { ...context, tokens: estimateTokens(summary), compactions: compactions + 1, exceeded: null, isTried: true }
}

/** After a compaction that failed. */
export function contextWithoutSummary(context: Context): Context {
  return { ...context, isTried: true }
}

/**
 * A compaction is owed before the next generation. `settled` is how many messages the last step's end covers; `rule` is
 * the expert's own.
 */
export function wantsCompaction(context: Context, settled: number, rule: CompactionRule = {}): boolean {
  const { tokens, window, exceeded, isTried } = context
  const { at, keepSteps } = { ...COMPACTION, ...rule }
  const least = (steps: number): number => 1 + REPLACED_MIN + steps * MESSAGES_A_STEP
  if (isTried) return false
  // What was refused must become shorter, whatever its expert would keep.
  if (exceeded !== null) return settled >= least(1)
  return window !== null && tokens >= window * at && settled >= least(keepSteps)
}

/** What a generation that failed makes of the context; undefined when the run cannot go on. */
export function contextAfterFailure(
  context: Context,
  { code, message }: { readonly code: string; readonly message: string },
  settled: number,
): Context | undefined {
  if (code !== CONTEXT_EXCEEDED) return undefined
  const exceeded = { ...context, exceeded: message }
  return wantsCompaction(exceeded, settled) ? exceeded : undefined
}

const CHARS_PER_TOKEN = 4
const IMAGE_TOKENS = 1600

/** Rough, and the same everywhere: four characters a token. */
export function estimateTokens({ content }: Message): number {
  let chars = 0
  let images = 0
  const count = (part: (typeof content)[number]): void => {
    switch (part.type) {
      case 'text':
      case 'reasoning':
        chars += part.text.length
        break
      case 'image':
        images += 1
        break
      case 'toolCall':
        chars += part.name.length + JSON.stringify(part.args).length
        break
      case 'toolResult':
        for (const inner of part.content) count(inner)
        break
    }
  }
  for (const part of content) count(part)
  return Math.ceil(chars / CHARS_PER_TOKEN) + images * IMAGE_TOKENS
}
