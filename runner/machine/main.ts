/**
 * The first process of a machine elsewhere. Environment: SENMON_MACHINE_URL (where the control plane is), SENMON_MACHINE_ID,
 * and what Fly sets: FLY_APP_NAME, FLY_MACHINE_ID; FLY_API_SOCKET and SENMON_MACHINE_HOME stand in for /.fly/api and
 * /machine where they are elsewhere. Exit codes: 0 when its job is over or nobody wants it, 1 otherwise.
 */
import { execFile } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { request } from 'node:http'
import { dirname } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import type { Clock } from '../../schema/clock.ts'
import { parseId } from '../../schema/id.ts'
import { IMAGE, type ImageFacts } from '../../schema/machine-image.ts'
import { openDoor } from './door.ts'
import { lackOf } from './fitness.ts'
import { live } from './life.ts'
import { startSupervisor } from './supervisor-process.ts'

const ANSWER_BYTES_MAX = 64 * 1024
const SOCKET_MS_MAX = 10_000

const { env } = process
const url = demand('SENMON_MACHINE_URL')
const machineId = parseId('mch', demand('SENMON_MACHINE_ID')) ?? fail('SENMON_MACHINE_ID is no machine id.')
const image: ImageFacts = {
  arch: process.arch === 'arm64' ? 'arm64' : 'x64',
  node: process.execPath,
  bwrap: IMAGE.bwrap,
  files: dirname(import.meta.dirname),
  home: env['SENMON_MACHINE_HOME'] ?? IMAGE.home,
}
const own = `/v1/apps/${env['FLY_APP_NAME'] ?? ''}/machines/${env['FLY_MACHINE_ID'] ?? ''}`

const clock: Clock = {
  // Of durations: the time of day jumps when somebody sets it after a resume.
  now: () => performance.now(),
  sleep: async (ms, signal) => {
    await sleep(ms, undefined, signal === undefined ? {} : { signal })
  },
}
const stop = new AbortController()
for (const signal of ['SIGTERM', 'SIGINT'] as const)
  process.once(signal, () => stop.abort(new Error('it was told to end')))

const report = (text: string): void => void process.stderr.write(`${text}\n`)
try {
  const reason = await live({
    machineId,
    bootId: randomUUID(),
    image,
    door: openDoor(url, () => Date.now()),
    identity: async () => (await askFly('/v1/tokens/oidc', { aud: url })).trim(),
    suspend: async () => void (await askFly(`${own}/suspend`, {})),
    lack: () => lackOf(image),
    start: (plan) => startSupervisor({ image, plan, isRoot: process.getuid?.() === 0, clock }),
    clock,
    moveClock,
    signal: stop.signal,
    report,
  })
  report(`The machine ends: ${reason}`)
  process.exit(0)
} catch (error) {
  report(`The machine ends: ${error instanceof Error ? error.stack : String(error)}`)
  process.exit(1)
}

function demand(name: string): string {
  return env[name] ?? fail(`${name} is not set.`)
}

function fail(sentence: string): never {
  process.stderr.write(`${sentence}\n`)
  process.exit(1)
}

/** Fly's own interface in the machine: it knows who asks by the socket. */
async function askFly(path: string, body: object): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>()
  const asked = request(
    {
      socketPath: env['FLY_API_SOCKET'] ?? '/.fly/api',
      path,
      method: 'POST',
      agent: false,
      timeout: SOCKET_MS_MAX,
      headers: { host: 'flaps', 'content-type': 'application/json' },
    },
    (response) => {
      let text = ''
      response.setEncoding('utf8').on('data', (part: string) => {
        text = `${text}${part}`.slice(0, ANSWER_BYTES_MAX)
      })
      response.once('error', reject).once('end', () => {
        if ((response.statusCode ?? 500) < 300) resolve(text)
        else reject(new Error(`${path} answers ${response.statusCode}: ${text.slice(0, 200)}`))
      })
    },
  )
  asked.once('timeout', () => asked.destroy(new Error(`${path} does not answer`))).once('error', reject)
  asked.end(JSON.stringify(body))
  return await promise
}

/** By the program of the system: Node has no call for it. Only root may. */
async function moveClock(ms: number): Promise<void> {
  const seconds = ((Date.now() + ms) / 1_000).toFixed(3)
  await promisify(execFile)('/bin/date', ['--utc', '--set', `@${seconds}`], { env: {} })
}
