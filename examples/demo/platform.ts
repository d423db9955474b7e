/** The platform as a process, and its API as any application would call it. */
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { DemoFailure, expectThat, say } from './say.ts'

const SERVER = join(import.meta.dirname, '..', '..', 'src', 'main.ts')
const START_MS = 60_000
const STOP_MS = 20_000

export interface Question {
  readonly id: string
  readonly kind: string
  readonly title: string
  readonly argsHash: string
  readonly answeredAt: string | null
}

export interface Job {
  readonly id: string
  readonly status: string
  readonly outcome: string | null
  readonly reason: string | null
  readonly message: string | null
  readonly expertKey: string
  readonly questions: readonly Question[]
  readonly machine: { readonly host: string; readonly dispatchMs: number } | null
}

const JOB = `id status outcome reason message: explanation expertKey
  questions { id kind title argsHash answeredAt } machine { host dispatchMs }`

export interface Machines {
  readonly environment: Readonly<Record<string, string>>
  readonly says: string
}

interface Probe {
  readonly name: string
  readonly ok: boolean
  readonly reason?: string
  readonly fix?: string
}

/** A sandbox when there is one; else, for this demo alone, processes without one, and a warning that names the cure. */
export async function chooseMachines(): Promise<Machines> {
  const said = await promisify(execFile)(process.execPath, [SERVER, 'probe'], { timeout: START_MS }).catch(
    (error: unknown) => {
      // A probe that found no sandbox says so by its exit code as well.
      if (error instanceof Error && 'stdout' in error && 'stderr' in error)
        return { stdout: String(error.stdout), stderr: String(error.stderr) }
      throw error
    },
  )
  const line = said.stdout.trim().split('\n').at(-1) ?? ''
  if (!line.startsWith('{')) throw new DemoFailure(`the probe of the server said nothing:\n${said.stderr}`)
  // The server's own contract: one JSON object.
  const probe = JSON.parse(line) as Probe
  if (probe.ok) return { environment: {}, says: `jobs run in a sandbox (${probe.name}).` }
  say(`WARNING: there is no sandbox here: ${probe.reason ?? 'the probe gives no reason'}`)
  say('WARNING: this demo goes on without one, which means that an expert could touch anything this user can.')
  say(`WARNING: the cure: ${probe.fix ?? 'apt-get install bubblewrap'}`)
  return { environment: { SENMON_MACHINES: 'unsafe-process' }, says: 'jobs run WITHOUT a sandbox.' }
}

export class Platform implements AsyncDisposable {
  readonly url: string
  readonly key: string
  readonly #end: () => Promise<number | null>

  constructor(url: string, key: string, end: () => Promise<number | null>) {
    this.url = url
    this.key = key
    this.#end = end
  }

  /** Resolves to the exit code. */
  stop(): Promise<number | null> {
    return this.#end()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#end()
  }

  async graphql<Result>(query: string, variables: Readonly<Record<string, unknown>>): Promise<Result> {
    const response = await this.fetch('/graphql', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ query, variables }),
    })
    const { data, errors } = (await response.json()) as { data?: Result; errors?: readonly { message: string }[] }
    if (errors?.[0] !== undefined) throw new DemoFailure(`GraphQL says: ${errors[0].message}`)
    expectThat(data !== undefined, `GraphQL answers ${response.status} without data`)
    return data
  }

  fetch(path: string, init: { method?: string; headers?: Record<string, string>; body?: string } = {}) {
    const headers = { ...init.headers, authorization: `Bearer ${this.key}` }
    return fetch(`${this.url}${path}`, { ...init, headers })
  }

  async createJob(input: Readonly<Record<string, unknown>>): Promise<Job> {
    return this.#mutate('createJob', 'CreateJobInput', input)
  }

  /** Answers exactly what was shown: the hash of the arguments goes along. */
  async answer(jobId: string, question: Question, value: unknown): Promise<Job> {
    const answer = { questionId: question.id, value, argsHash: question.argsHash }
    return this.#mutate('continueJob', 'ContinueJobInput', { jobId, answer })
  }

  async findJob(jobId: string): Promise<Job> {
    const { job } = await this.graphql<{ job: Job | null }>(`query ($id: ID!) { job(id: $id) { ${JOB} } }`, {
      id: jobId,
    })
    expectThat(job !== null, `the API does not know ${jobId}`)
    return job
  }

  /** A file of the job's workspace over REST: found by its path, then downloaded. */
  async downloadFile(jobId: string, path: string): Promise<string> {
    const items = `/expert_jobs/${jobId}/workspace_instance/items`
    const listed = await this.fetch(items)
    expectThat(listed.ok, `the workspace of ${jobId} is not listed: ${listed.status} ${await listed.clone().text()}`)
    const found = findItem(await listed.json(), path)
    expectThat(found !== undefined, `the workspace of ${jobId} holds no ${path}`)
    const file = await this.fetch(`${items}/${encodeURIComponent(found)}/download`)
    expectThat(file.ok, `${path} is not downloaded: ${file.status}`)
    return file.text()
  }

  async #mutate(field: string, type: string, input: Readonly<Record<string, unknown>>): Promise<Job> {
    const query = `mutation ($input: ${type}!) { ${field}(input: $input) {
      __typename ... on Job { ${JOB} } ... on Refusal { code sentence: message } } }`
    const result = await this.graphql<Record<string, (Job & { __typename: string; sentence?: string }) | undefined>>(
      query,
      { input },
    )
    const value = result[field]
    expectThat(value !== undefined, `${field} gives nothing`)
    if (value.__typename === 'Refusal') throw new DemoFailure(`${field} is refused: ${value.sentence}`)
    return value
  }
}

/** The id of the item with this path, wherever in the answer it stands. */
function findItem(value: unknown, path: string): string | undefined {
  if (typeof value !== 'object' || value === null) return undefined
  if ('path' in value && 'id' in value && typeof value.path === 'string' && typeof value.id === 'string')
    if (value.path.replace(/^\/?(workspace\/)?/, '') === path) return value.id
  for (const member of Object.values(value)) {
    const found = findItem(member, path)
    if (found !== undefined) return found
  }
  return undefined
}

/** Starts `node src/main.ts start` on a free port, with data of its own, and waits until it is ready. */
export async function startPlatform(
  directory: string,
  machines: Machines,
  environment: Readonly<Record<string, string>>,
): Promise<Platform> {
  const server = spawn(process.execPath, [SERVER, 'start'], {
    env: { SENMON_PORT: '0', SENMON_DATA_DIR: directory, ...machines.environment, ...environment },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const exited = once(server, 'exit') as Promise<[number | null, string | null]>
  let said = ''
  let logged = ''
  server.stdout.setEncoding('utf8').on('data', (text: string) => (said += text))
  server.stderr.setEncoding('utf8').on('data', (text: string) => (logged = (logged + text).slice(-4000)))
  const giveUp = AbortSignal.timeout(START_MS)
  const end = async () => {
    if (server.exitCode === null && server.signalCode === null) server.kill('SIGTERM')
    const killed = sleep(STOP_MS, undefined, { ref: false }).then(() => server.kill('SIGKILL'))
    const [code] = await Promise.race([exited, killed.then(() => exited)])
    return code
  }
  for (;;) {
    if (server.exitCode !== null) throw new DemoFailure(`the server ended with ${server.exitCode}:\n${logged}`)
    if (giveUp.aborted) {
      await end()
      throw new DemoFailure(`the server was not ready within ${START_MS / 1000} s:\n${said}${logged}`)
    }
    const url = /ready at (https?:\/\/[^\s/]+)/.exec(said)?.[1]
    if (url !== undefined && (await isReady(url))) {
      const key = (await readFile(join(directory, 'dev-key'), 'utf8')).trim()
      return new Platform(url, key, end)
    }
    await sleep(50)
  }
}

async function isReady(url: string): Promise<boolean> {
  try {
    return (await fetch(`${url}/readyz`)).ok
  } catch {
    return false
  }
}
