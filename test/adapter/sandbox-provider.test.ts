import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { machineHostContract } from '../contract/machine-host.ts'
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { descendants, findProcess, listProcesses } from '../../src/local/processes.ts'
import { openSandboxProvider } from '../../src/local/sandbox-provider.ts'
import type { Clock } from '../../schema/clock.ts'
import type { LocalHostOptions } from '../../src/local/supervised-host.ts'
import { openLog } from '../../src/log.ts'
import type { MachineProvider } from '../../src/pool/machine-provider.ts'
import { stopped } from '../support/stopped-processes.ts'
import { JOB_ID, lockOf, MachineDrive } from '../support/machine-drive.ts'
import { until } from '../support/patience.ts'
import { openHost, openSandboxes, pooled, realClock, sandboxMissing, type OpenHost } from '../support/sandbox.ts'

const missing = await sandboxMissing()

describe.skipIf(missing !== undefined)(`machines in bubblewrap${missing === undefined ? '' : ` (${missing})`}`, () => {
  machineHostContract('local', () => openHost(openSandboxes))
})

describe.skipIf(missing !== undefined)('a sandbox that waits for a job', () => {
  let opened: OpenHost
  beforeAll(async () => {
    opened = await openHost((options) => openSandboxes(options, 1))
  })
  afterAll(() => opened.close())

  it('is stopped in its tracks, supervisor and runner, and goes on with the job that it is given (P2.7, P3.8)', async () => {
    const lock = lockOf({ probe: { package: 'probe' } })
    await until(() => stopped().length >= 2)
    const drive = new MachineDrive(await opened.host.open({ jobId: JOB_ID, fence: 1 }, lock))
    expect(drive.obtained).toMatchObject({ resume: 'resumed' })
    drive.start(lock)
    await drive.open('probe')
    expect(await drive.run('probe', 'return 7')).toBe(7)
    await drive.destroy()
    // The next waits already, or will.
    await until(() => stopped().length >= 2)
  })

  it('leaves nothing when it is ended while it is stopped', async () => {
    await until(() => stopped().length >= 2)
    const those = stopped()
    await opened.host.close()
    await until(() => !those.some((pid) => findProcess(pid)?.zombie === false))
    const left = () => descendants(process.pid, listProcesses()).filter(({ zombie }) => !zombie)
    await until(() => left().length === 1) // this one
  })
})

describe.skipIf(missing !== undefined)('a sandbox that is made for its job', () => {
  it('shares no descriptor: not its runner, its skill, its supervisor nor the server have one of another (SP3)', async () => {
    const before = new Set(socketsOf(process.pid))
    const { host, close } = await openHost((options) => openSandboxes(options, 0))
    const lock = lockOf({ probe: { package: 'probe' } })
    const drive = new MachineDrive(await host.open({ jobId: JOB_ID, fence: 1 }, lock))
    drive.start(lock)
    await drive.open('probe')
    const below = descendants(process.pid, listProcesses())
    const supervisor = below.find(({ pid }) => readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes('plan.json'))
    const above = [process.pid, supervisor?.parent ?? 0, supervisor?.pid ?? 0]
    const compartments = below.filter(({ pid, parent }) => above.slice(1).includes(parent) && !above.includes(pid))
    expect(compartments).toHaveLength(2)
    const parts = [...above.map((pid) => [pid]), ...compartments.map(({ pid }) => treeOf(pid))]
    const held = parts.flatMap((pids) => [...new Set(pids.flatMap(socketsOf))].filter((one) => !before.has(one)))
    // Three streams of each compartment and of the supervisor have two ends.
    expect(held.length).toBeGreaterThanOrEqual(18)
    expect(held.filter((one, at) => held.indexOf(one) !== at)).toEqual([])
    await drive.destroy()
    await close()
  })
})

describe.skipIf(missing !== undefined)('a sandbox that was tried', () => {
  it('keeps nobody waiting once its provider is closed', async () => {
    const { clock, asleep } = countedClock()
    const opened = await openHost(
      async (options) => {
        const provider = await openSandboxProvider(options, 'here')
        expect(await provider.probe()).toMatchObject({ ok: true })
        return pooled(provider, 0)
      },
      { clock },
    )
    await opened.close()
    // Whoever was woken by it comes to its end.
    await new Promise((resolve) => setImmediate(resolve))
    expect(asleep()).toBe(0)
  })
})

/** The real one, which knows how many sleep. */
function countedClock(): { readonly clock: Clock; readonly asleep: () => number } {
  let count = 0
  const sleep: Clock['sleep'] = async (ms, signal) => {
    count += 1
    await realClock.sleep(ms, signal).finally(() => (count -= 1))
  }
  return { clock: { ...realClock, sleep }, asleep: () => count }
}

function treeOf(pid: number): readonly number[] {
  return descendants(pid, listProcesses()).map((one) => one.pid)
}

/** By the numbers that the kernel gives to the ends of each. */
function socketsOf(pid: number): readonly string[] {
  return readdirSync(`/proc/${pid}/fd`)
    .map((fd) => nameOf(`/proc/${pid}/fd/${fd}`))
    .filter((name) => name.startsWith('socket:'))
}

function nameOf(path: string): string {
  try {
    return readlinkSync(path)
  } catch {
    return '' // closed meanwhile
  }
}

describe.skipIf(missing !== undefined)('a sandbox with limits of its own', () => {
  it('says what it is limited by, once, and that the kernel ended it for its memory (CG3)', async () => {
    const lines: string[] = []
    const log = openLog(
      (line) => lines.push(line),
      () => 0,
    )
    let limits: MachineProvider['limits']
    const open = async (options: LocalHostOptions) => {
      const provider = await openSandboxProvider(options, 'here')
      limits = provider.limits
      return pooled(provider, 0)
    }
    const opened = await openHost(open, { log, machineLimits: { memoryBytes: 256 * 1024 * 1024, cpus: 1.5 } })
    try {
      const said = lines.map((line) => JSON.parse(line) as Record<string, unknown>).filter((line) => 'freeze' in line)
      expect(said).toHaveLength(1)
      const by = (kind: string) => (typeof said[0]?.[kind] === 'string' ? `cgroup ${said[0][kind]}` : null)
      expect(limits).toEqual([
        { name: 'memoryBytes', value: 256 * 1024 * 1024, keptBy: by('memory') },
        { name: 'tasks', value: 4096, keptBy: by('pids') },
        { name: 'cpus', value: 1.5, keptBy: by('cpu') },
      ])
      if (said[0]?.['memory'] === 'v1') expect(said[0]['skill']).toBe('v1')
      if (said[0]?.['memory'] === null) return
      const lock = lockOf({ probe: { package: 'probe' } })
      const drive = new MachineDrive(await opened.host.open({ jobId: JOB_ID, fence: 1 }, lock))
      drive.start(lock)
      await drive.open('probe')
      await drive.run('probe', 'return 1')
      const inPart = descendants(process.pid, listProcesses()).filter(({ pid }) => {
        try {
          return readFileSync(`/proc/${pid}/cgroup`, 'utf8').includes('/part-1')
        } catch {
          return false // it has gone meanwhile
        }
      })
      // Bubblewrap, the first process of its namespace, and the skill; not the runner, nor the supervisor.
      if (said[0]?.['skill'] !== null) expect(inPart).toHaveLength(3)
      void drive.runInRunner('for (const all = []; all.length < 600; ) all.push(Buffer.alloc(1e6, 1))').catch(() => {})
      expect((await drive.ended()).reason).toBe('oom')
    } finally {
      await opened.close()
    }
  })
})
