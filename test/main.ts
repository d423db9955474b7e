/**
 * `npm test`: every test of both suites, then one plain line that counts them. Arguments go to vitest as they are. Whatever
 * directory the tests left is named, and is a failure.
 */
import { spawn } from 'node:child_process'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { leftOf } from './support/scratch.ts'

interface Report {
  readonly success: boolean
  readonly numPassedTests: number
  readonly numFailedTests: number
  readonly numFailedTestSuites: number
  readonly numPendingTests: number
  readonly numTodoTests: number
}

const scratch = await mkdtemp(join(tmpdir(), 'senmon-test-'))
const reportPath = join(scratch, 'report.json')
const vitest = join(import.meta.dirname, '..', 'node_modules', 'vitest', 'vitest.mjs')
const args = [vitest, 'run', ...process.argv.slice(2), '--reporter=default', '--reporter=json']

const run = spawn(process.execPath, [...args, `--outputFile.json=${reportPath}`], { stdio: 'inherit' })
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => run.kill(signal))
const exitCode = await new Promise<number>((resolve, reject) => {
  run.on('error', reject)
  run.on('exit', (code) => resolve(code ?? 1))
})

/** The server of the tests' databases ends by itself when they are over. */
const LEFT_MS_MAX = 15_000
let left = leftOf(run.pid ?? 0)
for (const until = Date.now() + LEFT_MS_MAX; left.length > 0 && Date.now() < until; left = leftOf(run.pid ?? 0))
  await sleep(100)
if (left.length > 0) console.log(`the tests left ${left.join(', ')}`)

let line = 'the tests did not run'
let isGood = false
try {
  // vitest wrote it a moment ago.
  const report = JSON.parse(await readFile(reportPath, 'utf8')) as Report
  const skipped = report.numPendingTests + report.numTodoTests
  line = `${report.numPassedTests} passed, ${report.numFailedTests} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`
  // A file that does not load fails a suite and no test.
  if (report.numFailedTests === 0 && report.numFailedTestSuites > 0)
    console.log(`${report.numFailedTestSuites} test files did not load`)
  isGood = report.success && report.numPassedTests > 0 && left.length === 0
} catch (error) {
  console.log(error instanceof Error ? error.message : error)
}
await rm(scratch, { recursive: true, force: true })
console.log(line)
process.exit(exitCode === 0 && !isGood ? 1 : exitCode)
