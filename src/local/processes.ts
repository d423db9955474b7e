/** The processes of this computer, as /proc shows them; none where there is no /proc. */
import { readdirSync, readFileSync } from 'node:fs'

export interface Process {
  readonly pid: number
  readonly parent: number
  readonly group: number
  readonly session: number
  /** Clock ticks since boot: with the pid it names a process for good. */
  readonly startedAt: string
  readonly zombie: boolean
}

/** Undefined when it is gone. */
export function findProcess(pid: number): Process | undefined {
  let stat: string
  try {
    stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
  } catch {
    return undefined
  }
  // The name in parentheses may hold anything, parentheses included.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return {
    pid,
    zombie: fields[0] === 'Z' || fields[0] === 'X',
    parent: Number(fields[1]),
    group: Number(fields[2]),
    session: Number(fields[3]),
    startedAt: fields[19] ?? '',
  }
}

export function listProcesses(): readonly Process[] {
  let names: readonly string[]
  try {
    names = readdirSync('/proc')
  } catch {
    return []
  }
  return names.flatMap((name) => {
    const found = /^\d+$/.test(name) ? findProcess(Number(name)) : undefined
    return found === undefined ? [] : [found]
  })
}

/** `root` and all that descend from it now. */
export function descendants(root: number, processes: readonly Process[]): readonly Process[] {
  const tree = processes.filter((one) => one.pid === root)
  for (const parent of tree) tree.push(...processes.filter((one) => one.parent === parent.pid))
  return tree
}

/** The real uid; undefined when the process is gone. */
export function uidOf(pid: number): number | undefined {
  try {
    const uid = /^Uid:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]
    return uid === undefined ? undefined : Number(uid)
  } catch {
    return undefined
  }
}
