/** A model that follows a script: what it says is a function of where in a job it is asked. */
import { sha256 } from '../../schema/hash.ts'
import type { Json } from '../../schema/json.ts'
import type { GeneratedPart } from '../../schema/message.ts'
import { noUsage, type Usage } from '../../schema/usage.ts'
import { PlatformError, type ErrorCode } from '../../schema/error.ts'
import type { Gateway, GenerateRequest } from '../../src/gateway/gateway.ts'
import type { Price } from '../../src/gateway/price.ts'

export interface ScriptedCall {
  readonly name: string
  readonly args: Json
}

/** A text ends the run, calls go on with it, a code fails it. */
export type Turn =
  | {
      readonly text: string
      readonly calls?: readonly ScriptedCall[]
      /** What the model read, and what it reads at most. */
      readonly inputTokens?: number
      readonly contextWindow?: number
    }
  | { readonly code: ErrorCode }

/** The parts of a turn, with our call ids. */
export function partsOf(turn: Exclude<Turn, { code: ErrorCode }>, stepNumber: number): readonly GeneratedPart[] {
  const calls = (turn.calls ?? []).map(
    ({ name, args }, i) => ({ type: 'toolCall', callId: `call_${stepNumber}_${i}`, name, args }) as const,
  )
  return [{ type: 'text', text: turn.text }, ...calls]
}

export interface ScriptedModel extends Gateway {
  /** What was asked, in order. */
  readonly requests: GenerateRequest[]
}

/** A gateway whose only model is a script; `pause` may hold a generation back. */
export function scriptedModel(
  turnOf: (request: GenerateRequest) => Turn,
  pause: (request: GenerateRequest, signal: AbortSignal) => Promise<void> = async () => {},
  bill: { readonly price?: Price; readonly usageOf?: (request: GenerateRequest) => Usage } = {},
): ScriptedModel {
  const requests: GenerateRequest[] = []
  return {
    requests,
    knows: () => true,
    price: () => bill.price,
    async generate(request, onDelta, signal) {
      requests.push(request)
      await pause(request, signal)
      signal.throwIfAborted()
      const turn = turnOf(request)
      if ('code' in turn) throw new PlatformError(turn.code, `the script says ${turn.code}`)
      onDelta('text', turn.text)
      const usage = bill.usageOf?.(request) ?? { ...noUsage, inputTokens: turn.inputTokens ?? 0 }
      const { contextWindow = null } = turn
      return { parts: partsOf(turn, request.stepNumber), usage, finishReason: 'stop', contextWindow }
    },
  }
}

/** A number that follows from its causes, for scripts that vary and repeat. */
export function drawn(below: number, ...causes: readonly unknown[]): number {
  return Number.parseInt(sha256(JSON.stringify(causes)).slice(0, 8), 16) % below
}
