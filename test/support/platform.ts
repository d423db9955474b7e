/** A whole platform in a process of its own, driven from outside as any application would: HTTP, npm, signals. */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { databaseUrl, makeTestDatabase } from './database.ts'
import { COMPILED, runProgram, type Finished } from './program.ts'
import { scratchDirectory } from './scratch.ts'

const root = resolve(import.meta.dirname, '../..')

export interface Platform {
  readonly url: string
  readonly key: string
  readonly dataDirectory: string
  readonly child: ChildProcess
  /** What the process wrote to stderr so far. */
  log(): string
  /** What it wrote to stdout so far. */
  output(): string
  /** The data of an operation, asked with another key when one is given; rejects when there are errors. */
  graphql<Result>(query: string, variables?: Record<string, unknown>, key?: string): Promise<Result>
  fetch(path: string, init?: RequestInit): Promise<Response>
  /** SIGKILL, as a crash would; the data directory stays. */
  kill(): Promise<void>
  /** SIGTERM; resolves with the exit code. */
  stop(): Promise<number | null>
}

export interface PlatformOptions {
  /** A data directory of an earlier start; a fresh one by default. */
  readonly directory?: string
  readonly env?: Readonly<Record<string, string>>
  readonly args?: readonly string[]
  /** Hears of the process before it is known whether it comes up. */
  readonly onSpawn?: (child: ChildProcess) => void
}

const databases = new Map<string, Promise<string>>()

/**
 * Starts compiled already, with a database of the tests' server, the same one for every start with a directory, unless
 * another is named: for tests that are not about what a first start makes, which takes seconds.
 */
export async function startLightly(options: PlatformOptions = {}): Promise<Platform> {
  const directory = options.directory ?? scratchDirectory('data')
  const url = options.env?.['DATABASE_URL'] ?? (await databaseOf(directory))
  return startPlatform({ ...options, directory, env: { ...COMPILED, ...options.env, DATABASE_URL: url } })
}

function databaseOf(directory: string): Promise<string> {
  const url = databases.get(directory) ?? makeTestDatabase().then((config) => databaseUrl({ config }))
  databases.set(directory, url)
  return url
}

/** Starts on a free port, as it comes. */
export async function startPlatform(options: PlatformOptions = {}): Promise<Platform> {
  const dataDirectory = options.directory ?? scratchDirectory('data')
  const child = spawn(process.execPath, [join(root, 'src/main.ts'), 'start', ...(options.args ?? [])], {
    cwd: root,
    env: {
      PATH: process.env['PATH'],
      HOME: process.env['HOME'],
      SENMON_PORT: '0',
      SENMON_DATA_DIR: dataDirectory,
      ...options.env,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  options.onSpawn?.(child)
  let log = ''
  let out = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => (log += text))
  const exited = once(child, 'exit')
  const url = await new Promise<string>((found, fail) => {
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      out += text
      const match = /ready at (http\S+)/.exec(out)
      if (match?.[1] !== undefined) found(match[1])
    })
    void exited.then(([code]) => fail(new Error(`the platform ended with ${code} before it was ready\n${out}\n${log}`)))
  })
  const key = (await readFile(join(dataDirectory, 'dev-key'), 'utf8')).trim()
  const authorization = `Bearer ${key}`
  const request = (path: string, init: RequestInit = {}) =>
    fetch(new URL(path, url), { ...init, headers: { authorization, ...(init.headers as Record<string, string>) } })
  return {
    url,
    key,
    dataDirectory,
    child,
    log: () => log,
    output: () => out,
    fetch: request,
    async graphql<Result>(query: string, variables: Record<string, unknown> = {}, bearer = key) {
      const body = JSON.stringify({ query, variables })
      const answer = await request('/graphql', {
        method: 'POST',
        headers: { 'content-type': 'application/json', authorization: `Bearer ${bearer}` },
        body,
      })
      const { data, errors } = (await answer.json()) as { data?: Result; errors?: readonly { message: string }[] }
      if (errors !== undefined || data === undefined || data === null) throw new Error(JSON.stringify(errors))
      return data
    },
    async kill() {
      child.kill('SIGKILL')
      await exited
    },
    async stop() {
      child.kill('SIGTERM')
      const [code] = (await exited) as [number | null]
      return code
    },
  }
}

/** Writes files (path → text) into a fresh directory, which goes with the tests of their file. */
export async function writePackage(files: Readonly<Record<string, string>>): Promise<string> {
  const directory = scratchDirectory('package')
  for (const [path, text] of Object.entries(files)) {
    await mkdir(dirname(join(directory, path)), { recursive: true })
    await writeFile(join(directory, path), text)
  }
  return directory
}

/** `npm publish` of a directory, by the real npm; rejects with npm's stderr in the message. */
export async function npmPublish(platform: Platform, directory: string, key?: string): Promise<string> {
  const { code, stdout, stderr } = await npm(platform, ['publish', '--access', 'public', directory], key)
  if (code !== 0) throw new Error(stderr)
  return stdout
}

/** The real npm, with nothing but a registry setting and a key. */
export async function npm(platform: Platform, args: readonly string[], key: string = platform.key): Promise<Finished> {
  const home = scratchDirectory('home')
  try {
    const registry = `${platform.url}/npm/`.replace(/([^:])\/\//g, '$1/')
    await writeFile(
      join(home, '.npmrc'),
      `registry=${registry}\n${registry.replace(/^https?:/, '')}:_authToken=${key}\nfetch-retries=0\n`,
    )
    const env = { HOME: home, npm_config_userconfig: join(home, '.npmrc') }
    return await runProgram('npm', args, { env, cwd: home })
  } finally {
    await rm(home, { recursive: true, force: true })
  }
}

/** An expert package: package.json and senmon.toml, with whatever other files it has. */
export function expertPackage(
  name: string,
  toml: string,
  files: Readonly<Record<string, string>> = {},
  version = '1.0.0',
): Promise<string> {
  const manifest = {
    name,
    version,
    keywords: ['senmon-expert'],
    license: 'Apache-2.0',
    files: ['senmon.toml', ...Object.keys(files)],
  }
  return writePackage({ 'package.json': JSON.stringify(manifest, null, 2), 'senmon.toml': toml, ...files })
}

/** Waits for what only the platform's own progress brings about, for as long as the test may take. */
export async function until<Value>(look: () => Promise<Value | undefined>): Promise<Value> {
  for (;;) {
    const value = await look()
    if (value !== undefined) return value
    await new Promise((resume) => setTimeout(resume, 20))
  }
}

/** A skill of test/fixture/skills as a package of its own, without dependencies. */
export async function skillPackage(name: string, fixture: string, version = '1.0.0'): Promise<string> {
  const source = await readFile(join(root, 'test/fixture/skills', fixture, 'main.mjs'), 'utf8')
  const manifest = { name, version, keywords: ['senmon-skill'], license: 'Apache-2.0', bin: { [fixture]: 'main.mjs' } }
  return writePackage({ 'package.json': JSON.stringify(manifest), 'main.mjs': `#!/usr/bin/env node\n${source}` })
}

/** Processes that descend from this one, with their command lines. */
export async function descendantsOf(
  pid: number,
): Promise<readonly { readonly pid: number; readonly command: string }[]> {
  const parents = new Map<number, number>()
  const commands = new Map<number, string>()
  for (const name of await readdir('/proc')) {
    if (!/^\d+$/.test(name)) continue
    try {
      const stat = await readFile(`/proc/${name}/stat`, 'utf8')
      const [state, parent] = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
      if (state === 'Z') continue
      parents.set(Number(name), Number(parent))
      commands.set(Number(name), (await readFile(`/proc/${name}/cmdline`, 'utf8')).replaceAll('\0', ' '))
    } catch {
      // It has gone meanwhile.
    }
  }
  const isBelow = (one: number): boolean => {
    const parent = parents.get(one)
    return parent !== undefined && (parent === pid || isBelow(parent))
  }
  return [...commands].filter(([one]) => isBelow(one)).map(([one, command]) => ({ pid: one, command }))
}
