/** What a pool expects, kept for whoever leads it next. */
import * as fc from 'fast-check'
import { afterEach, describe, expect, it } from 'vitest'
import { forecast, HOURS, noExpectation, seeArrivals, seeStart, seeTime } from '../../src/pool/expectation.ts'
import { parseExpectation, printExpectation } from '../../src/pool/kept-expectation.ts'
import { LOCK, poolWorld, states, type PoolWorld } from './pool-world.ts'

const HOUR_MS = 3_600_000

describe('what is kept of an expectation', () => {
  const came = fc.array(fc.nat({ max: 100_000 }), { minLength: 1, maxLength: 3 * HOURS })
  const took = fc.array(fc.tuple(fc.constantFrom('boot', 'suspend', 'resumed', 'created'), fc.nat({ max: 60_000 })))
  it('is read as it was, but for what is under way, and expects the same of every hour (X5)', () => {
    fc.assert(
      fc.property(came, took, fc.nat({ max: HOURS - 1 }), (arrivals, times, at) => {
        let seen = noExpectation
        for (const [i, count] of arrivals.entries()) seen = seeArrivals(seen, count, i * HOUR_MS)
        for (const [passage, ms] of times) seen = seeTime(seen, passage, ms)
        const kept: unknown = JSON.parse(JSON.stringify(printExpectation(seeStart(seen, 'cold', 7))))
        const read = parseExpectation(kept)
        expect(read).toMatchObject({ times: seeStart(seen, 'cold', 7).times, hour: seen.hour, starts: 0, roused: 0 })
        expect(read?.begun.size).toBe(0)
        const hour = (at + 2 * HOURS) * HOUR_MS
        const [before, after] = [forecast(seen, hour), forecast(read ?? noExpectation, hour)]
        expect(Math.abs(after - before)).toBeLessThanOrEqual(before / 1_000)
      }),
      { numRuns: 30 },
    )
  })

  it.each([
    undefined,
    null,
    'of another version',
    { ...(printExpectation(noExpectation) as object), v: 2 },
    { ...(printExpectation(noExpectation) as object), hours: [[1]] },
    { ...(printExpectation(noExpectation) as object), times: { boot: [-1] } },
  ])('is nothing where it cannot be read: %j (X5)', (kept) => {
    expect(parseExpectation(kept)).toBeUndefined()
  })
})

describe('who begins to lead a pool', () => {
  let world: PoolWorld
  afterEach(() => world.close())

  it('expects what the one before did, and keeps it for the next (X5)', async () => {
    world = poolWorld({ ready: 1 })
    const lead = await world.store.lead('p', 'before', world.clock.now(), world.clock.now() + 1)
    if (lead === undefined) throw new Error('nobody else leads')
    const busy = { ...noExpectation, hours: noExpectation.hours.map(() => [5, 5]) }
    await world.store.keepExpectation('p', printExpectation(busy), lead)
    const pool = world.open()
    await world.pass(3_000)
    expect(pool.explain().target?.why).toContain('5.00 jobs per second come')

    await world.pass(70_000)
    expect(parseExpectation(await world.store.expectation('p'))).toMatchObject({ hours: busy.hours, hour: { came: 0 } })
  })

  it('keeps it when it stops (X5)', async () => {
    world = poolWorld({ ready: 1 })
    const pool = world.open()
    await world.pass(3_000)
    expect(await world.store.expectation('p')).toBeDefined()
    const opened = await world.settle(pool.open({ jobId: world.job(), fence: 1 }, LOCK))
    await world.settle(opened.destroy())
    await world.pass(3_000)
    await world.settle(pool.close())
    expect(parseExpectation(await world.store.expectation('p'))).toMatchObject({ hour: { came: 1 } })
  })

  it('ends as ever where it cannot be kept (X5)', async () => {
    world = poolWorld({ ready: 1 })
    const store = { ...world.store, keepExpectation: () => Promise.reject(new Error('the database is away')) }
    const pool = world.open('here', { store })
    await world.pass(70_000)
    expect(states(await world.list())).toEqual(['ready'])
    const serving = await world.settle(pool.open({ jobId: world.job(), fence: 1 }, LOCK))
    await world.settle(serving.destroy())
    await expect(world.settle(pool.close())).resolves.toBeUndefined()
  })
})
