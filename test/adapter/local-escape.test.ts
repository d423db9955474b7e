/** A skill inside a real compartment tries to get out, and to read and write what is not its own. */
import { chmodSync, mkdirSync, readdirSync, readFileSync, realpathSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:net'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Json } from '../../schema/json.ts'
import { descendants, listProcesses } from '../../src/local/processes.ts'
import { Content, JOB_ID, lockOf, MachineDrive } from '../support/machine-drive.ts'
import { openHost, openSandboxes, sandboxMissing, type OpenLocalHost } from '../support/sandbox.ts'
import { ROOT } from '../support/source.ts'

const missing = await sandboxMissing()
const CANARY = 'canary-2f6c1e'
/** The probing skill with Node alone, and with the programs of the system. */
const kinds = [
  { seen: 'Node alone', given: {} },
  { seen: 'the programs of the system', given: { programs: 'system' } },
] as const
/** Inside: the error code of each attempt, or what it gave. */
const ATTEMPT = `const fs = await load('node:fs')
  const attempt = (act) => { try { return act() ?? 'done' } catch (error) { return error.code ?? String(error) } }\n`
const DENIED = /^(ENOENT|EACCES|EPERM|EROFS|EXDEV|EBUSY|ENOTDIR|ETXTBSY|EINVAL|EISDIR|ENOTEMPTY|ELOOP|ENXIO|EEXIST)$/

const title = `a skill in bubblewrap that sees $seen${missing === undefined ? '' : ` (${missing})`}`
describe.skipIf(missing !== undefined).each(kinds)(title, ({ given }) => {
  const lock = lockOf({
    probe: { package: 'probe', requiredEnv: ['API_KEY'], ...given },
    second: { package: 'probe', ...given },
  })
  const hasPrograms = 'programs' in given
  let opened: OpenLocalHost
  let drive: MachineDrive
  let other: MachineDrive
  let listener: Server
  let port = 0
  let runtime = ''

  beforeAll(async () => {
    opened = await openHost(openSandboxes)
    runtime = opened.options.runtimeDirectory
    listener = createServer((socket) => socket.end('reached')).listen(0, '0.0.0.0')
    await new Promise((resolve) => listener.once('listening', resolve))
    const address = listener.address()
    port = typeof address === 'object' && address !== null ? address.port : 0
    const content = new Content()
    const inputTreeHash = content.tree({ 'spec.md': 'the spec', dir: { 'c.txt': 'c' } })
    const start = async () => {
      const started = new MachineDrive(await opened.host.open({ jobId: JOB_ID, fence: 1 }, lock), content)
      started.secrets['API_KEY'] = CANARY
      started.start(lock, { inputTreeHash })
      expect(await started.open('probe')).toMatchObject({ type: 'opened' })
      return started
    }
    drive = await start()
    other = await start()
    await drive.open('second')
  })
  afterAll(async () => {
    listener?.close()
    await opened?.close()
  })

  const run = (code: string): Promise<Json> => drive.run('probe', ATTEMPT + code)
  const text = async (code: string): Promise<string> =>
    JSON.stringify(await run(code))
      .replaceAll('\\n', '\n')
      .replaceAll('\\t', ' ')
  const denied = async (code: string): Promise<void> => {
    const outcomes = (await run(code)) as Record<string, string>
    for (const [what, outcome] of Object.entries(outcomes)) expect(`${what}: ${outcome}`).toMatch(/: E[A-Z]+$/)
    for (const outcome of Object.values(outcomes)) expect(outcome).toMatch(DENIED)
  }

  it('reaches no network: TCP, UDP, the metadata address, DNS, abstract sockets (P1.5)', async () => {
    const outcomes = (await run(`
      const net = await load('node:net'); const dgram = await load('node:dgram'); const dns = await load('node:dns/promises')
      const tcp = (options) => new Promise((done) => net.connect(options)
        .once('connect', () => done('OPEN')).once('error', (error) => done(error.code)))
      const udp = (host) => new Promise((done) => { try { const socket = dgram.createSocket('udp4')
        socket.once('error', (error) => done(error.code)); socket.send('x', 53, host, (error) => done(error?.code ?? 'OPEN'))
      } catch (error) { done(error.code) } })
      return {
        loopback: await tcp({ port: ${port}, host: '127.0.0.1' }), six: await tcp({ port: ${port}, host: '::1' }),
        outside: await tcp({ port: 80, host: '1.1.1.1' }), metadata: await tcp({ port: 80, host: '169.254.169.254' }),
        abstract: await tcp({ path: '\\0/tmp/.X11-unix/X0' }), docker: await tcp({ path: '/var/run/docker.sock' }),
        udp: await udp('1.1.1.1'), name: await dns.lookup('example.com').then(() => 'OPEN', (error) => error.code),
        fetch: await fetch('http://127.0.0.1:${port}').then(() => 'OPEN', (error) => error.cause?.code ?? error.message),
      }`)) as Record<string, string>
    expect(Object.values(outcomes).filter((outcome) => !/^E[A-Z_]+$/.test(outcome))).toEqual([])
  })

  it('has no interface but a loopback that is down', async () => {
    expect(await run(`return attempt(() => fs.readFileSync('/proc/net/dev', 'utf8'))`)).not.toMatch(/eth|ens|wl|veth/)
  })

  it('runs as nobody: no uid 0, no capability, no new privileges, a filter in place', async () => {
    const status = await text(`return fs.readFileSync('/proc/self/status', 'utf8') + 'id ' + process.getuid()`)
    expect(status).toMatch(/CapEff:\s+0+\n/)
    expect(status).toMatch(/CapBnd:\s+0+\n/)
    expect(status).toMatch(/NoNewPrivs:\s+1\n/)
    expect(status).toMatch(/Seccomp:\s+2\n/)
    expect(status).toMatch(/id 1000"$/)
  })

  it.runIf(process.arch === 'x64')('is refused by the kernel when a program of its own asks for more', async () => {
    // A program of 20 instructions: one system call, whose error number is the exit code.
    const outcome = await run(`const { spawnSync } = await load('node:child_process')
      const le = (value, bytes) => Array.from({ length: bytes }, (_, i) => Math.floor(value / 2 ** (8 * i)) % 256)
      const call = (name, number, ...args) => {
        const registers = [[0xbf], [0xbe], [0xba], [0x41, 0xba]]
        const code = [0xb8, ...le(number, 4), ...args.flatMap((arg, i) => [...registers[i], ...le(arg, 4)]),
          0x0f, 0x05, 0xf7, 0xd8, 0x89, 0xc7, 0xb8, 60, 0, 0, 0, 0x0f, 0x05]
        const size = 120 + code.length
        const header = [0x7f, 0x45, 0x4c, 0x46, 2, 1, 1, ...le(0, 9), ...le(2, 2), ...le(62, 2), ...le(1, 4),
          ...le(0x400078, 8), ...le(64, 8), ...le(0, 8), ...le(0, 4), ...le(64, 2), ...le(56, 2), ...le(1, 2), ...le(0, 6)]
        const segment = [...le(1, 4), ...le(5, 4), ...le(0, 8), ...le(0x400000, 8), ...le(0x400000, 8),
          ...le(size, 8), ...le(size, 8), ...le(0x1000, 8)]
        const path = '/workspace/' + name
        fs.writeFileSync(path, Buffer.from([...header, ...segment, ...code]), { mode: 0o755 })
        const { status, signal, error } = spawnSync(path)
        fs.rmSync(path)
        return status ?? signal ?? String(error)
      }
      return {
        getpidWorks: call('getppid', 39) !== 0,
        userNamespace: call('unshare', 272, 0x10000000),
        cloneUserNamespace: call('clone', 56, 0x10000011),
        vsock: call('vsock', 41, 40, 1, 0),
        inet: call('inet', 41, 2, 1, 0),
        netlink: call('netlink', 41, 16, 3, 0),
        unix: call('unix', 41, 1, 1, 0) > 200,
        ptrace: call('ptrace', 101, 0),
        ioUring: call('uring', 425, 1),
        keyring: call('keyctl', 250, 0),
        bpf: call('bpf', 321, 0),
      }`)
    const [EPERM, ENOSYS, EAFNOSUPPORT] = [1, 38, 97]
    expect(outcome).toEqual({
      getpidWorks: true,
      userNamespace: EPERM,
      cloneUserNamespace: EPERM,
      vsock: EAFNOSUPPORT,
      inet: EAFNOSUPPORT,
      netlink: EAFNOSUPPORT,
      unix: true,
      ptrace: EPERM,
      ioUring: ENOSYS,
      keyring: EPERM,
      bpf: EPERM,
    })
  })

  it('runs as no root of the host, and each machine as its own uid when the server is root', () => {
    const all = descendants(process.pid, listProcesses())
    const ours = all.filter((one) => /skill|runner/.test(readText(`/proc/${one.pid}/cmdline`)))
    const uids = ours.map((one) => /^Uid:\s+(\d+)/m.exec(readText(`/proc/${one.pid}/status`))?.[1])
    const mine = uids.filter((uid) => uid !== undefined && Number(uid) >= 200_000)
    if (process.getuid?.() === 0) expect(new Set(mine).size).toBeGreaterThanOrEqual(2)
    expect(ours.length).toBeGreaterThan(3)
  })

  it('reads no file of the host', async () => {
    await denied(`return Object.fromEntries([
      '/etc/shadow', '/root', '/home', '/var', '/sys', '/run', '/dev/kvm', '/etc/hosts', '/etc/ssl', '/usr/local/etc/x',
      ${hasPrograms ? '' : "'/usr/bin', '/bin/sh',"} '/dev/mem', '/dev/vda',
      '/proc/kcore', '/proc/sysrq-trigger', '/proc/1/root/etc/shadow', '/proc/1/cwd/../../etc/shadow', '/skill/../etc/shadow',
      ${JSON.stringify(ROOT)}, ${JSON.stringify(realpathSync(runtime))}, '/oldroot', '/newroot',
      ].map((path) => [path, attempt(() => String(fs.statSync(path).isDirectory() ? fs.readdirSync(path) : fs.readFileSync(path)))]))`)
  })

  it('reads no file of another job, whatever its mode', async () => {
    const code = `const fs = await load('node:fs'); fs.writeFileSync('mine', 'of the other job', { mode: 0o777 })`
    await other.run('probe', code)
    const paths = readdirSync(join(runtime, 'slots')).map((slot) => join(runtime, 'slots', slot, 'ws/mine'))
    expect(paths.filter((path) => readText(path) !== '')).toHaveLength(1)
    await denied(
      `return Object.fromEntries(${JSON.stringify(paths)}.map((path) => [path, attempt(() => fs.readFileSync(path, 'utf8'))]))`,
    )
    expect(await run(`return fs.readdirSync('/workspace').includes('mine')`)).toBe(false)
  })

  it('cannot change its input: write, create, rename, remove, chmod, link, times, by any path', async () => {
    await denied(`
      const act = {
        write: (at) => fs.writeFileSync(at + '/spec.md', 'x'), append: (at) => fs.appendFileSync(at + '/spec.md', 'x'),
        create: (at) => fs.writeFileSync(at + '/new', 'x'), mkdir: (at) => fs.mkdirSync(at + '/newdir'),
        unlink: (at) => fs.unlinkSync(at + '/spec.md'), rename: (at) => fs.renameSync(at + '/spec.md', at + '/other'),
        out: (at) => fs.renameSync(at + '/spec.md', '/workspace/spec.md'), link: (at) => fs.linkSync(at + '/spec.md', '/workspace/twin'),
        chmod: (at) => fs.chmodSync(at + '/spec.md', 0o777), times: (at) => fs.utimesSync(at + '/spec.md', 1, 1),
        truncate: (at) => fs.truncateSync(at + '/spec.md', 0), symlink: (at) => fs.symlinkSync('/tmp', at + '/link'),
      }
      fs.mkdirSync('/workspace/by', { recursive: true }); attempt(() => fs.symlinkSync('/workspace/input', '/workspace/by/link'))
      return Object.fromEntries(['/workspace/input', '/proc/self/root/workspace/input', '/proc/self/cwd/input', '/workspace/by/link']
        .flatMap((at) => Object.entries(act).map(([name, one]) => [name + ' ' + at, attempt(() => one(at))])))`)
    expect(await run(`return fs.readFileSync('input/spec.md', 'utf8')`)).toBe('the spec')
  })

  it('cannot move, remove or replace a mount point in what it may write', async () => {
    await denied(`fs.mkdirSync('/workspace/empty', { recursive: true }); fs.mkdirSync('/tmp/evil', { recursive: true })
      return {
        away: attempt(() => fs.renameSync('/workspace/input', '/workspace/was-input')),
        rmdir: attempt(() => fs.rmdirSync('/workspace/input')),
        over: attempt(() => fs.renameSync('/workspace/empty', '/workspace/input')),
        recursive: attempt(() => { attempt(() => fs.rmSync('/workspace/input', { recursive: true })); fs.rmdirSync('/workspace/input') }),
        unlink: attempt(() => fs.unlinkSync('/workspace/input')),
        symlink: attempt(() => fs.symlinkSync('/oldroot/etc', '/workspace/input')),
        workspace: attempt(() => fs.renameSync('/workspace', '/tmp/workspace')),
        workspaceRmdir: attempt(() => fs.rmdirSync('/workspace')),
        parent: attempt(() => fs.renameSync('/proc/self/root/workspace/input', '/workspace/x')),
      }`)
  })

  it('leaves a mount point that a later compartment of the machine finds whole', async () => {
    await run(`return attempt(() => fs.renameSync('/workspace/input', '/workspace/old'))`)
    drive.say({ type: 'close', expertKey: 'tester@1.0.0', skill: 'second' })
    await drive.closed('second')
    expect(await drive.open('second')).toMatchObject({ type: 'opened' })
    expect(await drive.run('second', `return (await load('node:fs')).readFileSync('input/spec.md', 'utf8')`)).toBe(
      'the spec',
    )
  })

  it('cannot write what it runs from, nor the root, nor /proc', async () => {
    await denied(`return Object.fromEntries([
      '/opt/node', '/skill/main.mjs', '/skill/new', '/new', '/etc/passwd', '/etc/new', '/opt/preload.cjs', '/dev/new', '/lib/new',
      '/proc/sys/kernel/core_pattern', '/proc/sys/kernel/hostname', '/proc/sys/vm/overcommit_memory', '/proc/sysrq-trigger',
      '/proc/self/root/opt/node', '/proc/1/root/opt/node', '/proc/self/exe', '/proc/1/oom_score_adj-x',
      ].map((path) => [path, attempt(() => fs.writeFileSync(path, 'x'))]))`)
  })

  it('sees no other compartment: only its own processes, and nothing to signal', async () => {
    const seen = (await run(`return fs.readdirSync('/proc').filter((name) => /^\\d+$/.test(name))
      .map((pid) => fs.readFileSync('/proc/' + pid + '/cmdline', 'utf8').split('\\0').join(' '))`)) as string[]
    expect(seen.filter((line) => line.includes('/opt/node'))).toHaveLength(seen.length)
    expect(seen.length).toBeLessThanOrEqual(2)
    expect(seen.some((line) => line.includes('runner'))).toBe(false)
  })

  it('finds no secret of another skill, no environment of the server and no host path of ours in /proc', async () => {
    const everything = JSON.stringify(
      await drive.run(
        'second',
        `const fs = await load('node:fs'); let all = ''
         for (const pid of fs.readdirSync('/proc').filter((name) => /^\\d+$/.test(name)))
           for (const file of ['environ', 'cmdline', 'maps', 'comm', 'stat'])
             try { all += fs.readFileSync('/proc/' + pid + '/' + file, 'latin1') } catch {}
         return all`,
      ),
    )
    expect(everything.length).toBeGreaterThan(1000)
    for (const word of [CANARY, runtime, ROOT, 'VITEST', 'HOME=', 'slots/']) expect(everything).not.toContain(word)
  })

  it('puts no secret on a command line or into an environment that the host shows', () => {
    for (const { pid } of listProcesses()) {
      expect(readText(`/proc/${pid}/cmdline`)).not.toContain(CANARY)
      const line = readText(`/proc/${pid}/cmdline`)
      if (line.includes('bwrap')) expect(readText(`/proc/${pid}/environ`)).not.toContain(CANARY)
    }
  })

  it('inherits the descriptors 0, 1 and 2 and nothing else', async () => {
    const links = (await run(`
      const { spawnSync } = await load('node:child_process')
      const list = 'const fs = require("node:fs"); const all = {}; for (const fd of fs.readdirSync("/proc/self/fd"))' +
        ' try { all[fd] = fs.readlinkSync("/proc/self/fd/" + fd) } catch {}; console.log(JSON.stringify(all))'
      const parent = {}
      for (const fd of fs.readdirSync('/proc/self/fd')) try { parent[fd] = fs.readlinkSync('/proc/self/fd/' + fd) } catch {}
      const init = attempt(() => fs.readdirSync('/proc/1/fd').map((fd) => fs.readlinkSync('/proc/1/fd/' + fd)))
      return { parent, child: JSON.parse(spawnSync(process.execPath, ['-e', list], { encoding: 'utf8' }).stdout), init }`)) as {
      parent: Record<string, string>
      child: Record<string, string>
      init: string[] | string
    }
    const named = Object.values(links.parent).filter((link) => link.startsWith('/') && link !== '/dev/null')
    expect(named.filter((link) => !link.startsWith('/proc/'))).toEqual([])
    const sockets = Object.entries(links.parent).filter(([, link]) => link.startsWith('socket:'))
    expect(sockets.map(([fd]) => fd)).toEqual(['0', '1', '2'])
    expect(Object.values(links.child).filter((link) => link.startsWith('socket:')).length).toBeLessThanOrEqual(3)
    if (Array.isArray(links.init)) {
      expect(links.init.filter((link) => link.startsWith('/') && link !== '/dev/null')).toEqual([])
      expect(new Set(links.init.filter((link) => link.startsWith('socket:'))).size).toBeLessThanOrEqual(3)
    }
  })

  it('cannot write into the first process of its compartment', async () => {
    await denied(
      `return { mem: attempt(() => { const fd = fs.openSync('/proc/1/mem', 'r+'); fs.writeSync(fd, 'x', 4096) }) }`,
    )
  })

  it('has small writable places only: /tmp, /dev/shm and its workspace', async () => {
    const sizes = (await run(
      `return ['/tmp', '/dev/shm'].map((path) => { const { blocks, bsize } = fs.statfsSync(path); return blocks * bsize })`,
    )) as number[]
    expect(sizes).toEqual([64 * 1024 * 1024, 16 * 1024 * 1024])
    expect(await run(`return attempt(() => fs.writeFileSync('/tmp/big', Buffer.alloc(80 * 1024 * 1024)))`)).toBe(
      'ENOSPC',
    )
    expect(
      await run(
        `fs.rmSync('/tmp/big'); return attempt(() => { fs.writeFileSync('/tmp/a', 'x'); fs.writeFileSync('a', 'x') })`,
      ),
    ).toBe('done')
  })

  it('dumps no core and opens a bounded number of files', async () => {
    const limits = await text(`return fs.readFileSync('/proc/self/limits', 'utf8')`)
    expect(limits).toMatch(/Max core file size\s+0\s+0/)
    expect(limits).toMatch(/Max open files\s+\d+\s+4096/)
    expect(limits).toMatch(/Max file size\s+268435456/)
  })

  if (hasPrograms) {
    it('runs the programs of the system, and none of them with more rights than its own', async () => {
      const mounts = (await text(`return fs.readFileSync('/proc/self/mountinfo', 'utf8')`)).split('\n')
      const programs = mounts.filter((line) => / \/(usr|bin|sbin|lib\w*)(\/\S*)? /.test(line))
      expect(programs.length).toBeGreaterThan(0)
      for (const line of programs) expect(line).toMatch(/ ro,\S*nosuid/)
      const outcome = await run(`const { spawnSync } = await load('node:child_process')
      const sh = (line) => { const { status, stdout, stderr } = spawnSync('/bin/sh', ['-c', line], { encoding: 'utf8' })
        return { status, out: stdout.trim(), err: stderr.trim().slice(0, 200) } }
      const setuid = sh("find /usr/bin /usr/sbin -perm -4000 -type f 2>/dev/null").out.split('\\n').filter(Boolean)
      return { shell: sh('echo $((6 * 7)) | tr 4 5'), id: sh('id -u').out, etc: sh('ls /etc').out.split('\\n'),
        raised: setuid.filter((path) => sh(path + ' -c id </dev/null').out.includes('uid=0')) }`)
      expect(outcome).toMatchObject({ shell: { status: 0, out: '52' }, id: '1000', raised: [] })
      const { etc } = outcome as { etc: string[] }
      expect(etc.filter((name) => !['alternatives', 'ld.so.cache', 'passwd'].includes(name))).toEqual([])
    })

    it('cannot change the programs of the system', async () => {
      await denied(`return Object.fromEntries(['/usr/new', '/usr/bin/new', '/bin/sh', '/usr/lib/new', '/etc/alternatives/new',
      '/usr/local/bin/new', '/proc/self/root/usr/bin/new'].map((path) => [path, attempt(() => fs.writeFileSync(path, 'x'))]))`)
    })
  }

  it('keeps away from a directory that the server made readable for all', async () => {
    const open = join(runtime, '..', 'open')
    mkdirSync(open, { recursive: true })
    chmodSync(open, 0o777)
    writeFileSync(join(open, 'file'), 'of the host')
    await denied(`return { read: attempt(() => fs.readFileSync(${JSON.stringify(join(open, 'file'))}, 'utf8')) }`)
  })
})

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}
