/** Is a process still the one that it was. */
import { execFile } from 'node:child_process'
import { readFile, readdir, readlink, stat } from 'node:fs/promises'
import { promisify } from 'node:util'

const run = promisify(execFile)

/**
 * What tells a process from a later one with the same pid; null when nothing can (the process is gone, say). Only
 * pids of this machine, and of this container, mean anything here.
 */
export async function startOf(pid: number): Promise<string | null> {
  try {
    if (process.platform !== 'linux') {
      const { stdout } = await run('ps', ['-o', 'lstart=', '-p', String(pid)])
      return stdout.trim().replaceAll(/\s+/g, '_') || null
    }
    const stat = await readFile(`/proc/${pid}/stat`, 'utf8')
    const boot = await readFile('/proc/sys/kernel/random/boot_id', 'utf8')
    // The second field, a name, may hold anything; the state is the first after it, the start the twentieth.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    return fields[0] === 'Z' || fields[19] === undefined ? null : `${boot.trim()}/${fields[19]}`
  } catch {
    return null
  }
}

/** True when `pid` runs, and started when `start` says (null: any time). */
export async function isAlive(pid: number, start: string | null = null): Promise<boolean> {
  try {
    process.kill(pid, 0)
  } catch (cause) {
    if (!(cause instanceof Error && 'code' in cause && cause.code === 'EPERM')) return false
  }
  const now = await startOf(pid)
  return now !== null && (start === null || start === now)
}

/**
 * The pids that work in `directory`, as a server and its children do in their cluster; undefined where nobody can tell:
 * on other systems, and when we may not look at a process of the user `uid`.
 */
export async function pidsIn(directory: string, uid: number): Promise<readonly number[] | undefined> {
  if (process.platform !== 'linux') return undefined
  const found: number[] = []
  for (const name of (await readdir('/proc')).filter((name) => /^\d+$/.test(name))) {
    try {
      if ((await readlink(`/proc/${name}/cwd`)) === directory) found.push(Number(name))
    } catch (cause) {
      const isHidden = cause instanceof Error && 'code' in cause && (cause.code === 'EACCES' || cause.code === 'EPERM')
      if (isHidden && (await stat(`/proc/${name}`).catch(() => undefined))?.uid === uid) return undefined
    }
  }
  return found
}
