import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync } from 'node:fs'
import { release } from 'node:os'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { memoryEndsIn } from '../../runner/supervisor/consumption.ts'
import { placesOf } from '../../src/local/cgroup-layout.ts'
import { nameOfServer, openCgroups, type Cgroup, type Cgroups, type MachineLimits } from '../../src/local/cgroups.ts'
import { limitsOf } from '../../src/local/supervised-host.ts'
import { findProcess } from '../../src/local/processes.ts'
import { realClock } from '../support/sandbox.ts'
import { ROOT } from '../support/source.ts'

const MiB = 1024 * 1024
const wide: MachineLimits = { memoryBytes: 512 * MiB, tasks: 256, cpus: null }
const places = placesOf(readFileSync('/proc/self/mountinfo', 'utf8'), readFileSync('/proc/self/cgroup', 'utf8'))

function isOlderThan(...wanted: readonly [number, number]): boolean {
  const [major = 0, minor = 0] = release().split('.').map(Number)
  return major < wanted[0] || (major === wanted[0] && minor < wanted[1])
}

function start(cgroup: Cgroup, ...command: readonly string[]): ChildProcess {
  const [file = '', ...args] = [...cgroup.joining, ...command]
  return spawn(file, args, { stdio: ['pipe', 'pipe', 'ignore'] })
}

describe('the places of cgroups', () => {
  it('are found by controller, below the cgroup of this process, in either version', () => {
    const mountinfo = [
      '25 1 0:20 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755',
      '26 25 0:21 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory',
      '27 25 0:22 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct',
      '28 25 0:23 /docker/a /sys/fs/cgroup/pids rw shared:9 - cgroup cgroup rw,pids',
      '29 25 0:24 / /sys/fs/cgroup/with\\040space rw - cgroup2 cgroup2 rw',
      '30 25 0:25 / /sys/fs/cgroup/freezer rw - cgroup cgroup rw,freezer',
    ].join('\n')
    const membership = '5:memory:/a/b\n4:cpu,cpuacct:/\n3:pids:/docker/a/c\n2:freezer:/\n0::/me\n'
    expect(placesOf(mountinfo, membership)).toEqual([
      { version: 1, directory: '/sys/fs/cgroup/memory/a/b', kinds: ['memory'] },
      { version: 1, directory: '/sys/fs/cgroup/cpu,cpuacct', kinds: ['cpu'] },
      { version: 1, directory: '/sys/fs/cgroup/pids/c', kinds: ['pids'] },
      { version: 2, directory: '/sys/fs/cgroup/with space/me', kinds: [] },
    ])
  })

  it('are none where this process is outside of what is mounted, or nothing is', () => {
    const mountinfo = '26 25 0:21 /docker/a /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory'
    expect(placesOf(mountinfo, '5:memory:/docker/ab\n')).toEqual([])
    expect(placesOf(mountinfo, '5:memory:/docker/a/../b\n')).toEqual([])
    expect(placesOf('', '')).toEqual([])
    expect(placesOf('26 25 0:21 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw', '')).toEqual([])
  })
})

it('what operators are told of limits names what keeps each, and that nothing does (CG3)', () => {
  const kept = { memory: 'v2', pids: null, cpu: 'v1', freeze: null } as const
  expect(limitsOf({ memoryBytes: 1, tasks: 2, cpus: 3 }, kept)).toEqual([
    { name: 'memoryBytes', value: 1, keptBy: 'cgroup v2' },
    { name: 'tasks', value: 2, keptBy: null },
    { name: 'cpus', value: 3, keptBy: 'cgroup v1' },
  ])
})

const opened: Cgroups = await openCgroups(nameOfServer(process.pid), realClock)
const { kept } = opened
const none = Object.values(kept).every((by) => by === null)

describe.skipIf(none)('machines in cgroups', () => {
  let made = 0
  const make = (limits: Partial<MachineLimits> = {}) => opened.make(`test-${(made += 1)}`, { ...wide, ...limits })
  beforeAll(() => expect(kept).not.toEqual({ memory: null, pids: null, cpu: null, freeze: null }))
  afterAll(() => opened.close())

  it('hold a process before it runs anything, and refuse one that cannot join (CG1)', () => {
    const cgroup = make()
    const [file, ...args] = [...cgroup.joining, '/bin/cat', '/proc/self/cgroup']
    const text = spawnSync(file, args, { encoding: 'utf8' }).stdout
    expect(text.split('\n').filter((line) => line.includes(nameOfServer(process.pid))).length).toBeGreaterThan(0)
    expect(cgroup.remove()).toBe(true)
    expect(spawnSync(file, args, { encoding: 'utf8' })).toMatchObject({ status: 78, stdout: '' })
  })

  describe.skipIf(kept.cpu === null)('on one processor', () => {
    // Which one is the kernel's to say.
    const [cpu = '0'] =
      /\d+/.exec(/^Cpus_allowed_list:\s*(.*)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '') ?? []
    const pinned = ['taskset', '-c', cpu, '/bin/sh', '-c'] as const

    /** Something in the cgroup that computes for ever. */
    async function hog(cgroup: Cgroup): Promise<ChildProcess> {
      const child = start(cgroup, ...pinned, 'echo up; while :; do :; done')
      await once(child.stdout ?? child, 'data')
      return child
    }

    /** What others have of the processor while a rival counts, for each moment of its own. */
    async function share(others: readonly ChildProcess[], rivals: Cgroup | null): Promise<number> {
      const stat = `cat ${others.map(({ pid }) => `/proc/${pid}/stat`).join(' ')} /proc/$$/stat`
      const script = `${stat}; i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; ${stat}`
      const [file, ...args] = [...pinned, script]
      const rival = rivals === null ? spawn(file, args) : start(rivals, file, ...args)
      let text = ''
      rival.stdout?.setEncoding('utf8').on('data', (part: string) => (text += part))
      await once(rival, 'close')
      const ticks = text
        .trim()
        .split('\n')
        .map((line) => Number(line.split(' ')[13]) + Number(line.split(' ')[14]))
      const took = ticks.slice(ticks.length / 2).map((after, at) => after - (ticks[at] ?? 0))
      const own = took.pop() ?? 0
      return took.reduce((sum, one) => sum + one, 0) / own
    }

    async function end(...hogs: readonly ChildProcess[]): Promise<void> {
      for (const child of hogs) child.kill('SIGKILL')
      await Promise.all(hogs.map((child) => once(child, 'close')))
    }

    it('take nothing from a machine nor from any process while they yield (CG5)', async ({ skip }) => {
      skip(isOlderThan(5, 15), 'cpu.idle came with Linux 5.15')
      const [waiting, busy] = [make(), make()]
      waiting.yield(true)
      const idler = await hog(waiting)
      expect(await share([idler], busy)).toBeLessThan(1 / 3)
      expect(await share([idler], null)).toBeLessThan(1 / 3)
      waiting.yield(false)
      expect(await share([idler], busy)).toBeGreaterThan(1 / 2)
      await end(idler)
      for (const cgroup of [busy, waiting]) expect(cgroup.remove()).toBe(true)
    })

    it('have each as much as a process that is in none of them (CG6)', async () => {
      const cgroups = [make(), make(), make()]
      const hogs = await Promise.all(cgroups.map(hog))
      expect(await share(hogs, null)).toBeGreaterThan(2)
      await end(...hogs)
      for (const cgroup of cgroups) expect(cgroup.remove()).toBe(true)
    })
  })

  it.skipIf(kept.cpu === null)('have a processor to end on, though they yield (CG5)', async ({ skip }) => {
    skip(isOlderThan(5, 15), 'cpu.idle came with Linux 5.15')
    const cgroup = make()
    const sleeper = start(cgroup, '/bin/sh', '-c', 'echo up; exec sleep 1000')
    await once(sleeper.stdout ?? sleeper, 'data')
    const files = places.map(({ directory }) =>
      join(directory, `${nameOfServer(process.pid)}.test-${made}`, 'cpu.idle'),
    )
    const idle = () => files.filter((path) => existsSync(path)).map((path) => readFileSync(path, 'utf8').trim())
    cgroup.yield(true)
    expect(idle()).toEqual(['1'])
    cgroup.kill()
    expect(idle()).toEqual(['0'])
    await once(sleeper, 'close')
    expect(cgroup.remove()).toBe(true)
  })
  it.skipIf(kept.memory === null)('end what uses more memory than there is, and count it (CG3)', async () => {
    const cgroup = make({ memoryBytes: 96 * MiB })
    const hog = start(
      cgroup,
      process.execPath,
      '-e',
      'for (const all = []; all.length < 300; ) all.push(Buffer.alloc(1e6, 1))',
    )
    const [, signal] = (await once(hog, 'exit')) as [number | null, string | null]
    expect(signal).toBe('SIGKILL')
    expect(cgroup.strikes().memory).toBeGreaterThan(0)
    expect(cgroup.remove()).toBe(true)
  })

  it.skipIf(kept.memory === null)(
    'keep a compartment to its part, and end nothing else of the machine (CG4)',
    async () => {
      const cgroup = make()
      const part = cgroup.part(1, 96 * MiB)
      if (part === undefined) return expect(kept.memory).toBe('v2') // where the machine's own processes cannot be in a leaf
      const other = start(cgroup, '/bin/sleep', '60')
      const hog = 'for (const all = []; all.length < 300; ) all.push(Buffer.alloc(1e6, 1))'
      const ended = once(start(cgroup, ...part.joining, process.execPath, '-e', hog), 'exit')
      expect(await ended).toEqual([null, 'SIGKILL'])
      expect(memoryEndsIn(part.memoryEnds)).toBeGreaterThan(0)
      expect(cgroup.strikes().memory).toBe(0)
      expect(findProcess(other.pid ?? 0)?.zombie).toBe(false)
      cgroup.kill()
      await once(other, 'exit')
      expect(cgroup.remove()).toBe(true)
    },
  )

  it.skipIf(kept.pids === null)('refuse one task more than there may be, and count it (CG3)', () => {
    const cgroup = make({ tasks: 8 })
    const bomb = 'for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 30 & done'
    const [file, ...args] = [...cgroup.joining, '/bin/sh', '-c', bomb]
    const { status } = spawnSync(file, args, { stdio: 'ignore' })
    expect(status).not.toBe(0)
    expect(cgroup.strikes()).toMatchObject({ memory: 0, tasks: expect.any(Number) })
    expect(cgroup.strikes().tasks).toBeGreaterThan(0)
    cgroup.kill()
  })

  it.skipIf(kept.cpu === null)('keep to their part of a processor', () => {
    const cgroup = make({ cpus: 0.2 })
    const burn = 'const until = Date.now() + 500; while (Date.now() < until);'
    const print = 'process.stdout.write(String(process.cpuUsage().user + process.cpuUsage().system))'
    const [file, ...args] = [...cgroup.joining, process.execPath, '-e', burn + print]
    expect(Number(spawnSync(file, args, { encoding: 'utf8' }).stdout)).toBeLessThan(350_000)
  })

  it.skipIf(kept.freeze === null)('stop everything in them, go on, and end even while they are stopped', async () => {
    const cgroup = make()
    const echo = start(cgroup, '/bin/cat')
    const heard: string[] = []
    echo.stdout?.setEncoding('utf8').on('data', (text: string) => heard.push(text))
    echo.stdin?.write('1')
    while (heard.join('') !== '1') await realClock.sleep(1)
    expect(cgroup.freeze()).toBe(true)
    while (!cgroup.isFrozen()) await realClock.sleep(1)
    echo.stdin?.write('2')
    await once(start(make(), '/bin/cat', '/proc/version'), 'exit')
    expect(heard.join('')).toBe('1')
    cgroup.thaw()
    while (heard.join('') !== '12') await realClock.sleep(1)
    expect(cgroup.freeze()).toBe(true)
    cgroup.kill()
    expect(await once(echo, 'exit')).toEqual([null, 'SIGKILL'])
    expect(cgroup.remove()).toBe(true)
  })

  /** A server that has a machine, which is stopped; run by `command`. Gives its name and the pid in the machine. */
  async function serve(command: readonly string[]) {
    const script = `
      import { openCgroups, nameOfServer } from ${JSON.stringify(join(ROOT, 'src/local/cgroups.ts'))}
      import { spawn } from 'node:child_process'
      const cgroups = await openCgroups(nameOfServer(process.pid), { now: () => 0, sleep: async () => {} })
      const cgroup = cgroups.make('1', ${JSON.stringify(wide)})
      const [file, ...args] = [...cgroup.joining, '/bin/sh', '-c', 'echo up; sleep 60']
      const child = spawn(file, args, { stdio: ['ignore', 'pipe', 'ignore'], detached: true })
      child.stdout.once('data', () => { cgroup.freeze(); process.stdout.write(nameOfServer(process.pid) + ' ' + child.pid) })`
    const [file, ...args] = [...command, process.execPath, '--input-type=module', '-e', script]
    const server = spawn(file, args, { stdio: ['ignore', 'pipe', 'inherit'] })
    const [text] = (await once(server.stdout, 'data')) as [Buffer]
    const [name = '', pid = ''] = String(text).split(' ')
    const kill = async (): Promise<void> => {
      server.kill('SIGKILL')
      await once(server, 'exit')
    }
    return { name, pid: Number(pid), kill }
  }
  const sweep = () => openCgroups(`${nameOfServer(process.pid)}-2`, realClock).then((another) => another.close())

  it('sweep what a server left that is gone, stopped or not, and leave what lives alone (CG2)', async () => {
    const mine = make()
    const survivor = start(mine, '/bin/sleep', '60')
    const { name, pid, kill } = await serve([])
    const left = () => places.filter(({ directory }) => existsSync(join(directory, `${name}.1`)))
    expect(left().length).toBeGreaterThan(0)
    expect(findProcess(pid)?.zombie).toBe(false)
    // From now on any server of this computer that starts may sweep it, too.
    await kill()
    await sweep()
    expect(left()).toEqual([])
    expect([undefined, true]).toContain(findProcess(pid)?.zombie)
    expect(findProcess(survivor.pid ?? 0)?.zombie).toBe(false)
    mine.kill()
    await once(survivor, 'exit')
  })

  const above = places
    .map(({ directory }) => dirname(directory))
    .find((directory) => existsSync(join(directory, 'cgroup.procs')))
  // Where this process is in the root of each hierarchy, there is nothing beside it.
  it.skipIf(above === undefined)('sweep also what one left that was started by another login (CG2)', async () => {
    const login = join(above ?? '', `login-${process.pid}`)
    mkdirSync(login)
    try {
      const { name, pid, kill } = await serve(['/bin/sh', '-c', `echo 0 >${login}/cgroup.procs; exec "$@"`, 'sh'])
      expect(existsSync(join(login, `${name}.1`))).toBe(true)
      await kill()
      await sweep()
      expect(existsSync(join(login, `${name}.1`))).toBe(false)
      expect([undefined, true]).toContain(findProcess(pid)?.zombie)
    } finally {
      rmdirSync(login)
    }
  })

  it('leave nothing of this server when they are closed', async () => {
    const cgroup = make()
    const one = start(cgroup, '/bin/sleep', '60')
    const exited = once(one, 'exit')
    await opened.close()
    await exited
    const names = places.flatMap(({ directory }) => readdirSync(directory))
    expect(names.filter((name) => name.startsWith(nameOfServer(process.pid)))).toEqual([])
  })
})
