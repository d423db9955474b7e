/** The supervisor's process: its one argument is the machine's plan or names its file; lines on stdin and stdout. */
import { randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { Socket } from 'node:net'
import { resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Clock } from '../../schema/clock.ts'
import { SKILL_LIMITS, type MachinePlan } from '../../schema/machine-plan.ts'
import { begin, timeless } from '../heap.ts'
import { prime } from './prime.ts'
import { EXIT, supervise } from './supervisor.ts'

const clock: Clock = {
  now: () => Date.now(),
  sleep: async (ms, signal) => {
    await sleep(ms, undefined, { ref: false, ...(signal === undefined ? {} : { signal }) })
  },
}

async function main(): Promise<void> {
  // The host wrote the plan, and the host is who started us.
  const given = process.argv[2] ?? ''
  const plan = JSON.parse(given.startsWith('{') ? given : readFileSync(given, 'utf8')) as MachinePlan
  if (process.getuid?.() === 0 && plan.runner.feeds.length > 0) {
    process.stderr.write('A sandbox started by uid 0 can write to the host: refused.\n')
    process.exit(EXIT.failed)
  }
  // A descriptor of our own: process.stdout blocks on pipes, and a slow reader must not stop us from hearing it.
  const output = new Socket({ fd: 1, readable: false, writable: true })
  const code = await supervise({
    plan,
    bootId: randomUUID(),
    input: process.stdin,
    output,
    clock,
    complain: (sentence) => process.stderr.write(`${sentence}\n`),
  })
  output.end(() => process.exit(code))
}

/** Makes ready in the directory where a heap is built. */
async function ready(): Promise<void> {
  const launch = { file: '', args: [], cwd: '', feeds: [], environment: {}, ownGroup: false }
  const plan = { workspace: resolve('ws'), input: resolve('input'), runner: launch, skillLimits: SKILL_LIMITS }
  await prime(plan, timeless, supervise)
}

begin(() => void main(), ready)
