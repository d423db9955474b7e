/** A TOML file into a type, or all of its faults at once, each one sentence that says where it is and what to do. */
import { parse, TomlError } from 'smol-toml'
import * as z from 'zod'
import { locateKeys, type Position, type Positions } from './toml-position.ts'

export interface Fault {
  readonly file: string
  /** From 1. */
  readonly line: number
  readonly column: number | null
  /** As TOML writes it: `[experts."a".skills."b"]`, or `the top level`. */
  readonly table: string
  /** The key within the table; null when the table itself is at fault. */
  readonly field: string | null
  /** The whole sentence. */
  readonly message: string
}

/** Says no to a value, at a path, in words that follow the field's name. */
export interface Complaint {
  readonly path: readonly (string | number)[]
  readonly words: string
}

export const TOML_BYTES_MAX = 1024 * 1024
const DEPTH_MAX = 16
const KEYS_MAX = 10_000
const FAULTS_MAX = 50
const KEYS_DENIED = new Set(['__proto__', 'constructor', 'prototype'])
/** Control, direction and invisible characters: what they show is not what they say. */
const UNSEEN =
  /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff]/u
const TAG_CHARACTER = /[\u{e0000}-\u{e007f}]/u

/** UTF-8 bytes as text; undefined when they are not UTF-8. One byte order mark at the start is dropped. */
export function decodeUtf8(bytes: Uint8Array): string | undefined {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch {
    return undefined
  }
}

export interface TomlGrammar<T> {
  readonly schema: z.ZodType<T>
  /** The keys that a table at `path` may have, for "did you mean". */
  readonly keysAt: (path: readonly (string | number)[], root: unknown) => readonly string[]
  /** What lies across fields, of a root that may still be wrong elsewhere. */
  readonly check: (root: unknown) => readonly Complaint[]
}

/** The value that `text` holds, or its faults (never an empty list), in order of their lines. */
export function readToml<T>(text: string, file: string, grammar: TomlGrammar<T>): T | readonly Fault[] {
  const bytes = new TextEncoder().encode(text).length
  if (bytes > TOML_BYTES_MAX) {
    return [wholeFault(file, `is ${bytes} bytes long; keep it within ${TOML_BYTES_MAX}`)]
  }
  const body = withoutMark(text)
  let root: unknown
  try {
    root = parse(body)
  } catch (error) {
    if (error instanceof TomlError) return [syntaxFault(file, error)]
    return [wholeFault(file, 'is nested too deep to read; flatten it')]
  }
  const shape = complainOfShape(root)
  if (shape.length > 0) return locate(file, body, root, shape)
  const parsed = grammar.schema.safeParse(root)
  const issues = parsed.error?.issues.flatMap((issue) => complain(issue, root, grammar)) ?? []
  const complaints = [...issues, ...grammar.check(root)]
  if (parsed.success && complaints.length === 0) return parsed.data
  return locate(file, body, root, complaints)
}

/** Faults that were found elsewhere, of a text that has been read: each where it stands. */
export function faultsAt(text: string, file: string, complaints: readonly Complaint[]): readonly Fault[] {
  const body = withoutMark(text)
  return complaints.length === 0 ? [] : locate(file, body, parse(body), complaints)
}

function withoutMark(text: string): string {
  return text.startsWith('\ufeff') ? text.slice(1) : text
}

export function isFaults(value: unknown): value is readonly Fault[] {
  return Array.isArray(value)
}

function wholeFault(file: string, words: string): Fault {
  return { file, line: 1, column: null, table: 'the top level', field: null, message: `${file}:1: the file ${words}.` }
}

function syntaxFault(file: string, error: TomlError): Fault {
  const { line, column } = error
  const [first = ''] = error.message.split('\n')
  const why = first.replace(/^Invalid TOML document: /, '').replace(/\.+$/, '')
  const message = `${file}:${line}:${column}: the file is not valid TOML: ${why}.`
  return { file, line, column, table: 'the top level', field: null, message }
}

/** What must hold of every value, whatever it means: names, depth, size, characters. */
function complainOfShape(root: unknown): Complaint[] {
  const complaints: Complaint[] = []
  let keys = 0
  const visit = (value: unknown, path: readonly (string | number)[]): void => {
    if (complaints.length >= FAULTS_MAX) return
    if (path.length > DEPTH_MAX) {
      complaints.push({ path: path.slice(0, DEPTH_MAX), words: `is nested deeper than ${DEPTH_MAX}; flatten it` })
      return
    }
    if (typeof value === 'string') {
      const unseen = UNSEEN.exec(value) ?? TAG_CHARACTER.exec(value)
      if (unseen !== null)
        complaints.push({ path, words: `holds the invisible character ${name(unseen[0])}; remove it` })
      else if (!value.isWellFormed()) complaints.push({ path, words: 'holds half a surrogate pair; remove it' })
    } else if (Array.isArray(value)) {
      for (const [index, item] of value.entries()) visit(item, [...path, index])
    } else if (typeof value === 'object' && value !== null && !(value instanceof Date)) {
      for (const [key, member] of Object.entries(value)) {
        keys++
        if (KEYS_DENIED.has(key)) complaints.push({ path: [...path, key], words: 'is not a name that may be used' })
        else if (UNSEEN.test(key) || TAG_CHARACTER.test(key) || key.includes('\n'))
          complaints.push({ path, words: `has a key with an invisible character: ${JSON.stringify(key)}; rename it` })
        else visit(member, [...path, key])
      }
    }
  }
  visit(root, [])
  if (keys > KEYS_MAX) complaints.push({ path: [], words: `has ${keys} keys; keep it within ${KEYS_MAX}` })
  return complaints
}

function name(char: string): string {
  return `U+${(char.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, '0')}`
}

type Issue = z.core.$ZodIssue

function complain<T>(issue: Issue, root: unknown, grammar: TomlGrammar<T>): Complaint[] {
  const path = issue.path.map((part) => (typeof part === 'number' ? part : String(part)))
  if (issue.code === 'unrecognized_keys') {
    const known = grammar.keysAt(path, root)
    return issue.keys.map((key) => ({
      path: [...path, key],
      words: `is not a key that is known here${meant(key, known)}`,
    }))
  }
  if (issue.code === 'invalid_key') {
    return [{ path, words: issue.issues[0]?.message ?? 'is not a name that may be used' }]
  }
  // Of a union of tables it says which kinds there are; one of plain values says itself what it takes.
  if (issue.code === 'invalid_union' && 'options' in issue && Array.isArray(issue.options)) {
    const kinds = issue.options.map((option) => JSON.stringify(option)).join(', ')
    return [{ path, words: `must be one of ${kinds}${got(root, path)}` }]
  }
  // A message that is not zod's own is one that the grammar wrote.
  if (!/^(?:Invalid|Too|Unrecognized) /.test(issue.message)) return [{ path, words: issue.message }]
  return [{ path, words: `${want(issue)}${got(root, path)}` }]
}

/** What was wanted, in words that follow the field's name. */
function want(issue: Issue): string {
  switch (issue.code) {
    case 'invalid_type':
      return `must be ${WANTED[issue.expected] ?? `a ${issue.expected}`}`
    case 'invalid_value':
      return `must be ${issue.values.map((value) => JSON.stringify(value)).join(' or ')}`
    case 'too_small':
      if (issue.origin === 'string') return 'must not be empty'
      if (issue.origin === 'array') return `must have at least ${issue.minimum} entries`
      return `must be at least ${issue.minimum}`
    case 'too_big':
      if (issue.origin === 'string') return `must be at most ${issue.maximum} characters long`
      if (issue.origin === 'array') return `must have at most ${issue.maximum} entries`
      return `must be at most ${issue.maximum}`
    default:
      return issue.message
  }
}

const WANTED: Readonly<Record<string, string>> = {
  string: 'a string',
  int: 'a whole number',
  number: 'a number',
  boolean: 'true or false',
  array: 'a list',
  object: 'a table',
  record: 'a table',
}

/** `; got "x"` when a small value stands there, `; it is missing` when none does. */
function got(root: unknown, path: readonly (string | number)[]): string {
  const value = valueAt(root, path)
  if (value === undefined) return '; it is missing'
  if (typeof value === 'string') return value.length > 40 ? '' : `; got ${JSON.stringify(value)}`
  if (typeof value === 'number' || typeof value === 'boolean') return `; got ${value}`
  if (value instanceof Date) return '; got a date'
  if (Array.isArray(value)) return value.length > 20 ? '' : '; got a list'
  return '; got a table'
}

/** The value at a path of plain own members; undefined when there is none. */
export function valueAt(root: unknown, path: readonly (string | number)[]): unknown {
  let value = root
  for (const part of path) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, part)) return undefined
    value = (value as Record<string | number, unknown>)[part]
  }
  return value
}

/** With a full stop, where words do not end one already, as `meant` may. */
export function sentence(words: string): string {
  return /[.?]$/.test(words) ? words : `${words}.`
}

/** `; did you mean x?`, or the keys there are when none is near. */
export function meant(word: string, known: readonly string[]): string {
  const near = known
    .map((candidate) => ({ candidate, distance: distance(word.toLowerCase(), candidate.toLowerCase()) }))
    .toSorted((a, b) => a.distance - b.distance)[0]
  if (near !== undefined && near.distance <= Math.max(1, Math.floor(word.length / 3)))
    return `; did you mean ${near.candidate}?`
  return known.length === 0 ? '' : `; known are ${known.join(', ')}`
}

function distance(a: string, b: string): number {
  if (Math.abs(a.length - b.length) > 8) return 99
  let row = Array.from({ length: b.length + 1 }, (_, index) => index)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      const swap = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1)
      next.push(Math.min(swap, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1))
    }
    row = next
  }
  return row[b.length] ?? 99
}

function locate(file: string, text: string, root: unknown, complaints: readonly Complaint[]): readonly Fault[] {
  const positions = locateKeys(text)
  return complaints
    .slice(0, FAULTS_MAX)
    .map((complaint) => faultOf(file, positions, root, complaint))
    .toSorted((a, b) => a.line - b.line || (a.column ?? 0) - (b.column ?? 0))
}

function faultOf(file: string, positions: Positions, root: unknown, { path, words }: Complaint): Fault {
  const position = nearest(positions, path)
  const isTable = path.length === 0 || isPlainTable(valueAt(root, path))
  const tablePath = isTable ? path : path.slice(0, tableDepth(root, path))
  const table = printTable(tablePath)
  const field = isTable ? null : printField(path.slice(tablePath.length))
  const where = `${file}:${position.line}${position.exact ? `:${position.column}` : ''}`
  const subject = field === null ? table : `${field} in ${table}`
  const column = position.exact ? position.column : null
  const message = sentence(`${where}: ${subject} ${words}`)
  return { file, line: position.line, column, table, field, message }
}

/** The place of the longest part of the path that stands in the text. */
function nearest(positions: Positions, path: readonly (string | number)[]): Position & { readonly exact: boolean } {
  for (let length = path.length; length > 0; length--) {
    const found = positions(path.slice(0, length))
    if (found !== undefined) return { ...found, exact: length === path.length }
  }
  return { line: 1, column: 1, exact: false }
}

function isPlainTable(value: unknown): boolean {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Date)
}

/** How much of a path leads to the innermost table that there is. */
function tableDepth(root: unknown, path: readonly (string | number)[]): number {
  for (let length = path.length - 1; length > 0; length--)
    if (isPlainTable(valueAt(root, path.slice(0, length)))) return length
  return 0
}

function printTable(path: readonly (string | number)[]): string {
  if (path.length === 0) return 'the top level'
  const isName = (index: number) => index % 2 === 1 && (path[0] === 'experts' || path[0] === 'tools')
  const parts = path.map((part, index) =>
    typeof part === 'string' && (isName(index) || !/^[A-Za-z0-9_-]+$/.test(part)) ? JSON.stringify(part) : String(part),
  )
  return `[${parts.join('.')}]`
}

function printField(path: readonly (string | number)[]): string {
  return path
    .map((part) => (typeof part === 'number' ? `[${part}]` : `.${part}`))
    .join('')
    .replace(/^\./, '')
}
