/**
 * How many tokens models read at most. From the catalogue of models.dev (github.com/anomalyco/models.dev, the member
 * `limit` of each model: `input` where it is given, else `context`), copies of July to October 2026; but for
 * claude-opus-5-5 and claude-sonnet-5-5, which are from secondary sources. A model without a row has no known window:
 * nobody guesses one.
 */

const SMALL = 200_000
const MILLION = 1_000_000
/** Google's. */
const MEBI = 1_048_576
/** Of OpenAI's, what input may have. */
const LARGE = 922_000
const MEDIUM = 272_000

const WINDOWS: Readonly<Record<string, number>> = {
  'anthropic/claude-opus-5-5': MILLION,
  'anthropic/claude-opus-5': MILLION,
  'anthropic/claude-opus-4-8': MILLION,
  'anthropic/claude-sonnet-5-5': MILLION,
  'anthropic/claude-sonnet-5': MILLION,
  'anthropic/claude-sonnet-4-6': MILLION,
  'anthropic/claude-haiku-4-5': SMALL,
  'openai/gpt-6-astra': LARGE,
  'openai/gpt-5.6-sol': LARGE,
  'openai/gpt-5.6': LARGE,
  'openai/gpt-5.5': LARGE,
  'openai/gpt-5.4': MEDIUM,
  'openai/gpt-5': MEDIUM,
  'openai/o3': SMALL,
  'google/gemini-3.8-flash': MEBI,
  'google/gemini-3.1-pro-preview': MEBI,
  'google/gemini-2.5-pro': MEBI,
}

/** What names a state of a model: `-20260930`, `-2026-09-30`, `-latest`. */
const STATE = /-(?:\d{8}|\d{4}-\d{2}-\d{2}|latest)$/

/** By `provider/model`; null when it is not known. */
export function windowOf(model: string): number | null {
  const name = [model, model.replace(STATE, '')].find((name) => Object.hasOwn(WINDOWS, name))
  return name === undefined ? null : (WINDOWS[name] ?? null)
}
