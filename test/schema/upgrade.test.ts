/** Events of older versions: what reading makes of them, and what the log keeps. */
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { PlatformError } from '../../schema/error.ts'
import { firstBroken, genesisHash, hashEvent, rechain, type JobEvent } from '../../schema/event.ts'
import { storedEvent, UPGRADES, upgradeEvent, type StoredEvent, type Upgrade } from '../../schema/upgrade.ts'
import { isJsonObject } from '../../schema/json.ts'
import { jobIdOf } from '../job/given.ts'

const JOB = jobIdOf(1)
/** Two made-up changes: reasons were called causes in version 1, and had no kind before version 3. */
const renamed: Upgrade = ({ type, data }) =>
  isJsonObject(data) && 'cause' in data ? { type, data: { reason: data['cause'] } } : { type, data }
const kinded: Upgrade = ({ type, data }) => ({ type, data: { ...(data as object), kind: 'old' } })
const upgrades = [renamed, kinded]

/** A log whose events are of these versions, hashed as they were written. */
function logOf(versions: readonly number[]): readonly StoredEvent[] {
  const log: StoredEvent[] = []
  for (const [i, v] of versions.entries()) {
    const open = {
      v,
      jobId: JOB,
      seq: i + 1,
      type: 'cancelRequested',
      runId: null,
      expertKey: null,
      stepNumber: null,
      at: i,
      data: v === 1 ? { cause: `why ${i}` } : v === 2 ? { reason: `why ${i}` } : { reason: `why ${i}`, kind: 'new' },
      prevHash: log.at(-1)?.hash ?? genesisHash(JOB),
    }
    log.push({ ...open, hash: hashEvent(open as unknown as JobEvent) })
  }
  return log
}
const versions = fc.array(fc.integer({ min: 1, max: 3 }), { minLength: 1, maxLength: 20 })

describe('an event of an older version', () => {
  it('becomes one of this version, step by step, in the place and at the moment where it was (UP1)', () => {
    const [first, second, third] = logOf([1, 2, 3]).map((event) => upgradeEvent(event, upgrades))
    expect(first).toMatchObject({ v: 3, seq: 1, at: 0, data: { reason: 'why 0', kind: 'old' } })
    expect(second).toMatchObject({ v: 3, seq: 2, at: 1, data: { reason: 'why 1', kind: 'old' } })
    expect(third).toEqual(logOf([1, 2, 3])[2])
  })

  it('keeps its hash, which is over what the log holds; the chain holds for every mixture (UP1)', () => {
    fc.assert(
      fc.property(versions, (mixture) => {
        const stored = logOf(mixture)
        const read = stored.map((event) => upgradeEvent(event, upgrades))
        expect(firstBroken(JOB, read)).toBeUndefined()
        expect(read.map(storedEvent)).toEqual(stored)
        expect(read.every((event) => (event.v as number) === 3)).toBe(true)
      }),
    )
  })

  it('is copied into a fork as the log holds it, and read there alike (UP1)', () => {
    fc.assert(
      fc.property(versions, (mixture) => {
        const read = logOf(mixture).map((event) => upgradeEvent(event, upgrades))
        const copied = rechain(jobIdOf(2), read)
        expect(firstBroken(jobIdOf(2), copied)).toBeUndefined()
        expect(copied.map((event) => storedEvent(event).v)).toEqual(mixture)
        const again = copied.map((event) => upgradeEvent(storedEvent(event), upgrades))
        expect(again.map(({ type, data }) => ({ type, data }))).toEqual(read.map(({ type, data }) => ({ type, data })))
      }),
    )
  })

  it('is not written anew by reading it: the same event gives the same each time', () => {
    for (const event of logOf([1, 2, 3])) {
      const before = JSON.stringify(event)
      expect(upgradeEvent(event, upgrades)).toEqual(upgradeEvent(event, upgrades))
      expect(JSON.stringify(event)).toBe(before)
    }
  })
})

describe('an event of this version', () => {
  it('is the very one that was stored (UP2)', () => {
    const [event] = logOf([1]) as [StoredEvent]
    expect(upgradeEvent(event, [])).toBe(event)
    expect(upgradeEvent(event)).toMatchObject({ v: UPGRADES.length + 1 })
  })
})

describe('an event of a later version', () => {
  it.each([4, 99, 0, -1, 1.5, Number.NaN])('as %s is refused, whatever it says (UP2)', (v) => {
    const [event] = logOf([3]) as [StoredEvent]
    expect(() => upgradeEvent({ ...event, v }, upgrades)).toThrow(PlatformError)
    expect(() => upgradeEvent({ ...event, v }, upgrades)).toThrow(/reads versions 1 to 3/)
  })
})
