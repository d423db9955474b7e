/** The table of commands, and what every one of them has in common: help, the key, errors as exit codes. */
import { readFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import type { Clock } from '../../schema/clock.ts'
import { PlatformError } from '../../schema/error.ts'
import { Secret } from '../../schema/secret.ts'
import { answer } from './answer.ts'
import { openApi, type Api } from './api.ts'
import { cancel } from './cancel.ts'
import { exitCodeOf, parseArguments, printHelp, type Command, type ParsedArguments } from './command.ts'
import { goOn } from './continue.ts'
import { exportJob } from './export.ts'
import { fork } from './fork.ts'
import { importJob } from './import.ts'
import { init } from './init.ts'
import { jobs } from './jobs.ts'
import { lint } from './lint.ts'
import { log } from './log.ts'
import { pool } from './pool.ts'
import { publish } from './publish.ts'
import { replay } from './replay.ts'
import { run } from './run.ts'
import { secret } from './secret.ts'
import { start } from './start.ts'
import { verify } from './verify.ts'
import { shown, type Terminal } from './terminal.ts'

export const COMMANDS: readonly Command[] = [
  start,
  run,
  goOn,
  answer,
  cancel,
  fork,
  exportJob,
  verify,
  replay,
  importJob,
  log,
  jobs,
  pool,
  init,
  lint,
  publish,
  secret,
]

/** Where a server that was started with the same environment listens. */
function defaultUrl(environment: World['environment']): string {
  return `http://127.0.0.1:${nonEmpty(environment['SENMON_PORT']) ?? '4000'}`
}

export interface World {
  readonly terminal: Terminal
  readonly clock: Clock
  readonly directory: string
  readonly environment: Readonly<Record<string, string | undefined>>
  readonly fetchFn: typeof fetch
  makeIdempotencyKey(): string
}

/** Performs the command that `args` name; resolves to the exit code and never rejects. */
export async function performCommand(args: readonly string[], world: World): Promise<number> {
  const [name, ...rest] = args
  if (name === undefined || name === 'help' || name === '--help' || name === '-h') {
    world.terminal.write(printCommands())
    return name === undefined ? exitCodeOf('input_invalid') : 0
  }
  const asJson = rest.includes('--json')
  try {
    const command = COMMANDS.find((one) => one.name === name)
    if (command === undefined)
      throw new PlatformError('input_invalid', `There is no command "${name}"; \`senmon help\` lists them.`)
    const parsed = parseArguments(command, rest)
    if (parsed.values['help'] === true) {
      world.terminal.write(printHelp(command))
      return 0
    }
    return await command.perform(makeCall(parsed, world))
  } catch (error) {
    return printError(error, asJson, world.terminal)
  }
}

function makeCall({ positionals, values }: ParsedArguments, world: World) {
  const texts = (name: string): readonly string[] => {
    const value = values[name]
    if (Array.isArray(value)) return value.filter((one) => typeof one === 'string')
    return typeof value === 'string' ? [value] : []
  }
  const text = (name: string) => texts(name).at(-1)
  const urlOf = () => {
    const named = text('url') ?? nonEmpty(world.environment['SENMON_URL']) ?? defaultUrl(world.environment)
    const url = named.replace(/\/+$/, '')
    if (!URL.canParse(url)) throw new PlatformError('input_invalid', `"${url}" is not the URL of a server.`)
    return url
  }
  return {
    positionals,
    text,
    texts,
    flag: (name: string) => values[name] === true,
    json: values['json'] === true,
    terminal: world.terminal,
    clock: world.clock,
    directory: world.directory,
    environment: world.environment,
    makeIdempotencyKey: () => world.makeIdempotencyKey(),
    url: urlOf,
    async api(): Promise<Api> {
      return openApi(urlOf(), await readKey(text('key-file'), world), world.clock, world.fetchFn)
    },
  }
}

async function readKey(keyFile: string | undefined, world: World): Promise<Secret> {
  const { environment, directory } = world
  const given = nonEmpty(environment['SENMON_KEY'])
  if (keyFile === undefined && given !== undefined) return new Secret(given)
  const path = resolve(directory, keyFile ?? join(nonEmpty(environment['SENMON_DATA_DIR']) ?? '.senmon', 'dev-key'))
  try {
    return new Secret((await readFile(path, 'utf8')).trim())
  } catch (cause) {
    const words = `No key: SENMON_KEY is not set and ${path} cannot be read; name the key's file with --key-file.`
    throw new PlatformError('unauthenticated', words, { cause })
  }
}

function nonEmpty(text: string | undefined): string | undefined {
  return text === undefined || text === '' ? undefined : text
}

function printError(error: unknown, asJson: boolean, terminal: Terminal): number {
  if (!(error instanceof PlatformError)) {
    terminal.note(`${error instanceof Error ? shown(error.stack ?? error.message) : String(error)}\n`)
    return exitCodeOf('internal')
  }
  const { code, message, hint } = error
  if (asJson) terminal.write(`${JSON.stringify({ code, message, hint })}\n`)
  else terminal.note(`[${code}] ${shown(message)}\n${hint}\n`)
  return exitCodeOf(code)
}

function printCommands(): string {
  const width = Math.max(...COMMANDS.map(({ name }) => name.length))
  return [
    'senmon <command>',
    '',
    ...COMMANDS.map(({ name, summary }) => `  ${name.padEnd(width)}  ${summary}`),
    '',
    '`senmon <command> --help` says more. Exit codes: 0 done, 1 fault, 2 bad input, 3 not allowed, 4 not found,',
    '5 not possible now (a job that waits for an answer included), 6 a limit, 7 canceled, 8 try again later.',
    '',
  ].join('\n')
}
