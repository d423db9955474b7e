/**
 * What is known of models: a table of their prices and windows, each row with its source and date, and the cost of a
 * generation by it. The platform's own table is `prices.toml`; an operator's has the same form, and its rows stand in
 * place of ours.
 */
import { z } from 'zod'
import { exactUsd } from '../../schema/budget.ts'
import { isFaults, readToml, type Fault } from '../../schema/toml-file.ts'
import type { Usage } from '../../schema/usage.ts'

/** US dollars for a million tokens. */
export interface Rates {
  readonly input: number
  /** Input that the provider read from its cache; left out: as input. */
  readonly cachedInput?: number | undefined
  /** Input that the provider wrote to its cache; left out: as input. */
  readonly cacheWrite?: number | undefined
  readonly output: number
}

export interface Price extends Rates {
  /** The rates for a whole generation whose input is longer than this. */
  readonly long?: (Rates & { readonly aboveInputTokens: number }) | undefined
  readonly source: string
  /** When the source said so: YYYY-MM-DD. */
  readonly date: string
}

/** By `provider/model`. */
export type Prices = Readonly<Record<string, Price>>
/** Tokens that a model reads at most, by `provider/model`. */
export type Windows = Readonly<Record<string, number>>

export interface ModelTable {
  readonly prices: Prices
  readonly windows: Windows
}

const usd = z.number().min(0).max(1_000_000)
const rates = { input: usd, cachedInput: usd.optional(), cacheWrite: usd.optional(), output: usd }
const rowShape = {
  ...rates,
  input: usd.optional(),
  output: usd.optional(),
  contextWindow: z.number().int().min(1000).max(1_000_000_000).optional(),
  long: z.strictObject({ ...rates, aboveInputTokens: z.number().int().min(1) }).optional(),
  source: z.string().min(1).max(1000),
  date: z.string().regex(/^\d{4}-\d{2}-\d{2}$/, 'must be a date such as "2026-01-31"'),
  /** Other names of the same model, with its dated ones. */
  aliases: z
    .array(z.string().regex(/^[a-z-]+\/.+$/, 'must be provider/model'))
    .max(32)
    .optional(),
}
const rowSchema = z.strictObject(rowShape)
const tableSchema = z.strictObject({
  models: z.record(z.string().regex(/^[a-z-]+\/.+$/, 'must be provider/model'), rowSchema, {
    error: () => 'must be a table of models, such as [models."anthropic/claude-sonnet-4-5"]',
  }),
})

/** The table of a file, or all of its faults. A model that is named twice is one. */
export function parseModelTable(text: string, fileName: string): ModelTable | readonly Fault[] {
  const table = readToml(text, fileName, {
    schema: tableSchema,
    keysAt: (path) =>
      path.length === 0
        ? ['models']
        : path[2] === 'long'
          ? [...Object.keys(rates), 'aboveInputTokens']
          : Object.keys(rowShape),
    check: (root) => {
      const parsed = tableSchema.safeParse(root).data
      const seen = new Set(Object.keys(parsed?.models ?? {}))
      const faulty = Object.entries(parsed?.models ?? {}).flatMap(([model, row]) => {
        const words = faultInRow(row)
        return words === undefined ? [] : [{ path: ['models', model], words }]
      })
      if (faulty.length > 0) return faulty
      return Object.entries(parsed?.models ?? {}).flatMap(([model, { aliases = [] }]) =>
        aliases.flatMap((alias) => {
          const words = `names ${alias}, which has a row already; remove it`
          if (seen.has(alias)) return [{ path: ['models', model, 'aliases'], words }]
          seen.add(alias)
          return []
        }),
      )
    },
  })
  if (isFaults(table)) return table
  const rows = Object.entries(table.models).flatMap(([model, { aliases = [], ...row }]) =>
    [model, ...aliases].map((name) => [name, row] as const),
  )
  const prices = rows.flatMap(([name, row]): [string, Price][] => {
    const price = priceIn(row)
    return price === undefined ? [] : [[name, price]]
  })
  const windows = rows.flatMap(([name, { contextWindow }]): [string, number][] =>
    contextWindow === undefined ? [] : [[name, contextWindow]],
  )
  return { prices: Object.fromEntries(prices), windows: Object.fromEntries(windows) }
}

function priceIn(row: z.infer<typeof rowSchema>): Price | undefined {
  const { input, cachedInput, cacheWrite, output, long, source, date } = row
  return input === undefined || output === undefined
    ? undefined
    : { input, cachedInput, cacheWrite, output, long, source, date }
}

/** A row has a whole price, a window, or both. */
function faultInRow(row: z.infer<typeof rowSchema>): string | undefined {
  const { input, output, cachedInput, cacheWrite, long, contextWindow } = row
  const isPriced = [input, output, cachedInput, cacheWrite, long].some((part) => part !== undefined)
  if (isPriced) return input === undefined || output === undefined ? 'must give input and output' : undefined
  return contextWindow === undefined ? 'says nothing; give it a price, a contextWindow, or both' : undefined
}

/** The price of a model, or undefined: nobody guesses one. A rehearsal that no table names costs nothing. */
export function priceOf(prices: Prices, model: string): Price | undefined {
  if (Object.hasOwn(prices, model)) return prices[model]
  return model.startsWith('rehearsal/') ? FREE : undefined
}

const FREE: Price = { input: 0, output: 0, source: 'a rehearsal asks no provider', date: '2026-01-01' }
const MILLION = 1_000_000

function ratesFor(price: Price, inputTokens: number): Rates {
  return price.long !== undefined && inputTokens > price.long.aboveInputTokens ? price.long : price
}

/** What a generation cost. `cacheWriteTokens` are the part of its input that was written to the provider's cache. */
export function costOf(price: Price, usage: Omit<Usage, 'costUsd'>, cacheWriteTokens: number): number {
  const { inputTokens, cachedInputTokens, outputTokens } = usage
  const { input, cachedInput = input, cacheWrite = input, output } = ratesFor(price, inputTokens)
  const fresh = Math.max(0, inputTokens - cachedInputTokens - cacheWriteTokens)
  const dollars =
    fresh * input + cachedInputTokens * cachedInput + cacheWriteTokens * cacheWrite + outputTokens * output
  return exactUsd(dollars / MILLION)
}

/** The most that so much input may cost, and each token of output. */
export function costAtMost(
  price: Price,
  inputTokens: number,
): { readonly inputUsd: number; readonly outputTokenUsd: number } {
  const { input, cachedInput = input, cacheWrite = input, output } = ratesFor(price, inputTokens)
  return {
    inputUsd: (inputTokens * Math.max(input, cachedInput, cacheWrite)) / MILLION,
    outputTokenUsd: output / MILLION,
  }
}
