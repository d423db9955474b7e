/** When Fly is left alone. */
import { describe, expect, it } from 'vitest'
import {
  admit,
  CLOSED,
  OPEN_MS,
  regionIsFull,
  regionsWithRoom,
  settle,
  withdraw,
  type Region,
} from '../../src/fly/breaker.ts'

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

  it('has its one try again when that was not made, and stays as it is for any other call (FC4)', () => {
    const trying = admit(failing(5), OPEN_MS)
    if (trying === undefined) throw new Error('it may not be tried')
    expect(admit(withdraw(trying, false), OPEN_MS)).toBeUndefined()
    const again = withdraw(trying, true)
    expect(again.failures).toBe(5)
    expect(admit(again, OPEN_MS)).toEqual(trying)
    expect(withdraw(failing(4), false)).toEqual(failing(4))
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
