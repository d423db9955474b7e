/**
 * What work may cost, and what it has cost, in the seven measures that a budget can bound. An absent limit bounds
 * nothing. Money is counted in whole billionths of a dollar, so that sums are exact and a limit can be hit exactly.
 */
import { isJsonObject, type Json } from './json.ts'
import type { Usage } from './usage.ts'

export const MEASURES = [
  'costUsd',
  'inputTokens',
  'cachedInputTokens',
  'outputTokens',
  'steps',
  'toolCalls',
  'wallSeconds',
] as const
export type Measure = (typeof MEASURES)[number]

/** The most of each; `wallSeconds` is time in which a machine had the job, so that waiting for humans is free. */
export type Budget = Readonly<Partial<Record<Measure, number>>>

/** New totals, which stand in place of the limits; null lifts a limit. */
export type Raise = Readonly<Partial<Record<Measure, number | null>>>

/** What is spent or set aside, time aside: time passes by itself. */
export interface Amount {
  /** US dollars; null when the price of something in it is not known. */
  readonly costUsd: number | null
  readonly inputTokens: number
  readonly cachedInputTokens: number
  readonly outputTokens: number
  readonly steps: number
  readonly toolCalls: number
}

export const nothing: Amount = {
  costUsd: 0,
  inputTokens: 0,
  cachedInputTokens: 0,
  outputTokens: 0,
  steps: 0,
  toolCalls: 0,
}

/** Dollars to the billionth. */
export function exactUsd(usd: number): number {
  return Math.round(usd * 1e9) / 1e9
}

export function plus(a: Amount, b: Amount): Amount {
  return combine(a, b, (x, y) => x + y)
}

export function minus(a: Amount, b: Amount): Amount {
  return combine(a, b, (x, y) => x - y)
}

function combine(a: Amount, b: Amount, of: (x: number, y: number) => number): Amount {
  return {
    costUsd: a.costUsd === null || b.costUsd === null ? null : exactUsd(of(a.costUsd, b.costUsd)),
    inputTokens: of(a.inputTokens, b.inputTokens),
    cachedInputTokens: of(a.cachedInputTokens, b.cachedInputTokens),
    outputTokens: of(a.outputTokens, b.outputTokens),
    steps: of(a.steps, b.steps),
    toolCalls: of(a.toolCalls, b.toolCalls),
  }
}

/** One generation's. */
export function amountOf(usage: Usage): Amount {
  const { costUsd, inputTokens, cachedInputTokens, outputTokens } = usage
  return { costUsd, inputTokens, cachedInputTokens, outputTokens, steps: 1, toolCalls: 0 }
}

export function isUnlimited(budget: Budget | undefined): boolean {
  return budget === undefined || MEASURES.every((measure) => budget[measure] === undefined)
}

/** The limits after a raise, which says nothing of measures that it does not name. */
export function raised(limits: Budget, raise: Raise): Budget {
  const next: Partial<Record<Measure, number>> = { ...limits }
  for (const measure of MEASURES) {
    const limit = raise[measure]
    if (limit === null) delete next[measure]
    else if (limit !== undefined) next[measure] = limit
  }
  return next
}

/** What an answer to a question about a budget says; undefined when it says neither, which leaves all as it is. */
export function verdictOf(value: Json): 'stop' | Raise | undefined {
  if (value === 'stop') return 'stop'
  const raise = isJsonObject(value) ? value['raise'] : undefined
  if (raise === undefined || !isJsonObject(raise)) return undefined
  const given: Partial<Record<Measure, number | null>> = {}
  for (const measure of MEASURES) {
    const limit = Object.hasOwn(raise, measure) ? raise[measure] : undefined
    if (limit === null || typeof limit === 'number') given[measure] = limit
  }
  return given
}

/** What a limit may be: how it is written in a file or a request, bounds included. */
export const LIMITS: Readonly<
  Record<Measure, { readonly isWhole: boolean; readonly min: number; readonly max: number }>
> = {
  costUsd: { isWhole: false, min: 0.000001, max: 1_000_000 },
  inputTokens: { isWhole: true, min: 1, max: 1e12 },
  cachedInputTokens: { isWhole: true, min: 1, max: 1e12 },
  // With less than this no generation is begun.
  outputTokens: { isWhole: true, min: 256, max: 1e12 },
  steps: { isWhole: true, min: 1, max: 1e9 },
  toolCalls: { isWhole: true, min: 1, max: 1e9 },
  wallSeconds: { isWhole: false, min: 1, max: 1e9 },
}

/** Why a number cannot be a limit, in words that follow its name; undefined when it can. */
export function limitFault(measure: Measure, limit: number): string | undefined {
  const { isWhole, min, max } = LIMITS[measure]
  const fits = limit >= min && limit <= max && (!isWhole || Number.isInteger(limit))
  return fits ? undefined : `must be a ${isWhole ? 'whole ' : ''}number from ${min} to ${max}`
}
