/**
 * `npm run faults [-- area[:words] ...]`: plants every fault of `test/fault/<area>.ts` (with these words in its name) in a
 * copy of the sources, one at a time, and runs its tests, which must fail. First the same tests run without any fault and
 * must pass. What a run never read proves nothing: that is said, and missed. The last line counts.
 */
import { spawn } from 'node:child_process'
import { cp, mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, utimes, writeFile } from 'node:fs/promises'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import { chooseFaults, listAreas, NoSuchFault } from './areas.ts'
import { plant, verdictOf, type Fault, type Outcome } from './fault.ts'

const ROOT = join(import.meta.dirname, '..', '..')
/** Longer than any of the tests takes on a busy machine. */
const HUNG_MS = 180_000

const scratch = await mkdtemp(join(tmpdir(), 'senmon-faults-'))
const running = new Set<ReturnType<typeof spawn>>()
for (const signal of ['SIGINT', 'SIGTERM'] as const)
  process.on(signal, () => {
    for (const child of running) child.kill('SIGKILL')
    process.exitCode = 1
  })

type Suite = NonNullable<Fault['suite']>
const suiteOf = (fault: Fault): Suite => fault.suite ?? 'core'

async function copySources(name: string): Promise<string> {
  const place = join(scratch, name)
  await mkdir(place)
  const isOurs = (path: string): boolean => !/\/(?:node_modules|\.[^/]*)(?:\/|$)/.test(path.slice(ROOT.length))
  for (const part of await readdir(ROOT))
    if (isOurs(join(ROOT, part))) await cp(join(ROOT, part), join(place, part), { recursive: true, filter: isOurs })
  await symlink(join(ROOT, 'node_modules'), join(place, 'node_modules'))
  return place
}

async function runTests(place: string, suite: Suite, tests: readonly string[]): Promise<Omit<Outcome, 'wasRead'>> {
  const report = join(place, 'report.json')
  await rm(report, { force: true })
  const vitest = join(ROOT, 'node_modules', 'vitest', 'vitest.mjs')
  const args = [vitest, 'run', '--root', place, '--project', suite, '--bail', '1', ...tests]
  const child = spawn(process.execPath, [...args, '--reporter=json', `--outputFile=${report}`], {
    cwd: place,
    stdio: 'ignore',
  })
  running.add(child)
  const hung = AbortSignal.timeout(HUNG_MS)
  hung.addEventListener('abort', () => child.kill('SIGKILL'))
  await new Promise((resolve, reject) => child.once('exit', resolve).once('error', reject))
  running.delete(child)
  try {
    const { numPassedTests, numFailedTests } = JSON.parse(await readFile(report, 'utf8')) as {
      readonly numPassedTests: number
      readonly numFailedTests: number
    }
    return { passed: numPassedTests, failed: numFailedTests, hung: false }
  } catch {
    return { passed: 0, failed: 0, hung: hung.aborted }
  }
}

/** Whether the tests of the faults fail without any fault. */
async function controlFails(faults: readonly Fault[]): Promise<boolean> {
  const place = await copySources('control')
  for (const suite of ['core', 'whole'] as const) {
    const tests = new Set(faults.filter((fault) => suiteOf(fault) === suite).flatMap((fault) => fault.tests))
    if (tests.size === 0) continue
    const { passed, failed } = await runTests(place, suite, [...tests])
    if (passed > 0 && failed === 0) continue
    process.stdout.write(`without any fault ${passed} tests pass and ${failed} fail: first mend those\n`)
    return true
  }
  return false
}

/** Long before any run: a file whose last access is still this one was not read since. */
const NEVER_READ = new Date(0)

/** Writes a file that tells whether it was read since: also by a bundler, and never where a build made before was used. */
async function writeWatched(path: string, text: string): Promise<{ readonly wasRead: () => Promise<boolean> }> {
  await writeFile(path, text)
  await utimes(path, NEVER_READ, new Date())
  return { wasRead: async () => (await stat(path)).atimeMs > NEVER_READ.getTime() }
}

async function tellsAccess(): Promise<boolean> {
  const path = join(scratch, 'watched')
  const { wasRead } = await writeWatched(path, 'text')
  if (await wasRead()) return false
  await readFile(path)
  return await wasRead()
}

async function work(name: string, queue: () => Fault | undefined, missed: string[]): Promise<void> {
  const place = await copySources(name)
  for (let fault = queue(); fault !== undefined; fault = queue()) {
    const source = await readFile(join(ROOT, fault.file), 'utf8')
    const planted = await writeWatched(join(place, fault.file), plant(fault, source))
    const seen = await runTests(place, suiteOf(fault), fault.tests)
    const verdict = verdictOf({ ...seen, wasRead: await planted.wasRead() })
    await writeFile(join(place, fault.file), source)
    if (verdict !== 'caught') missed.push(fault.name)
    process.stdout.write(`${verdict.padEnd(12)} ${fault.file}: ${fault.name}\n`)
  }
}

async function main(): Promise<number> {
  const faults = await chooseFaults(process.argv.slice(2), await listAreas())
  if (!(await tellsAccess())) {
    process.stderr.write(
      `${scratch} does not tell when a file was read: set TMPDIR to a file system that does (relatime)\n`,
    )
    return 2
  }
  if (await controlFails(faults)) return 1
  const missed: string[] = []
  const core = faults.filter((fault) => suiteOf(fault) === 'core')
  // Their tests see the whole computer, where a server that starts ends what a dead one left: another run beside them
  // would mend what the fault has broken.
  const whole = faults.filter((fault) => suiteOf(fault) === 'whole')
  const queues = [() => whole.shift() ?? core.shift(), () => core.shift()]
  const workers = queues.slice(0, Math.min(availableParallelism(), faults.length))
  await Promise.all(workers.map((queue, i) => work(`copy-${i}`, queue, missed)))
  process.stdout.write(`${faults.length - missed.length} caught, ${missed.length} missed\n`)
  return missed.length === 0 ? 0 : 1
}

try {
  process.exitCode = await main()
} catch (error) {
  if (!(error instanceof NoSuchFault)) throw error
  process.stderr.write(`${error.message}\n`)
  process.exitCode = 2
} finally {
  await rm(scratch, { recursive: true, force: true })
}
