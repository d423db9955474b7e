/** Runs one line of shell to its end, or until its time is up, and leaves nothing behind that it started. */
import { spawn } from 'node:child_process'
import { endAll } from './leftover.ts'
import { BoundedOutput } from './output.ts'

export interface CommandOptions {
  /** The shell's own path. */
  readonly shell: string
  readonly line: string
  readonly directory: string
  readonly environment: Readonly<Record<string, string>>
  readonly timeoutMs: number
  readonly signal: AbortSignal
  /** In the environment of all that the command starts; no other command's. */
  readonly mark: string
}

export interface CommandEnd {
  readonly output: string
  /** Null when a signal ended it, or nothing started. */
  readonly exitCode: number | null
  readonly signal: string | null
  /** Why it was ended from here, if it was. */
  readonly cut: 'timeout' | 'canceled' | null
  /** Why it did not start. */
  readonly fault: string | null
}

/** The name of the variable that marks a command's processes. */
const MARK = 'SENMON_EXEC'
/** What is still in the pipe when the command has ended is read for this long at most. */
const DRAIN_MS = 200

/** Never rejects. */
export async function runCommand(options: CommandOptions): Promise<CommandEnd> {
  const { shell, line, directory, environment, timeoutMs, signal, mark } = options
  if (signal.aborted) return { output: '', exitCode: null, signal: null, cut: 'canceled', fault: null }
  const output = new BoundedOutput()
  // One pipe for both streams, so that they stand in the order in which they were written.
  const child = spawn(shell, ['-c', 'exec "$0" -c "$1" 2>&1', shell, line], {
    cwd: directory,
    env: { ...environment, [MARK]: mark },
    stdio: ['ignore', 'pipe', 'ignore'],
    detached: true,
  })
  const drained = Promise.withResolvers<void>()
  child.stdout.on('data', (chunk: Buffer) => output.add(chunk)).once('close', drained.resolve)
  child.stdout.on('error', () => {})
  let cut: CommandEnd['cut'] = null
  const end = (why: CommandEnd['cut']) => {
    cut ??= why
    if (child.pid !== undefined) endAll(child.pid, `${MARK}=${mark}\0`)
  }
  const timer = setTimeout(() => end('timeout'), timeoutMs)
  const cancel = () => end('canceled')
  signal.addEventListener('abort', cancel, { once: true })
  const ended = await new Promise<Pick<CommandEnd, 'exitCode' | 'signal' | 'fault'>>((resolve) => {
    child.once('error', (error) => resolve({ exitCode: null, signal: null, fault: error.message }))
    child.once('exit', (exitCode, by) => resolve({ exitCode, signal: by, fault: null }))
  })
  clearTimeout(timer)
  signal.removeEventListener('abort', cancel)
  if (child.pid !== undefined) endAll(child.pid, `${MARK}=${mark}\0`)
  const late = setTimeout(drained.resolve, DRAIN_MS)
  await drained.promise
  clearTimeout(late)
  child.stdout.destroy()
  return { ...ended, output: output.text(), cut }
}
