/** What models cost: the platform's table, an operator's, and what a generation comes to. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { isFaults } from '../../schema/toml-file.ts'
import { costAtMost, costOf, parseModelTable, priceOf, type Price, type Prices } from '../../src/gateway/price.ts'
import { ROOT } from '../support/source.ts'

const parsed = parseModelTable(readFileSync(join(ROOT, 'src/gateway/prices.toml'), 'utf8'), 'prices.toml')
const prices: Prices = 'prices' in parsed ? parsed.prices : {}

const tiered: Price = {
  input: 2,
  cachedInput: 0.2,
  cacheWrite: 2.5,
  output: 10,
  long: { aboveInputTokens: 100_000, input: 4, cachedInput: 0.4, output: 20 },
  source: 'a test',
  date: '2026-01-01',
}
const usage = { inputTokens: 0, cachedInputTokens: 0, outputTokens: 0, reasoningTokens: 0 }

describe("the platform's table of prices", () => {
  it('is whole, and says of each row where and when it was read', () => {
    expect(isFaults(parsed)).toBe(false)
    const all = Object.entries(prices)
    expect(all.length).toBeGreaterThan(20)
    for (const [model, price] of all) {
      expect([model, price.source]).toEqual([model, expect.stringMatching(/^https:\/\//)])
      expect(price.output).toBeGreaterThan(0)
      expect(price.cachedInput ?? price.input).toBeLessThanOrEqual(price.input)
    }
  })

  it('knows a model by its dated names, and guesses none', () => {
    expect(priceOf(prices, 'anthropic/claude-sonnet-4-5-20250929')).toEqual(
      priceOf(prices, 'anthropic/claude-sonnet-4-5'),
    )
    for (const model of ['anthropic/claude-sonnet-4', 'openai-compatible/gpt-5', 'constructor', 'ollama/llama3'])
      expect([model, priceOf(prices, model)]).toEqual([model, undefined])
  })
})

describe("an operator's table", () => {
  it.each([
    ['a row without a source', '[models."a/b"]\ninput = 1\noutput = 1\ndate = "2026-01-01"', 'source'],
    [
      'a key that is none',
      '[models."a/b"]\ninput = 1\noutput = 1\nprice = 3\nsource = "x"\ndate = "2026-01-01"',
      'price',
    ],
    ['a negative price', '[models."a/b"]\ninput = -1\noutput = 1\nsource = "x"\ndate = "2026-01-01"', 'input'],
    ['a date that is none', '[models."a/b"]\ninput = 1\noutput = 1\nsource = "x"\ndate = "lately"', 'date'],
    ['a model without its provider', '[models."b"]\ninput = 1\noutput = 1\nsource = "x"\ndate = "2026-01-01"', 'b'],
    [
      'two prices for one name',
      '[models."a/b"]\naliases = ["a/c"]\ninput = 1\noutput = 1\nsource = "x"\ndate = "2026-01-01"\n[models."a/c"]\ninput = 1\noutput = 1\nsource = "x"\ndate = "2026-01-01"',
      'a/c',
    ],
  ])('with %s is refused, and the fault is named', (_name, text, named) => {
    const faults = parseModelTable(text, 'mine.toml')
    expect(isFaults(faults)).toBe(true)
    expect(JSON.stringify(faults)).toContain(named)
  })
})

describe('the cost of a generation', () => {
  it('counts what was fresh, read from a cache and written to one at their own rates', () => {
    const read = { ...usage, inputTokens: 10_000, cachedInputTokens: 6000, outputTokens: 1000 }
    expect(costOf(tiered, read, 1000)).toBe(0.0197)
    expect(costOf({ ...tiered, cachedInput: undefined, cacheWrite: undefined }, read, 1000)).toBe(0.03)
  })

  it('goes by the higher rates as a whole when the input is long', () => {
    expect(costOf(tiered, { ...usage, inputTokens: 100_000, outputTokens: 1000 }, 0)).toBe(0.21)
    expect(costOf(tiered, { ...usage, inputTokens: 100_001, outputTokens: 1000 }, 0)).toBe(0.420004)
  })

  it('is never above what was set aside for as many tokens or more', () => {
    const tokens = fc.nat(200_000)
    fc.assert(
      fc.property(tokens, tokens, tokens, tokens, (input, cachedShare, writtenShare, output) => {
        const cachedInputTokens = Math.min(input, cachedShare)
        const written = Math.min(input - cachedInputTokens, writtenShare)
        const atMost = costAtMost(tiered, input)
        const cost = costOf(tiered, { ...usage, inputTokens: input, cachedInputTokens, outputTokens: output }, written)
        expect(cost).toBeLessThanOrEqual(atMost.inputUsd + output * atMost.outputTokenUsd + 1e-9)
      }),
    )
  })

  it('is nothing for a rehearsal, unless a table names it', () => {
    expect(priceOf({}, 'rehearsal/turns')).toMatchObject({ input: 0, output: 0 })
    expect(priceOf({ 'rehearsal/turns': tiered }, 'rehearsal/turns')).toBe(tiered)
  })
})
