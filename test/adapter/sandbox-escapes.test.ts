/** A table of what a hostile program tries, in every kind of compartment: nothing but /tmp and the workspace is open. */
import { chmodSync, mkdirSync, readdirSync, readFileSync, realpathSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:net'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Json } from '../../schema/json.ts'
import { textOf } from '../../schema/message.ts'
import { buildSkills } from '../support/files-skill.ts'
import { Content, JOB_ID, lockOf, MachineDrive } from '../support/machine-drive.ts'
import { fixtureSkill, openHost, openSandboxes, sandboxMissing, type OpenLocalHost } from '../support/sandbox.ts'
import { driveSkills } from '../support/skill-drive.ts'
import { ROOT } from '../support/source.ts'

const missing = await sandboxMissing()
const TRIES = readFileSync(join(ROOT, 'test/fixture/escape.mjs'), 'utf8')

/** How each try has to end; of several lines that fit, the first. Where two errors stand, kernels and owners differ. */
const EXPECTED: readonly (readonly [tried: RegExp, outcome: RegExp])[] = [
  // What it may do, and what shows that the tries themselves work.
  [/^write \/tmp$/, /^OPEN$/],
  [/^write \/workspace$/, /^(OPEN|ENOENT)$/],
  [/^(getppid\(\)|socket\(AF_UNIX\)|personality\(query\))$/, /^OPEN/],
  // A root of its own.
  [/^read \/proc\/kmsg$/, /^(EACCES|EPERM)$/],
  [/^read /, /^ENOENT$/],
  [/^write \/(proc\/(sys|irq|bus|sysrq|self\/(uid|gid|set)|1\/mem)|sys)/, /^(EACCES|EROFS|ENOENT|EISDIR|EPERM)$/],
  [/^write \//, /^(EACCES|EROFS|ETXTBSY)$/],
  [/^create \/proc\/new$/, /^(ENOENT|EROFS)$/],
  [/^create /, /^EROFS$/],
  [/^(hard link|chmod|own) what it runs from$/, /^(EROFS|EXDEV)$/],
  [/^open \/dev\/tty$/, /^(ENXIO|ENOENT)$/],
  [/^lower the score/, /^(EROFS|EACCES)$/],
  [/^climb out/, /^ENOENT$/],
  [/^make a file of root$/, /^(EINVAL|EPERM)$/],
  // Its input, which is somebody's.
  [/^(rename|link) out in /, /^EXDEV$/],
  [/^(move|remove) the mount in /, /^EBUSY$/],
  [/ in \/(workspace|proc\/self\/\w+)\/(workspace\/)?input$/, /^EROFS$/],
  // Nobody else's processes.
  [/^strangers /, /^ENOENT$/],
  [/^signal the host$/, /^ESRCH$/],
  [/^(process_vm_readv|process_vm_writev)$/, /^EPERM$/],
  [/(the host|of the host)$/, /^(ESRCH|ECONNREFUSED)$/],
  // No network.
  [/^(tcp|udp|fetch|listen)/, /^EAFNOSUPPORT$/],
  [/^connect to \//, /^ENOENT$/],
  [/^connect to the display$/, /^ECONNREFUSED$/],
  [/^look up a name$/, /^(EAI_AGAIN|ENOTFOUND)$/],
  [/^ask a name server$/, /^(ECONNREFUSED|EAFNOSUPPORT)$/],
  [/^socket/, /^EAFNOSUPPORT$/],
  // No system call that only a keeper of machines needs.
  [/^(clone3|io_uring_\w+)$/, /^ENOSYS$/],
  [/^a call of the x32 interface$/, /^SIGSYS$/],
  [/^set(res)?[ug]id\(/, /^EINVAL$/],
  [/^setpriority/, /^(EACCES|EPERM)$/],
  [/^(?!read|write|create|tcp|udp|connect).*/, /^EPERM$/],
]
/** What sandboxes were measured by first had so many tries. */
const TRIES_MIN = process.arch === 'x64' ? 63 : 30

const packages: Readonly<Record<string, string>> = { probe: fixtureSkill('probe'), shell: join(ROOT, 'plugins/shell') }
const lock = lockOf({
  probe: { package: 'probe' },
  shell: { package: 'shell', entry: 'dist/main.js', programs: 'system' },
})

const title = `in bubblewrap${missing === undefined ? '' : ` (${missing})`}`
describe.skipIf(missing !== undefined)(title, () => {
  let opened: OpenLocalHost
  let listener: Server
  let abstract: Server
  let targets: Json
  let drive: MachineDrive
  let exec: (command: string) => Promise<string>

  beforeAll(async () => {
    await buildSkills()
    opened = await openHost(openSandboxes, {
      install: (skill) => Promise.resolve(packages[skill.packages[0]?.name ?? ''] ?? ''),
    })
    const start = async (content: Content) =>
      new MachineDrive(await opened.host.open({ jobId: JOB_ID, fence: 1 }, lock), content)
    const runtime = realpathSync(opened.options.runtimeDirectory)
    const other = await start(new Content())
    other.start(lock)
    await other.open('probe')
    await other.run('probe', `(await load('node:fs')).writeFileSync('mine', 'of the other job', { mode: 0o777 })`)
    const [otherJob] = readdirSync(join(runtime, 'slots')).map((slot) => join(runtime, 'slots', slot, 'ws/mine'))
    const forAll = join(runtime, '../open')
    mkdirSync(forAll)
    writeFileSync(join(forAll, 'file'), 'of the host')
    chmodSync(forAll, 0o777)
    listener = createServer((socket) => socket.end('reached')).listen(0, '0.0.0.0')
    abstract = createServer((socket) => socket.end('reached')).listen(`\0senmon-test-${process.pid}`)
    await Promise.all([listener, abstract].map((server) => new Promise((resolve) => server.once('listening', resolve))))
    const address = listener.address()
    targets = {
      hostPid: process.pid,
      port: typeof address === 'object' && address !== null ? address.port : 0,
      abstract: `senmon-test-${process.pid}`,
      closed: [ROOT, join(forAll, 'file'), '/proc/self/root/../etc/shadow'],
      runtime,
      otherJob: otherJob ?? '',
    }
    const content = new Content()
    const program = `${TRIES}\nprocess.stdout.write(JSON.stringify(await escapes(${JSON.stringify(targets)})))\n`
    drive = await start(content)
    const skills = driveSkills(
      drive,
      lock,
      {},
      { inputTreeHash: content.tree({ 'spec.md': 'the spec', 'tries.mjs': program }) },
    )
    exec = async (command) => {
      const answer = await skills.call('shell', 'exec', { command })
      if ('code' in answer) throw new Error(answer.message)
      return textOf(answer.content)
    }
  })
  afterAll(async () => {
    listener?.close()
    abstract?.close()
    await opened?.close()
  })

  const code = () =>
    `return (await load('data:text/javascript;base64,${Buffer.from(TRIES).toString('base64')}')).escapes(${JSON.stringify(targets)})`
  const compartments: Readonly<Record<string, () => Promise<Json>>> = {
    runner: () => drive.runInRunner(code()),
    skill: async () => {
      await drive.open('probe')
      return await drive.run('probe', code())
    },
    shell: async () => JSON.parse(await exec('node input/tries.mjs')) as Json,
  }

  it.each(Object.keys(compartments))('the compartment of a %s is left by none of the ways out', async (name) => {
    const outcomes = (await compartments[name]?.()) as Record<string, string>
    expect(Object.keys(outcomes).length).toBeGreaterThanOrEqual(TRIES_MIN)
    const open = Object.entries(outcomes).filter(([tried, outcome]) => {
      const [, expected] = EXPECTED.find(([pattern]) => pattern.test(tried)) ?? []
      return expected?.test(outcome) !== true
    })
    expect(open).toEqual([])
    expect(outcomes['write /workspace']).toBe(name === 'runner' ? 'ENOENT' : 'OPEN')
  })

  it('the input is what its caller gave, after all of it', async () => {
    expect((await exec('cat input/spec.md')).trim()).toBe('the spec')
  })
})
