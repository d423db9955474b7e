/**
 * Recorded turns: the file `rehearsals/<name>.toml` (or `.json`) of an expert's package, and which turn comes next.
 * Pure, and without memory: the newest messages and the step decide, so that a job that resumes goes on where it was.
 */
import { parse as parseToml, TomlError } from 'smol-toml'
import * as z from 'zod'
import { refuse, type Refusal } from '../../schema/error.ts'
import { textOf, type Message, type ToolResultPart } from '../../schema/message.ts'

/** Every condition that is given must hold; those on a result must hold of one and the same. */
const conditionSchema = z.strictObject({
  userContains: z.string().optional(),
  tool: z.string().optional(),
  resultContains: z.string().optional(),
  resultEquals: z.string().optional(),
  resultIsError: z.boolean().optional(),
  noResult: z.boolean().optional(),
})

const callSchema = z.strictObject({
  tool: z.string().min(1),
  args: z.json().default({}),
})

const turnSchema = z.strictObject({
  expert: z.string().min(1).optional(),
  /** The summary of a compaction, and nothing else. */
  compaction: z.boolean().default(false),
  step: z.int().min(1).optional(),
  when: conditionSchema.optional(),
  reasoning: z.string().optional(),
  text: z.string().optional(),
  calls: z.array(callSchema).default([]),
  usage: z
    .strictObject({
      inputTokens: z.int().min(0).default(0),
      cachedInputTokens: z.int().min(0).default(0),
      outputTokens: z.int().min(0).default(0),
      reasoningTokens: z.int().min(0).default(0),
    })
    .optional(),
  pauseMs: z.int().min(0).max(10_000).default(0),
})

const rehearsalSchema = z.strictObject({
  /** Tokens that the model would read at most. */
  contextWindow: z.int().min(1).optional(),
  turns: z.array(turnSchema).min(1),
})

export type Rehearsal = z.infer<typeof rehearsalSchema>
export type Turn = Rehearsal['turns'][number]
type Condition = z.infer<typeof conditionSchema>

/** Refuses with `rehearsal_invalid`, naming the file, the place in it and what is wrong. */
export function parseRehearsal(path: string, text: string): Rehearsal | Refusal {
  let document: unknown
  try {
    document = path.endsWith('.toml') ? parseToml(text) : JSON.parse(text)
  } catch (error) {
    const line = error instanceof TomlError ? `:${error.line}:${error.column}` : ''
    const why = error instanceof Error ? (error.message.split('\n')[0] ?? '') : 'it is not readable'
    return refuse('rehearsal_invalid', `${path}${line} cannot be read: ${why}.`)
  }
  const parsed = rehearsalSchema.safeParse(document)
  if (parsed.success) return parsed.data
  const issue = parsed.error.issues[0]
  const place = issue?.path.map((part) => (typeof part === 'number' ? `[${part}]` : `.${String(part)}`)).join('') ?? ''
  return refuse('rehearsal_invalid', `${path}, at ${place.replace(/^\./, '') || 'its top'}: ${issue?.message}.`)
}

/** The first turn that fits, in the order of the file; undefined when none does. */
export function nextTurn(
  rehearsal: Rehearsal,
  expertName: string,
  stepNumber: number,
  messages: readonly Message[],
  isCompaction = false,
): Turn | undefined {
  const { turns } = rehearsal
  const fits = (at: number): boolean => {
    const turn = turns[at]
    return turn?.compaction === isCompaction && isNamed(turn.expert, expertName) && holds(turn.when, messages)
  }
  const { byStep, ofAnyStep } = placesOf(rehearsal)
  const own = byStep.get(stepNumber)?.find(fits) ?? Infinity
  const any = ofAnyStep.find((at) => at < own && fits(at)) ?? Infinity
  return turns[Math.min(own, any)]
}

interface Places {
  readonly byStep: ReadonlyMap<number, readonly number[]>
  readonly ofAnyStep: readonly number[]
}
const placed = new WeakMap<Rehearsal, Places>()

/** Where the turns of a step are, found once: a long rehearsal names a step in each of its turns. */
function placesOf(rehearsal: Rehearsal): Places {
  const known = placed.get(rehearsal)
  if (known !== undefined) return known
  const all = [...rehearsal.turns.keys()]
  const byStep = Map.groupBy(all, (at) => rehearsal.turns[at]?.step ?? 0)
  const places = { byStep, ofAnyStep: byStep.get(0) ?? [] }
  placed.set(rehearsal, places)
  return places
}

/** By its whole name, or by what follows the last slash: the name within its own file. */
function isNamed(wanted: string | undefined, name: string): boolean {
  return wanted === undefined || wanted === name || name.endsWith(`/${wanted}`)
}

function newestResults(messages: readonly Message[]): readonly ToolResultPart[] {
  const newest = messages.at(-1)
  return newest?.role === 'tool' ? newest.content : []
}

function holds(when: Condition | undefined, messages: readonly Message[]): boolean {
  if (when === undefined) return true
  const { userContains, tool, resultContains, resultEquals, resultIsError, noResult } = when
  if (userContains !== undefined && !newestUserText(messages).includes(userContains)) return false
  const results = newestResults(messages)
  if (noResult !== undefined && noResult !== (results.length === 0)) return false
  if ([tool, resultContains, resultEquals, resultIsError].every((condition) => condition === undefined)) return true
  return results.some((result) => {
    const text = textOf(result.content)
    return (
      (tool === undefined || result.name === tool) &&
      (resultContains === undefined || text.includes(resultContains)) &&
      (resultEquals === undefined || text.trim() === resultEquals.trim()) &&
      (resultIsError === undefined || result.isError === resultIsError)
    )
  })
}

function newestUserText(messages: readonly Message[]): string {
  const newest = messages.findLast((message) => message.role === 'user')
  return newest === undefined ? '' : textOf(newest.content)
}

/** What the newest message is, in a few words: for saying why no turn fits. */
export function describeNewest(messages: readonly Message[]): string {
  const cut = (text: string): string => JSON.stringify(text.length > 120 ? `${text.slice(0, 120)}…` : text)
  const newest = messages.at(-1)
  if (newest === undefined) return 'there is no message'
  if (newest.role !== 'tool') return `the newest message is the ${newest.role}'s ${cut(textOf(newest.content))}`
  const results = newest.content.map((result) => {
    return `${result.name}${result.isError ? ' (error)' : ''} ${cut(textOf(result.content))}`
  })
  return `the newest results are ${results.join(', ')}`
}

/** Text in the pieces in which it is shown: words, a few at a time. */
export function piecesOf(text: string): readonly string[] {
  return text.match(/[^]{1,24}(?:\s+|$)|[^]{1,24}/g) ?? []
}
