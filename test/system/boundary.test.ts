/** What a published skill can reach from within a running job on the real host: its workspace, its secrets, nothing else. */
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { rm, writeFile } from 'node:fs/promises'
import { networkInterfaces } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { expertPackage, npmPublish, skillPackage, startLightly, until, type Platform } from '../support/platform.ts'
import { act, findJob, finishJob, probe, runJob, turns, type SeenJob } from '../support/platform-job.ts'
import { runProgram } from '../support/program.ts'
import { fixtureSkill, sandboxMissing } from '../support/sandbox.ts'
import { ROOT } from '../support/source.ts'

const missing = await sandboxMissing()
/** In two halves, so that whoever searches for it does not find the search. */
const CANARY = ['canary', 'of-the-first-job-7c1d'] as const
const SECRET = 'secret-of-the-second-skill-55ae'
const DENIED = /^(ENOENT|EACCES|EPERM|EROFS|EXDEV|EBUSY|ENOTDIR|ETXTBSY|EINVAL|EISDIR|ENOTEMPTY|ELOOP|ENXIO|EEXIST)$/
const UNREACHED = /^(ENETUNREACH|EADDRNOTAVAIL|ECONNREFUSED|ENOENT|EPERM|EACCES|EAFNOSUPPORT|EAI_AGAIN|ENOTFOUND)$/

const LOOK = `const fs = await load('node:fs')
  const attempt = (act) => { try { return act() ?? 'done' } catch (error) { return error.code ?? String(error) } }
  const each = (names, act) => Object.fromEntries(names.map((name) => [name, attempt(() => act(name))]))
  const read = (path) => fs.statSync(path).isDirectory() ? fs.readdirSync(path).join() : String(fs.readFileSync(path))\n`

const reach = (tcp: readonly object[], udpPort: number) => `
  const net = await load('node:net'); const dgram = await load('node:dgram'); const dns = await load('node:dns/promises')
  const outcomes = {}
  for (const options of ${JSON.stringify(tcp)}) outcomes[JSON.stringify(options)] = await new Promise((done) => {
    const socket = net.connect(options).once('connect', () => { done('OPEN'); socket.destroy() })
      .once('error', (error) => done(error.code)) })
  outcomes.udp = await new Promise((done) => { const socket = dgram.createSocket('udp4').once('error', (error) => done(error.code))
    socket.send('reached', ${udpPort}, '127.0.0.1', (error) => { done(error?.code ?? 'OPEN'); socket.close() }) })
  outcomes.fetch = await fetch('http://127.0.0.1:${JSON.stringify((tcp[0] as { port: number }).port)}/healthz')
    .then(() => 'OPEN', (error) => error.cause?.code ?? error.message)
  outcomes.name = await dns.lookup('senmon.example.com').then(() => 'OPEN', (error) => error.code)
  return outcomes`

const INPUT = `
  const act = {
    write: (at) => fs.writeFileSync(at + '/spec.md', 'x'), append: (at) => fs.appendFileSync(at + '/spec.md', 'x'),
    create: (at) => fs.writeFileSync(at + '/new', 'x'), mkdir: (at) => fs.mkdirSync(at + '/newdir'),
    unlink: (at) => fs.unlinkSync(at + '/spec.md'), rename: (at) => fs.renameSync(at + '/spec.md', at + '/other'),
    away: (at) => fs.renameSync(at + '/spec.md', '/workspace/spec.md'), link: (at) => fs.linkSync(at + '/spec.md', '/workspace/twin'),
    over: (at) => { fs.writeFileSync('/workspace/evil', 'x'); fs.renameSync('/workspace/evil', at + '/spec.md') },
    chmod: (at) => fs.chmodSync(at + '/spec.md', 0o777), chmodDirectory: (at) => fs.chmodSync(at, 0o777),
    times: (at) => fs.utimesSync(at + '/spec.md', 1, 1), truncate: (at) => fs.truncateSync(at + '/spec.md', 0),
    open: (at) => fs.openSync(at + '/dir/c.txt', 'r+'), remove: (at) => fs.unlinkSync(at + '/dir/c.txt'),
    symlink: (at) => fs.symlinkSync('/tmp', at + '/link'),
    replace: (at) => fs.renameSync(at, '/workspace/was-input'), rmdir: (at) => fs.rmdirSync(at),
  }
  fs.mkdirSync('/workspace/by'); fs.symlinkSync('/workspace/input', '/workspace/by/link')
  const places = ['/workspace/input', '/proc/self/root/workspace/input', '/proc/self/cwd/input', '/workspace/by/link/../input']
  return places.flatMap((at) => Object.entries(act).map(([name, one]) => [name + ' ' + at, attempt(() => one(at))]))`

const SEARCH = `
  const needle = ['${CANARY[0]}', '${CANARY[1]}'].join('-')
  const hits = []; let files = 0; let directories = 0
  const search = (at) => {
    const entries = attempt(() => fs.readdirSync(at, { withFileTypes: true }))
    if (!Array.isArray(entries)) return
    directories++
    for (const entry of entries) {
      const path = (at === '/' ? '' : at) + '/' + entry.name
      if (path.includes(needle)) hits.push(path)
      if (entry.isDirectory() && !/^\\/proc\\/(?!net$)/.test(path)) search(path)
      // A device that is mounted on a file looks like the file from its directory.
      else if (fs.lstatSync(path).isFile() && path !== '/opt/node' && !path.startsWith('/proc/')) {
        files++
        if (attempt(() => fs.readFileSync(path, 'latin1')).includes(needle)) hits.push(path)
      }
    }
  }
  search('/')
  for (const pid of fs.readdirSync('/proc').filter((name) => /^\\d+$/.test(name)))
    for (const file of ['environ', 'cmdline']) {
      const text = attempt(() => fs.readFileSync('/proc/' + pid + '/' + file, 'latin1'))
      if (text.includes(needle)) hits.push(pid + '/' + file)
    }
  return { hits, files, directories, root: fs.readdirSync('/') }`

const DESCRIPTORS = `
  const { spawnSync } = await load('node:child_process')
  const list = 'const fs = require("node:fs"); const all = {}; for (const fd of fs.readdirSync("/proc/self/fd"))' +
    ' try { all[fd] = fs.readlinkSync("/proc/self/fd/" + fd) } catch {}; console.log(JSON.stringify(all))'
  const own = {}
  for (const fd of fs.readdirSync('/proc/self/fd')) try { own[fd] = fs.readlinkSync('/proc/self/fd/' + fd) } catch {}
  const child = spawnSync(process.execPath, ['-e', list], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] })
  return { own, child: JSON.parse(child.stdout) }`

const PROCESSES = `
  const pids = fs.readdirSync('/proc').filter((name) => /^\\d+$/.test(name))
  const status = fs.readFileSync('/proc/self/status', 'utf8')
  return { commands: pids.map((pid) => fs.readFileSync('/proc/' + pid + '/cmdline', 'utf8').split('\\0').join(' ')), status,
    signals: each(pids.filter((pid) => pid !== String(process.pid) && pid !== '1'), (pid) => process.kill(Number(pid), 0)) }`

const TRAPS = `
  fs.symlinkSync('/etc/passwd', '/workspace/passwd'); fs.symlinkSync('/etc', '/workspace/etc')
  fs.symlinkSync('../../../../etc/passwd', '/workspace/climbing'); fs.mkdirSync('/workspace/docs')
  fs.symlinkSync('/workspace/input/spec.md', '/workspace/docs/spec.md'); fs.writeFileSync('/workspace/kept.txt', 'kept')
  attempt(() => fs.linkSync('/workspace/kept.txt', '/workspace/twin.txt'))
  return fs.readdirSync('/workspace')`

describe.skipIf(missing !== undefined)('a published skill in a running job', () => {
  let platform: Platform
  let results: Record<string, unknown>
  let control: Record<string, string>
  let job: SeenJob
  const udp = createSocket('udp4')
  const datagrams: string[] = []

  beforeAll(async () => {
    platform = await startLightly()
    const { dataDirectory } = platform
    udp.on('message', (bytes) => datagrams.push(String(bytes))).bind(0, '127.0.0.1')
    await once(udp, 'listening')
    // As open as a file of the host can be.
    await writeFile(join(dataDirectory, 'open.txt'), CANARY.join('-'), { mode: 0o777 })
    const port = Number(new URL(platform.url).port)
    const outside = Object.values(networkInterfaces())
      .flatMap((addresses) => addresses ?? [])
      .find(({ family, internal }) => family === 'IPv4' && !internal)?.address
    const targets = [
      { port, host: '127.0.0.1' },
      { port, host: '::1' },
      ...(outside === undefined ? [] : [{ port, host: outside }]),
      { port: 80, host: '169.254.169.254' },
      ...[1, 2, 3].map((slot) => ({ path: `\0senmon-uid-${200_000 + slot}` })),
    ]
    const secrets = ['/etc/shadow', '/etc/hostname', '/root', '/home', '/var', '/run', '/sys', '/usr', '/bin/sh']
    const ours = [
      ROOT,
      dataDirectory,
      ...['dev-key', 'master-key', 'open.txt'].map((name) => join(dataDirectory, name)),
    ]
    const paths = [
      ...secrets,
      ...ours,
      '/var/lib/senmon',
      '/proc/1/root/etc/shadow',
      '/skill/../etc/shadow',
      '/dev/mem',
    ]
    const checks: Readonly<Record<string, string>> = {
      network: reach(targets, udp.address().port),
      environment: `return { env: { ...process.env }, raw: attempt(() => fs.readFileSync('/proc/self/environ', 'latin1')) }`,
      input: INPUT,
      inputAfter: `return [read('/workspace/input/spec.md'), read('/workspace/input'), read('/workspace/input/dir/c.txt')]`,
      host: `return each(${JSON.stringify(paths)}, read)`,
      processes: PROCESSES,
      descriptors: DESCRIPTORS,
      elsewhere: `return each(['/new', '/etc/passwd', '/skill/new', '/opt/node', '/dev/new', '/proc/sys/kernel/hostname'],
        (path) => fs.writeFileSync(path, 'x'))`,
      traps: TRAPS,
    }
    const names = Object.keys(checks)
    const hold = JSON.parse(
      turns([
        [
          probe(
            `const fs = await load('node:fs'); const text = ['${CANARY[0]}', '${CANARY[1]}'].join('-')
             for (const path of ['/workspace', '/tmp', '/dev/shm']) fs.writeFileSync(path + '/' + text, text, { mode: 0o777 })
             globalThis.kept = text; process.title = text; return fs.readdirSync('/workspace')`,
          ),
        ],
      ]),
    ) as { turns: object[] }
    hold.turns[1] = { text: 'I hold my machine until the other has searched.', pauseMs: 10_000 }
    await npmPublish(platform, await skillPackage('probe', 'probe'))
    const skill = (name: string, more = '') =>
      `[experts."prober".skills."${name}"]\ntype = "mcpStdioSkill"\npackageName = "probe"\n${more}\n`
    await npmPublish(
      platform,
      await expertPackage(
        'prober',
        `[experts."prober"]\ninstruction = "Probe."\nmodel = "rehearsal/probe"\n${skill('probe')}${skill('second', 'requiredEnv = ["API_KEY"]')}`,
        {
          'rehearsals/probe.json': turns([
            [probe(`globalThis.seen = process.env.API_KEY; return Object.keys(process.env)`, 'second')],
            ...names.map((name) => [probe(LOOK + checks[name])]),
          ]),
          'rehearsals/hold.json': JSON.stringify(hold),
          'rehearsals/search.json': turns([[probe(LOOK + SEARCH)]]),
        },
      ),
    )
    const setSecret = `mutation { setSecret(input: { name: "API_KEY", value: "${SECRET}" }) { ... on Secret { name } } }`
    expect(await platform.graphql(setSecret)).toEqual({ setSecret: { name: 'API_KEY' } })
    const files = [
      { path: 'spec.md', text: 'the spec' },
      { path: 'dir/c.txt', text: 'c' },
    ]
    const ran = await runJob(platform, { expertKey: 'prober', query: 'Probe.', files })
    job = ran.job
    expect(job).toMatchObject({ outcome: 'completed', result: 'Done.' })
    // What fails in the skill fails the test that looks at it, and no other.
    const [second, ...texts] = ran.results.map(({ text, isError }) =>
      isError ? [['failed', text]] : (JSON.parse(text) as unknown),
    )
    results = { second, ...Object.fromEntries(names.map((name, i) => [name, texts[i]])) }
    control = await runOutside(LOOK + checks['network'])
  })
  afterAll(async () => {
    udp.close()
    await platform?.stop()
    if (platform !== undefined) await rm(platform.dataDirectory, { recursive: true, force: true })
  })

  /** The same code in the same skill, without a sandbox: what the probe would find if nothing stopped it. */
  async function runOutside(code: string): Promise<Record<string, string>> {
    const params = { name: 'run', arguments: { code } }
    const input = `${JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'tools/call', params })}\n`
    const { stdout } = await runProgram(process.execPath, [join(fixtureSkill('probe'), 'main.mjs')], { input })
    const { result } = JSON.parse(stdout) as { result: { content: readonly { text: string }[] } }
    return JSON.parse(result.content[0]?.text ?? '') as Record<string, string>
  }

  it('reaches no network: neither the platform, nor UDP, nor names, nor sockets of the host', async () => {
    const outcomes = results['network'] as Record<string, string>
    expect(Object.entries(outcomes).filter(([, outcome]) => !UNREACHED.test(outcome))).toEqual([])
    // Outside the sandbox the same code gets through, once: the probe would have seen an open way.
    await until(async () => (datagrams.length > 0 ? true : undefined))
    expect(datagrams).toEqual(['reached'])
    expect(control).toMatchObject({ udp: 'OPEN', fetch: 'OPEN' })
    expect(control[Object.keys(control)[0] ?? '']).toBe('OPEN')
  })

  it('has PATH and SENMON_WORKSPACE for an environment, and what its requiredEnv names', () => {
    const { env, raw } = results['environment'] as { env: Record<string, string>; raw: string }
    expect(Object.keys(env).toSorted()).toEqual(['PATH', 'SENMON_WORKSPACE'])
    expect(env['SENMON_WORKSPACE']).toBe('/workspace')
    // bubblewrap itself adds PWD to what the kernel shows, whatever it is told.
    const names = raw.split('\0').map((entry) => entry.split('=')[0])
    expect(names.filter((name) => !['', 'PATH', 'SENMON_WORKSPACE', 'PWD'].includes(name ?? ''))).toEqual([])
    expect((results['second'] as string[]).toSorted()).toEqual(['API_KEY', 'PATH', 'SENMON_WORKSPACE'])
    expect(JSON.stringify(results)).not.toContain(SECRET)
  })

  it('cannot change its input in any way', () => {
    const outcomes = results['input'] as readonly [string, string][]
    expect(outcomes.length).toBe(72)
    expect(outcomes.filter(([, outcome]) => !DENIED.test(outcome))).toEqual([])
    expect(results['inputAfter']).toEqual(['the spec', 'dir,spec.md', 'c'])
  })

  it('reads no file of the host, and writes nowhere but where it works', () => {
    for (const name of ['host', 'elsewhere']) {
      const outcomes = Object.entries(results[name] as Record<string, string>)
      expect(outcomes.length).toBeGreaterThan(5)
      expect(outcomes.filter(([, outcome]) => !DENIED.test(outcome))).toEqual([])
    }
  })

  it('sees no second compartment: no process of another skill, of the runner or of the host', () => {
    const { commands, status, signals } = results['processes'] as {
      commands: string[]
      status: string
      signals: Record<string, string>
    }
    expect(commands.length).toBeLessThanOrEqual(2)
    expect(commands.filter((command) => !/^(\S*\/bwrap|\/opt\/node) .*\/skill\//.test(command))).toEqual([])
    expect(signals).toEqual({})
    expect(status).toMatch(/CapEff:\s+0+\n/)
    expect(status).toMatch(/NoNewPrivs:\s+1\n/)
    expect(status).toMatch(/Seccomp:\s+2\n/)
  })

  it('inherits its three streams and nothing else', () => {
    const { own, child } = results['descriptors'] as Record<'own' | 'child', Record<string, string>>
    const sockets = Object.entries(own).filter(([, link]) => link.startsWith('socket:'))
    expect(sockets.map(([fd]) => fd)).toEqual(['0', '1', '2'])
    for (const links of [own, child]) {
      const paths = Object.values(links).filter((link) => link.startsWith('/'))
      expect(paths.filter((link) => link !== '/dev/null' && !link.startsWith('/proc/'))).toEqual([])
    }
  })

  it('leaves no link in what is collected, and none can be downloaded', async () => {
    expect(results['traps']).toEqual(expect.arrayContaining(['passwd', 'etc', 'climbing', 'kept.txt']))
    const at = `/expert_jobs/${job.id}/workspace_instance/items`
    const { data } = (await (await platform.fetch(at)).json()) as { data: { workspaceItems: { path: string }[] } }
    const paths = data.workspaceItems.map(({ path }) => path)
    expect(paths).toEqual(
      expect.arrayContaining(['by', 'docs', 'input', 'input/dir', 'input/dir/c.txt', 'input/spec.md']),
    )
    expect(paths.filter((path) => /passwd|etc|climbing|link|docs\//.test(path))).toEqual([])
    for (const path of ['passwd', 'etc', 'etc/passwd', 'climbing', 'docs/spec.md', 'by/link', 'by/link/spec.md']) {
      const answer = await platform.fetch(`${at}/${Buffer.from(path).toString('base64url')}/download`)
      expect([path, answer.status]).toEqual([path, 404])
    }
  })

  it('finds no file of a job that runs beside it, wherever it looks', async () => {
    const { id } = await act(platform, 'createJob', { expertKey: 'prober', query: 'Hold.', model: 'rehearsal/hold' })
    await until(async () => ((await findJob(platform, id))?.steps === 1 ? true : undefined))
    const { results: found } = await runJob(platform, {
      expertKey: 'prober',
      query: 'Search.',
      model: 'rehearsal/search',
    })
    expect((await findJob(platform, id))?.status).toBe('running')
    await act(platform, 'cancelJob', { jobId: id })
    const holder = await finishJob(platform, id)
    expect(JSON.parse(holder.results[0]?.text ?? '')).toContain(CANARY.join('-'))
    const seen = JSON.parse(found[0]?.text ?? '') as {
      hits: string[]
      files: number
      directories: number
      root: string[]
    }
    expect(seen.hits).toEqual([])
    expect(seen.files).toBeGreaterThan(5)
    expect(seen.directories).toBeGreaterThan(10)
    expect(seen.root).not.toEqual(expect.arrayContaining(['home']))
  })
})
