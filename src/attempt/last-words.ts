/**
 * What a machine, or who was to start it, said last, as far as the owner of its job is told: short, on one line, without a
 * secret, and without where on the host's disk anything stands. The whole stands in the operators' log.
 */
import { printable } from '../log.ts'
import { masked } from '../skill/mask.ts'

export const LAST_WORDS_CHARS_MAX = 300

/** What Node writes around the sentence that matters: where it was thrown, by which version. */
const AROUND = /^\s*(?:at .*|\^+|Node\.js v\S+|)\s*$/
/** The name of the file is left. */
const DIRECTORIES = /(?:file:\/\/)?(?:\/[\w.@+~-]+)+\/(?=[\w.@+~-])/g

/** `secrets` in the clear; undefined when nothing is left to say. */
export function lastWords(said: string, secrets: readonly string[]): string | undefined {
  const hidden = masked(said, secrets)
  if (typeof hidden !== 'string') return undefined
  const lines = hidden
    .split(/\r?\n/)
    .filter((line) => !AROUND.test(line))
    .map((line) => line.trim())
  const words = printable(lines.join(' ').replace(/\s+/g, ' ')).replace(DIRECTORIES, '')
  if (words === '') return undefined
  return words.length <= LAST_WORDS_CHARS_MAX ? words : `…${words.slice(-(LAST_WORDS_CHARS_MAX - 1))}`
}
