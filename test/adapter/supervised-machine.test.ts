/** What a host does to a machine that it ends, said by a cgroup and a process that only listen. */
import { PassThrough } from 'node:stream'
import { describe, expect, it } from 'vitest'
import type { Cgroup } from '../../src/local/cgroups.ts'
import type { Exit, Spawned } from '../../src/local/spawner.ts'
import { startSupervisedMachine } from '../../src/local/supervised-machine.ts'
import { fakeClock } from '../fake/fake-clock.ts'
import { scratchDirectory } from '../support/scratch.ts'

/** A pid that nothing here has: the kernel gives none so large. */
const NOBODY = 2 ** 22 + 1
const NOTHING = { file: '/bin/false', args: [], cwd: '/', feeds: [], environment: {}, ownGroup: true }

describe('a machine on this computer', () => {
  it('is let run before it is asked to end, however little it was to have till then (CG5)', async () => {
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
    const [stdin, stdout, stderr] = [new PassThrough(), new PassThrough(), new PassThrough()]
    const exited = Promise.withResolvers<Exit>()
    stdin.once('finish', () => {
      said.push('is asked to end')
      stdout.end()
      exited.resolve({ code: 69, signal: null })
    })
    const spawned: Spawned = { pids: [NOBODY], stdin, stdout, stderr, exited: exited.promise }
    const slot = { number: 1, directory, workspace: directory, input: directory, uid: undefined, release: () => {} }
    const machine = await startSupervisedMachine({
      slot,
      plan: { workspace: directory, input: directory, runner: NOTHING, skillLimits: { memoryBytes: 1, processes: 1 } },
      node: process.execPath,
      supervisor: `${directory}/main.mjs`,
      heap: undefined,
      cgroup,
      launcher: [],
      spawnUid: undefined,
      isMortal: true,
      spawner: { begins: false, spawn: async () => spawned, close: async () => {} },
      clock: fakeClock(),
    })
    await machine.destroy()
    expect(said).toEqual(['runs', 'is thawed', 'is asked to end'])
    expect(await machine.ended).toMatchObject({ reason: 'destroyed' })
    expect(await machine.primed).toBeUndefined()
  })
})
