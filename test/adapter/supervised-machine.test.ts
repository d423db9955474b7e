/** How a host ends a machine, said by a cgroup that only listens and processes that do not. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { PassThrough } from 'node:stream'
import { describe, expect, it } from 'vitest'
import type { Cgroup } from '../../src/local/cgroups.ts'
import type { Exit, Spawned } from '../../src/local/spawner.ts'
import { startSupervisedMachine } from '../../src/local/supervised-machine.ts'
import { fakeClock, type FakeClock } from '../fake/fake-clock.ts'
import { scratchDirectory } from '../support/scratch.ts'

/** A pid that nothing here has: the kernel gives none so large. */
const NOBODY = 2 ** 22 + 1
const NOTHING = { file: '/bin/false', args: [], cwd: '/', feeds: [], environment: {}, ownGroup: true }

/** With what is said to its cgroup. */
async function start(spawned: Omit<Spawned, 'stdin'>, clock: FakeClock = fakeClock()) {
  const directory = scratchDirectory('slot')
  const said: string[] = []
  const cgroup: Cgroup = {
    joining: [],
    part: () => undefined,
    yield: (isYielding) => void said.push(isYielding ? 'yields' : 'runs'),
    freeze: () => true,
    isFrozen: () => false,
    thaw: () => void said.push('is thawed'),
    kill: () => void said.push('is killed'),
    strikes: () => ({ memory: 0, tasks: 0 }),
    remove: () => true,
  }
  const stdin = new PassThrough()
  stdin.once('finish', () => void said.push('is asked to end'))
  const machine = await startSupervisedMachine({
    slot: { number: 1, directory, workspace: directory, input: directory, uid: undefined, release: () => {} },
    plan: { workspace: directory, input: directory, runner: NOTHING, skillLimits: { memoryBytes: 1, processes: 1 } },
    node: process.execPath,
    supervisor: `${directory}/main.mjs`,
    heap: undefined,
    cgroup,
    launcher: [],
    spawnUid: undefined,
    isMortal: true,
    spawner: { begins: false, spawn: async () => ({ ...spawned, stdin }), close: async () => {} },
    clock,
  })
  return { machine, said, stdin }
}

/** A process that minds nothing but what ends any. */
function deaf(): { readonly pid: number; readonly spawned: Omit<Spawned, 'stdin'> } {
  const child = spawn('/bin/sleep', ['1000'], { stdio: ['ignore', 'pipe', 'pipe'] })
  const exited = once(child, 'exit').then(([code, signal]): Exit => ({ code: code as null, signal: signal as string }))
  const { pid = 0, stdout, stderr } = child
  return { pid, spawned: { pids: [pid], stdout, stderr, exited } }
}

describe('a machine on this computer', () => {
  it('is let run before it is asked to end, however little it was to have till then (CG5)', async () => {
    const exited = Promise.withResolvers<Exit>()
    const stdout = new PassThrough()
    const spawned = { pids: [NOBODY], stdout, stderr: new PassThrough(), exited: exited.promise }
    const { machine, said, stdin } = await start(spawned)
    stdin.once('finish', () => {
      stdout.end()
      exited.resolve({ code: 69, signal: null })
    })
    machine.provide([])
    await machine.destroy()
    expect(said).toEqual(['runs', 'is thawed', 'is asked to end'])
    expect(await machine.ended).toMatchObject({ reason: 'destroyed' })
    expect(await machine.primed).toBeUndefined()
  })

  it('is ended at once where it was given no job', async () => {
    const { machine } = await start(deaf().spawned)
    // No time passes: nothing is waited for.
    await machine.destroy()
    expect(await machine.ended).toMatchObject({ reason: 'destroyed' })
  })

  it('has a grace to end by itself where it has a job', async () => {
    const clock = fakeClock()
    const { pid, spawned } = deaf()
    const { machine } = await start(spawned, clock)
    machine.provide([])
    const destroyed = machine.destroy()
    while (clock.sleepers() === 0) await new Promise((resolve) => setImmediate(resolve))
    expect(process.kill(pid, 0)).toBe(true)
    await clock.advance(600)
    await destroyed
    expect(await machine.ended).toMatchObject({ reason: 'destroyed' })
  })
})
