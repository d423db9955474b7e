/** A typed answer → the value that a question's kind and schema ask for. Pure. */
import { refuse, type Refusal } from '../../schema/error.ts'
import { parseRaise } from './budget.ts'
import type { Json, JsonObject } from '../../schema/json.ts'

const YES = new Set(['y', 'yes', 'true', 'ok', 'はい'])
const NO = new Set(['n', 'no', 'false', 'いいえ'])

/** What a choose question offers, in its order. */
export function optionsOf(schema: JsonObject): readonly string[] {
  const options = schema['enum']
  return Array.isArray(options) ? options.filter((option) => typeof option === 'string') : []
}

/** `asJson` reads the text as JSON whatever the kind. */
export function parseAnswer(
  question: { readonly kind: string; readonly schema: JsonObject; readonly purpose?: string | null },
  text: string,
  asJson: boolean,
): { readonly value: Json } | Refusal {
  const raise = question.purpose === 'budget' && !asJson ? parseRaise(text) : undefined
  if (raise !== undefined) return { value: raise === 'stop' ? raise : { raise: { ...raise.raise } } }
  if (asJson || question.kind === 'schema') return parseJson(text)
  const typed = text.trim()
  switch (question.kind) {
    case 'confirm': {
      const word = typed.toLowerCase()
      if (YES.has(word)) return { value: true }
      if (NO.has(word)) return { value: false }
      return refuse('answer_invalid', `"${typed}" is neither yes nor no.`)
    }
    case 'choose': {
      const options = optionsOf(question.schema)
      const named = options.find((option) => option === typed)
      if (named !== undefined) return { value: named }
      const numbered = /^\d+$/.test(typed) ? options[Number(typed) - 1] : undefined
      if (numbered !== undefined) return { value: numbered }
      return refuse('answer_invalid', `"${typed}" is not one of: ${options.join(', ')}.`)
    }
    default:
      return { value: text }
  }
}

function parseJson(text: string): { readonly value: Json } | Refusal {
  try {
    return { value: JSON.parse(text) as Json }
  } catch {
    return refuse('answer_invalid', `${text.length > 60 ? 'The answer' : text} is not JSON.`)
  }
}

/** The line that a person types behind. */
export function promptFor(question: { readonly kind: string; readonly purpose?: string | null }): string {
  if (question.purpose === 'budget') return 'new totals (costUsd=5 steps=40), or stop> '
  switch (question.kind) {
    case 'confirm':
      return 'yes or no> '
    case 'choose':
      return 'an option or its number> '
    case 'ask':
      return 'answer> '
    default:
      return 'JSON> '
  }
}
