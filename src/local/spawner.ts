/**
 * Processes that another process forks: a fork copies the page tables of whoever forks, which stops a server of a few
 * hundred megabytes for milliseconds, and every job on it.
 *
 * SP1 A spawn is answered, by a process or by `machine_failed`, whatever becomes of the process that forks.
 * SP2 What was spawned ends with the process that forks, and that with the server, even while they are stopped in their
 *     tracks; where no program sees to that, with its stdin.
 * SP3 A process has the descriptors that are meant for it, and no other.
 * SP4 What begins beside a process ends with it.
 */
import { spawn } from 'node:child_process'
import { closeSync, openSync } from 'node:fs'
import { createServer, type Socket } from 'node:net'
import { createInterface } from 'node:readline'
import type { Readable, Writable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { PlatformError } from '../../schema/error.ts'
import { LABEL_BYTES, parseLabel, type Answer, type Ask, type Beside, type Program } from './spawn.ts'

export interface Spawned {
  /** Its own, then that of what began beside it. */
  readonly pids: readonly number[]
  readonly stdin: Writable
  readonly stdout: Readable
  readonly stderr: Readable
  readonly exited: Promise<Exit>
}

/** Code or signal; neither when nobody can tell any more. */
export interface Exit {
  readonly code: number | null
  readonly signal: string | null
}

export interface Spawner {
  /** Whether it can begin something beside a process. */
  readonly begins: boolean
  /** Starts it, in a session of its own. Throws `machine_failed`. */
  spawn(program: Program, beside: Beside | null): Promise<Spawned>
  /** What still runs ends. */
  close(): Promise<void>
}

export interface SpawnerOptions {
  /** Of this server's user alone to write. */
  readonly directory: string
  readonly node: string
  /** What stands before Node: so that it ends with this process, and for the limits of all that it starts. */
  readonly before: readonly string[]
}

const MAIN = fileURLToPath(new URL('spawner/main.ts', import.meta.url))
const STDERR_TAIL_CHARS = 2048
/** It holds a few strings; what is not mapped is not copied. */
const NODE_OPTIONS = ['--max-old-space-size=64', '--max-semi-space-size=1']
/** Of this process, each with a socket of its own. */
let opened = 0

/** Starts the process that forks, and starts it again for the next spawn when it has died. Linux only. */
export function openSpawner(options: SpawnerOptions): Spawner {
  let forker: Forker | undefined = startForker(options)
  let isClosed = false
  return {
    begins: true,
    async spawn(program, beside) {
      if (isClosed) throw new PlatformError('machine_failed', 'The spawner of machines is closed.')
      if (forker === undefined || forker.isOver()) forker = startForker(options)
      return await forker.spawn(program, beside)
    },
    async close() {
      isClosed = true
      await forker?.close()
      forker = undefined
    },
  }
}

interface Forker {
  isOver(): boolean
  spawn(program: Program, beside: Beside | null): Promise<Spawned>
  close(): Promise<void>
}

/** One spawn, until it is whole. */
interface Pending {
  readonly streams: (Socket | undefined)[]
  pids: readonly number[] | undefined
  hasExited: boolean
  readonly exited: PromiseWithResolvers<Exit>
  readonly whole: PromiseWithResolvers<Spawned>
}

function startForker({ directory, node, before }: SpawnerOptions): Forker {
  const name = `spawner-${process.pid}-${(opened += 1)}`
  const under = openSync(directory, 'r')
  // A path of a socket has 107 bytes at most: this one is short wherever the directory is.
  const listener = createServer({ pauseOnConnect: true }).listen(`/proc/self/fd/${under}/${name}`).unref()
  const asked = new Map<number, Pending>()
  let [isOver, asks, tail] = [false, 0, '']
  const over = Promise.withResolvers<void>()
  const listening = new Promise<void>((resolve, reject) => listener.once('listening', resolve).once('error', reject))
  listening.catch(() => {})
  const [file, ...args] = [...before, node, ...NODE_OPTIONS, MAIN, name]
  const child = spawn(file, args, { cwd: directory, env: {}, stdio: 'pipe', detached: true })
  for (const stream of child.stdio) stream?.on('error', () => {})
  child.stderr.setEncoding('utf8').on('data', (text: string) => (tail = `${tail}${text}`.slice(-STDERR_TAIL_CHARS)))
  const pipes = [child.stdin, child.stdout, child.stderr] as unknown as readonly Socket[] // as Node makes them
  /** While something runs, so does this process; it keeps nobody else. */
  const hold = (): void => {
    for (const one of [child, ...pipes]) if (asked.size > 0) one.ref()
    for (const one of [child, ...pipes]) if (asked.size === 0) one.unref()
  }
  hold()

  const finish = (why: string): void => {
    if (isOver) return
    isOver = true
    listener.close()
    closeSync(under)
    for (const pending of asked.values()) {
      pending.whole.reject(new PlatformError('machine_failed', `The process that starts machines has ended: ${why}`))
      pending.exited.resolve({ code: null, signal: null })
      for (const stream of pending.streams) if (pending.pids === undefined) stream?.destroy()
    }
    asked.clear()
    over.resolve()
  }
  child.once('error', (error) => finish(error.message))
  child.once('exit', (code, signal) => finish(`${signal ?? `exit code ${code}`}. ${tail.trim()}`))

  /** What comes from the spawner and what is connected come in any order. */
  const settle = (id: number, pending: Pending): void => {
    const [stdin, stdout, stderr] = pending.streams
    if (pending.pids === undefined || stdin === undefined || stdout === undefined || stderr === undefined) return
    if (pending.hasExited) asked.delete(id)
    hold()
    // Nobody reads it, so nothing else says that whoever read the other end is gone.
    void pending.exited.promise.then(() => stdin.destroy())
    pending.whole.resolve({ pids: pending.pids, stdin, stdout, stderr, exited: pending.exited.promise })
  }
  listener.on('connection', (socket) => {
    socket.on('error', () => {})
    const read = (): void => {
      const bytes = socket.read(LABEL_BYTES) as Buffer | null
      if (bytes === null) return
      socket.off('readable', read)
      const label = parseLabel(bytes.toString('latin1'))
      const pending = label === undefined ? undefined : asked.get(label.id)
      if (label === undefined || pending === undefined || pending.streams[label.fd] !== undefined) {
        socket.destroy()
        return
      }
      pending.streams[label.fd] = socket
      settle(label.id, pending)
    }
    socket.on('readable', read)
  })
  createInterface({ input: child.stdout }).on('line', (line) => {
    const answer = JSON.parse(line) as Answer // our own program wrote it, and nobody else can
    const pending = asked.get(answer.id)
    if (pending === undefined) return
    switch (answer.type) {
      case 'begun':
        pending.pids = answer.pids
        return settle(answer.id, pending)
      case 'failed':
        asked.delete(answer.id)
        hold()
        for (const stream of pending.streams) stream?.destroy()
        return pending.whole.reject(new PlatformError('machine_failed', `A machine did not start: ${answer.why}.`))
      case 'ended':
        pending.hasExited = true
        settle(answer.id, pending)
        return pending.exited.resolve({ code: answer.code, signal: answer.signal })
    }
  })

  return {
    isOver: () => isOver,
    async spawn(program, beside) {
      await listening.catch((cause: unknown) => {
        throw new PlatformError('machine_failed', `No socket can be made in ${directory}.`, { cause })
      })
      const pending: Pending = {
        streams: [undefined, undefined, undefined],
        pids: undefined,
        hasExited: false,
        exited: Promise.withResolvers(),
        whole: Promise.withResolvers(),
      }
      const ask: Ask = { id: (asks += 1), program, beside }
      if (isOver) throw new PlatformError('machine_failed', 'The process that starts machines has ended.')
      asked.set(ask.id, pending)
      hold()
      child.stdin.write(`${JSON.stringify(ask)}\n`)
      return await pending.whole.promise
    },
    async close() {
      child.stdin.end()
      child.ref()
      await over.promise
    },
  }
}

/** Forks here: where a fork is cheap, or nobody has said that it is done better. */
export function openOwnSpawner(): Spawner {
  return {
    begins: false,
    async spawn({ file, args, cwd, environment, uid }) {
      const child = spawn(file, args, {
        cwd,
        env: environment,
        stdio: 'pipe',
        detached: true,
        ...(uid === undefined ? {} : { uid, gid: uid }),
      })
      for (const stream of child.stdio) stream?.on('error', () => {})
      const exited = Promise.withResolvers<Exit>()
      child.once('exit', (code, signal) => exited.resolve({ code, signal }))
      const failed = new Promise<Error>((resolve) => child.once('error', resolve))
      if (child.pid === undefined)
        throw new PlatformError('machine_failed', `A machine did not start: ${(await failed).message}.`)
      const { pid, stdin, stdout, stderr } = child
      return { pids: [pid], stdin, stdout, stderr, exited: exited.promise }
    },
    close: async () => {},
  }
}
