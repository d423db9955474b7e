/** Both ways to start a process: by another that forks, and by oneself; and what only the first has. */
import { existsSync, readdirSync, readlinkSync } from 'node:fs'
import type { Readable } from 'node:stream'
import { text } from 'node:stream/consumers'
import { afterEach, describe, expect, it } from 'vitest'
import { findProcess } from '../../src/local/processes.ts'
import type { Beside, Program } from '../../src/local/spawn.ts'
import { openOwnSpawner, openSpawner, type Spawner } from '../../src/local/spawner.ts'
import { SETPRIV_PATHS } from '../../src/local/supervised-host.ts'
import { until } from '../support/patience.ts'
import { scratchDirectory } from '../support/scratch.ts'

const setpriv = SETPRIV_PATHS.find((path) => existsSync(path))
const mortal = setpriv === undefined ? [] : [setpriv, '--pdeathsig', 'KILL', '--']
const open: Spawner[] = []
afterEach(async () => {
  await Promise.all(open.splice(0).map((one) => one.close()))
})

function forking(directory = scratchDirectory('test', '/var/tmp')): Spawner {
  const spawner = openSpawner({ directory, node: process.execPath, before: mortal })
  open.push(spawner)
  return spawner
}

function shell(script: string): Program {
  return { file: '/bin/sh', args: ['-c', script], cwd: '/', environment: { PATH: '/usr/bin:/bin' } }
}

function javascript(script: string): Program {
  return { file: process.execPath, args: ['-e', script], cwd: '/', environment: {} }
}

function beside(script: string, rest: Partial<Beside> = {}): Beside {
  return { ...shell(script), feeds: [], ownGroup: false, ...rest }
}

const isGone = (pid: number | undefined): boolean => {
  const found = findProcess(pid ?? 0)
  return found === undefined || found.zombie
}

/** Without those that whoever runs the tests leaves open in everything below. */
function descriptors(pid: number | undefined): readonly number[] {
  const at = (owner: string, fd: number): string => readlinkSync(`/proc/${owner}/fd/${fd}`)
  const isInherited = (fd: number): boolean =>
    fd > 2 && existsSync(`/proc/self/fd/${fd}`) && at('self', fd) === at(`${pid}`, fd)
  return readdirSync(`/proc/${pid}/fd`)
    .map(Number)
    .filter((fd) => !isInherited(fd))
    .toSorted((a, b) => a - b)
}

/** Whether the shell has become this program: what it was given is all that it has then. */
function has(pid: number | undefined, program: string): boolean {
  return readlinkSync(`/proc/${pid}/exe`).includes(program)
}

async function line(stream: Readable): Promise<string> {
  const { promise, resolve } = Promise.withResolvers<string>()
  stream.once('data', (bytes: Buffer) => resolve(bytes.toString().trim()))
  return await promise
}

const ways: readonly (readonly [string, () => Spawner])[] = [
  ['by a process that forks', forking],
  ['by a fork of our own', openOwnSpawner],
]

describe.each(ways.slice(process.platform === 'linux' ? 0 : 1))('a process that is spawned %s', (_way, make) => {
  it('has its own stdin, stdout and stderr, whole however much there is, and tells its end', async () => {
    const { stdin, stdout, stderr, exited } = await make().spawn(shell('cat; echo error >&2; exit 7'), null)
    const sent = 'a line\n'.repeat(100_000)
    stdin.end(sent)
    expect(await Promise.all([text(stdout), text(stderr)])).toEqual([sent, 'error\n'])
    expect(await exited).toEqual({ code: 7, signal: null })
  })

  it('may be over before anybody has heard that it began (SP1)', async () => {
    const { stdout, exited } = await make().spawn(shell('echo said; kill -9 $$'), null)
    expect(await Promise.all([exited, text(stdout)])).toEqual([{ code: null, signal: 'SIGKILL' }, 'said\n'])
  })

  it('has the descriptors and the environment that are meant for it, no other, and a session of its own (SP3)', async () => {
    const spawner = make()
    const other = await spawner.spawn(shell('exec cat'), null)
    const { pids, stdin, exited } = await spawner.spawn(shell('exec cat'), null)
    await until(() => has(pids[0], '/cat'), 10)
    expect(descriptors(pids[0])).toEqual([0, 1, 2])
    expect(findProcess(pids[0] ?? 0)?.session).toBe(pids[0])
    const { stdout } = await spawner.spawn({ ...shell('exec env'), environment: { ONLY: 'this' } }, null)
    expect((await text(stdout)).trim().split('\n')).toContain('ONLY=this')
    other.stdin.end()
    stdin.end()
    await Promise.all([other.exited, exited])
  })

  it('that cannot start is a machine that failed (SP1)', async () => {
    const spawner = make()
    await expect(spawner.spawn({ ...shell(''), file: '/no/such/program' }, null)).rejects.toMatchObject({
      code: 'machine_failed',
    })
    expect(await (await spawner.spawn(shell('exit 0'), null)).exited).toEqual({ code: 0, signal: null })
  })
})

describe.skipIf(process.platform !== 'linux')('a process that forks', () => {
  it('ends with what it forked, even stopped, and the next spawn has another (SP1, SP2)', async () => {
    const spawner = forking()
    const [file, ...args] = [...mortal, '/bin/sleep', '1000']
    const { pids, exited } = await spawner.spawn({ ...shell(''), file, args }, null)
    await until(() => has(pids[0], '/sleep'), 10)
    process.kill(pids[0] ?? 0, 'SIGSTOP')
    const forker = findProcess(pids[0] ?? 0)?.parent ?? 0
    process.kill(forker, 'SIGSTOP')
    const asked = spawner.spawn(shell('exit 0'), null)
    process.kill(forker, 'SIGKILL')
    await expect(asked).rejects.toMatchObject({ code: 'machine_failed' })
    expect(await exited).toEqual({ code: null, signal: null })
    if (mortal.length > 0) await until(() => isGone(pids[0]), 10)
    else process.kill(pids[0] ?? 0, 'SIGKILL')
    expect(await (await spawner.spawn(shell('exit 3'), null)).exited).toEqual({ code: 3, signal: null })
  })

  it('is reached however long the name of its directory is, and leaves no file there', async () => {
    const directory = scratchDirectory('test', '/var/tmp')
    const spawner = forking(directory)
    expect(await (await spawner.spawn(shell('exit 0'), null)).exited).toEqual({ code: 0, signal: null })
    await spawner.close()
    expect(readdirSync(directory)).toEqual([])
    await expect(spawner.spawn(shell('exit 0'), null)).rejects.toMatchObject({ code: 'machine_failed' })
  })
})

describe.skipIf(process.platform !== 'linux')('what begins beside a process', () => {
  it('has its streams in the hands of that, and of nobody else (SP3)', async () => {
    const feeds = [{ fd: 3, base64: '' }]
    const { pids, exited } = await forking().spawn(shell('exec sleep 1000'), beside('exec sleep 1000', { feeds }))
    await until(() => pids.every((pid) => has(pid, '/sleep')), 10)
    expect(descriptors(pids[0])).toEqual([0, 1, 2, 3, 4, 5, 6])
    expect(descriptors(pids[1])).toEqual([0, 1, 2, 3])
    process.kill(pids[0] ?? 0, 'SIGKILL')
    await exited
  })

  it('is fed, hears and says through that, which hears how it ended', async () => {
    const feeds = [{ fd: 3, base64: Buffer.from('fed').toString('base64') }]
    const script = `const { Socket } = require('net')
      new Socket({ fd: 3 }).end(' heard')
      for (const fd of [4, 5, 6]) new Socket({ fd }).pipe(process.stdout)`
    const { stdout } = await forking().spawn(
      javascript(script),
      beside('cat <&3; cat; exec >&-; echo error >&2; exit 7', { feeds }),
    )
    const said = await text(stdout)
    expect(['fed heard', 'error\n', 'exit code 7\n'].filter((part) => !said.includes(part))).toEqual([])
  })

  it('ends when it is let go, and has ended when that is heard (P8.5, SP4)', async () => {
    const script = `const keeper = new (require('net').Socket)({ fd: 6 }); keeper.end(); keeper.pipe(process.stdout)`
    const { pids, stdout } = await forking().spawn(javascript(script), beside('exec sleep 1000'))
    expect(await text(stdout)).toBe('signal SIGKILL\n')
    expect(isGone(pids[1])).toBe(true)
  })

  it('ends with that, with all that it leads, however that ends (P8.5, SP4)', async () => {
    const { pids, exited, stdout } = await forking().spawn(
      javascript(`new (require('net').Socket)({ fd: 4 }).pipe(process.stdout)`),
      beside('sleep 1000 & echo $!; exec sleep 1000', { ownGroup: true }),
    )
    const led = Number(await line(stdout))
    expect(isGone(led)).toBe(false)
    process.kill(pids[0] ?? 0, 'SIGKILL')
    await exited
    await until(() => isGone(pids[1]) && isGone(led), 10)
  })

  it('ends with all that it leads when it ends by itself (SP4)', async () => {
    const { pids, stdout, exited } = await forking().spawn(
      javascript(`new (require('net').Socket)({ fd: 4 }).pipe(process.stdout); setTimeout(() => {}, 300_000)`),
      beside('sleep 1000 >&- & echo $!', { ownGroup: true }),
    )
    const led = Number(await line(stdout))
    await until(() => isGone(led), 10)
    process.kill(pids[0] ?? 0, 'SIGKILL')
    await exited
  })

  it('does not begin where the process itself cannot (SP1, SP4)', async () => {
    const directory = scratchDirectory('test', '/var/tmp')
    const spawner = forking(directory)
    const program = { ...shell(''), file: '/no/such/program' }
    await expect(spawner.spawn(program, beside('exec sleep 1000'))).rejects.toMatchObject({ code: 'machine_failed' })
    const { pids, exited } = await spawner.spawn(shell('exec cat'), null)
    const forker = findProcess(pids[0] ?? 0)?.parent
    await until(() => childrenOf(forker).every((pid) => pid === pids[0]), 10)
    process.kill(pids[0] ?? 0, 'SIGKILL')
    await exited
  })
})

function childrenOf(parent: number | undefined): readonly number[] {
  return readdirSync('/proc').flatMap((name) => {
    const found = /^\d+$/.test(name) ? findProcess(Number(name)) : undefined
    return found !== undefined && found.parent === parent && !found.zombie ? [found.pid] : []
  })
}
