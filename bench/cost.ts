/** What processes cost, as /proc tells it: CPU time by role, and the most memory that one held. */
import { readdirSync, readFileSync } from 'node:fs'
import { descendants, listProcesses } from '../src/local/processes.ts'

export const ROLES = ['server', 'supervisor', 'runner', 'skill', 'postgres'] as const
export type Role = (typeof ROLES)[number]
/** CPU milliseconds since each process of the role began. */
type Cpu = Readonly<Record<Role, number>>

interface Sample {
  /** Epoch ms. */
  readonly at: number
  readonly cpu: Cpu
}

const SAMPLE_MS = 50
/** Processes come and go with machines; looking for new ones costs more than reading known ones. */
const FIND_EVERY = 5

/** Samples a platform's processes and those of its Postgres until `stop`. */
export class CostMeter {
  readonly #server: number
  readonly #postmaster: number
  readonly #samples: Sample[] = []
  readonly #timer: NodeJS.Timeout
  #pids = new Map<number, Role>()
  #ticks = 0
  /** The runner's peak resident memory in kB, over all samples. */
  runnerPeakKb = 0

  constructor(server: number, postmaster: number) {
    this.#server = server
    this.#postmaster = postmaster
    this.#timer = setInterval(() => this.#sample(), SAMPLE_MS)
    this.#sample()
  }

  stop(): void {
    clearInterval(this.#timer)
  }

  /**
   * CPU ms for each of the moments in `ends` (steps), by role, over all whole samples between the first and the last
   * of them; undefined when fewer than two samples fall in between.
   */
  perStep(ends: readonly number[]): Cpu | undefined {
    const from = ends[0] ?? 0
    const to = ends.at(-1) ?? 0
    const within = this.#samples.filter(({ at }) => at >= from && at <= to)
    const first = within[0]
    const last = within.at(-1)
    if (first === undefined || last === undefined || within.length < 2) return undefined
    const steps = ends.filter((at) => at > first.at && at <= last.at).length
    const share = (role: Role) => (last.cpu[role] - first.cpu[role]) / steps
    return Object.fromEntries(ROLES.map((role) => [role, share(role)])) as Record<Role, number>
  }

  #sample(): void {
    if (this.#ticks++ % FIND_EVERY === 0) this.#find()
    const cpu: Record<Role, number> = { server: 0, supervisor: 0, runner: 0, skill: 0, postgres: 0 }
    for (const [pid, role] of this.#pids) {
      cpu[role] += cpuMs(pid)
      if (role === 'runner') this.runnerPeakKb = Math.max(this.runnerPeakKb, peakKb(pid))
    }
    this.#samples.push({ at: Date.now(), cpu })
  }

  #find(): void {
    const all = listProcesses()
    const found = new Map<number, Role>()
    for (const { pid } of descendants(this.#server, all)) {
      const role = pid === this.#server ? 'server' : roleOf(pid)
      if (role !== undefined) found.set(pid, role)
    }
    for (const { pid } of descendants(this.#postmaster, all)) found.set(pid, 'postgres')
    this.#pids = found
  }
}

function roleOf(pid: number): Role | undefined {
  const command = readText(`/proc/${pid}/cmdline`).split('\0')
  if (command[0]?.endsWith('bwrap') === true) return undefined
  if (command.some((word) => /supervisor[^/]*(?:\/main)?\.m?js$/.test(word))) return 'supervisor'
  if (command.some((word) => word === '/runner/main.mjs')) return 'runner'
  return command.some((word) => word.startsWith('/skill/')) ? 'skill' : undefined
}

/** The kernel's own count in nanoseconds, summed over the threads. */
function cpuMs(pid: number): number {
  let ns = 0
  for (const thread of list(`/proc/${pid}/task`))
    ns += Number(readText(`/proc/${pid}/task/${thread}/schedstat`).split(' ')[0])
  return ns / 1e6
}

function peakKb(pid: number): number {
  return Number(/^VmHWM:\s+(\d+)/m.exec(readText(`/proc/${pid}/status`))?.[1] ?? 0)
}

function list(directory: string): readonly string[] {
  try {
    return readdirSync(directory)
  } catch {
    return [] // It ended meanwhile.
  }
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return '' // It ended meanwhile.
  }
}
