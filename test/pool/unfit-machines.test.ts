/** Machines that say that they can do no job: the pool hears why, makes few more, and gives up nothing that works. */
import { afterEach, expect, it } from 'vitest'
import { makeId } from '../../schema/id.ts'
import { moveMachine } from '../../src/pool/moves.ts'
import {
  hasComeUp,
  orderMachine,
  stepMachine,
  unfitFault,
  type MachineCommand,
  type PooledMachine,
} from '../../src/pool/machine.ts'
import type { MachineProvider } from '../../src/pool/machine-provider.ts'
import { LOCK, poolWorld, states, type PoolWorld } from './pool-world.ts'

let world: PoolWorld
afterEach(() => world.close())

const WHY = 'The image has no /tmp: bubblewrap begins every compartment on it.'

/** The provider of a server with a new image, whose machines say half a second after their boot that they are not fit. */
function unfit(): MachineProvider {
  const { provider, store, clock } = world
  return {
    ...provider,
    generation: 'g2',
    async create(machine) {
      const made = await provider.create(machine)
      void clock.sleep(500).then(async () => {
        const row = await store.find(machine.id)
        if (row !== undefined)
          await moveMachine(store, row, { type: 'retire', now: clock.now(), fault: unfitFault(WHY) })
      })
      return made
    },
  }
}

it('are three in a row, then none for a while, and whoever asks hears what the last of them said (PA6)', async () => {
  world = poolWorld({ ready: 2 })
  const host = world.open('here', { provider: unfit() })
  await world.pass(30_000)
  const { restraints, faults } = host.explain()
  expect(restraints).toEqual([
    expect.stringMatching(
      /^No machine of generation g2 is made for \d+ s more: \d+ in a row did not come up\. The last of them: It can do no job: The image has no \/tmp/,
    ),
  ])
  expect(faults).toContainEqual({ at: expect.any(Number), verb: 'boot', why: unfitFault(WHY) })
  const made = world.provider.calls.filter(({ verb }) => verb === 'create').length
  expect(made).toBeLessThanOrEqual(4)
  await world.pass(25_000)
  expect(world.provider.calls.filter(({ verb }) => verb === 'create')).toHaveLength(made)
})

it('of a new generation are a canary at a time, and take nothing from the one that works (PL8)', async () => {
  world = poolWorld({ ready: 4 })
  const old = world.open('old')
  await world.pass(60_000)
  expect(states(await world.list())).toEqual(['ready', 'ready', 'ready', 'ready'])
  await world.settle(old.close())
  const before = (await world.list()).map(({ id }) => id).toSorted()
  const host = world.open('new', { provider: unfit() })
  let most = 0
  for (let passed = 0; passed < 120_000; passed += 1_000) {
    await world.pass(1_000)
    const living = (await world.list()).filter(({ generation, state }) => generation === 'g2' && state !== 'retiring')
    most = Math.max(most, living.length)
  }
  expect(most).toBe(1)
  const rows = (await world.list()).filter(({ generation }) => generation === 'g1')
  expect(rows.map(({ id }) => id).toSorted()).toEqual(before)
  // Jobs go on in what works.
  const machine = await world.settle(host.open({ jobId: world.job(), fence: 1 }, LOCK))
  expect(before).toContain(machine.obtained.machineId)
  await world.settle(machine.destroy())
})

it('that were set aside and stopped before they came for a job prove nothing of their generation (PL8)', () => {
  const now = 1
  const order = orderMachine(
    { id: makeId('mch', 1, new Uint8Array(16)), pool: 'p', place: 'a', generation: 'g', now },
    null,
  )
  const after = (commands: readonly MachineCommand[]): PooledMachine =>
    commands.reduce((machine, command) => stepMachine(machine, command)?.next ?? machine, order)
  const [created, stopped] = [
    { type: 'created', now, providerId: 'x' },
    { type: 'stopped', now },
  ] as const
  const setAside = after([created, { type: 'quarantine', now, fault: 'It did not come.' }, stopped])
  const used = after([created, { type: 'up', now, bootId: 'b' }, { type: 'stop', now }, stopped])
  expect([setAside.state, used.state]).toEqual(['reserve', 'reserve'])
  expect([order, setAside, used].map(hasComeUp)).toEqual([false, false, true])
})
