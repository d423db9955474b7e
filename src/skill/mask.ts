/** Takes secrets out of what a server says, wherever in it they stand. */
import { isJsonObject, type Json } from '../../schema/json.ts'

/** A shorter secret hides nothing, and its characters stand in many an innocent word. */
const SECRET_CHARS_MIN = 6

/** The same value, each secret in it, in texts and in names, read as ***. */
export function masked(value: Json, secrets: readonly string[]): Json {
  const hidden = secrets.filter((secret) => secret.length >= SECRET_CHARS_MIN).toSorted((a, b) => b.length - a.length)
  return hidden.length === 0 ? value : walk(value, hidden)
}

function walk(value: Json, hidden: readonly string[]): Json {
  if (typeof value === 'string') return hide(value, hidden)
  if (Array.isArray(value)) return value.map((item: Json) => walk(item, hidden))
  if (!isJsonObject(value)) return value
  return Object.fromEntries(Object.entries(value).map(([name, member]) => [hide(name, hidden), walk(member, hidden)]))
}

function hide(text: string, hidden: readonly string[]): string {
  return hidden.reduce((seen, secret) => seen.replaceAll(secret, '***'), text)
}
