/** A machine that is a supervisor process on this computer, with its compartments. */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import type { Clock } from '../../schema/clock.ts'
import { EXIT_REASONS, LINE_BYTES_MAX, type HostLine, type MachineLine } from '../../schema/control.ts'
import { parseMachineLine, printLine } from '../../schema/control-line.ts'
import { PlatformError } from '../../schema/error.ts'
import { eachLine, isLineFault, LineQueue, type LineFault } from '../../schema/lines.ts'
import type { MachinePlan, SkillLaunch } from '../../schema/machine-plan.ts'
import { heapOptions, SUPERVISOR_OPTIONS } from '../../schema/node-options.ts'
import type { Machine } from '../pool/machine-host.ts'
import type { Cgroup } from './cgroups.ts'
import { cacheEnvironment, cacheOf, shareCompiled } from './compiled.ts'
import { begunWith, HEAP_ENVIRONMENT } from './heap.ts'
import { descendants, findProcess, listProcesses, uidOf, type Process } from './processes.ts'
import type { Slot } from './slots.ts'
import { besideOf } from './spawn.ts'
import type { Exit, Spawned, Spawner } from './spawner.ts'

const STDERR_TAIL_CHARS = 4096
const POLL_MS = 5
/** How long it may take to end by itself, once asked; a canceled job is over within two seconds. */
const GRACE_MS = 600
/** A process that SIGKILL does not end within this is stuck in the kernel; we go on without it. */
const LINGER_MS = 10_000

/** Ends that the kernel may have brought about. */
const STRUCK = new Set(['signal SIGKILL', 'runner_ended', 'supervisor_failed', 'exit code 137', 'exit code 134'])
const ENDED_BY_US = new Set(['orphaned', 'signal SIGKILL'])

export interface SupervisedMachineOptions {
  readonly slot: Slot
  readonly plan: MachinePlan
  readonly node: string
  readonly supervisor: string
  /** What the supervisor begins with instead, where there is one. */
  readonly heap: string | undefined
  /** What all of its processes are in. */
  readonly cgroup: Cgroup
  /** What stands before Node, with its arguments: limits on resources. */
  readonly launcher: readonly string[]
  /** Whom the launcher starts as, where it does not become the slot's uid by itself. */
  readonly spawnUid: number | undefined
  /** The launcher makes it die with this process even while it is stopped: only then it may be. */
  readonly isMortal: boolean
  readonly spawner: Spawner
  readonly clock: Clock
}

/** One that was started before its job is known. */
export interface ParkedMachine extends Omit<Machine, 'obtained'> {
  /** Of its supervisor. */
  readonly pid: number
  /** Resolves with the boot id when it is primed, and undefined when it ended before. */
  readonly primed: Promise<string | undefined>
  /** Its processes are stopped in their tracks; false where that is not to be had. */
  suspend(): boolean
  resume(): void
  /** How the skills of its job start; before any other line, and once. */
  provide(skills: readonly SkillLaunch[]): void
}

/** Starts the supervisor, and the runner beside it where that is to be had. Throws `machine_failed`. */
export async function startSupervisedMachine(options: SupervisedMachineOptions): Promise<ParkedMachine> {
  const { slot, plan, node, supervisor, heap, cgroup, launcher, spawnUid, spawner, clock } = options
  const planFile = join(slot.directory, 'plan.json')
  writeFileSync(planFile, JSON.stringify({ ...plan, isRunnerBegun: spawner.begins }), { mode: 0o644 })
  const begins =
    heap === undefined ? [...SUPERVISOR_OPTIONS, supervisor] : [...heapOptions(SUPERVISOR_OPTIONS), ...begunWith(heap)]
  const [file, ...args] = [...launcher, node, ...begins, planFile]
  const cache = heap === undefined ? cacheOf(supervisor) : undefined
  if (cache !== undefined && slot.uid !== undefined) shareCompiled(cache, slot.uid, false)
  const program = {
    file,
    args,
    cwd: slot.directory,
    environment: heap !== undefined ? HEAP_ENVIRONMENT : cache === undefined ? {} : cacheEnvironment(cache),
    ...(spawnUid === undefined ? {} : { uid: spawnUid }),
  }
  const spawned = await spawner.spawn(program, spawner.begins ? besideOf(plan.runner, launcher, spawnUid) : null)
  const { stdin: input, pids } = spawned
  const [pid = 0] = pids
  let [destroyed, hasExited, hasJob] = [false, false, false]
  /** What descended from the supervisor, and from what began beside it, when they were last alive to be asked. */
  let tree: readonly Process[] = []
  const descending = (): readonly Process[] => {
    const processes = listProcesses()
    return pids.flatMap((root) => descendants(root, processes))
  }
  const look = () => {
    // A pid of what is gone may be another's.
    if (!hasExited) tree = [...tree, ...descending()]
  }
  const ended = (async () => {
    const { reason: exit, stderrTail } = await exitOf(spawned, () => (hasExited = true))
    const reason = struck(exit, cgroup)
    const left = () => remaining(tree, pids, slot.uid)
    for (let waited = 0; waited < LINGER_MS && left().length > 0; waited += POLL_MS) {
      for (const one of left()) signal(one.pid)
      cgroup.kill()
      await clock.sleep(POLL_MS)
    }
    cgroup.remove()
    slot.release()
    return { reason: destroyed && ENDED_BY_US.has(reason) ? 'destroyed' : reason, stderrTail }
  })()
  const opening = openingOf(linesFrom(spawned.stdout))
  let stopped: readonly number[] = []
  const resume = (): void => {
    cgroup.thaw()
    // The supervisor last: it finds whatever is its own running.
    for (const pid of stopped.toReversed()) signal(pid, 'SIGCONT')
    stopped = []
  }
  return {
    pid,
    // Whoever read its lines may have stopped before they ended.
    primed: Promise.race([opening.primed, ended.then(() => undefined)]),
    suspend: () => {
      if (hasExited || !options.isMortal) return false
      if (cgroup.freeze()) return true
      stopped = pids.flatMap(treeOf)
      for (const pid of stopped) signal(pid, 'SIGSTOP')
      return true
    },
    resume,
    provide: (skills) => {
      hasJob = true
      if (input.writable) input.write(printLine({ type: 'skills', skills }))
    },
    processes: () => (hasExited ? 0 : descending().filter(({ zombie }) => !zombie).length),
    send: (line: HostLine) => {
      if (input.writable) input.write(printLine(line))
    },
    get unreadBytes() {
      return input.writableLength
    },
    lines: opening.lines,
    ended,
    destroy: async () => {
      destroyed ||= !hasExited
      cgroup.yield(false)
      resume()
      look()
      input.end()
      // Asked first, so that it ends and reaps its compartments; it may be stuck, or stopped by somebody. One that was given no
      // job has nothing to end well, and hears nothing while it makes itself ready.
      if (hasJob) {
        const given = new AbortController()
        await Promise.race([ended, clock.sleep(GRACE_MS, given.signal).catch(() => {})])
        given.abort()
      }
      if (!hasExited) {
        look()
        for (const { pid } of tree) signal(pid)
      }
      await ended
    },
  }
}

/** Reads until the machine is primed or somebody reads on, and gives every line once. */
function openingOf(lines: LineQueue<MachineLine>): {
  readonly primed: Promise<string | undefined>
  readonly lines: AsyncIterable<MachineLine>
} {
  const primed = Promise.withResolvers<string | undefined>()
  const read: MachineLine[] = []
  let bootId: string | undefined
  const reader = { isThere: false }
  let asked: Promise<IteratorResult<MachineLine, undefined>> | undefined
  const next = async (): Promise<IteratorResult<MachineLine, undefined>> => {
    asked ??= lines.next()
    const found = await asked
    if (found.done === true) primed.resolve(undefined)
    else if (found.value.type === 'ready') bootId = found.value.bootId
    else if (found.value.type === 'alive') primed.resolve(bootId)
    return found
  }
  void (async () => {
    for (let isPrimed = false; !reader.isThere && !isPrimed;) {
      const found = await next()
      // Whoever reads by now has asked for the same line, and gets it.
      if (reader.isThere || found.done === true) return
      asked = undefined
      read.push(found.value)
      isPrimed = found.value.type === 'alive'
    }
  })().catch(() => primed.resolve(undefined))
  const all: AsyncIterableIterator<MachineLine, undefined> = {
    [Symbol.asyncIterator]: () => all,
    async next() {
      reader.isThere = true
      const first = read.shift()
      if (first !== undefined) return { value: first, done: false }
      const found = await next()
      asked = undefined
      return found
    },
  }
  return { primed: primed.promise, lines: all }
}

/** A process and all that descend from it, parents first. */
function treeOf(pid: number): readonly number[] {
  return [pid, ...childrenOf(pid).flatMap(treeOf)]
}

function childrenOf(pid: number): readonly number[] {
  try {
    return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean).map(Number)
  } catch {
    return []
  }
}

function linesFrom(output: Readable): LineQueue<MachineLine> {
  const lines = new LineQueue<MachineLine>()
  const take = (text: string | LineFault): Promise<void> | undefined => {
    const line = isLineFault(text) ? text : parseMachineLine(text)
    if (!isLineFault(line)) return lines.push(line)
    const error = new PlatformError('protocol_breach', `The machine broke P2.6: ${line.message}`)
    lines.fail(error)
    throw error
  }
  // A stream that breaks off with the machine is an end, too.
  const end = (): void => lines.end()
  eachLine(output, take, LINE_BYTES_MAX).then(end, end)
  return lines
}

/** A machine whose processes the kernel ended or refused says so itself only by its end. */
function struck(exit: string, cgroup: Cgroup): string {
  if (!STRUCK.has(exit)) return exit
  const { memory, tasks } = cgroup.strikes()
  return memory > 0 ? 'oom' : tasks > 0 ? 'limit' : exit
}

async function exitOf({ stderr, exited }: Spawned, heard: () => void): Promise<{ reason: string; stderrTail: string }> {
  let stderrTail = ''
  stderr.setEncoding('utf8').on('data', (text: string) => {
    stderrTail = `${stderrTail}${text}`.slice(-STDERR_TAIL_CHARS)
  })
  const reason = reasonOf(await exited)
  heard()
  // Give what it wrote last the time to arrive.
  await new Promise((seen) => setImmediate(seen))
  return { reason, stderrTail: stderrTail.trim() }
}

/** A process whose end nobody was there to see ended with the one that forked it. */
function reasonOf({ code, signal: killedBy }: Exit): string {
  if (killedBy !== null) return `signal ${killedBy}`
  return code === null ? 'signal SIGKILL' : (EXIT_REASONS[code] ?? `exit code ${code}`)
}

/**
 * What of the machine still lives: by ancestry, by the sessions it began with, and by its uid where that is its own.
 * Never by uid 0, whatever a slot says: that would be the whole computer.
 */
function remaining(tree: readonly Process[], sessions: readonly number[], uid: number | undefined): readonly Process[] {
  const listed = listProcesses().filter((one) => !one.zombie)
  const known = tree.filter(({ pid, startedAt }) => {
    const now = findProcess(pid)
    return now !== undefined && now.startedAt === startedAt && !now.zombie
  })
  const others = listed.filter(
    (one) => sessions.includes(one.session) || (uid !== undefined && uid > 0 && uidOf(one.pid) === uid),
  )
  return [...known, ...others]
}

function signal(pid: number, name: NodeJS.Signals = 'SIGKILL'): void {
  try {
    process.kill(pid, name)
  } catch {
    // It went before us.
  }
}
