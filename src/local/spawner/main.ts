/**
 * The process that forks for a server: lines of `spawn.ts` on stdin and stdout, and its one argument names the socket that
 * the streams of what it starts are connected to. It is small, so that a fork of it is, and holds nothing of the server.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { createInterface } from 'node:readline'
import { RUNNER_FDS } from '../../../schema/machine-plan.ts'
import { printLabel, type Answer, type Ask, type Beside, type Program } from '../spawn.ts'

/** How long a launcher may take to reap what it held, before it is ended itself. */
const LINGER_MS = 1000

const [name = ''] = process.argv.slice(2)

function say(answer: Answer): void {
  process.stdout.write(`${JSON.stringify(answer)}\n`)
}

/** A connection to the server that nobody here reads: what comes is for the program that gets it. */
async function connection(id: number, fd: number): Promise<Socket> {
  const socket = connect({ path: name })
  socket.pause()
  await new Promise<void>((resolve, reject) => {
    socket.once('error', reject)
    socket.write(printLabel(id, fd), () => resolve())
  })
  socket.on('error', () => {})
  return socket
}

/** Starts a program. Throws where it cannot. */
function start({ file, args, cwd, environment, uid }: Program, stdio: readonly ('pipe' | Socket)[]): ChildProcess {
  const child = spawn(file, args, {
    cwd,
    env: environment,
    stdio: [...stdio],
    // Its own: a terminal's interrupt is the server's to handle, and the server finds its processes by it.
    detached: true,
    ...(uid === undefined ? {} : { uid, gid: uid }),
  })
  child.on('error', () => {})
  for (const stream of child.stdio) stream?.on('error', () => {})
  if (child.pid === undefined) throw new Error(`${file} does not start`)
  return child
}

function startBeside(beside: Beside): ChildProcess {
  const fdMax = Math.max(2, ...beside.feeds.map(({ fd }) => fd))
  const child = start(
    beside,
    Array.from({ length: fdMax + 1 }, () => 'pipe' as const),
  )
  for (const { fd, base64 } of beside.feeds) stream(child, fd).end(Buffer.from(base64, 'base64'))
  return child
}

function stream(child: ChildProcess, fd: number): Socket {
  return child.stdio[fd] as Socket // every descriptor was asked for as a pipe
}

async function begin({ id, program, beside }: Ask): Promise<void> {
  const streams = await Promise.all([0, 1, 2].map((fd) => connection(id, fd)))
  // From here in one turn: nothing that is not ours to read is read.
  const other = beside === null ? undefined : startBeside(beside)
  const handed = other === undefined ? [] : [0, 1, 2].map((fd) => stream(other, fd))
  let child: ChildProcess
  try {
    child = start(program, [...streams, ...handed, ...(other === undefined ? [] : ['pipe' as const])])
  } catch (error) {
    if (beside !== null && other !== undefined) end(other, beside)
    throw error
  } finally {
    for (const one of [...streams, ...handed]) one.destroy()
  }
  child.once('exit', (code, signal) => say({ id, type: 'ended', code, signal }))
  if (beside !== null && other !== undefined) keep(other, beside, stream(child, RUNNER_FDS.keeper))
  say({ id, type: 'begun', pids: [child, ...(other === undefined ? [] : [other])].flatMap(({ pid }) => pid ?? []) })
}

/** `other` ends when nobody holds the other end of `keeper`, or says so; that hears how it ended, once it has. */
function keep(other: ChildProcess, beside: Beside, keeper: Socket): void {
  keeper.allowHalfOpen = true
  const release = (): void => end(other, beside)
  keeper.once('end', release).once('close', release).resume()
  other.once('exit', (code, signal) => {
    // Whatever it left behind goes with it.
    if (beside.ownGroup) kill(-(other.pid ?? 0))
    keeper.end(`${signal === null ? `exit code ${code}` : `signal ${signal}`}\n`)
  })
}

/**
 * A launcher that holds its descendants is ended from its first child on, so that it reaps what it started. As the
 * supervisor does it (`runner/supervisor/compartment.ts`), in words of its own: neither imports the other, and what both
 * import sends no signal and reads no file.
 */
function end(other: ChildProcess, { ownGroup }: Beside): void {
  const { pid } = other
  if (pid === undefined || other.exitCode !== null || other.signalCode !== null) return
  if (ownGroup) return kill(-pid)
  const held = childrenOf(pid)
  for (const one of held) kill(one)
  if (held.length === 0) kill(pid)
  else setTimeout(() => other.kill('SIGKILL'), LINGER_MS).unref()
}

function childrenOf(pid: number): readonly number[] {
  try {
    return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean).map(Number)
  } catch {
    return []
  }
}

function kill(pid: number): void {
  // Nobody's group, and never our own.
  if (pid === 0) return
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // It is gone already.
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  const ask = JSON.parse(line) as Ask // the server wrote it, and nobody else can
  begin(ask).catch((error: unknown) =>
    say({ id: ask.id, type: 'failed', why: error instanceof Error ? error.message : String(error) }),
  )
}
// The server is gone. What was started ends with us, or with its stdin.
process.exit(0)
