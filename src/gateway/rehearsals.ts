/** The provider `rehearsal/<name>`: reads the file of the expert's package and plays the turn that fits. */
import type { Clock } from '../../schema/clock.ts'
import { isRefusal, PlatformError, refusalError } from '../../schema/error.ts'
import type { LockedPackage } from '../../schema/lock.ts'
import { rehearsalPaths } from '../../schema/model-settings.ts'
import type { GeneratedPart } from '../../schema/message.ts'
import type { Generated, GenerateRequest } from './gateway.ts'
import { callIdOf } from './generation.ts'
import { costOf, type Price } from './price.ts'
import { describeNewest, nextTurn, parseRehearsal, piecesOf, type Rehearsal, type Turn } from './rehearsal.ts'
import { bytesOf, tokensUsually } from './token.ts'

const REHEARSAL_BYTES_MAX = 8 * 1024 * 1024
/** Parsed files that are kept; a package's bytes never change, so neither do they. */
const KEPT_MAX = 32

type ReadFile = (integrity: string, path: string) => Promise<Uint8Array | undefined>
type OnDelta = (kind: 'text' | 'reasoning', text: string) => void

export class Rehearsals {
  readonly #readFile: ReadFile
  readonly #clock: Clock
  readonly #kept = new Map<string, Rehearsal>()

  constructor(readFile: ReadFile, clock: Clock) {
    this.#readFile = readFile
    this.#clock = clock
  }

  /** Throws PlatformError model_not_found, rehearsal_invalid, rehearsal_diverged, or the signal's reason. */
  async play(
    name: string,
    request: GenerateRequest,
    price: Price | undefined,
    onDelta: OnDelta,
    signal: AbortSignal,
  ): Promise<Generated> {
    signal.throwIfAborted()
    const { expert, stepNumber, messages, purpose } = request
    const rehearsal = await this.#open(expert.package, name)
    const isCompaction = purpose === 'compaction'
    const turn = nextTurn(rehearsal, expert.name, stepNumber, messages, isCompaction)
    if (turn === undefined)
      throw new PlatformError(
        'rehearsal_diverged',
        isCompaction
          ? `No turn of rehearsal/${name} with compaction = true fits ${expert.name} at step ${stepNumber}.`
          : `No turn of rehearsal/${name} fits ${expert.name} at step ${stepNumber}: ${describeNewest(messages)}.`,
      )
    await this.#show(turn, onDelta, signal)
    const parts = partsOf(turn, stepNumber)
    const usage = turn.usage ?? countUsage(request, parts)
    return {
      parts,
      usage: { ...usage, costUsd: price === undefined ? null : costOf(price, usage, 0) },
      finishReason: turn.calls.length === 0 ? 'stop' : 'tool-calls',
      contextWindow: rehearsal.contextWindow ?? null,
    }
  }

  async #open(from: LockedPackage, name: string): Promise<Rehearsal> {
    const key = `${from.integrity} ${name}`
    const kept = this.#kept.get(key)
    if (kept !== undefined) return kept
    const { path, bytes } = await this.#find(from, name)
    const where = `${from.name}@${from.version}: ${path}`
    if (bytes.length > REHEARSAL_BYTES_MAX)
      throw new PlatformError('rehearsal_invalid', `${where} is larger than ${REHEARSAL_BYTES_MAX} bytes.`)
    const rehearsal = parseRehearsal(where, new TextDecoder().decode(bytes))
    if (isRefusal(rehearsal)) throw refusalError(rehearsal)
    const [oldest] = this.#kept.keys()
    if (this.#kept.size >= KEPT_MAX && oldest !== undefined) this.#kept.delete(oldest)
    this.#kept.set(key, rehearsal)
    return rehearsal
  }

  async #find(from: LockedPackage, name: string): Promise<{ readonly path: string; readonly bytes: Uint8Array }> {
    const paths = rehearsalPaths(name)
    for (const path of paths) {
      const bytes = await this.#readFile(from.integrity, path)
      if (bytes !== undefined) return { path, bytes }
    }
    throw new PlatformError(
      'model_not_found',
      `${from.name}@${from.version} has no ${paths[0]}, which the model rehearsal/${name} plays.`,
    )
  }

  async #show(turn: Turn, onDelta: OnDelta, signal: AbortSignal): Promise<void> {
    const pieces = [
      ...piecesOf(turn.reasoning ?? '').map((text) => ({ kind: 'reasoning' as const, text })),
      ...piecesOf(turn.text ?? '').map((text) => ({ kind: 'text' as const, text })),
    ]
    if (pieces.length === 0 && turn.pauseMs > 0) await this.#clock.sleep(turn.pauseMs, signal)
    for (const { kind, text } of pieces) {
      if (turn.pauseMs > 0) await this.#clock.sleep(turn.pauseMs, signal)
      signal.throwIfAborted()
      onDelta(kind, text)
    }
  }
}

/** What a turn that does not say so took: the rule of token.ts over what was read and written. */
function countUsage({ prompt, messages }: GenerateRequest, parts: readonly GeneratedPart[]) {
  const inputTokens = tokensUsually(bytesOf(prompt) + bytesOf(messages))
  const reasoning = parts.filter((part) => part.type === 'reasoning')
  const reasoningTokens = reasoning.length === 0 ? 0 : tokensUsually(bytesOf(reasoning))
  return { inputTokens, cachedInputTokens: 0, outputTokens: tokensUsually(bytesOf(parts)), reasoningTokens }
}

function partsOf(turn: Turn, stepNumber: number): readonly GeneratedPart[] {
  const parts: GeneratedPart[] = []
  if (turn.reasoning !== undefined) parts.push({ type: 'reasoning', text: turn.reasoning })
  if (turn.text !== undefined) parts.push({ type: 'text', text: turn.text })
  for (const [i, { tool, args }] of turn.calls.entries())
    parts.push({ type: 'toolCall', callId: callIdOf(stepNumber, i), name: tool, args })
  return parts
}
