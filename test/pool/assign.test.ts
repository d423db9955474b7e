/** Which of the jobs that wait are next. */
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { ApplicationId, JobId } from '../../schema/id.ts'
import { assign, type Share, type Waiting } from '../../src/pool/assign.ts'

const app = fc.constantFrom('a', 'b', 'c', 'd').map((name) => name as ApplicationId)
const waits = fc
  .array(fc.record({ applicationId: app, since: fc.nat(20) }), { maxLength: 40 })
  .map((all) => all.map((one, i): Waiting => ({ ...one, jobId: `job_${String(i).padStart(3, '0')}` as JobId })))
const shares = fc
  .record({
    places: fc.nat(30),
    quota: fc.option(fc.nat(8)),
    running: fc.array(fc.tuple(app, fc.nat(8)), { maxLength: 4 }),
  })
  .map(({ running, ...share }): Share => ({ ...share, running: new Map(running) }))

const count = (all: readonly Waiting[], one: ApplicationId): number =>
  all.filter(({ applicationId }) => applicationId === one).length
const holds = (check: (waiting: readonly Waiting[], share: Share, next: readonly Waiting[]) => void): void =>
  fc.assert(
    fc.property(waits, shares, (waiting, share) => check(waiting, share, assign(waiting, share))),
    { numRuns: 500 },
  )
const applications = ['a', 'b', 'c', 'd'] as ApplicationId[]

describe('the jobs that are next', () => {
  it('share the places so that nobody could have more without another having less than he (G1, I19)', () => {
    holds((waiting, { quota, running }, next) => {
      const after = (one: ApplicationId): number => (running.get(one) ?? 0) + count(next, one)
      for (const rich of applications)
        for (const poor of applications) {
          if (count(next, rich) === 0 || count(next, poor) === count(waiting, poor)) continue
          if (quota !== null && after(poor) >= quota) continue
          expect(after(rich)).toBeLessThanOrEqual(after(poor) + 1)
        }
    })
  })

  it('are the oldest of their applications (G2)', () => {
    holds((waiting, _share, next) => {
      for (const one of next)
        for (const other of waiting)
          if (other.applicationId === one.applicationId && !next.includes(other))
            expect(other.since).toBeGreaterThanOrEqual(one.since)
    })
  })

  it('are never more than the quota of an application (G3, I19)', () => {
    holds((_waiting, { quota, running }, next) => {
      if (quota !== null)
        for (const one of applications)
          expect(count(next, one)).toBeLessThanOrEqual(Math.max(0, quota - (running.get(one) ?? 0)))
    })
  })

  it('leave no place empty that somebody may have (G4)', () => {
    holds((waiting, { places, quota, running }, next) => {
      const wanted = applications.reduce((sum, one) => {
        const room = quota === null ? Infinity : Math.max(0, quota - (running.get(one) ?? 0))
        return sum + Math.min(room, count(waiting, one))
      }, 0)
      expect(next.length).toBe(Math.min(places, wanted))
      expect(new Set(next).size).toBe(next.length)
    })
  })

  it('let one that asks for little pass one that asks for a thousand', () => {
    const thousand = Array.from({ length: 1000 }, (_, i): Waiting => ({
      jobId: `job_${i}` as JobId,
      applicationId: 'a' as ApplicationId,
      since: i,
    }))
    const late: Waiting = { jobId: 'job_late' as JobId, applicationId: 'b' as ApplicationId, since: 5_000 }
    const running = new Map([['a' as ApplicationId, 7]])
    expect(assign([...thousand, late], { places: 1, quota: null, running })).toEqual([late])
  })
})
