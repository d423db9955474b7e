/** Fly as a pool moves it, over the real client, against the simulator of the Machines API. */
import { afterEach, expect, it } from 'vitest'
import { makeId } from '../../schema/id.ts'
import { Secret } from '../../schema/secret.ts'
import { openFlyProvider } from '../../src/fly/fly-provider.ts'
import { openMachinesClient } from '../../src/fly/machines-client.ts'
import { openLinks } from '../../src/pool/links.ts'
import { imagePlan } from '../../src/sandbox/machine-image.ts'
import type { MachineProvider } from '../../src/pool/machine-provider.ts'
import { openTurns } from '../../src/pool/turns.ts'
import { orderMachine, type PooledMachine } from '../../src/pool/machine.ts'
import { fakeClock } from '../fake/fake-clock.ts'
import { openFlySim, type FlySim } from '../fake/fly-sim/fly-sim.ts'
import { memoryPoolStore } from '../fake/memory-pool-store.ts'
import { silentLog } from '../support/sandbox.ts'

const APP = 'machines'
const opened: { close(): Promise<void> }[] = []
afterEach(async () => {
  for (const one of opened.splice(0).toReversed()) await one.close()
})

async function setUp() {
  const sim: FlySim = await openFlySim({ seed: 1, profile: 'zero', clock: { type: 'virtual' } })
  opened.push(sim)
  await sim.call('POST', '/v1/apps', { app_name: APP, org_slug: 'personal' }, { token: sim.tokens.org })
  const clock = fakeClock()
  const links = openLinks({
    store: memoryPoolStore(),
    key: new Secret('42'.repeat(32)),
    prove: () => Promise.reject(new Error('no machine comes')),
    planOf: imagePlan,
    clock,
    log: silentLog,
  })
  const provider = openFlyProvider({
    client: openMachinesClient({
      baseUrl: sim.url,
      token: new Secret(sim.deployToken(APP)),
      turns: openTurns(clock),
      clock,
      log: silentLog,
    }),
    links,
    apps: [APP],
    image: `registry.fly.io/machines@sha256:${'a'.repeat(64)}`,
    regions: ['iad'],
    size: { cpuKind: 'shared', cpus: 2, memoryMb: 1024 },
    machineUrl: 'http://api.internal',
    install: () => Promise.reject(new Error('nothing is installed')),
    clock,
  })
  opened.push(provider)
  /** Lets the platform and driven time go on until a call is over. */
  async function over<Value>(call: Promise<Value>): Promise<Value> {
    let isOver = false
    const finished = call.finally(() => (isOver = true))
    finished.catch(() => {})
    const isRunning = (): boolean => !isOver
    for (let turns = 1; isRunning(); turns++) {
      await new Promise((resolve) => setImmediate(resolve))
      if (turns % 100 === 0) await clock.advance(500)
      if (turns % 20 === 0) await sim.advance(100)
    }
    return await finished
  }
  return { sim, clock, provider, over }
}

function ordered({ generation }: MachineProvider, now: number, n = 1): PooledMachine {
  const id = makeId('mch', n, new Uint8Array(16))
  return orderMachine({ id, pool: 'fly', place: APP, generation, now }, null)
}

it('makes a machine that holds nothing secret, suspends, resumes, stops and destroys it', async () => {
  const { sim, clock, provider, over } = await setUp()
  expect(await over(provider.probe())).toEqual({ ok: true })
  const order = ordered(provider, clock.now())
  const { providerId } = await over(provider.create(order))
  const machine = { ...order, providerId }
  const state = async (): Promise<string> => (await over(provider.look(machine))).state
  await sim.runUntilIdle(60_000)
  expect(await over(provider.look(machine))).toMatchObject({
    machineId: order.id,
    providerId,
    state: 'running',
    generation: provider.generation,
  })
  expect(sim.machines()[0]?.config).toMatchObject({
    env: { SENMON_MACHINE_ID: order.id, SENMON_MACHINE_URL: 'http://api.internal' },
    restart: { policy: 'no' },
    metadata: { managed_by: 'senmon', launch_id: order.id },
  })
  expect(await over(provider.list(APP))).toHaveLength(1)

  // It is left to suspend itself at first.
  await over(provider.suspend({ ...machine, since: clock.now() }))
  expect(await state()).toBe('running')
  await over(provider.suspend({ ...machine, since: clock.now() - 3_000 }))
  await sim.runUntilIdle(60_000)
  expect(await state()).toBe('suspended')
  await over(provider.start(machine))
  await sim.runUntilIdle(60_000)
  expect(await state()).toBe('running')
  await over(provider.stop(machine))
  await sim.runUntilIdle(60_000)
  expect(await state()).toBe('stopped')
  await over(provider.destroy(machine))
  await sim.runUntilIdle(60_000)
  await over(provider.destroy(machine))
  expect(await over(provider.find(machine))).toBeUndefined()
})

it.each([true, false])(
  'has one machine for an order whose answer was lost, when it was made: %s (FC3)',
  async (commit) => {
    const { sim, clock, provider, over } = await setUp()
    sim.faults([{ fault: 'F1', commit, status: 502, times: 1 }])
    const order = ordered(provider, clock.now())
    const first = await over(provider.create(order).catch(() => undefined))
    const second = first ?? (await over(provider.create(order)))
    await sim.runUntilIdle(60_000)
    expect(sim.machines().map(({ id }) => id)).toEqual([second.providerId])
    expect((await over(provider.find(order)))?.providerId).toBe(second.providerId)
  },
)

it('is not done with a machine that it cannot see yet: its order may be on its way', async () => {
  const { sim, clock, provider, over } = await setUp()
  const order = { ...ordered(provider, clock.now()), since: clock.now() }
  await expect(over(provider.destroy(order))).rejects.toMatchObject({ fault: 'ambiguous' })
  // It comes after all: the order was carried out, and its answer is lost for good.
  await over(provider.create(order))
  await sim.runUntilIdle(60_000)
  await over(provider.destroy(order))
  await sim.runUntilIdle(60_000)
  expect(sim.machines()).toEqual([])
  await over(provider.destroy({ ...order, since: clock.now() - 60_000 }))
})

it('lists nothing on the way of a job to its machine, and asks as often as it may (FC1)', async () => {
  const { sim, clock, provider, over } = await setUp()
  const order = ordered(provider, clock.now())
  const machine = { ...order, ...(await over(provider.create(order))) }
  await sim.runUntilIdle(60_000)
  await over(Promise.allSettled(Array.from({ length: 6 }, () => provider.start(machine))))
  const actions = sim.requests().map(({ action }) => action)
  expect(actions.filter((action) => action.includes('list'))).toEqual([])
  // Those whose turn would have come late were not asked at all.
  expect(actions.filter((action) => action === 'start')).toHaveLength(5)
})
