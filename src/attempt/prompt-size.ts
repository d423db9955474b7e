/** How much a run's next prompt has, from the log: what its provider counted, and the bytes of what came after. */
import type { PlacedFact } from '../../schema/conversation.ts'
import { bytesOf, OVERHEAD_TOKENS, tokensAtMost } from '../gateway/token.ts'

interface MessageSize {
  readonly isTool: boolean
  readonly bytes: number
}

export interface PromptSize {
  /** Of the last generation, all that it read and wrote; 0 when nobody has counted what the run has now. */
  readonly tokens: number
  /** Of the messages after that. */
  readonly bytes: number
  /** Of each message, in order: what a compaction leaves of them is known by their number. */
  readonly messages: readonly MessageSize[]
}

export const noPrompt: PromptSize = { tokens: 0, bytes: 0, messages: [] }

/** The size after a fact of the run; `before` is that of the run that it continues. */
export function measure(size: PromptSize, fact: PlacedFact, before?: PromptSize): PromptSize {
  switch (fact.type) {
    case 'runStarted':
      return added(before ?? size, bytesOf(fact.data.query))
    case 'generated': {
      const { inputTokens, outputTokens } = fact.data.usage
      const next = added(size, bytesOf(fact.data.parts))
      // A provider that counted nothing leaves it to the bytes.
      return inputTokens > 0 ? { ...next, tokens: inputTokens + outputTokens, bytes: 0 } : next
    }
    case 'toolReturned':
      return added(size, bytesOf(fact.data.result), true)
    case 'outputRejected':
      return added(size, bytesOf(fact.data.message))
    case 'steered':
      return added(size, bytesOf(fact.data.queries))
    case 'compacted': {
      const [first = { isTool: false, bytes: 0 }] = size.messages
      const kept = fact.data.kept === 0 ? [] : size.messages.slice(-fact.data.kept)
      const messages = [first, { isTool: false, bytes: bytesOf(fact.data.summary) }, ...kept]
      return { tokens: 0, bytes: messages.reduce((sum, { bytes }) => sum + bytes, 0), messages }
    }
    default:
      return size
  }
}

/** The results of a step are one message. */
function added(size: PromptSize, bytes: number, isTool = false): PromptSize {
  const last = size.messages.at(-1)
  const messages =
    isTool && last?.isTool === true
      ? [...size.messages.slice(0, -1), { isTool, bytes: last.bytes + bytes }]
      : [...size.messages, { isTool, bytes }]
  return { ...size, bytes: size.bytes + bytes, messages }
}

/** At most so many tokens are read; `promptBytes` is the size of instruction and tools. */
export function inputTokensAtMost({ tokens, bytes }: PromptSize, promptBytes: number): number {
  return tokens + tokensAtMost(bytes + (tokens === 0 ? promptBytes : 0)) + OVERHEAD_TOKENS
}
