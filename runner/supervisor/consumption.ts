/** What the processes of a compartment use, as /proc shows it; nothing where there is no /proc. */
import { readdirSync, readFileSync } from 'node:fs'
import type { SkillLimits } from '../../schema/machine-plan.ts'

export interface Consumption {
  readonly processes: number
  /** Memory that is in use; what several share counts for each. */
  readonly memoryBytes: number
}

const PAGE_BYTES = 4096
/** A tree that grows while it is read must not be read for ever. */
const READ_MAX = 4096

/** Of `root` and all that descend from it, by whichever of their threads. Stops reading above `enough` processes. */
export function consumptionOf(root: number, enough = READ_MAX): Consumption {
  let pages = 0
  const tree = [root]
  for (const pid of tree) {
    if (tree.length > enough) break
    pages += residentPages(pid)
    tree.push(...childrenOf(pid))
  }
  return { processes: tree.length, memoryBytes: pages * PAGE_BYTES }
}

/** Which limit is passed, as the end of a sentence; undefined for none. */
export function excessOf(used: Consumption, limits: SkillLimits): string | undefined {
  if (used.processes > limits.processes) return `runs more than ${limits.processes} processes`
  if (used.memoryBytes > limits.memoryBytes) return `uses more than ${limits.memoryBytes} bytes of memory`
  return undefined
}

/** How many processes the kernel ended for their memory, as it counts them in a file of a cgroup. */
export function memoryEndsIn(file: string): number {
  return Number(/^oom_kill (\d+)$/m.exec(read(file))?.[1] ?? 0)
}

function residentPages(pid: number): number {
  return Number(read(`/proc/${pid}/statm`).split(' ')[1] ?? 0) || 0
}

function childrenOf(pid: number): readonly number[] {
  let threads: readonly string[]
  try {
    threads = readdirSync(`/proc/${pid}/task`)
  } catch {
    return []
  }
  return threads.flatMap((thread) =>
    read(`/proc/${pid}/task/${thread}/children`).split(' ').filter(Boolean).map(Number),
  )
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return '' // it has gone meanwhile
  }
}
