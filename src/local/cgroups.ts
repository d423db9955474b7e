/**
 * Cgroups for machines: what all processes of one may use together, how they are stopped in their tracks, and how they
 * end, whatever they have become. Both versions, since many a computer has the limits in the first and freezing in the
 * second. What is there is found by trying it.
 *
 * CG1 A machine is in its cgroups before anything of it runs: a process that cannot join does not start.
 * CG2 What a server left that is gone is ended and removed; what one has that lives is left alone.
 * CG3 A limit that cannot be kept is never said to be.
 * CG4 A compartment that has a part uses no more memory than the part may, and of the machine nothing else ends for it.
 * CG5 A machine that no job waits for takes a processor from nothing else, be it a machine or any process beside them, for as
 *    long as it has said that it yields; to end, it has one as any other.
 * CG6 Where processors are short, a machine has as much of them as a process that is in no cgroup of ours.
 *
 * For the last two each machine's cgroup stands beside the server itself: to the kernel one cgroup around them all would weigh
 * as much as one process, whatever is in it, and whether that yields.
 */
import { spawnSync } from 'node:child_process'
import {
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmdirSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import type { Clock } from '../../schema/clock.ts'
import { LIMIT_KINDS, placesOf, type CgroupPlace, type LimitKind } from './cgroup-layout.ts'
import { findProcess } from './processes.ts'

/** What one machine may use, all its processes together. */
export interface MachineLimits {
  readonly memoryBytes: number
  /** Threads count, as the kernel counts them: a Node process has a dozen. */
  readonly tasks: number
  /** Of one processor's time; null for all there is. */
  readonly cpus: number | null
}

/** How each limit is kept here: by which version of cgroups; null where nothing keeps it. */
export type Kept = Readonly<Record<LimitKind | 'freeze', 'v1' | 'v2' | null>>

export interface Cgroup {
  /** Stands before a command line: joins, then runs the rest. The rest is refused (78) when it cannot join (CG1). */
  readonly joining: readonly string[]
  /** Room in it for one compartment, whose memory the kernel keeps; undefined where that is not to be had. */
  part(number: number, memoryBytes: number): CgroupPart | undefined
  /** Whether its processes have a processor only while no other wants it; nothing changes where that is not to be had. */
  yield(isYielding: boolean): void
  /** Has every process of it stop, each as soon as the kernel comes to it; false where that is not to be had. */
  freeze(): boolean
  /** Whether all of them have. */
  isFrozen(): boolean
  thaw(): void
  kill(): void
  /** How often the kernel ended a process of it for memory, and refused it one more task. */
  strikes(): { readonly memory: number; readonly tasks: number }
  /** Removes it; false while something in it lives. */
  remove(): boolean
}

export interface CgroupPart {
  /** As `Cgroup.joining`, for whoever is in the machine already. */
  readonly joining: readonly string[]
  /** Where the kernel counts what of the part it ended for memory. */
  readonly memoryEnds: string
}

export interface Cgroups {
  readonly kept: Kept
  /** `uid` is whom its processes become, who must be able to join parts. */
  make(name: string, limits: MachineLimits, uid?: number): Cgroup
  /** Ends and removes all of this server's. */
  close(): Promise<void>
}

const SHELL = '/bin/sh'
/** A shell says in the environment where it is, which is of the host. */
const SILENT = 'unset PWD OLDPWD SHLVL; exec "$@"'
const JOIN = `while [ "$1" != -- ]; do echo 0 >"$1/cgroup.procs" || exit 78; shift; done; shift; ${SILENT}`
const CPU_PERIOD_US = 100_000
/** A process that SIGKILL does not end within this is stuck in the kernel; we go on without it. */
const END_MS_MAX = 10_000
const END_POLL_MS = 5
const NONE: Kept = { memory: null, pids: null, cpu: null, freeze: null }

/** One of the directories in which this server makes its machines, whose names begin with the server's. */
interface Ground extends CgroupPlace {
  readonly prefix: string
}

/**
 * Opens the cgroups of this server and sweeps those of servers that are gone. `name` is `nameOfServer`, with a hyphen and a
 * number after it where one process opens several. Nothing is kept where there are none, or none that it may write.
 */
export async function openCgroups(name: string, clock: Clock): Promise<Cgroups> {
  const places = placesOf(read('/proc/self/mountinfo'), read('/proc/self/cgroup'))
  for (const { directory } of places) for (const place of besides(directory)) await sweep(place, clock)
  const grounds = places.flatMap((place) => open(place, name))
  const kept = grounds.length === 0 ? NONE : keptBy(grounds)
  const cgroups: Cgroups = {
    kept,
    make: (machine, limits, uid) => makeCgroup(grounds, machine, limits, uid),
    close: async () => {
      for (const { directory, prefix } of grounds)
        for (const name of list(directory).filter((one) => one.startsWith(prefix)))
          await endTree(join(directory, name), clock)
    },
  }
  if (grounds.length === 0 || joins(cgroups)) return cgroups
  await cgroups.close()
  return { ...cgroups, kept: NONE, make: (machine, limits) => makeCgroup([], machine, limits) }
}

/** A process by its name: of this namespace of pids, this pid, and this start. Nothing after a reboot has it. */
export function nameOfServer(pid: number): string {
  return `senmon-${namespaceOfPids()}-${pid}-${findProcess(pid)?.startedAt ?? ''}`
}

function namespaceOfPids(): string {
  try {
    return /\d+/.exec(readlinkSync('/proc/self/ns/pid'))?.[0] ?? ''
  } catch {
    return ''
  }
}

function open(place: CgroupPlace, name: string): readonly Ground[] {
  const { directory, version } = place
  const prefix = `${name}.`
  const trial = join(directory, `${prefix}trial`)
  const offered = version === 1 ? place.kinds : enable(directory)
  const kinds = offered.filter((kind) => tryLimit(trial, version, kind))
  // By the second version machines are stopped, too.
  return kinds.length > 0 || (version === 2 && tryLimit(trial, version, null)) ? [{ ...place, prefix, kinds }] : []
}

/** Gives the controllers that there are to what is below, and says which there may be. */
function enable(directory: string): readonly LimitKind[] {
  for (const kind of LIMIT_KINDS) {
    try {
      writeFileSync(join(directory, 'cgroup.subtree_control'), `+${kind}`)
    } catch {
      // Not there, or the cgroup has processes of its own: `tryLimit` says so.
    }
  }
  return LIMIT_KINDS
}

/** Whether a cgroup can be made, and a limit that is set is there. */
function tryLimit(directory: string, version: 1 | 2, kind: LimitKind | null): boolean {
  try {
    mkdirSync(directory, { recursive: true })
    if (kind !== null) limit(directory, version, kind, { memoryBytes: 64 * 1024 * 1024, tasks: 64, cpus: 1 })
    return true
  } catch {
    // Not ours to write: a container, or a person without a cgroup of their own.
    return false
  } finally {
    removeTree(directory)
  }
}

function limit(directory: string, version: 1 | 2, kind: LimitKind, limits: MachineLimits): void {
  const set = (name: string, value: number | string) => {
    writeFileSync(join(directory, name), `${value}`)
    if (read(join(directory, name)).trim() !== `${value}`) throw new Error(`${name} was not kept`)
  }
  const memory = limits.memoryBytes - (limits.memoryBytes % 4096)
  switch (kind) {
    case 'memory':
      set(version === 1 ? 'memory.limit_in_bytes' : 'memory.max', memory)
      // Memory that is swapped out is used as well; some kernels do not count it.
      return attempt(() =>
        set(version === 1 ? 'memory.memsw.limit_in_bytes' : 'memory.swap.max', version === 1 ? memory : 0),
      )
    case 'pids':
      return set('pids.max', limits.tasks)
    case 'cpu': {
      if (limits.cpus === null) return
      const quota = Math.max(1000, Math.round(limits.cpus * CPU_PERIOD_US))
      if (version === 2) return set('cpu.max', `${quota} ${CPU_PERIOD_US}`)
      set('cpu.cfs_period_us', CPU_PERIOD_US)
      return set('cpu.cfs_quota_us', quota)
    }
  }
}

function keptBy(grounds: readonly Ground[]): Kept {
  const by = (kind: LimitKind) => {
    const ground = grounds.find(({ kinds }) => kinds.includes(kind))
    return ground === undefined ? null : (`v${ground.version}` as const)
  }
  const freeze = grounds.some(({ version }) => version === 2) ? 'v2' : null
  return { memory: by('memory'), pids: by('pids'), cpu: by('cpu'), freeze }
}

/** Whether a process can join at all: a directory that can be made need not let anybody in. */
function joins(cgroups: Cgroups): boolean {
  const trial = cgroups.make('trial', { memoryBytes: 64 * 1024 * 1024, tasks: 64, cpus: null })
  const [file, ...args] = [...trial.joining, '/bin/true']
  const { status } = spawnSync(file, args, { env: {}, timeout: 10_000 })
  trial.remove()
  return status === 0
}

/** Throws when a limit cannot be set that could be before: a machine without it is no machine (CG3). */
function makeCgroup(grounds: readonly Ground[], name: string, limits: MachineLimits, uid?: number): Cgroup {
  const made = grounds.map((ground) => ({ ...ground, directory: join(ground.directory, `${ground.prefix}${name}`) }))
  for (const { directory, version, kinds } of made) {
    removeTree(directory)
    mkdirSync(directory)
    for (const kind of kinds) limit(directory, version, kind, limits)
  }
  // Version 2 has processes in leaves alone: those of the machine itself are in one, beside the parts.
  const base = made.flatMap(({ directory, version, kinds }) =>
    version === 2 && kinds.includes('memory') && offerMemory(directory) ? [join(directory, BASE)] : [],
  )[0]
  if (base !== undefined) mkdirSync(base)
  const joined = made.map(({ directory }) => (base?.startsWith(`${directory}/`) === true ? base : directory))
  const unified = made.find(({ version }) => version === 2)?.directory
  const of = (kind: LimitKind) => made.find(({ kinds }) => kinds.includes(kind))?.directory
  const freezeTo = (value: '0' | '1') => {
    if (unified === undefined) return false
    writeFileSync(join(unified, 'cgroup.freeze'), value)
    return true
  }
  const kill = () => made.forEach(({ directory }) => killTree(directory))
  return {
    joining: joined.length === 0 ? [] : [SHELL, '-c', JOIN, 'sh', ...joined, '--'],
    part: (number, memoryBytes) => {
      const ground = made.find(
        ({ kinds, version }) => kinds.includes('memory') && (version === 1 || base !== undefined),
      )
      return ground === undefined ? undefined : makePart(ground, number, { ...limits, memoryBytes }, uid)
    },
    yield: (isYielding) => {
      const directory = of('cpu')
      if (directory !== undefined) attempt(() => writeFileSync(join(directory, 'cpu.idle'), isYielding ? '1' : '0'))
    },
    freeze: () => freezeTo('1'),
    isFrozen: () => unified !== undefined && read(join(unified, 'cgroup.events')).includes('frozen 1'),
    thaw: () => attempt(() => freezeTo('0')),
    kill,
    strikes: () => ({
      memory: countOf(of('memory'), ['memory.events', 'memory.oom_control'], 'oom_kill'),
      tasks: countOf(of('pids'), ['pids.events'], 'max'),
    }),
    remove: () => made.map(({ directory }) => removeTree(directory)).every(Boolean),
  }
}

/** What is in a machine's cgroup by itself, where there are parts in it. */
const BASE = 'base'

function offerMemory(directory: string): boolean {
  try {
    writeFileSync(join(directory, 'cgroup.subtree_control'), '+memory')
    return true
  } catch {
    return false
  }
}

function makePart(
  { directory, version }: CgroupPlace,
  number: number,
  limits: MachineLimits,
  uid: number | undefined,
): CgroupPart | undefined {
  const part = join(directory, `part-${number}`)
  try {
    mkdirSync(part, { recursive: true })
    limit(part, version, 'memory', limits)
    // Whoever moves a process writes where it goes, and by version 2 also to what both places are below.
    if (uid !== undefined)
      for (const place of version === 1 ? [part] : [part, directory]) chownSync(join(place, 'cgroup.procs'), uid, uid)
  } catch {
    removeTree(part)
    return undefined
  }
  const memoryEnds = join(part, version === 1 ? 'memory.oom_control' : 'memory.events')
  return { joining: [SHELL, '-c', JOIN, 'sh', part, '--'], memoryEnds }
}

function countOf(directory: string | undefined, files: readonly string[], key: string): number {
  if (directory === undefined) return 0
  const texts = files.map((file) => read(join(directory, file)))
  return Number(texts.map((text) => new RegExp(`^${key} (\\d+)$`, 'm').exec(text)?.[1]).find(Boolean) ?? 0)
}

/** Where servers are that were started as this one was: in its cgroup, or in one beside it, as of another login. */
function besides(directory: string): readonly string[] {
  const above = dirname(directory)
  const isCgroup = existsSync(join(above, 'cgroup.procs'))
  return isCgroup ? list(above).map((name) => join(above, name)) : [directory]
}

/** Ends and removes what servers left that are gone (CG2). */
async function sweep(directory: string, clock: Clock): Promise<void> {
  const here = namespaceOfPids()
  for (const name of list(directory)) {
    const [, namespace, pid, startedAt] = /^senmon-(\d+)-(\d+)-(\d+)(?:-\d+)?(?:\.|$)/.exec(name) ?? []
    // One of another namespace of pids we cannot ask after.
    if (namespace === undefined || namespace !== here) continue
    if (findProcess(Number(pid))?.startedAt !== startedAt) await endTree(join(directory, name), clock)
  }
}

async function endTree(directory: string, clock: Clock): Promise<void> {
  for (let waited = 0; !removeTree(directory) && waited < END_MS_MAX; waited += END_POLL_MS) {
    killTree(directory)
    await clock.sleep(END_POLL_MS)
  }
}

/** False while something in it lives. */
function removeTree(directory: string): boolean {
  const isEmpty = list(directory).every((name) => removeTree(join(directory, name)))
  if (!isEmpty) return false
  try {
    rmdirSync(directory)
    return true
  } catch (error) {
    return !(error instanceof Error && 'code' in error && error.code === 'EBUSY')
  }
}

function killTree(directory: string): void {
  for (const name of list(directory)) killTree(join(directory, name))
  killAll(directory)
}

function killAll(directory: string): void {
  // Who is killed needs a processor to end on, and would wait for one until nobody else wants it.
  attempt(() => writeFileSync(join(directory, 'cpu.idle'), '0'))
  // Frozen processes of the second version end when they are killed.
  attempt(() => writeFileSync(join(directory, 'cgroup.kill'), '1'))
  for (const pid of read(join(directory, 'cgroup.procs')).split('\n').map(Number))
    // The kernel shows 0 for a process of another namespace, and for us that would be our own group.
    if (pid > 0) attempt(() => process.kill(pid, 'SIGKILL'))
}

function list(directory: string): readonly string[] {
  try {
    return readdirSync(directory, { withFileTypes: true }).flatMap((entry) => (entry.isDirectory() ? [entry.name] : []))
  } catch {
    return []
  }
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}

function attempt(act: () => unknown): void {
  try {
    act()
  } catch {
    // It is gone, or was never to be had.
  }
}
