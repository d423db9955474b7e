/**
 * `npm run faults [-- area[:words] ...]`: plants every fault of `test/fault/<area>.ts` (with these words in its name) in a
 * copy of the sources, one at a time, and runs its tests, which must fail. First the same tests run without any fault and
 * must pass; how long they take then is what limits each run. What a run never read proves nothing, nor does time that runs
 * out where it also does without the fault: that is said, and missed. The last line counts.
 */
import { spawn } from 'node:child_process'
import { cp, mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, utimes, writeFile } from 'node:fs/promises'
import { availableParallelism, tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { chooseFaults, listAreas, NoSuchFault } from './areas.ts'
import { confirmedBy, limitsOf, plant, verdictOf, type Fault, type Limits, type Outcome } from './fault.ts'

const ROOT = join(import.meta.dirname, '..', '..')
/** For all the tests at once, without any fault. */
const CONTROL_MS = 1_200_000

const scratch = await mkdtemp(join(tmpdir(), 'senmon-faults-'))
const running = new Set<ReturnType<typeof spawn>>()
for (const signal of ['SIGINT', 'SIGTERM'] as const)
  process.on(signal, () => {
    for (const child of running) endGroup(child)
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

/** With what it started: a test that computes for ever does not notice that vitest is gone. */
function endGroup({ pid }: ReturnType<typeof spawn>): void {
  if (pid !== undefined) process.kill(-pid, 'SIGKILL')
}

/** What vitest writes, as far as it is read. */
interface Report {
  readonly numPassedTests: number
  readonly numFailedTests: number
  readonly testResults: readonly {
    readonly name: string
    readonly startTime: number
    readonly endTime: number
    readonly assertionResults: readonly { readonly status: string; readonly failureMessages: readonly string[] }[]
  }[]
}

interface Seen extends Omit<Outcome, 'wasRead'> {
  /** By the path of each file from the repository's root, in milliseconds. */
  readonly tookMs: ReadonlyMap<string, number>
  /** The last that was said, for where no test ran. */
  readonly lastWords: string
}

async function runTests(
  place: string,
  suite: Suite,
  tests: readonly string[],
  { testMs, runMs }: Partial<Limits> & Pick<Limits, 'runMs'>,
): Promise<Seen> {
  const path = join(place, 'report.json')
  await rm(path, { force: true })
  const vitest = join(ROOT, 'node_modules', 'vitest', 'vitest.mjs')
  const args = [vitest, 'run', '--root', place, '--project', suite, '--bail', '1', ...tests]
  if (testMs !== undefined) args.push(`--testTimeout=${testMs}`)
  const child = spawn(process.execPath, [...args, '--reporter=json', `--outputFile=${path}`], {
    cwd: place,
    stdio: ['ignore', 'ignore', 'pipe'],
    detached: true,
  })
  running.add(child)
  let lastWords = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => (lastWords = (lastWords + text).slice(-2000)))
  let isEnded = false
  const limit = setTimeout(() => {
    isEnded = true
    endGroup(child)
  }, runMs)
  // Not its streams' end: what a fault lets live may hold them.
  await new Promise((resolve, reject) => child.once('exit', resolve).once('error', reject))
  clearTimeout(limit)
  running.delete(child)
  child.stderr.destroy()
  try {
    const report = JSON.parse(await readFile(path, 'utf8')) as Report
    const failures = report.testResults
      .flatMap((file) => file.assertionResults)
      .filter((one) => one.status === 'failed')
    const isLate = ({ failureMessages }: (typeof failures)[number]): boolean =>
      failureMessages.every((message) => /timed out in \d+ms/.test(message))
    return {
      passed: report.numPassedTests,
      failed: report.numFailedTests,
      isLate: failures.length > 0 && failures.every(isLate),
      tookMs: new Map(report.testResults.map((file) => [relative(place, file.name), file.endTime - file.startTime])),
      lastWords,
    }
  } catch {
    return { passed: 0, failed: 0, isLate: isEnded, tookMs: new Map(), lastWords }
  }
}

/** How long each file of the faults' tests takes without any fault; none where they fail. */
async function runControl(faults: readonly Fault[]): Promise<ReadonlyMap<string, number> | undefined> {
  const place = await copySources('control')
  const tookMs = new Map<string, number>()
  for (const suite of ['core', 'whole'] as const) {
    const tests = new Set(faults.filter((fault) => suiteOf(fault) === suite).flatMap((fault) => fault.tests))
    if (tests.size === 0) continue
    const seen = await runTests(place, suite, [...tests], { runMs: CONTROL_MS })
    for (const [file, ms] of seen.tookMs) tookMs.set(file, ms)
    if (seen.passed > 0 && seen.failed === 0) continue
    process.stdout.write(`without any fault ${seen.passed} tests pass and ${seen.failed} fail: first mend those\n`)
    process.stdout.write(seen.lastWords)
    return undefined
  }
  return tookMs
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

async function work(
  name: string,
  tookMs: ReadonlyMap<string, number>,
  queue: () => Fault | undefined,
  missed: string[],
): Promise<void> {
  const place = await copySources(name)
  for (let fault = queue(); fault !== undefined; fault = queue()) {
    const source = await readFile(join(ROOT, fault.file), 'utf8')
    const planted = await writeWatched(join(place, fault.file), plant(fault, source))
    const limits = limitsOf(fault.tests, tookMs)
    const run = async (): Promise<Seen> => await runTests(place, suiteOf(fault), fault.tests, limits)
    const seen = await run()
    let verdict = verdictOf({ ...seen, wasRead: await planted.wasRead() })
    await writeFile(join(place, fault.file), source)
    if (verdict === 'undecided') verdict = confirmedBy({ ...(await run()), wasRead: true })
    if (verdict !== 'caught') missed.push(fault.name)
    process.stdout.write(`${verdict.padEnd(12)} ${fault.file}: ${fault.name}\n`)
    if (verdict === 'ran no test') process.stdout.write(seen.lastWords)
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
  const tookMs = await runControl(faults)
  if (tookMs === undefined) return 1
  const missed: string[] = []
  const core = faults.filter((fault) => suiteOf(fault) === 'core')
  // Their tests see the whole computer, where a server that starts ends what a dead one left: another run beside them
  // would mend what the fault has broken.
  const whole = faults.filter((fault) => suiteOf(fault) === 'whole')
  const queues = [() => whole.shift() ?? core.shift(), () => core.shift()]
  const workers = queues.slice(0, Math.min(availableParallelism(), faults.length))
  await Promise.all(workers.map((queue, i) => work(`copy-${i}`, tookMs, queue, missed)))
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
