/** What is asked of a provider, and what its answers are worth by the time that they arrive. */
import { expect, it } from 'vitest'
import { makeId } from '../../schema/id.ts'
import { openLog } from '../../src/log.ts'
import { openErrands } from '../../src/pool/errands.ts'
import { orderMachine, stepMachine, type MachineCommand, type PooledMachine } from '../../src/pool/machine.ts'
import { fakeChance, fakeClock } from '../fake/fake-clock.ts'
import { memoryPoolStore } from '../fake/memory-pool-store.ts'
import { virtualProvider } from '../fake/virtual-provider.ts'

it('takes no stop of an earlier job for the end of what a later one left (R1, I7)', async () => {
  const clock = fakeClock()
  const store = memoryPoolStore()
  const chance = fakeChance()
  const log = openLog(
    () => {},
    () => clock.now(),
  )
  const errands = openErrands({ store, provider: virtualProvider(clock), clock, log, onOutcome: () => {} })
  const id = makeId('mch', clock.now(), chance.bytes(16))
  let machine: PooledMachine = orderMachine({ id, pool: 'p', place: 'here', generation: 'g', now: clock.now() }, null)
  await store.add([machine], null)
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
  const now = 0
  const serve = (): readonly MachineCommand[] => {
    const owner = { jobId: makeId('job', clock.now(), chance.bytes(16)), fence: 1, linesUrl: null }
    return [
      { type: 'claim', now, owner, deadline: clock.now() + 60_000 },
      { type: 'hold', now, owner, bootId: 'b' },
      { type: 'release', now, cleansByStop: true },
    ]
  }
  const first = await take({ type: 'created', now, providerId: 'p' }, ...serve())
  const stopped = { machineId: id, providerId: 'p', state: 'stopped', generation: 'g', createdAt: null } as const
  await take({ type: 'stopped', now }, ...serve())

  // A process that stood still since the first stop now says what it saw.
  await errands.see(first, stopped)
  expect(await store.find(id)).toMatchObject({ state: 'stopping', boots: 2, tainted: 2 })
  await errands.see(machine, stopped)
  expect(await store.find(id)).toMatchObject({ state: 'reserve', boots: 3, tainted: 2 })
})
