/** What servers that are dead have left on this computer: processes, cgroups, directories, mounts. */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { placesOf } from '../../src/local/cgroup-layout.ts'
import { listProcesses } from '../../src/local/processes.ts'

export interface Remains {
  /** Their command lines. */
  readonly processes: readonly string[]
  readonly cgroups: readonly string[]
  readonly directories: readonly string[]
  readonly mounts: readonly string[]
}

/** How many there are of each; for a line of print. */
export function countOf({ processes, cgroups, directories, mounts }: Remains): string {
  return `${processes.length} processes, ${cgroups.length} cgroups, ${directories.length} directories, ${mounts.length} mounts`
}

export function isClean(remains: Remains): boolean {
  return Object.values(remains).every(({ length }) => length === 0)
}

/** Of servers by their pids, all of which are gone. */
export function remainsOf(servers: ReadonlySet<number>, runtimeDirectory: string): Remains {
  const slots = slotsOf(servers, runtimeDirectory)
  const isTheirs = (cgroups: string) =>
    [...cgroups.matchAll(/senmon-\d+-(\d+)-\d+/g)].some(([, pid]) => servers.has(Number(pid)))
  const uids = new Set(slots.flatMap(({ number }) => (process.getuid?.() === 0 ? [200_000 + number] : [])))
  const processes = listProcesses().flatMap(({ pid, zombie }) => {
    if (zombie) return []
    const command = read(`/proc/${pid}/cmdline`).replaceAll('\0', ' ')
    const uid = Number(/^Uid:\s+(\d+)/m.exec(read(`/proc/${pid}/status`))?.[1] ?? 0)
    const cgroups = read(`/proc/${pid}/cgroup`)
    // A uid is another server's as soon as its owner is dead.
    const isOne = isTheirs(cgroups) || (uids.has(uid) && !cgroups.includes('/senmon-'))
    return isOne || slots.some(({ path }) => command.includes(`${path}/`)) ? [`${pid} ${command}`] : []
  })
  const places = placesOf(read('/proc/self/mountinfo'), read('/proc/self/cgroup'))
  const isOwn = (name: string) =>
    servers.has(Number(/^(?:(?:making|canary|probe|dead|spawner)-|uses\/)(\d+)(?:-|$)/.exec(name)?.[1] ?? 0))
  return {
    processes,
    cgroups: places.flatMap(({ directory }) =>
      list(directory).flatMap((name) => (isTheirs(name) ? [join(directory, name)] : [])),
    ),
    directories: [
      ...slots.map(({ path }) => path),
      ...[...list(runtimeDirectory), ...list(join(runtimeDirectory, 'uses')).map((name) => `uses/${name}`)].filter(
        isOwn,
      ),
    ],
    mounts: read('/proc/self/mountinfo')
      .split('\n')
      .filter((line) => line.includes(runtimeDirectory)),
  }
}

function slotsOf(servers: ReadonlySet<number>, runtimeDirectory: string) {
  const directory = join(runtimeDirectory, 'slots')
  return list(directory).flatMap((name) => {
    const path = join(directory, name)
    const maker = Number(/^new-(\d+)-/.exec(name)?.[1] ?? 0)
    const owner = Number(/"pid":(\d+)/.exec(read(join(path, 'owner')))?.[1] ?? 0)
    return servers.has(maker) || servers.has(owner) ? [{ path, number: Number(name) || 0 }] : []
  })
}

function list(directory: string): readonly string[] {
  try {
    return readdirSync(directory)
  } catch {
    return []
  }
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return '' // it has gone meanwhile
  }
}
