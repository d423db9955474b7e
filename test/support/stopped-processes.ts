/** Which processes below this one are stopped in their tracks. */
import { readFileSync } from 'node:fs'
import { placesOf } from '../../src/local/cgroup-layout.ts'
import { descendants, listProcesses } from '../../src/local/processes.ts'

/** Processes of ours that are stopped in their tracks: by a signal, or with their cgroup. */
export function stopped(): readonly number[] {
  return descendants(process.pid, listProcesses())
    .map(({ pid }) => pid)
    .filter((pid) => /^State:\s+T/m.test(read(`/proc/${pid}/status`)) || isFrozen(pid))
}

const unified = placesOf(read('/proc/self/mountinfo'), '0::/\n').find(({ version }) => version === 2)?.directory

function isFrozen(pid: number): boolean {
  const [, path] = /^0::(.+)$/m.exec(read(`/proc/${pid}/cgroup`)) ?? []
  return path !== undefined && /^frozen 1$/m.test(read(`${unified}${path}/cgroup.events`))
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}
