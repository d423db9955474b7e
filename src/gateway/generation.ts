/** What a provider streams, gathered into the parts of one generation. */
import type { Json, JsonObject } from '../../schema/json.ts'
import type { GeneratedPart } from '../../schema/message.ts'
import type { Usage } from '../../schema/usage.ts'
import type { Streamed } from './gateway.ts'
import { costOf, type Price } from './price.ts'
import type { StreamPart } from './provider.ts'
import type { ToolNames } from './tool-name.ts'

type Finish = Extract<StreamPart, { type: 'finish' }>
/** By provider; may hold `undefined`, which JSON does not. */
type Metadata = Finish['providerMetadata']
type DeltaPart = Extract<StreamPart, { type: 'text-delta' | 'reasoning-delta' }>

interface Block {
  readonly type: 'text' | 'reasoning'
  text: string
  metadata: Metadata
}

interface Call {
  readonly type: 'call'
  readonly name: string
  readonly args: Json
  readonly metadata: Metadata
}

/** Our id of a generation's call: it follows from the place alone, so that whoever reads the log again has the same. */
export function callIdOf(stepNumber: number, index: number): string {
  return `call_${stepNumber}_${index}`
}

export class Generation {
  readonly #names: ToolNames
  readonly #blocks: (Block | Call)[] = []
  readonly #open = new Map<string, Block>()
  #chars = 0
  #finish: Finish | undefined

  constructor(names: ToolNames) {
    this.#names = names
  }

  /** How much text has come so far, arguments included. */
  get chars(): number {
    return this.#chars
  }

  get finish(): Finish | undefined {
    return this.#finish
  }

  get isEmpty(): boolean {
    return this.#blocks.length === 0
  }

  /** Takes a part; the text to show now, if any. Parts of no concern (sources, metadata) are left out. */
  add(part: StreamPart): { readonly kind: 'text' | 'reasoning'; readonly text: string } | undefined {
    switch (part.type) {
      case 'text-start':
        this.#block('text', part.id)
        return undefined
      case 'reasoning-start':
      case 'reasoning-end':
        this.#keep(this.#block('reasoning', part.id), part.providerMetadata)
        return undefined
      case 'text-delta':
      case 'reasoning-delta':
        return this.#addDelta(part)
      case 'tool-input-delta':
        this.#chars += part.delta.length
        return undefined
      case 'tool-call':
        // A call that the provider performed itself cannot be: none of its own tools is ever on offer.
        if (part.providerExecuted !== true) this.#blocks.push(this.#call(part))
        return undefined
      case 'finish':
        this.#finish = part
        return undefined
      default:
        return undefined
    }
  }

  #addDelta(part: DeltaPart): { readonly kind: 'text' | 'reasoning'; readonly text: string } | undefined {
    const kind = part.type === 'text-delta' ? 'text' : 'reasoning'
    const block = this.#block(kind, part.id)
    block.text += part.delta
    this.#chars += part.delta.length
    if (kind === 'reasoning') this.#keep(block, part.providerMetadata)
    return part.delta === '' ? undefined : { kind, text: part.delta }
  }

  #block(type: Block['type'], id: string): Block {
    const key = `${type} ${id}`
    const open = this.#open.get(key)
    if (open !== undefined) return open
    const block: Block = { type, text: '', metadata: undefined }
    this.#open.set(key, block)
    this.#blocks.push(block)
    return block
  }

  /** Metadata comes in pieces: the signature of a thought arrives when it ends. */
  #keep(block: Block, metadata: Metadata): void {
    if (metadata === undefined) return
    const merged: NonNullable<Metadata> = { ...block.metadata }
    for (const [provider, members] of Object.entries(metadata)) merged[provider] = { ...merged[provider], ...members }
    block.metadata = merged
  }

  #call(part: Extract<StreamPart, { type: 'tool-call' }>): Call {
    const name = this.#names.fromWire(part.toolName)
    return { type: 'call', name, args: parseArgs(part.input), metadata: part.providerMetadata }
  }

  /** The parts, with our call ids in the order of the calls. `finish` must have come. */
  generated(stepNumber: number, finish: Finish, price: Price | undefined): Streamed {
    let calls = 0
    const parts = this.#blocks.flatMap((block): GeneratedPart[] => {
      const metadata = block.metadata === undefined ? {} : { metadata: jsonOf(block.metadata) }
      if (block.type === 'call') {
        const callId = callIdOf(stepNumber, calls++)
        return [{ type: 'toolCall', callId, name: block.name, args: block.args, ...metadata }]
      }
      if (block.text === '' && block.metadata === undefined) return []
      if (block.type === 'text') return [{ type: 'text', text: block.text }]
      return [{ type: 'reasoning', text: block.text, ...metadata }]
    })
    const reason = finish.finishReason.unified
    // Some providers stop for a call as they stop for an end.
    const finishReason = calls > 0 && (reason === 'stop' || reason === 'other') ? 'tool-calls' : reason
    return { parts, usage: usageOf(finish.usage, price), finishReason }
  }
}

/** The arguments, or the text itself when it is no JSON: the runner answers such a call with an error result. */
function parseArgs(input: string): Json {
  if (input.trim() === '') return {}
  try {
    return JSON.parse(input) as Json
  } catch {
    return input
  }
}

/** Without what JSON cannot hold: the log hashes what JSON says. */
function jsonOf(value: NonNullable<Metadata>): JsonObject {
  return JSON.parse(JSON.stringify(value)) as JsonObject
}

/** A provider that counts nothing has said nothing of the cost either. */
function usageOf({ inputTokens, outputTokens }: Finish['usage'], price: Price | undefined): Usage {
  const usage = {
    inputTokens: inputTokens.total ?? 0,
    cachedInputTokens: inputTokens.cacheRead ?? 0,
    outputTokens: outputTokens.total ?? 0,
    reasoningTokens: outputTokens.reasoning ?? 0,
  }
  const isCounted = inputTokens.total !== undefined && outputTokens.total !== undefined
  const costUsd = price === undefined || !isCounted ? null : costOf(price, usage, inputTokens.cacheWrite ?? 0)
  return { ...usage, costUsd }
}
