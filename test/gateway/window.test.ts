/** What models read at most, by their names. */
import { describe, expect, it } from 'vitest'
import { windowOf } from '../../src/gateway/window.ts'

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
})
