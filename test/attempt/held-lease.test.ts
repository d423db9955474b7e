/** The lease of an attempt: renewed in time, and trusted only while it is known to live. */
import { describe, expect, it } from 'vitest'
import type { Attempt } from '../../src/job/jobs.ts'
import { HeldLease } from '../../src/attempt/held-lease.ts'
import { openLog } from '../../src/log.ts'
import { fakeClock } from '../fake/fake-clock.ts'

const RENEW_MS = 1_000

/** A lease that was granted now, whose renewals are what `renew` says. */
function hold(renew: (asked: number) => boolean | Promise<boolean>) {
  const clock = fakeClock()
  const log = openLog(
    () => {},
    () => clock.now(),
  )
  const granted = clock.now()
  const asked: number[] = []
  const jobs = {
    renew: async () => {
      asked.push(clock.now() - granted)
      return await renew(asked.length)
    },
  }
  const attempt = { jobId: 'job_1' } as Attempt // nothing but its name is of interest here
  const lease = new HeldLease({ jobs, clock, log, limits: { renewMs: RENEW_MS } }, attempt, granted)
  return { lease, clock, asked }
}

const away = async (): Promise<never> => await Promise.reject(new Error('the store is away'))
const { signal: never } = new AbortController()
const settle = async (): Promise<void> => {
  for (let turn = 0; turn < 20; turn++) await new Promise((next) => setImmediate(next))
}

describe('a lease that is held', () => {
  it('is renewed from the first moment on, also where the store was away, until it is let go (HL1)', async () => {
    const { lease, clock, asked } = hold((count) => (count === 2 ? away() : true))
    await clock.advance(3 * RENEW_MS)
    expect(asked).toEqual([1_000, 2_000, 3_000])
    lease.letGo()
    await clock.advance(3 * RENEW_MS)
    expect(asked).toHaveLength(3)
    expect([lease.lost.aborted, clock.sleepers()]).toEqual([false, 0])
  })

  it('is renewed no more once it is lost, and says so (HL1)', async () => {
    const { lease, clock, asked } = hold((count) => count < 2)
    await clock.advance(5 * RENEW_MS)
    expect(asked).toEqual([1_000, 2_000])
    expect(lease.lost.reason).toMatchObject({ code: 'fence_stale' })
  })

  it('is good while its last renewal is young, and asked for where it may be over (HL2)', async () => {
    const { lease, clock, asked } = hold(away)
    await clock.advance(1_999)
    await lease.require(never)
    expect(asked).toEqual([1_000])
    await clock.advance(1)
    const heard: string[] = []
    const required = lease.require(never).catch(({ message }: Error) => heard.push(message))
    await settle()
    expect(heard).toEqual([])
    lease.letGo()
    await clock.advance(60_000)
    await settle()
    expect([asked.length > 60, heard]).toEqual([true, []])
    const ended = new AbortController()
    const other = lease.require(ended.signal)
    ended.abort(new Error('the attempt is over'))
    await expect(other).rejects.toThrow('the attempt is over')
    void required
  })

  it('that was in doubt is good again when the store says so, and else is lost (HL2)', async () => {
    for (const isOurs of [true, false]) {
      const { lease, clock } = hold((count) => (count <= 2 ? away() : isOurs))
      await clock.advance(2 * RENEW_MS)
      const required = lease.require(never).then(
        () => 'lives',
        ({ code }: { readonly code: string }) => code,
      )
      await settle()
      await clock.advance(500)
      expect(await required).toBe(isOurs ? 'lives' : 'fence_stale')
      expect(lease.lost.aborted).toBe(!isOurs)
      lease.letGo()
    }
  })
})
