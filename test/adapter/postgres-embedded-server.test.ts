/** The embedded server as operators meet it: crashes, second starts, root, other users, awkward directories. */
import { execFile, spawn, type ChildProcess } from 'node:child_process'
import { chmod, chown, mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { Client } from 'pg'
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { lockDirectory } from '../../src/postgres/directory-lock.ts'
import { mayUse, namedUser } from '../../src/postgres/embedded-place.ts'
import { openEmbeddedServer, type EmbeddedServer, type ServerAddress } from '../../src/postgres/embedded-server.ts'
import { isAlive, startOf } from '../../src/postgres/process-life.ts'
import { quietLog, realClock } from '../support/database.ts'
import { scratchDirectory } from '../support/scratch.ts'

const OWNER = fileURLToPath(new URL('postgres-owner.ts', import.meta.url))
const isRoot = process.getuid?.() === 0

interface Said {
  readonly pid: number
  readonly adopted: boolean
  readonly address: ServerAddress
  readonly refused?: string
}

async function ask<Row extends object>(address: ServerAddress, statement: string): Promise<readonly Row[]> {
  const client = new Client({ ...address })
  await client.connect()
  try {
    return (await client.query<Row>(statement)).rows
  } finally {
    await client.end()
  }
}

const exited = async (child: ChildProcess): Promise<void> => {
  if (child.exitCode !== null || child.signalCode !== null) return
  await new Promise((resolve) => child.once('exit', resolve))
}

describe('the embedded server', () => {
  let directory: string
  /** One that was used before and left in order: to make another takes seconds. */
  let used: string
  beforeAll(async () => {
    used = scratchDirectory('used')
    await chmod(used, 0o755)
    const server = await openEmbeddedServer({ directory: used, log: quietLog, clock: realClock })
    await server?.close()
  })
  const children: ChildProcess[] = []
  const servers: EmbeddedServer[] = []
  const elsewhere: string[] = []
  beforeEach(async () => {
    directory = scratchDirectory('embedded')
    await promisify(execFile)('cp', ['-a', `${used}/.`, directory])
  })
  afterEach(async () => {
    for (const child of children.splice(0)) {
      child.stdin?.end()
      await exited(child)
    }
    for (const server of servers.splice(0)) {
      // What a killed owner left is stopped as well.
      await server.close()
    }
    for (const path of [directory, ...elsewhere.splice(0)]) await rm(path, { recursive: true, force: true })
  })

  async function open(at = directory): Promise<EmbeddedServer> {
    const server = await openEmbeddedServer({ directory: at, log: quietLog, clock: realClock })
    if (server === undefined) throw new Error('npm installed no embedded Postgres here')
    servers.push(server)
    return server
  }

  async function openElsewhere(at = directory, options: object = {}): Promise<{ child: ChildProcess; said: Said }> {
    const stdio = ['pipe', 'pipe', 'inherit'] as const
    const child = spawn(process.execPath, [OWNER, at], { stdio: [...stdio], detached: true, ...options })
    children.push(child)
    if (child.stdout === null) throw new Error('no stdout')
    for await (const line of createInterface({ input: child.stdout })) return { child, said: JSON.parse(line) as Said }
    throw new Error('the owner said nothing')
  }

  it('keeps everything over a stop and a start, durably, without a port', async () => {
    const first = await open()
    await ask(first.address, 'create table kept as select 42 as answer')
    const settings = await ask(
      first.address,
      `select name, setting from pg_settings where name in ('fsync', 'listen_addresses', 'synchronous_commit', 'server_encoding') order by name`,
    )
    expect(settings.map((row) => Object.values(row).join('='))).toEqual([
      'fsync=on',
      'listen_addresses=',
      'server_encoding=UTF8',
      'synchronous_commit=on',
    ])
    expect((await stat(first.address.host)).mode & 0o077).toBe(0)
    await first.close()
    expect(await isAlive(first.pid)).toBe(false)
    const second = await open()
    expect(second.adopted).toBe(false)
    expect(await ask(second.address, 'select answer from kept')).toEqual([{ answer: 42 }])
  })

  it('is adopted after its owner was killed, with what was committed (ES2)', async () => {
    const { child, said } = await openElsewhere()
    await ask(said.address, 'create table kept as select 42 as answer')
    child.kill('SIGKILL')
    await exited(child)
    expect(await isAlive(said.pid)).toBe(true)
    const server = await open()
    expect({ adopted: server.adopted, pid: server.pid }).toEqual({ adopted: true, pid: said.pid })
    expect(await ask(server.address, 'select answer from kept')).toEqual([{ answer: 42 }])
    await server.close()
    expect(await isAlive(said.pid)).toBe(false)
  })

  it('starts again after owner and server were killed together', async () => {
    const { child, said } = await openElsewhere()
    await ask(said.address, 'create table kept as select 42 as answer')
    child.kill('SIGKILL')
    process.kill(said.pid, 'SIGKILL')
    await exited(child)
    const server = await open()
    expect(server.adopted).toBe(false)
    expect(await ask(server.address, 'select answer from kept')).toEqual([{ answer: 42 }])
  })

  it('is started again when it ends by itself, with what was committed, and never made anew (ES5)', async () => {
    const said: string[] = []
    const log = { ...quietLog, error: (message: string) => void said.push(message) }
    const server = await openEmbeddedServer({ directory, log, clock: realClock })
    if (server === undefined) throw new Error('npm installed no embedded Postgres here')
    servers.push(server)
    const { pid, address } = server
    await ask(address, 'create table kept (n int)')
    process.kill(pid, 'SIGKILL')
    while (server.pid === pid) await realClock.sleep(10)
    expect(await ask(address, 'select n from kept')).toEqual([])
    expect(said[0]).toBe(`The embedded database (pid ${pid}) has ended; it is started again.`)
    // What is gone is not made anew: it would be empty.
    const [cluster] = await ask<{ data_directory: string }>(address, 'show data_directory')
    const version = join(cluster?.data_directory ?? '', 'PG_VERSION')
    await rm(version)
    process.kill(server.pid, 'SIGKILL')
    while (!said.includes('The embedded database does not start.')) await realClock.sleep(10)
    await server.close()
    await expect(stat(version)).rejects.toMatchObject({ code: 'ENOENT' })
  })

  it('refuses a second owner with the pid of the first (ES1)', async () => {
    const { child } = await openElsewhere()
    await expect(open()).rejects.toMatchObject({
      code: 'directory_in_use',
      message: `Process ${child.pid} is using ${directory}.`,
    })
    const { said } = await openElsewhere()
    expect(said.refused).toBe(`Process ${child.pid} is using ${directory}.`)
  })

  it('gives a directory to one of many who open it at once', async () => {
    const fresh = join(directory, 'fresh')
    const answers = await Promise.all([1, 2, 3].map(async () => openElsewhere(fresh)))
    expect(answers.filter(({ said }) => said.refused === undefined)).toHaveLength(1)
  })

  it('survives a Ctrl-C that ends its owner (ES3)', async () => {
    const { child, said } = await openElsewhere()
    process.kill(-(child.pid ?? 0), 'SIGINT')
    await exited(child)
    const server = await open()
    expect({ adopted: server.adopted, pid: server.pid }).toEqual({ adopted: true, pid: said.pid })
  })

  it('starts although the pid of a dead server belongs to somebody else now', async () => {
    const first = await open()
    await first.close()
    const cluster = join(directory, 'server', 'cluster')
    const owner = await stat(cluster)
    const user = isRoot ? { uid: owner.uid, gid: owner.gid } : {}
    const stranger = spawn('/bin/sleep', ['60'], { stdio: 'ignore', cwd: '/', ...user })
    try {
      await writeFile(join(cluster, 'postmaster.pid'), `${stranger.pid}\n${cluster}\n1\n5432\n\n\n`)
      await chown(join(cluster, 'postmaster.pid'), owner.uid, owner.gid)
      const second = await open()
      expect(second.adopted).toBe(false)
    } finally {
      stranger.kill()
    }
  })

  it('lives in a directory whose path is longer than a socket path may be', async () => {
    const deep = join(directory, 'd'.repeat(60), 'e'.repeat(60))
    const server = await open(deep)
    elsewhere.push(server.address.host)
    expect(await ask(server.address, 'select 1 as one')).toEqual([{ one: 1 }])
    expect((await stat(server.address.host)).mode & 0o077).toBe(0)
  })

  it('says what is wrong when the server cannot start', async () => {
    const first = await open()
    await first.close()
    await writeFile(join(directory, 'server', 'cluster', 'PG_VERSION'), '9\n')
    await expect(open()).rejects.toMatchObject({
      code: 'database_unavailable',
      message: expect.stringContaining('database files are incompatible with server'),
    })
    await expect(lockDirectory(directory).then((lock) => lock.release())).resolves.toBeUndefined()
  })

  it.runIf(isRoot)('runs as an unprivileged user when root starts it (ES4)', async () => {
    const server = await open()
    const status = await readFile(`/proc/${server.pid}/status`, 'utf8')
    expect(/^Uid:\t(\d+)\t(\d+)/m.exec(status)?.slice(1)).toEqual(['54320', '54320'])
    expect(/^Groups:\t(.*)$/m.exec(status)?.[1]?.trim()).toBe('')
  })

  it.runIf(isRoot)('lives elsewhere when root has it in a directory that others cannot enter (ES4)', async () => {
    const hidden = await mkdtemp('/root/senmon-embedded-')
    elsewhere.push(hidden)
    const inside = join(hidden, 'clone', '.senmon', 'postgres')
    const first = await open(inside)
    const home = await readFile(join(inside, 'server-is-in'), 'utf8')
    elsewhere.push(home)
    expect(home).toMatch(/^\/var\/(lib|tmp)\/senmon-/)
    await ask(first.address, 'create table kept as select 42 as answer')
    await first.close()
    const second = await open(inside)
    expect(await ask(second.address, 'select answer from kept')).toEqual([{ answer: 42 }])
    await second.close()
    // A fresh clone in the same place begins afresh.
    await rm(join(hidden, 'clone'), { recursive: true })
    const third = await open(inside)
    elsewhere.push(await readFile(join(inside, 'server-is-in'), 'utf8'))
    expect(await ask(third.address, `select from pg_tables where tablename = 'kept'`)).toEqual([])
  })

  it.runIf(isRoot)('removes what directories in /tmp that are gone have left behind', async () => {
    const hidden = scratchDirectory('hidden')
    const gone = join(hidden, 'data', 'postgres')
    const first = await open(gone)
    const home = await readFile(join(gone, 'server-is-in'), 'utf8')
    servers.pop() // as after a crash: nobody stops it
    await rm(hidden, { recursive: true })
    const another = scratchDirectory('hidden')
    elsewhere.push(another)
    const second = await open(join(another, 'data', 'postgres'))
    elsewhere.push(await readFile(join(another, 'data', 'postgres', 'server-is-in'), 'utf8'))
    await expect(stat(home)).rejects.toMatchObject({ code: 'ENOENT' })
    while (await isAlive(first.pid)) await realClock.sleep(10)
    expect(await ask(second.address, 'select 1 as one')).toEqual([{ one: 1 }])
  })

  it.runIf(isRoot)('works for a plain user, whose directory root may use later', async (context): Promise<void> => {
    const user = await namedUser()
    if (user === undefined) return context.skip('there is no other user here')
    const { uid, gid } = user
    if (!(await mayUse(process.execPath, user)) || !(await mayUse(dirname(OWNER), user)))
      return context.skip('a plain user cannot read this tree')
    await chown(directory, uid, gid)
    const own = join(directory, 'postgres')
    const { child, said } = await openElsewhere(own, { uid, gid, env: {} })
    expect(said.refused).toBeUndefined()
    await ask(said.address, 'create table kept as select 42 as answer')
    child.kill('SIGKILL')
    await exited(child)
    const server = await open(own)
    expect(server.adopted).toBe(true)
    expect(await ask(server.address, 'select answer from kept')).toEqual([{ answer: 42 }])
  })
})

describe('the lock of a directory', () => {
  let directory: string
  beforeEach(async () => {
    directory = scratchDirectory('lock')
  })
  afterEach(async () => rm(directory, { recursive: true }))

  it('goes to one of many at once (DL1)', async () => {
    for (const before of [undefined, `${process.pid} an-earlier-start`, 'free', 'garbage']) {
      if (before !== undefined) await writeFile(join(directory, 'owner.7'), before)
      const answers = await Promise.allSettled(Array.from({ length: 8 }, async () => lockDirectory(directory)))
      const won = answers.flatMap((answer) => (answer.status === 'fulfilled' ? [answer.value] : []))
      expect(won).toHaveLength(1)
      await won[0]?.release()
    }
  })

  it('is free when its owner is dead, also when another process has that pid now (DL2)', async () => {
    await writeFile(join(directory, 'owner.1'), `${process.pid} 0000/1`)
    const lock = await lockDirectory(directory)
    await expect(lockDirectory(directory)).rejects.toMatchObject({ code: 'directory_in_use' })
    await lock.release()
    await (await lockDirectory(directory)).release()
  })

  it('is held by a live process', async () => {
    await mkdir(directory, { recursive: true })
    await writeFile(join(directory, 'owner.3'), `${process.pid} ${await startOf(process.pid)}`)
    await expect(lockDirectory(directory)).rejects.toMatchObject({ code: 'directory_in_use' })
  })
})
