/**
 * What a request to Anthropic may write in all. The SDK adds the tokens of a thought to the most that it is told, so that
 * only what goes out at last says how much may come back and be paid for.
 */
import { isJsonObject, type JsonObject } from '../../schema/json.ts'

/** The least that the provider takes for a thought. */
const THINKING_MIN = 1024

/** A fetch whose requests ask for at most so many tokens, thoughts included. */
export function cappedFetch(fetch: typeof globalThis.fetch, outputTokensMax: number): typeof globalThis.fetch {
  return async (input, init) => {
    if (typeof init?.body !== 'string') throw new TypeError('a request whose output is bounded has no body of text')
    const body: unknown = JSON.parse(init.body)
    if (!isJsonObject(body)) throw new TypeError('a request whose output is bounded is no object')
    return await fetch(input, { ...init, body: JSON.stringify(capped(body, outputTokensMax)) })
  }
}

/** The body with at most so much output; a thought gets half of it, or is left out where half is too little. */
export function capped(body: JsonObject, outputTokensMax: number): JsonObject {
  const most = body['max_tokens']
  if (typeof most === 'number' && most <= outputTokensMax) return body
  const { thinking, ...rest } = body
  const bounded = { ...rest, max_tokens: outputTokensMax }
  if (thinking === undefined || !isJsonObject(thinking) || thinking['type'] !== 'enabled')
    return thinking === undefined ? bounded : { ...bounded, thinking }
  const wanted = Number(thinking['budget_tokens'])
  const budget = Math.min(wanted, Math.floor(outputTokensMax / 2))
  if (budget < THINKING_MIN) return { ...bounded, thinking: { type: 'disabled' } }
  return { ...bounded, thinking: { ...thinking, budget_tokens: budget } }
}
