/** Machines that are late for their jobs, or never come: looked at, passed by for another, set aside, and in the end destroyed. */
import { afterEach, describe, expect, it } from 'vitest'
import type { MachineId } from '../../schema/id.ts'
import type { MachineProvider } from '../../src/pool/machine-provider.ts'
import type { Pool } from '../../src/pool/pools.ts'
import { LOCK, poolWorld, states, type PoolWorld } from './pool-world.ts'

describe('a machine that is late for its job', () => {
  let world: PoolWorld
  afterEach(() => world.close())
  const attempt = (fence = 1) => ({ jobId: world.job(), fence })

  /** A pool whose provider loses starts, or has machines that hang in them, while it is told so. */
  async function open(ready: number) {
    world = poolWorld({ ready })
    const mood = { loses: 0, hangs: 0, last: null as MachineId | null }
    const { provider } = world
    const moody: MachineProvider = {
      ...provider,
      async start(machine) {
        mood.last = machine.id
        if (mood.loses-- > 0) return
        await provider.start(machine)
        const made = provider.machines.get(machine.id)
        // It says that it starts, and never has.
        if (mood.hangs-- > 0 && made !== undefined) made.state = 'creating'
      },
    }
    const host = world.open('here', { provider: moody })
    await world.pass(60_000)
    return { host, mood }
  }
  const serve = async (host: Pool): Promise<number> => {
    const from = world.clock.now()
    const machine = await world.settle(host.open(attempt(), LOCK))
    const passed = world.clock.now() - from
    await world.settle(machine.destroy())
    await world.pass(15_000)
    return passed
  }
  const rowOf = async (id: MachineId | null) => (id === null ? undefined : await world.store.find(id))

  it('is looked at after a while, and started again when its start was lost', async () => {
    const { host, mood } = await open(2)
    mood.loses = 1
    const from = world.clock.now()
    const machine = await world.settle(host.open(attempt(), LOCK))
    expect(world.clock.now() - from).toBeLessThan(4_000)
    expect(machine.obtained).toMatchObject({ resume: 'resumed', machineId: mood.last })
    expect(world.provider.calls.filter(({ verb }) => verb === 'destroy')).toEqual([])
    await world.settle(machine.destroy())
  })

  it('is passed by for another after what nearly all took, and goes back as clean as it was (V6)', async () => {
    const { host, mood } = await open(3)
    for (let i = 0; i < 24; i++) await serve(host)
    mood.hangs = 1
    const waited = await serve(host)
    expect(waited).toBeLessThan(2_500)
    const [roused] = host.explain().actions.filter(({ type }) => type === 'rouse')
    expect(roused).toMatchObject({ why: 'a job waits longer than nearly all do' })
    await world.pass(60_000)
    expect(states(await world.list()).filter((state) => state === 'ready').length).toBeGreaterThanOrEqual(3)
    for (const { owner, boots, tainted } of await world.list()) expect([owner, boots > tainted]).toEqual([null, true])
    // No machine was given two jobs, and none but those of the jobs was given one.
    for (const { holds } of world.provider.machines.values()) expect(holds.length).toBeLessThanOrEqual(1)
  })

  it('is set aside when it does not come at all, serves again after a stop, and is destroyed the second time (M6)', async () => {
    const { host, mood } = await open(1)
    mood.hangs = 1
    const opening = host.open(attempt(), LOCK)
    await world.pass(1_000)
    const late = mood.last
    await world.pass(9_500)
    expect(await rowOf(late)).toMatchObject({
      state: 'quarantined',
      owner: null,
      fault: expect.stringMatching(/did not come for its job in time/),
    })
    expect(host.explain().actions).toContainEqual(expect.objectContaining({ type: 'quarantine', machineId: late }))
    await world.settle((await world.settle(opening)).destroy())
    await world.pass(30_000)
    expect(await rowOf(late)).not.toMatchObject({ state: 'quarantined' })

    // It is the only one that may be had, and hangs again.
    const before = new Set(world.provider.calls.filter(({ verb }) => verb === 'destroy').map(({ id }) => id))
    expect(before.has(late ?? ('' as MachineId))).toBe(false)
    for (let i = 0; i < 6 && (await rowOf(late))?.state !== 'gone'; i++) {
      mood.hangs = 1
      await serve(host)
    }
    const ended = world.provider.calls.filter(({ verb }) => verb === 'destroy').map(({ id }) => id)
    expect(ended.length).toBeGreaterThan(0)
    for (const id of ended) expect(await rowOf(id)).toMatchObject({ state: 'gone', fault: expect.stringMatching(/./) })
  })
})
