/** Branded ids: a prefix that says the kind, then characters that mean nothing. */
import { canonical, sha256 } from './hash.ts'

declare const brand: unique symbol
type Id<Kind extends string> = string & { readonly [brand]: Kind }

export type ApplicationId = Id<'app'>
export type ApiKeyId = Id<'key'>
export type JobId = Id<'job'>
export type RunId = Id<'run'>
export type QuestionId = Id<'que'>
export type MachineId = Id<'mch'>

interface Kinds {
  app: ApplicationId
  key: ApiKeyId
  job: JobId
  run: RunId
  que: QuestionId
  mch: MachineId
}
export type IdKind = keyof Kinds

const SHAPE = /^[a-z]{3}_[0-9a-z]{16,40}$/

/** The id when `text` has the kind's shape, else undefined: a wrong kind is as unknown as a wrong value. */
export function parseId<Kind extends IdKind>(kind: Kind, text: unknown): Kinds[Kind] | undefined {
  if (typeof text !== 'string' || !text.startsWith(`${kind}_`) || !SHAPE.test(text)) return undefined
  return text as Kinds[Kind]
}

/**
 * A fresh id that sorts by creation: 10 characters of time (ms, base 32), 16 of chance.
 * `atMs` and `chance` come from the caller, since nothing in here knows the time.
 */
export function makeId<Kind extends IdKind>(kind: Kind, atMs: number, chance: Uint8Array): Kinds[Kind] {
  const time = Math.trunc(atMs).toString(32).padStart(10, '0').slice(-10)
  let random = ''
  for (let i = 0; i < 16; i++) random += ((chance[i] ?? 0) & 31).toString(32)
  return `${kind}_${time}${random}` as Kinds[Kind]
}

/**
 * An id that follows from its causes, so that whoever derives it again after a crash gets the same one:
 * runs from (job, parent, call), questions from (job, run, call, arguments).
 */
export function deriveId<Kind extends 'run' | 'que'>(kind: Kind, ...causes: readonly unknown[]): Kinds[Kind] {
  return `${kind}_${sha256(canonical(causes)).slice(0, 26)}` as Kinds[Kind]
}
