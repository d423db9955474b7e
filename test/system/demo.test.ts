/** `npm run demo` shows what it says, and says so when it does not. */
import { cp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it, onTestFinished } from 'vitest'
import { runProgram } from '../support/program.ts'
import { ROOT } from '../support/source.ts'
import { scratchDirectory } from '../support/scratch.ts'

const runDemo = (root: string) => runProgram(process.execPath, [join(root, 'examples/demo/main.ts')], { cwd: tmpdir() })

/** The checkout, with examples of its own that a test may spoil. */
async function copyCheckout(): Promise<string> {
  const root = scratchDirectory('checkout')
  onTestFinished(() => rm(root, { recursive: true, force: true }))
  for (const name of ['src', 'schema', 'runner', 'registry', 'plugins', 'node_modules', 'package.json'])
    await symlink(join(ROOT, name), join(root, name))
  await cp(join(ROOT, 'examples'), join(root, 'examples'), { recursive: true })
  return root
}

async function spoil(root: string, path: string, from: string, to: string): Promise<void> {
  const text = await readFile(join(root, path), 'utf8')
  expect(text).toContain(from)
  await writeFile(join(root, path), text.replaceAll(from, to))
}

describe('the demo', { timeout: 180_000 }, () => {
  it('publishes, delegates, asks, reports and counts its checkpoints', async () => {
    const { code, stdout, stderr } = await runDemo(ROOT)
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    expect(stdout.trimEnd().split('\n').at(-1)).toMatch(/^demo passed: job_[0-9a-z]+, \d+ checkpoints$/)
    for (const shown of ['+ code-reviewer@1.0.0', 'delegation: security-analyst@1.0.0', 'question: ', 'answer: true'])
      expect(stdout).toContain(shown)
    expect(stdout).toContain('payments.js:12')
  })

  it('fails when the report leaves out a flaw', async () => {
    const root = await copyCheckout()
    const rehearsal = 'examples/code-review-team/code-reviewer/rehearsals/code-review.toml'
    await spoil(root, rehearsal, '## input/payments.js:16', '## input/payments.js:61')
    const { code, stderr } = await runDemo(root)
    expect(code).toBe(1)
    expect(stderr).toContain('demo failed: REPORT.md names 3 of the flaws in lines 12, 16, 7, 4; 4 were expected.')
  })

  it('fails when the skill finds nothing, since the turns hang on what it finds', async () => {
    const root = await copyCheckout()
    await spoil(root, 'examples/code-review-team/risk-scan/scan.js', "rule: 'eval'", "rule: 'evil'")
    await spoil(root, 'examples/code-review-team/risk-scan/scan.js', '(?<![\\w.])eval', '(?<![\\w.])evil')
    const { code, stderr } = await runDemo(root)
    expect(code).toBe(1)
    expect(stderr).toContain('rehearsal_diverged')
  })

  it('fails when a package is refused, with what npm said', async () => {
    const root = await copyCheckout()
    await spoil(root, 'examples/code-review-team/code-reviewer/senmon.toml', '"security-analyst"', '"nobody-at-all"')
    const { code, stderr } = await runDemo(root)
    expect(code).toBe(1)
    expect(stderr).toContain('nobody-at-all')
  })
})
