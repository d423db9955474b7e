/** How often Fly is asked, and when it is left alone. */
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { admit, CLOSED, OPEN_MS, regionIsFull, regionsWithRoom, settle, type Region } from '../../src/fly/breaker.ts'
import { CALLS, isFull, takeToken, type Bucket } from '../../src/fly/bucket.ts'

describe('a bucket', () => {
  it('lets through no more than its burst and what has filled since, in any window (FC1)', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(3_000), { minLength: 1, maxLength: 40 }), (gaps) => {
        let bucket: Bucket | undefined
        let now = 0
        const at: number[] = []
        for (const gap of gaps) {
          now += gap
          const taken = takeToken(bucket, CALLS, now)
          bucket = taken.bucket
          at.push(now + taken.waitMs)
        }
        const moments = at.toSorted((a, b) => a - b)
        for (const [i, from] of moments.entries())
          for (const [j, to] of moments.entries())
            if (j >= i)
              expect(j - i + 1).toBeLessThanOrEqual(CALLS.burst + ((to - from) * CALLS.perSecond) / 1000 + 0.01)
      }),
    )
  })

  it('is as good as new when it has filled', () => {
    const { bucket } = takeToken(undefined, CALLS, 0)
    expect([isFull(bucket, CALLS, 0), isFull(bucket, CALLS, 2_000)]).toEqual([false, true])
  })
})

describe('a breaker', () => {
  const failing = (times: number) =>
    Array.from({ length: times }).reduce((b: typeof CLOSED) => settle(b, true, 0), CLOSED)

  it('opens after failures in a row, lets one try later, and closes when that succeeds (FC4)', () => {
    expect(admit(failing(4), 0)).toBeDefined()
    const open = failing(5)
    expect(admit(open, OPEN_MS - 1)).toBeUndefined()
    const trying = admit(open, OPEN_MS)
    expect(trying && admit(trying, OPEN_MS)).toBeUndefined()
    expect(trying && admit(settle(trying, true, OPEN_MS), OPEN_MS + 1)).toBeUndefined()
    expect(trying && settle(trying, false, OPEN_MS)).toEqual(CLOSED)
  })

  it('counts failures in a row alone', () => {
    expect(admit(settle(settle(failing(4), false, 0), true, 0), 0)).toBeDefined()
  })
})

describe('regions', () => {
  it('without room are left out for a time that doubles, unless none is left (FC4)', () => {
    const once = regionIsFull(undefined, 0)
    const twice = regionIsFull(once, 60_000)
    expect([once.fullUntil, twice.fullUntil]).toEqual([60_000, 180_000])
    const full = new Map<string, Region>([['iad', once]])
    expect(regionsWithRoom(['iad', 'ord'], full, 1)).toEqual(['ord'])
    expect(regionsWithRoom(['iad', 'ord'], full, 60_000)).toEqual(['iad', 'ord'])
    expect(regionsWithRoom(['iad'], full, 1)).toEqual(['iad'])
  })
})
