/** What a machine that waits for its job has given back, and what is made ready while one is claimed. */
import { spawn } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { describe, expect, it } from 'vitest'
import { timeless } from '../../runner/heap.ts'
import { prime } from '../../runner/supervisor/prime.ts'
import { supervise, type ExitCode } from '../../runner/supervisor/supervisor.ts'
import { SKILL_LIMITS, type MachinePlan } from '../../schema/machine-plan.ts'
import { descendants, listProcesses } from '../../src/local/processes.ts'
import { lockedExpert, lockOf } from '../fake/fake-expert-source.ts'
import { jobIdOf } from '../job/given.ts'
import { files } from '../run/team.ts'
import { scratchDirectory } from '../support/scratch.ts'
import { fixtureSkill, openHost, openPlainProcesses, PUPPET } from '../support/sandbox.ts'
import { ROOT } from '../support/source.ts'

const ONE_COLLECTION = "gc({ type: 'major', execution: 'sync', flavor: 'last-resort' })"

/** How often a program that is told nothing was asked to give memory back, as V8 says it. */
async function collections(...args: readonly string[]): Promise<number> {
  const child = spawn(process.execPath, ['--expose-gc', '--trace-gc', ...args], {
    cwd: ROOT,
    stdio: ['ignore', 'pipe', 'ignore'],
  })
  return (await text(child.stdout)).split('\n').filter((line) => /Mark-Compact \(reduce\).*testing/.test(line)).length
}

describe('a runner', () => {
  it('gives memory back before and after it makes itself ready, and not when a job waits for it', async () => {
    const [once, ready, awaited] = await Promise.all([
      collections('--eval', ONE_COLLECTION),
      collections('runner/main.ts'),
      collections('runner/main.ts', '--unprimed'),
    ])
    expect(once).toBeGreaterThan(0)
    expect({ ready, awaited }).toEqual({ ready: 2 * once, awaited: 0 })
  })
})

describe('a supervisor', () => {
  it('gives memory back before and after it makes itself ready, and not when a job waits for it', async () => {
    const directory = scratchDirectory('supervisor')
    const launch = {
      file: process.execPath,
      args: [PUPPET],
      cwd: directory,
      feeds: [],
      environment: {},
      ownGroup: true,
    }
    const plan: MachinePlan = {
      workspace: join(directory, 'workspace'),
      input: join(directory, 'input'),
      runner: launch,
      skillLimits: SKILL_LIMITS,
    }
    const main = 'runner/supervisor/main.ts'
    const [once, ready, awaited] = await Promise.all([
      collections('--eval', ONE_COLLECTION),
      collections(main, JSON.stringify(plan)),
      collections(main, JSON.stringify({ ...plan, primes: false })),
    ])
    expect(once).toBeGreaterThan(0)
    expect({ ready, awaited }).toEqual({ ready: 2 * once, awaited: 0 })
  })

  it('goes through a whole job with itself to make itself ready, and leaves nothing of it', async () => {
    const directory = scratchDirectory('primed')
    const launch = { file: '/bin/false', args: [], cwd: '/', feeds: [], environment: {}, ownGroup: true }
    const places = { workspace: join(directory, 'workspace'), input: join(directory, 'input') }
    const said: string[] = []
    const codes: ExitCode[] = []
    await prime({ ...places, runner: launch, skillLimits: SKILL_LIMITS }, timeless, async (job) => {
      codes.push(await supervise({ ...job, complain: (sentence) => said.push(sentence) }))
    })
    expect({ codes, said, left: readdirSync(directory) }).toEqual({ codes: [0], said: [], left: [] })
  })
})

describe('a host on this computer', () => {
  it.skipIf(!existsSync('/usr/bin/prlimit'))('limits each process of a machine', async () => {
    const opened = await openHost(openPlainProcesses, {})
    const machine = await opened.host.open({ jobId: jobIdOf(1), fence: 1 }, lockOf(lockedExpert('one')))
    const readOf = (pid: number, name: string): string => {
      try {
        return readFileSync(`/proc/${pid}/${name}`, 'utf8')
      } catch {
        return '' // it has gone meanwhile
      }
    }
    const isOfMachine = (pid: number) => /--max-old-space-size=(512|1024)/.test(readOf(pid, 'cmdline'))
    const own = descendants(process.pid, listProcesses()).filter(({ pid }) => isOfMachine(pid))
    const limits = own.map(({ pid }) => readOf(pid, 'limits'))
    expect(limits).toHaveLength(2)
    for (const text of limits) {
      expect(text).toMatch(/^Max core file size +0 +0 /m)
      expect(text).toMatch(/^Max open files +4096 +4096 /m)
      expect(text).toMatch(/^Max file size +268435456 +268435456 /m)
      if (process.getuid?.() === 0) expect(text).toMatch(/^Max processes +2048 +2048 /m)
    }
    await machine.destroy()
    await opened.close()
  })

  it('installs a skill once for each machine, however early it was told of the job', async () => {
    let installs = 0
    const opened = await openHost(openPlainProcesses, {
      install: () => {
        installs += 1
        return Promise.resolve(fixtureSkill('probe'))
      },
    })
    const lock = lockOf(lockedExpert('one', { skills: { probe: files } }))
    for (let machines = 1; machines <= 2; machines++) {
      const machine = await opened.host.open({ jobId: jobIdOf(1), fence: 1 }, lock)
      expect(installs).toBe(machines)
      await machine.destroy()
    }
    await opened.close()
  })
})
