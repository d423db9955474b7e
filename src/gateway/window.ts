/** How many tokens a model reads at most, by the table of what is known of models. */
import type { Windows } from './price.ts'

/** What names a state of a model: `-20260930`, `-2026-09-30`, `-latest`. */
const STATE = /-(?:\d{8}|\d{4}-\d{2}-\d{2}|latest)$/

/** By `provider/model`; null when it is not known: nobody guesses one. */
export function windowOf(windows: Windows, model: string): number | null {
  const name = [model, model.replace(STATE, '')].find((name) => Object.hasOwn(windows, name))
  return name === undefined ? null : (windows[name] ?? null)
}
