/** What models read at most, by their names. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { isFaults } from '../../schema/toml-file.ts'
import { parseModelTable } from '../../src/gateway/price.ts'
import { windowOf as find } from '../../src/gateway/window.ts'
import { ROOT } from '../support/source.ts'

const table = parseModelTable(readFileSync(join(ROOT, 'src/gateway/prices.toml'), 'utf8'), 'prices.toml')
const windowOf = (model: string) => find('windows' in table ? table.windows : {}, model)

describe('the window of a model', () => {
  it('is known by its name, and by the names of its states', () => {
    expect(windowOf('anthropic/claude-haiku-4-5')).toBe(200_000)
    expect(windowOf('anthropic/claude-haiku-4-5-20251001')).toBe(200_000)
    expect(windowOf('openai/gpt-5-2025-08-07')).toBe(272_000)
    expect(windowOf('anthropic/claude-haiku-4-5-latest')).toBe(200_000)
  })

  it('is not guessed: neither from a similar name, nor for a model of one’s own', () => {
    for (const model of ['openai/gpt-5-huge', 'anthropic/claude-haiku-4', 'ollama/llama3', 'toString', 'gpt-5'])
      expect(windowOf(model)).toBeNull()
  })

  it('stands in the row of its price, or in one of its own, of an operator as well', () => {
    expect(isFaults(table)).toBe(false)
    expect(windowOf('openai/gpt-5.6')).toBe(922_000)
    expect(windowOf('openai/o3')).toBe(200_000)
    const row = (lines: string) =>
      parseModelTable(`[models."a/b"]\n${lines}\nsource = "x"\ndate = "2026-01-01"\n`, 'mine.toml')
    expect(row('contextWindow = 32000')).toEqual({ prices: {}, windows: { 'a/b': 32_000 } })
    expect(row('input = 1\noutput = 2\ncontextWindow = 32000')).toMatchObject({
      prices: { 'a/b': { input: 1, output: 2 } },
      windows: { 'a/b': 32_000 },
    })
    for (const wrong of ['', 'input = 1', 'contextWindow = 1.5', 'contextWindow = 32000\ncachedInput = 1'])
      expect(isFaults(row(wrong))).toBe(true)
  })
})
