import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { descendants, findProcess, listProcesses } from '../../src/local/processes.ts'
import { openHost, openPlainProcesses, openSandboxes, realClock, sandboxMissing } from '../support/sandbox.ts'
import { ROOT } from '../support/source.ts'

const missing = await sandboxMissing()
const directories: string[] = []

afterEach(() => {
  for (const directory of directories.splice(0)) rmSync(directory, { recursive: true, force: true })
})

/** A server in a process of its own, with one machine that works. */
async function server(kind: string) {
  const directory = mkdtempSync('/var/tmp/senmon-test-')
  chmodSync(directory, 0o755)
  directories.push(directory)
  const runtimeDirectory = join(directory, 'runtime')
  const args = [join(ROOT, 'test/fixture/server.ts'), kind, runtimeDirectory]
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] })
  await once(child.stdout, 'data')
  const tree = descendants(child.pid ?? 0, listProcesses())
  return { child, runtimeDirectory, tree: tree.filter((one) => one.pid !== child.pid) }
}

/** The file that the job has written, in whichever slot it got. */
function mineOf(runtimeDirectory: string): string {
  const slots = join(runtimeDirectory, 'slots')
  return (
    readdirSync(slots)
      .map((slot) => join(slots, slot, 'ws/mine'))
      .find((path) => existsSync(path)) ?? slots
  )
}

function isAlive({ pid, startedAt }: { pid: number; startedAt: string }): boolean {
  const now = findProcess(pid)
  return now !== undefined && now.startedAt === startedAt && !now.zombie
}

describe.each([
  ['local', openSandboxes],
  ['unsafe-process', openPlainProcesses],
] as const)('when a server with %s machines is killed', (kind, open) => {
  it.skipIf(kind === 'local' && missing !== undefined)(
    'every process of its machines ends, at work or stopped, and the next start removes its directories (P8.2, S2, L2)',
    async () => {
      const { child, runtimeDirectory, tree } = await server(kind)
      expect(tree.length).toBeGreaterThan(2)
      const slots = join(runtimeDirectory, 'slots')
      expect(readFileSync(mineOf(runtimeDirectory), 'utf8')).toBe('of the job')
      child.kill('SIGKILL')
      await once(child, 'exit')
      for (let waited = 0; waited < 3000 && tree.some(isAlive); waited += 10) await realClock.sleep(10)
      expect(tree.filter(isAlive)).toEqual([])
      expect(readFileSync('/proc/self/mountinfo', 'utf8')).not.toContain(runtimeDirectory)
      const { close } = await openHost(open, { runtimeDirectory })
      expect(readdirSync(slots)).toEqual([])
      await close()
    },
  )

  it.skipIf(kind === 'local' && missing !== undefined)(
    'another server in the same directory leaves what lives alone (L1, L3)',
    async () => {
      const first = await server(kind)
      const second = await openHost(open, { runtimeDirectory: first.runtimeDirectory })
      await second.close()
      expect(first.tree.every(isAlive)).toBe(true)
      expect(existsSync(mineOf(first.runtimeDirectory))).toBe(true)
      first.child.kill('SIGKILL')
      await once(first.child, 'exit')
    },
  )
})

it('gives machines of two servers uids of their own, and one that ends leaves the other (L3)', async () => {
  const [first, second] = [await server('unsafe-process'), await server('unsafe-process')]
  const others = [...uids(second.tree)]
  second.child.kill('SIGKILL')
  await once(second.child, 'exit')
  for (let waited = 0; waited < 3000 && second.tree.some(isAlive); waited += 10) await realClock.sleep(10)
  expect(first.tree.every(isAlive)).toBe(true)
  if (process.getuid?.() === 0) expect(others.filter((uid) => uids(first.tree).has(uid))).toEqual([])
  if (process.getuid?.() === 0) expect(uids(first.tree)).not.toContain('0')
  first.child.kill('SIGKILL')
  await once(first.child, 'exit')
})

function uids(tree: readonly { readonly pid: number }[]): ReadonlySet<string> {
  return new Set(tree.map(({ pid }) => readUid(pid)).filter((uid) => uid !== ''))
}

function readUid(pid: number): string {
  try {
    return /^Uid:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? ''
  } catch {
    return ''
  }
}
