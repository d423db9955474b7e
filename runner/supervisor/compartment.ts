/** One running compartment: its streams, the end of its stderr, and its end. */
import { spawn, type ChildProcess } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { Socket } from 'node:net'
import type { Readable, Writable } from 'node:stream'
import type { Clock } from '../../schema/clock.ts'
import { isLineFault, linesOf } from '../../schema/lines.ts'
import { bytesOf, environmentOf, RUNNER_FDS, type Launch } from '../../schema/machine-plan.ts'

const STDERR_TAIL_CHARS = 2048
const STDERR_LINE_BYTES_MAX = 8192
/** How long streams may stay open after the process has gone, held by something it left behind. */
const LINGER_MS = 1000

export interface CompartmentEnd {
  /** How the process ended, as half a sentence. */
  readonly reason: string
  readonly stderrTail: string
}

export interface Compartment {
  /** Of the launcher, from which all of it descends; undefined when it did not start. */
  readonly pid: number | undefined
  readonly output: Readable
  /** Bytes that it has been sent and has not read. */
  readonly unreadBytes: number
  send(text: string): void
  /** What was sent goes out now, and does not wait for what else this turn sends. */
  flush(): void
  /** Resolves when it can take more; undefined when it can. */
  drained(): Promise<void> | undefined
  /** Ends it with all its processes; idempotent. */
  kill(): void
  /** Resolves when it is gone and its output has been read. Never rejects. */
  readonly ended: Promise<CompartmentEnd>
}

/**
 * Starts a compartment with `launch.environment` and `secrets` as its whole environment; `report` hears each line
 * of its stderr. Never throws: a launcher that cannot start is a compartment that has ended.
 */
export function startCompartment(
  launch: Launch,
  secrets: Readonly<Record<string, string>>,
  report: (line: string) => void,
  clock: Clock,
): Compartment {
  const environment = { ...launch.environment, ...secrets }
  const fdMax = Math.max(2, ...launch.feeds.map((feed) => feed.fd))
  const child = spawn(launch.file, launch.args, {
    cwd: launch.cwd,
    env: environmentOf(launch, environment),
    stdio: Array.from({ length: fdMax + 1 }, () => 'pipe' as const),
    detached: launch.ownGroup,
  })
  for (const stream of child.stdio) stream?.on('error', () => {})
  for (const feed of launch.feeds) writable(child, feed.fd).end(bytesOf(feed, environment))
  const exited = Promise.withResolvers<string>()
  const closed = Promise.withResolvers<void>()
  child.once('error', (error) => exited.resolve(`it did not start: ${error.message}`))
  child.once('exit', (code, signal) => exited.resolve(signal === null ? `exit code ${code}` : `signal ${signal}`))
  child.once('close', closed.resolve)
  return compartmentOf({
    pid: child.pid,
    input: writable(child, 0),
    output: child.stdout as Readable,
    errors: child.stderr as Readable,
    streams: child.stdio.filter((stream) => stream !== null && stream !== undefined),
    // Whatever it left behind goes with it.
    exited: exited.promise.finally(() => {
      if (launch.ownGroup && child.pid !== undefined) signal(-child.pid)
    }),
    closed: closed.promise,
    kill: () => void kill(child, launch.ownGroup, clock),
    report,
    clock,
  })
}

/** The runner that the host has begun beside us (`RUNNER_FDS`): the keeper ends it, also when we are gone. */
export function adoptRunner(report: (line: string) => void, clock: Clock): Compartment {
  const reading = { readable: true, writable: false }
  const input = new Socket({ fd: RUNNER_FDS.input, readable: false, writable: true })
  const output = new Socket({ fd: RUNNER_FDS.output, ...reading })
  const errors = new Socket({ fd: RUNNER_FDS.errors, ...reading })
  const keeper = new Socket({ fd: RUNNER_FDS.keeper, readable: true, writable: true })
  for (const stream of [input, output, errors, keeper]) stream.on('error', () => {})
  let said = ''
  keeper.setEncoding('utf8').on('data', (text: string) => (said += text))
  const closing = [output, errors].map((stream) => new Promise((resolve) => stream.once('close', resolve)))
  return compartmentOf({
    pid: undefined,
    input,
    output,
    errors,
    streams: [input, output, errors, keeper],
    exited: new Promise((resolve) => {
      keeper.once('close', () => resolve(said.trim() === '' ? 'its keeper is gone' : said.trim()))
    }),
    closed: Promise.all(closing),
    kill: () => keeper.end(),
    report,
    clock,
  })
}

/** A process, however it was started. */
export interface Running {
  readonly pid: number | undefined
  readonly input: Writable
  readonly output: Readable
  readonly errors: Readable
  /** These, and what else goes with it. */
  readonly streams: readonly (Readable | Writable)[]
  /** How it ended, as half a sentence. */
  readonly exited: Promise<string>
  /** Resolves when its streams have closed by themselves. */
  readonly closed: Promise<unknown>
  readonly kill: () => void
  readonly report: (line: string) => void
  readonly clock: Clock
}

export function compartmentOf(running: Running): Compartment {
  const { pid, input, output } = running
  const killed = Promise.withResolvers<void>()
  return {
    pid,
    output,
    get unreadBytes() {
      return input.writableLength
    },
    send: (text) => {
      together(input)
      input.write(text)
    },
    flush: () => input.uncork(),
    drained: () => drained(input),
    kill: () => {
      killed.resolve()
      running.kill()
    },
    ended: ended(running, killed.promise),
  }
}

/** What is written to `stream` in this turn goes out as one: each write is a system call here and a wake-up there. */
export function together(stream: Writable): void {
  if (stream.writableCorked > 0) return
  stream.cork()
  process.nextTick(() => stream.uncork())
}

/** Resolves when `stream` can take more or is gone; undefined when it is so now. */
export function drained(stream: Writable): Promise<void> | undefined {
  return stream.writableNeedDrain && !stream.destroyed ? drain(stream) : undefined
}

async function drain(stream: Writable): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>()
  stream.once('drain', resolve).once('close', resolve)
  await promise
  stream.off('drain', resolve).off('close', resolve)
}

function writable(child: ChildProcess, fd: number): Writable {
  return child.stdio[fd] as Writable // every descriptor was asked for as a pipe
}

/**
 * A launcher that holds its descendants is ended from its first child on, so that it reaps what it started: orphans
 * would stay as zombies wherever the first process of the system does not look after them. What forks for a server on this
 * computer ends a runner in the same way, in words of its own: neither imports the other, and what both import sends no
 * signal and reads no file.
 */
async function kill(child: ChildProcess, group: boolean, clock: Clock): Promise<void> {
  const { pid } = child
  if (pid === undefined || child.exitCode !== null || child.signalCode !== null) return
  if (group) return signal(-pid)
  const held = childrenOf(pid)
  for (const one of held) signal(one)
  if (held.length > 0) await clock.sleep(LINGER_MS)
  if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL')
}

function childrenOf(pid: number): readonly number[] {
  try {
    return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean).map(Number)
  } catch {
    return []
  }
}

function signal(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // It is gone already.
  }
}

async function ended(running: Running, killed: Promise<void>): Promise<CompartmentEnd> {
  const { errors, streams, exited, closed, report, clock } = running
  let tail = ''
  const read = (async () => {
    for await (const line of linesOf(errors, STDERR_LINE_BYTES_MAX)) {
      const text = isLineFault(line) ? `(${line.message})` : line
      tail = `${tail}${text}\n`.slice(-STDERR_TAIL_CHARS)
      report(text)
    }
  })().catch(() => {})
  const reason = await exited
  // What a killed one still had to say is of no interest.
  const linger = new AbortController()
  await Promise.race([killed, closed, clock.sleep(LINGER_MS, linger.signal).catch(() => {})])
  linger.abort()
  for (const stream of streams) stream.destroy()
  await read
  return { reason, stderrTail: tail.trim() }
}
