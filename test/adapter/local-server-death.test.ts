/** Servers that die: what their machines leave, at each point of a machine's life and while they merely work. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, existsSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { armed, POINTS, type Point } from '../campaign/kill-point.ts'
import { remainsOf } from '../campaign/remains.ts'
import { descendants, findProcess, listProcesses } from '../../src/local/processes.ts'
import { until } from '../support/patience.ts'
import { openHost, openPlainProcesses, openSandboxes, sandboxMissing } from '../support/sandbox.ts'
import { ROOT } from '../support/source.ts'
import { scratchDirectory } from '../support/scratch.ts'

const missing = await sandboxMissing()
const directories: string[] = []

afterEach(() => {
  for (const directory of directories.splice(0)) rmSync(directory, { recursive: true, force: true })
})

function place(): string {
  const directory = scratchDirectory('test', '/var/tmp')
  chmodSync(directory, 0o755)
  directories.push(directory)
  return join(directory, 'runtime')
}

/** A server that dies when its machines have come to a point so many times; its pid, once it is dead. */
async function dying(point: Point, after: number, runtimeDirectory: string): Promise<number> {
  const args = [armed(point, after), join(ROOT, 'test/fixture/server.ts'), 'local', runtimeDirectory, 'on']
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'ignore', 'inherit'] })
  const [code, signal] = (await once(child, 'exit')) as [number | null, string | null]
  expect({ point, code, signal }).toEqual({ point, code: null, signal: 'SIGKILL' })
  return child.pid ?? 0
}

/** A server in a process of its own, with one machine that works. */
async function server(kind: string) {
  const runtimeDirectory = place()
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
    'every process of its machines ends, at work or stopped, and the next start removes its directories (P8.2, S2, SP2, SL2)',
    async () => {
      const { child, runtimeDirectory, tree } = await server(kind)
      expect(tree.length).toBeGreaterThan(2)
      const slots = join(runtimeDirectory, 'slots')
      expect(readFileSync(mineOf(runtimeDirectory), 'utf8')).toBe('of the job')
      child.kill('SIGKILL')
      await once(child, 'exit')
      await until(() => !tree.some(isAlive), 10)
      expect(readFileSync('/proc/self/mountinfo', 'utf8')).not.toContain(runtimeDirectory)
      const { close } = await openHost(open, { runtimeDirectory })
      expect(readdirSync(slots)).toEqual([])
      await close()
    },
  )

  it.skipIf(kind === 'local' && missing !== undefined)(
    'another server in the same directory leaves what lives alone (SL1, SL3)',
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

it.skipIf(missing !== undefined)(
  'a server that dies at any point of a machine takes all of it along, and the next start removes the rest (S2, SL2, CG2)',
  async () => {
    const runtimeDirectory = place()
    const dead = new Set<number>()
    const remains = () => remainsOf(dead, runtimeDirectory)
    const nothing = { processes: [], cgroups: [], directories: [], mounts: [] }
    // That a claim was made only Postgres knows: test/system/server-crash.test.ts.
    const points = POINTS.filter((one) => one !== 'claiming').map((point) => [point, 1] as const)
    for (const [point, after] of [['creating', 2] as const, ...points]) {
      const pid = await dying(point, after, runtimeDirectory)
      // Its own start has removed what the one before it left, unless it died in that.
      if (point !== 'sweeping') expect({ point, ...remains() }).toEqual({ point, ...nothing })
      dead.add(pid)
      await until(() => remains().processes.length === 0, 10)
      const { mounts, directories } = remains()
      expect({ point, mounts }).toEqual({ point, mounts: [] })
      // Its cgroups may have gone by now: any server of this computer that starts removes those.
      expect({ point, left: directories.length > 0 }).toEqual({ point, left: true })
    }
    const { close } = await openHost(openSandboxes, { runtimeDirectory })
    expect(remains()).toEqual(nothing)
    await close()
  },
  240_000,
)

it('gives machines of two servers uids of their own, and one that ends leaves the other (SL3)', async () => {
  const [first, second] = [await server('unsafe-process'), await server('unsafe-process')]
  const others = [...uids(machinesOf(second))]
  second.child.kill('SIGKILL')
  await once(second.child, 'exit')
  await until(() => !second.tree.some(isAlive), 10)
  expect(first.tree.every(isAlive)).toBe(true)
  if (process.getuid?.() === 0) expect(others.filter((uid) => uids(machinesOf(first)).has(uid))).toEqual([])
  if (process.getuid?.() === 0) expect(uids(machinesOf(first))).not.toContain('0')
  first.child.kill('SIGKILL')
  await once(first.child, 'exit')
})

/** Without what the server forks with, which is its own. */
function machinesOf({ child, tree }: Awaited<ReturnType<typeof server>>) {
  return tree.filter(({ parent }) => parent !== child.pid)
}

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
