/** Proves that a machine's processes find what Node compiled of them, as the uids and by the paths that they run under. */
import { spawnSync } from 'node:child_process'
import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { build } from 'esbuild'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startCompartment } from '../../runner/supervisor/compartment.ts'
import { heapOptions, RUNNER_OPTIONS, SUPERVISOR_OPTIONS } from '../../schema/node-options.ts'
import { cacheEnvironment, cacheOf, compiledInside, shareCompiled } from '../../src/local/compiled.ts'
import { begunWith, heapInside, makeHeap } from '../../src/local/heap.ts'
import { descendants, listProcesses } from '../../src/local/processes.ts'
import { openRuntime, type Runtime } from '../../src/local/runtime.ts'
import { sandboxLaunch } from '../../src/sandbox/sandbox.ts'
import { assemble, denyProgram } from '../../src/sandbox/seccomp.ts'
import { JOB_ID, lockOf, MachineDrive } from '../support/machine-drive.ts'
import { until } from '../support/patience.ts'
import { openHost, openSandboxes, realClock, sandboxMissing } from '../support/sandbox.ts'
import { scratchDirectory } from '../support/scratch.ts'

const missing = await sandboxMissing()
const directory = scratchDirectory('test', '/var/tmp')
/** Makes Node say on stderr what it finds. */
const TELL = { NODE_DEBUG_NATIVE: 'COMPILE_CACHE' }
const never = new AbortController().signal
const ACCEPTED = /V8 code cache for ESM \S*main\.mjs was accepted/
let runtime: Runtime

beforeAll(async () => {
  chmodSync(directory, 0o755)
  runtime = await openRuntime({ directory: join(directory, 'runtime'), execPath: process.execPath, clock: realClock })
  await runtime.makeHeaps(never)
})
afterAll(() => rmSync(directory, { recursive: true, force: true }))

describe('the programs of a machine', () => {
  it('hold one compiler of schemas, in the runner', () => {
    const compilersIn = (bundle: string) =>
      readFileSync(bundle, 'utf8').split('resolves to more than one schema').length - 1
    expect([compilersIn(runtime.bundles.runner), compilersIn(runtime.bundles.supervisor)]).toEqual([1, 0])
  })

  it('hold no shape of MCP that none of them asks for', () => {
    const runner = readFileSync(runtime.bundles.runner, 'utf8')
    const namedIn = (shape: string) => runner.split(shape).length - 1
    // What a server of OAuth says of itself; and a completion, which each of the two lines of MCP has among all its shapes.
    expect([namedIn('tls_client_certificate_bound_access_tokens'), namedIn('ref/prompt')]).toEqual([0, 2])
  })
})

describe('what Node compiled', () => {
  it.skipIf(missing !== undefined)('of the runner is found inside the sandbox', async () => {
    const bundle = runtime.bundles.runner
    const { mounts, command, environment } = compiledInside(bundle)
    const { node, libraries, passwd, preload } = runtime
    const seccomp = assemble(denyProgram(process.arch === 'arm64' ? 'arm64' : 'x64'))
    const launch = sandboxLaunch(
      {
        bwrap: '/usr/bin/bwrap',
        node,
        libraries,
        programs: [],
        passwd,
        preload,
        seccomp,
        mounts,
        cwd: '/tmp',
        command: [...RUNNER_OPTIONS, ...command],
        environment: { ...environment, ...TELL },
      },
      directory,
    )
    const said: string[] = []
    const compartment = startCompartment(launch, {}, (line) => said.push(line), realClock)
    compartment.send('{"type":"cancel","reason":"it has begun"}\n')
    await compartment.ended
    expect(said.join('\n')).toMatch(ACCEPTED)
  })

  it('of the supervisor is found by the uid of a slot', () => {
    const { supervisor } = runtime.bundles
    const cache = cacheOf(supervisor) ?? ''
    const uid = process.getuid?.() === 0 ? 299_999 : (process.getuid?.() ?? 0)
    shareCompiled(cache, uid, false)
    const plan = join(directory, 'plan.json')
    const launch = { file: '/bin/false', args: [], cwd: '/', feeds: [], environment: {}, ownGroup: true }
    writeFileSync(plan, JSON.stringify({ workspace: '/', input: '/', runner: launch, skills: [] }), { mode: 0o644 })
    const args = [...SUPERVISOR_OPTIONS, supervisor, plan]
    const env = { ...cacheEnvironment(cache), ...TELL }
    const { stderr } = spawnSync(runtime.node, args, { env, uid, gid: uid, encoding: 'utf8', input: '', cwd: '/' })
    expect(stderr).toMatch(ACCEPTED)
  })

  it('can be changed by nobody but the server', () => {
    for (const bundle of [runtime.bundles.runner, runtime.bundles.supervisor])
      for (const path of [bundle, cacheOf(bundle) ?? '', runtime.heapOf(bundle) ?? ''])
        expect(statSync(path).mode & 0o022).toBe(0)
  })
})

describe('a heap', () => {
  it.skipIf(missing !== undefined)(
    'is what supervisor and runner of a machine begin with whose job waits, each with a boot id of its own (P3.1)',
    async () => {
      const change = { bundles: {}, heaps: true, runtimeDirectory: runtime.directory }
      const opened = await openHost(openSandboxes, change)
      const boots = new Set<string>()
      for (let i = 0; i < 2; i++) {
        const drive = new MachineDrive(await opened.host.open({ jobId: JOB_ID, fence: 1 }, lockOf({})))
        // Ours alone: another server on this computer has such processes, too.
        const begun = (command: string) =>
          descendants(process.pid, listProcesses()).find(({ pid }) =>
            readText(`/proc/${pid}/cmdline`).startsWith(command),
          )
        const own = `${runtime.node} ${heapOptions(SUPERVISOR_OPTIONS).join(' ')} --snapshot-blob ${runtime.heapOf(runtime.bundles.supervisor)}`
        const runner = `/opt/node --require /opt/preload.cjs ${heapOptions(RUNNER_OPTIONS).join(' ')} --snapshot-blob`
        for (const command of [own, runner]) await until(() => begun(command) !== undefined, 10)
        const pid = begun(own)?.pid ?? 0
        expect(readText(`/proc/${pid}/environ`).trim()).toBe('GLIBC_TUNABLES=glibc.malloc.hugetlb=1')
        boots.add((await drive.untilSaid('ready')).bootId)
        drive.start(lockOf({}))
        expect(await drive.untilSaid('done')).toMatchObject({ reason: 'finished' })
        await drive.destroy()
      }
      expect(boots.size).toBe(2)
      await opened.close()
    },
  )

  it('brings nothing that can be written into a sandbox, and of the system what tells of large pages', () => {
    const { mounts } = heapInside('/some/heap')
    expect(mounts.filter(({ writable }) => writable)).toEqual([])
    const others = mounts.filter(({ source }) => source !== '/some/heap')
    expect(others.filter(({ source }) => !source.startsWith('/sys/kernel/mm/transparent_hugepage/'))).toEqual([])
  })

  it('ends with none of what Node compiled of its own modules', () => {
    for (const bundle of [runtime.bundles.runner, runtime.bundles.supervisor]) {
      const file = readFileSync(runtime.heapOf(bundle) ?? '')
      expect(file.subarray(-8)).toEqual(Buffer.alloc(8))
    }
  })

  it('holds nothing that was compiled before it was made ready', async () => {
    const codeBytes = async (steps: number): Promise<number> => {
      const begun = `if (index % 2 === 0) { total += index } else { total -= index }\n`
      const contents = `import { getHeapCodeStatistics } from 'node:v8'
        import { begin } from '../../runner/heap.ts'
        let total = 0
        function once(index: number): void { ${begun.repeat(steps)} }
        once(1)
        const say = (): void =>
          console.log(JSON.stringify({ type: 'alive', ...getHeapCodeStatistics(), total, still: once.name }))
        begin(say, async () => {})`
      const { outputFiles } = await build({
        stdin: { contents, resolveDir: import.meta.dirname, loader: 'ts' },
        bundle: true,
        write: false,
        platform: 'node',
        format: 'cjs',
      })
      const heap = await makeHeap(mkdtempSync(join(directory, 'heap-')), outputFiles[0]?.text ?? '', {
        node: runtime.node,
        options: heapOptions(RUNNER_OPTIONS),
        stop: never,
      })
      const { stdout } = spawnSync(runtime.node, [...heapOptions(RUNNER_OPTIONS), ...begunWith(heap)])
      return (JSON.parse(String(stdout)) as { bytecode_and_metadata_size: number }).bytecode_and_metadata_size
    }
    const [small, large] = [await codeBytes(1), await codeBytes(2000)]
    // Two thousand steps are a hundred kilobytes.
    expect(large - small).toBeLessThan(10_000)
  })

  it('that cannot be made, or that says nothing when it begins, is none', async () => {
    const by = { node: runtime.node, options: RUNNER_OPTIONS, stop: never }
    const texts = ['process.exit(3)', `require('node:v8').startupSnapshot.setDeserializeMainFunction(() => {})`]
    for (const text of texts) {
      const place = mkdtempSync(join(directory, 'heap-'))
      await expect(makeHeap(place, text, by)).rejects.toThrow('does not begin')
    }
  })
})

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8').replaceAll('\0', ' ')
  } catch {
    return '' // it has gone meanwhile
  }
}
