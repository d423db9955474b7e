/**
 * How full the context of a run is, and when its conversation must be compacted: a part of the fold of its facts, the
 * same for the runner that asks for a compaction and for the control plane that checks whether one is owed.
 */
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
  /** A compaction failed since the last generation: it is not tried again before the next. */
  readonly hasFailed: boolean
}

export const noContext: Context = { tokens: 0, window: null, compactions: 0, exceeded: null, hasFailed: false }

/** The code of a generation that failed because its messages were too many. */
export const CONTEXT_EXCEEDED = 'context_exceeded'

/** What is left of the window is for the answer, and for the results of the calls in it. */
const FULL = 0.8
/** With fewer messages that a step's end covers there is too little between the first and the last to be worth it. */
const SETTLED_MIN = 5

/** After a generation: what it read and wrote is what the next one reads. */
export function contextAfterGeneration(
  context: Context,
  { usage, contextWindow }: { readonly usage: Usage; readonly contextWindow?: number },
): Context {
  const tokens = usage.inputTokens + usage.outputTokens
  return { ...context, tokens, window: contextWindow ?? null, exceeded: null, hasFailed: false }
}

/** After a message that nobody has counted. */
export function contextAfterMessage(context: Context, message: Message): Context {
  return { ...context, tokens: context.tokens + estimateTokens(message) }
}

/** After a compaction: how many tokens are left is known with the next generation. */
export function contextAfterCompaction(context: Context, summary: Message): Context {
  const { compactions } = context
  return { ...context, tokens: estimateTokens(summary), compactions: compactions + 1, exceeded: null }
}

/** A compaction is owed before the next generation. `settled` is how many messages the last step's end covers. */
export function wantsCompaction(context: Context, settled: number): boolean {
  const { tokens, window, exceeded, hasFailed } = context
  if (hasFailed || settled < SETTLED_MIN) return false
  return exceeded !== null || (window !== null && tokens >= window * FULL)
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
