/** The supervisor of a machine elsewhere: a process of a uid of its own, which never sees the machine's secret. */
import { spawn } from 'node:child_process'
import { chmodSync, chownSync, mkdirSync } from 'node:fs'
import type { Readable, Writable } from 'node:stream'
import { EXIT_REASONS } from '../../schema/control.ts'
import type { Clock } from '../../schema/clock.ts'
import { isLineFault, linesOf } from '../../schema/lines.ts'
import { cacheEnvironment, imagePaths, SUPERVISOR_UID, type ImageFacts } from '../../schema/machine-image.ts'
import type { MachineEnd } from '../../schema/machine-link.ts'
import type { MachinePlan } from '../../schema/machine-plan.ts'
import { SUPERVISOR_OPTIONS } from '../../schema/node-options.ts'

const STDERR_TAIL_CHARS = 2_000
/** How long it may take to end by itself, once its stdin has ended. */
const GRACE_MS = 600

export interface SupervisorProcess {
  /** Its lines, without newline. */
  readonly lines: AsyncIterable<string>
  /** Resolves when it can take more. */
  send(text: string): Promise<void>
  /** Resolves when it is gone. */
  kill(): Promise<void>
  /** Never rejects. */
  readonly ended: Promise<MachineEnd>
}

export interface SupervisorProcessOptions {
  readonly image: ImageFacts
  readonly plan: MachinePlan
  /** It runs as somebody else then, and as whoever runs us otherwise. */
  readonly isRoot: boolean
  readonly clock: Clock
}

export function startSupervisor(options: SupervisorProcessOptions): SupervisorProcess {
  const { image, plan, isRoot, clock } = options
  const paths = imagePaths(image)
  // It works beside the workspace, too, when it makes itself ready, and restores packages there.
  for (const directory of [image.home, paths.workspace, paths.input, paths.packages]) {
    mkdirSync(directory, { recursive: true, mode: 0o700 })
    chmodSync(directory, 0o700)
    if (isRoot) chownSync(directory, SUPERVISOR_UID, SUPERVISOR_UID)
  }
  const child = spawn(image.node, [...SUPERVISOR_OPTIONS, paths.bundle('supervisor'), JSON.stringify(plan)], {
    cwd: '/',
    env: cacheEnvironment(paths.cache('supervisor')),
    stdio: 'pipe',
    ...(isRoot ? { uid: SUPERVISOR_UID, gid: SUPERVISOR_UID } : {}),
  })
  const input: Writable = child.stdin
  for (const stream of child.stdio) stream?.on('error', () => {})
  let tail = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    tail = `${tail}${text}`.slice(-STDERR_TAIL_CHARS)
  })
  const { promise: ended, resolve } = Promise.withResolvers<MachineEnd>()
  child.once('error', (error) => resolve({ reason: `it did not start: ${error.message}`, stderrTail: '' }))
  child.once('close', (code, signal) => {
    const reason = signal === null ? (EXIT_REASONS[code ?? 1] ?? `exit code ${code}`) : `signal ${signal}`
    resolve({ reason, stderrTail: tail.trim() })
  })
  return {
    lines: texts(child.stdout),
    async send(text) {
      if (!input.writable || input.write(text)) return
      const { promise, resolve: resume } = Promise.withResolvers<void>()
      input.once('drain', resume).once('close', resume)
      await promise
      input.off('drain', resume).off('close', resume)
    },
    async kill() {
      input.end()
      const gone = new AbortController()
      await Promise.race([ended, clock.sleep(GRACE_MS, gone.signal).catch(() => {})])
      gone.abort(new Error('gone'))
      child.kill('SIGKILL')
      await ended
    },
    ended,
  }
}

async function* texts(output: Readable): AsyncGenerator<string> {
  for await (const line of linesOf(output)) {
    // What is no line of ours the control plane would refuse as well: the machine ends with it.
    if (isLineFault(line)) throw new Error(line.message)
    yield line
  }
}
