/** Ends every process that a command started, whatever it did to get away. */
import { readdirSync, readFileSync } from 'node:fs'

/** Rounds of looking and killing: a process may start another while it is looked for. */
const ROUNDS_MAX = 50

/**
 * Kills the group of `leader`, and all processes that bear `mark` in their environment. In a compartment of Senmon,
 * where nothing else lives, all others as well: there a process cannot get away by any means.
 */
export function endAll(leader: number, mark: string): void {
  for (let round = 0; round < ROUNDS_MAX; round++) {
    signal(-leader)
    const found = isAlone() ? others() : others().filter((pid) => read(`/proc/${pid}/environ`).includes(mark))
    if (found.length === 0) return
    for (const pid of found) signal(pid)
  }
}

/** Whether this is the only program of a compartment: bubblewrap is the first process, and started this one. */
function isAlone(): boolean {
  return process.pid === 2 && process.ppid === 1 && read('/proc/1/comm').trim() === 'bwrap'
}

/** Every process but the first, this one, and those that have ended and only wait to be counted. */
function others(): readonly number[] {
  try {
    return readdirSync('/proc')
      .filter((name) => /^\d+$/.test(name))
      .map(Number)
      .filter((pid) => pid !== 1 && pid !== process.pid && !/^\d+ \(.*\) [ZX] /s.test(read(`/proc/${pid}/stat`)))
  } catch {
    // A system without /proc has groups alone.
    return []
  }
}

function read(path: string): string {
  try {
    return readFileSync(path, 'latin1')
  } catch {
    return ''
  }
}

function signal(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // It has gone already, or is not ours to end.
  }
}
