/** A provider that is away for a while, and what comes when it is back. */
import { afterEach, describe, expect, it } from 'vitest'
import { STARTS_PER_SECOND } from '../../src/pool/pace.ts'
import { LOCK, poolWorld, states, type PoolWorld } from './pool-world.ts'

describe('while the provider does not answer', () => {
  let world: PoolWorld
  let isAway = false
  afterEach(() => world.close())
  const open = (options: Omit<Parameters<typeof poolWorld>[0] & object, 'troubleOf'>): PoolWorld => {
    isAway = false
    const troubleOf = () => (isAway ? ({ fault: 'ambiguous', tookEffect: false } as const) : undefined)
    return (world = poolWorld({ ...options, troubleOf }))
  }
  const attempt = (fence = 1) => ({ jobId: world.job(), fence })

  it('a job waits, and has a machine soon after the provider is back (V5, I22)', async () => {
    const host = open({ ready: 2 }).open()
    await world.pass(60_000)
    isAway = true
    const opening = host.open(attempt(), LOCK)
    await world.pass(30_000)
    isAway = false
    const since = world.clock.now()
    const machine = await world.settle(opening)
    expect(world.clock.now() - since).toBeLessThan(20_000)
    await world.settle(machine.destroy())
  })

  it('a start of which nobody knows whether it worked may have: the machine is not given up for it (V5)', async () => {
    open({ ready: 2 })
    const host = world.open('here')
    await world.pass(60_000)
    isAway = true
    const opening = host.open(attempt(), LOCK)
    await world.pass(1_000)
    isAway = false
    const machine = await world.settle(opening)
    expect(machine.obtained.resume).toBe('resumed')
    expect(world.provider.calls.filter(({ verb }) => verb === 'destroy')).toEqual([])
    await world.settle(machine.destroy())
  })

  it('an attempt that has waited for long says that there was no machine, which says nothing against its job (V5)', async () => {
    const host = open({ ready: 0 }).open()
    isAway = true
    const opening = world.settle(host.open(attempt(), LOCK))
    await expect(opening).rejects.toMatchObject({ code: 'machine_provider_failed' })
  })

  it('asks ever less often, and starts no herd when it is over (I12, I22)', async () => {
    open({ ready: 40, limits: { machinesMax: 64 } }).open()
    isAway = true
    await world.pass(120_000)
    const during = world.provider.calls.length
    // One order is under way after a failure, and is asked for at most every 15 s in the end.
    expect(during).toBeLessThan(64 * 12)
    isAway = false
    const from = world.clock.now()
    await world.pass(180_000)
    const perSecond = new Map<number, number>()
    for (const { verb, at } of world.provider.calls.slice(during))
      if (verb === 'create' || verb === 'start')
        perSecond.set(Math.floor((at - from) / 1000), (perSecond.get(Math.floor((at - from) / 1000)) ?? 0) + 1)
    expect(Math.max(...perSecond.values())).toBeLessThanOrEqual(STARTS_PER_SECOND)
    expect(states(await world.list()).filter((state) => state === 'ready')).toHaveLength(40)
  })
})
