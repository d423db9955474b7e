/** What is asked of a provider, and what its answers are worth by the time that they arrive. */
import { describe, expect, it } from 'vitest'
import { makeId } from '../../schema/id.ts'
import { openLog } from '../../src/log.ts'
import { openErrands } from '../../src/pool/errands.ts'
import { orderMachine, stepMachine, type MachineCommand, type PooledMachine } from '../../src/pool/machine.ts'
import { fakeChance, fakeClock } from '../fake/fake-clock.ts'
import { memoryPoolStore } from '../fake/memory-pool-store.ts'
import { virtualProvider } from '../fake/virtual-provider.ts'

function errandsWorld() {
  const clock = fakeClock()
  const store = memoryPoolStore()
  const chance = fakeChance()
  const log = openLog(
    () => {},
    () => clock.now(),
  )
  const provider = virtualProvider(clock)
  /** What a process that stands still meets in its next look at a row. */
  const still = { act: async (): Promise<void> => {} }
  const slow: typeof store = {
    ...store,
    find: async (id) => {
      const found = await store.find(id)
      const { act } = still
      still.act = async () => {}
      await act()
      return found
    },
  }
  const errands = openErrands({ store: slow, provider, clock, log, onOutcome: () => {} })
  const id = makeId('mch', clock.now(), chance.bytes(16))
  let machine: PooledMachine = orderMachine({ id, pool: 'p', place: 'here', generation: 'g', now: clock.now() }, null)
  const take = async (...commands: readonly MachineCommand[]): Promise<PooledMachine> => {
    for (const command of commands) {
      await clock.advance(1_000)
      const step = stepMachine(machine, { ...command, now: clock.now() })
      if (step === undefined) throw new Error(`${command.type} does not apply`)
      await store.change([step], null)
      machine = step.next
    }
    return machine
  }
  const claim = (): MachineCommand => {
    const owner = { jobId: makeId('job', clock.now(), chance.bytes(16)), fence: 1, linesUrl: null }
    return { type: 'claim', now, owner, deadline: clock.now() + 60_000 }
  }
  return { clock, store, provider, errands, still, claim, take, machine, add: () => store.add([machine], null) }
}
const now = 0

it('takes no stop of an earlier job for the end of what a later one left (ER1, I7)', async () => {
  const { store, errands, claim, take, machine, add } = errandsWorld()
  const { id } = machine
  await add()
  const serve = (): readonly MachineCommand[] => {
    const one = claim()
    const owner = one.type === 'claim' ? one.owner : { jobId: '', fence: 0 }
    return [
      one,
      { type: 'hold', now, owner, bootId: 'b' } as MachineCommand,
      { type: 'release', now, cleansByStop: true },
    ]
  }
  const first = await take({ type: 'created', now, providerId: 'p' }, ...serve())
  const stopped = { machineId: id, providerId: 'p', state: 'stopped', generation: 'g', createdAt: null } as const
  const second = await take({ type: 'stopped', now }, ...serve())

  // A process that stood still since the first stop now says what it saw.
  await errands.see(first, stopped)
  expect(await store.find(id)).toMatchObject({ state: 'stopping', boots: 2, tainted: 2 })
  await errands.see(second, stopped)
  expect(await store.find(id)).toMatchObject({ state: 'reserve', boots: 3, tainted: 2 })
})

it('takes a machine for clean when its stop was seen to be done, and not when it is under way (I7)', async () => {
  const { store, errands, claim, take, machine, add } = errandsWorld()
  await add()
  const stopping = await take({ type: 'created', now, providerId: 'p' }, claim(), {
    type: 'release',
    now,
    cleansByStop: true,
  })
  const seen = { machineId: machine.id, providerId: 'p', generation: 'g', createdAt: null } as const
  for (const state of ['running', 'stopping', 'suspended', 'unknown'] as const) {
    await errands.see(stopping, { ...seen, state })
    expect(await store.find(machine.id)).toEqual(stopping)
  }
})

describe('what ends or suspends a machine', () => {
  const suspending = async () => {
    const world = errandsWorld()
    await world.add()
    await world.provider.create(world.machine)
    await world.clock.advance(20_000)
    const machine = await world.take(
      { type: 'created', now, providerId: 'p' },
      { type: 'up', now, bootId: 'b' },
      { type: 'suspend', now },
    )
    const asked = (): readonly string[] =>
      world.provider.calls.map(({ verb }) => verb).filter((verb) => verb !== 'create')
    return { ...world, machine, asked }
  }

  it('is not asked of one that was claimed since it was decided (ER2, I10, I23)', async () => {
    const { errands, claim, take, machine, asked } = await suspending()
    const claimed = await take(claim())
    expect(await errands.run(machine, 'suspend')).toEqual(claimed)
    expect(asked()).toEqual([])
  })

  it('is not asked of one that was claimed while this process stood still over its last look (ER2, I10)', async () => {
    const { errands, still, claim, take, machine, asked } = await suspending()
    still.act = async () => void (await take(claim()))
    await errands.run(machine, 'suspend')
    expect(asked()).toEqual([])
  })

  it('is not asked of one that this very process has claimed, though its look was before (ER2, I10)', async () => {
    const { errands, claim, take, machine, asked } = await suspending()
    errands.claimed(await take(claim()))
    await errands.run(machine, 'suspend')
    expect(asked()).toEqual([])
  })

  it('is asked of one that is as it was', async () => {
    const { errands, machine, asked } = await suspending()
    await errands.run(machine, 'suspend')
    expect(asked()).toEqual(['suspend'])
  })
})

it('looks at what takes its time before it asks for it again', async () => {
  const { clock, store, provider, errands, take, machine, add } = errandsWorld()
  await add()
  await provider.create(machine)
  await clock.advance(20_000)
  const stopping = await take(
    { type: 'created', now, providerId: 'p' },
    { type: 'up', now, bootId: 'b' },
    { type: 'stop', now },
  )
  await errands.run(stopping, 'stop')
  // Whoever keeps the pool finds it in the outbox, though not at once.
  expect(await store.errands('p', ['here'], clock.now(), 10)).toEqual([])
  await clock.advance(60_000)
  const [errand] = await store.errands('p', ['here'], clock.now(), 10)
  if (errand === undefined) throw new Error('there is no errand')
  await errands.try(errand)
  expect(await store.find(machine.id)).toMatchObject({ state: 'reserve' })
  expect(provider.calls.filter(({ verb }) => verb === 'stop')).toHaveLength(1)
})
