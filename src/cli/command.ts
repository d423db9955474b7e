/** The shape of a command of the command line, its arguments and its help. */
import { parseArgs, type ParseArgsConfig } from 'node:util'
import type { Clock } from '../../schema/clock.ts'
import { CATALOGUE, KINDS, PlatformError, type ErrorCode } from '../../schema/error.ts'
import type { Api } from './api.ts'
import type { Terminal } from './terminal.ts'

export interface Option {
  readonly type: 'string' | 'boolean'
  readonly multiple?: boolean
  /** What the help calls the value. */
  readonly value?: string
  readonly help: string
}

/** What a command gets: its arguments and the world. */
export interface Call {
  readonly positionals: readonly string[]
  /** The last value of a string option; undefined when it is not given. */
  text(name: string): string | undefined
  texts(name: string): readonly string[]
  flag(name: string): boolean
  readonly json: boolean
  readonly terminal: Terminal
  readonly clock: Clock
  readonly directory: string
  readonly environment: Readonly<Record<string, string | undefined>>
  /** The server's, without a slash at its end. Throws input_invalid. */
  url(): string
  /** Throws unauthenticated when no key is found. */
  api(): Promise<Api>
  /** Fresh for every call: makes a create that is sent again the same create. */
  makeIdempotencyKey(): string
}

export interface Command {
  readonly name: string
  /** The positional arguments, as the help writes them. */
  readonly usage: string
  readonly summary: string
  readonly details?: string
  readonly options: Readonly<Record<string, Option>>
  /** Least and most positional arguments. */
  readonly arity: readonly [number, number]
  /** Resolves to the exit code. */
  perform(call: Call): Promise<number>
}

export const everyOption: Readonly<Record<string, Option>> = {
  json: { type: 'boolean', help: 'Print JSON instead of text.' },
  url: {
    type: 'string',
    value: 'url',
    help: 'The server (SENMON_URL; default http://127.0.0.1 at SENMON_PORT, 4000).',
  },
  'key-file': {
    type: 'string',
    value: 'path',
    help: 'Read the key from a file (else SENMON_KEY, else <data dir>/dev-key).',
  },
  help: { type: 'boolean', help: 'Print this help.' },
}

export interface ParsedArguments {
  readonly positionals: readonly string[]
  readonly values: Readonly<Record<string, unknown>>
}

/** Throws input_invalid, with a sentence that names the argument. */
export function parseArguments(command: Command, args: readonly string[]): ParsedArguments {
  const options: NonNullable<ParseArgsConfig['options']> = {}
  for (const [name, { type, multiple }] of Object.entries({ ...command.options, ...everyOption }))
    options[name] = multiple === true ? { type, multiple } : { type }
  const usage = `Usage: senmon ${command.name} ${command.usage}`.trimEnd()
  let parsed
  try {
    parsed = parseArgs({ args: [...args], options, allowPositionals: true, strict: true })
  } catch (cause) {
    const said = cause instanceof Error ? cause.message.split('. ')[0] : String(cause)
    throw new PlatformError('input_invalid', `${said}. ${usage}`, { cause })
  }
  const [least, most] = command.arity
  if (parsed.values['help'] !== true && (parsed.positionals.length < least || parsed.positionals.length > most)) {
    const count = `${parsed.positionals.length} argument${parsed.positionals.length === 1 ? '' : 's'}`
    throw new PlatformError('input_invalid', `senmon ${command.name} does not take ${count}. ${usage}`)
  }
  return { positionals: parsed.positionals, values: parsed.values }
}

/** A whole number from 1; undefined when the option is not given. Throws input_invalid. */
export function parseCount(name: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined
  const count = Number(text)
  if (Number.isInteger(count) && count >= 1) return count
  throw new PlatformError('input_invalid', `--${name} is "${text}"; it must be a whole number from 1.`)
}

export function printHelp(command: Command): string {
  const rows = Object.entries({ ...command.options, ...everyOption }).map(([name, option]) => [
    `--${name}${option.value === undefined ? '' : ` <${option.value}>`}`,
    option.help,
  ])
  const width = Math.max(...rows.map(([left = '']) => left.length))
  return [
    `senmon ${command.name} ${command.usage}`.trimEnd(),
    '',
    command.summary,
    ...(command.details === undefined ? [] : ['', command.details]),
    '',
    'Options',
    ...rows.map(([left = '', right = '']) => `  ${left.padEnd(width)}  ${right}`),
    '',
  ].join('\n')
}

/** The exit code that a code of the catalogue stands for. */
export function exitCodeOf(code: ErrorCode): number {
  return KINDS[CATALOGUE[code].kind].exitCode
}
