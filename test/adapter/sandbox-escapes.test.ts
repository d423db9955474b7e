/**
 * A table of what a hostile program tries, in every kind of compartment of a machine that was primed, stopped and resumed:
 * nothing but /tmp and the workspace is open, and nothing is there that priming or another machine has left.
 */
import { spawnSync } from 'node:child_process'
import { chmodSync, mkdirSync, readdirSync, readFileSync, realpathSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:net'
import { dirname, join } from 'node:path'
import { build, stop } from 'esbuild'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Json } from '../../schema/json.ts'
import { textOf } from '../../schema/message.ts'
import { buildSkills } from '../support/files-skill.ts'
import { Content, JOB_ID, lockOf, MachineDrive } from '../support/machine-drive.ts'
import { fixtureSkill, openHost, openSandboxes, sandboxMissing, type OpenLocalHost } from '../support/sandbox.ts'
import { until } from '../support/patience.ts'
import { driveSkills } from '../support/skill-drive.ts'
import { ROOT } from '../support/source.ts'
import { stopped } from '../support/stopped-processes.ts'
import { scratchDirectory } from '../support/scratch.ts'

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
  [/^connect to what another machine listens on$/, /^ECONNREFUSED$/],
  [/^what was there before in /, /^nothing$/],
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
  let other: MachineDrive
  let runtime: string
  let exec: (command: string) => Promise<string>

  beforeAll(async () => {
    await buildSkills()
    const bundle = join(scratchDirectory('test', '/var/tmp'), 'primed-puppet.mjs')
    const entryPoints = [join(ROOT, 'test/fixture/runners/primed-puppet.ts')]
    const banner = {
      js: "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);",
    }
    await build({ entryPoints, outfile: bundle, bundle: true, platform: 'node', format: 'esm', banner })
    await stop()
    opened = await openHost((options) => openSandboxes(options, 1), {
      install: (skill) => Promise.resolve(packages[skill.packages[0]?.name ?? ''] ?? ''),
      bundles: { runner: bundle },
    })
    rmSync(dirname(bundle), { recursive: true })
    const start = async (content: Content) => {
      await until(nextWaits, 5)
      const machine = new MachineDrive(await opened.host.open({ jobId: JOB_ID, fence: 1 }, lock), content)
      expect(machine.obtained.resume).toBe('resumed')
      return machine
    }
    runtime = realpathSync(opened.options.runtimeDirectory)
    other = await start(new Content())
    other.start(lock)
    await other.open('probe')
    await other.run(
      'probe',
      `const fs = await load('node:fs'); fs.writeFileSync('mine', 'of the other job', { mode: 0o777 })
       for (const path of ['/tmp/left', '/dev/shm/left']) fs.writeFileSync(path, 'of the other job', { mode: 0o777 })
       const { createServer } = await load('node:net')
       globalThis.kept = createServer((socket) => socket.end('reached'))
       await new Promise((done) => globalThis.kept.listen('\\0of-the-other-job', done))`,
    )
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
      otherAbstract: 'of-the-other-job',
    }
    const content = new Content()
    const program = `${TRIES}\nprocess.stdout.write(JSON.stringify(await escapes(${JSON.stringify(targets)})))\n`
    drive = await start(content)
    const inputTreeHash = content.tree({ 'spec.md': 'the spec', 'tries.mjs': program })
    const skills = driveSkills(drive, lock, { inputTreeHash })
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

  /** Whether the machine that is made behind the last one is whole, and stands still. */
  const nextWaits = (): boolean => stopped().length >= 2
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

  it('what a machine did before it had a job is nowhere: not in what it says, nor in its directories (P2.7, P3.8)', async () => {
    await until(nextWaits, 5)
    expect(other.said.slice(0, 2).map(({ type }) => type)).toEqual(['ready', 'alive'])
    expect(JSON.stringify([other.said, drive.said])).not.toContain('primer')
    for (const slot of readdirSync(join(runtime, 'slots')))
      expect(readdirSync(join(runtime, 'slots', slot)).toSorted()).toEqual(['input', 'owner', 'plan.json', 'ws'])
  })

  it.runIf(process.getuid?.() === 0)(
    'the uid of one machine opens nothing of another, and signals nothing of it (SL3)',
    async () => {
      await until(nextWaits, 5)
      const [pid = 0] = stopped()
      const theirs = statSync(`/proc/${pid}`).uid
      const uidOf = (slot: string): number => statSync(slot).uid
      const slots = readdirSync(join(runtime, 'slots')).map((name) => join(runtime, 'slots', name))
      const [one, another] = [
        slots.find((slot) => uidOf(slot) !== theirs),
        slots.find((slot) => uidOf(slot) === theirs),
      ]
      const uid = uidOf(one ?? '')
      expect(uid).toBeGreaterThan(200_000)
      const as = (command: string, ...args: readonly string[]) => spawnSync(command, args, { uid, gid: uid }).status
      expect(as('/bin/ls', one ?? '')).toBe(0)
      expect(as('/bin/ls', another ?? '')).not.toBe(0)
      for (const name of ['plan.json', 'owner']) expect(as('/bin/cat', join(another ?? '', name))).not.toBe(0)
      expect(as('/bin/kill', '-0', `${pid}`)).not.toBe(0)
    },
  )

  it('the input is what its caller gave, after all of it', async () => {
    expect((await exec('cat input/spec.md')).trim()).toBe('the spec')
  })
})
