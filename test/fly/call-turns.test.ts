/** One to three processes that ask with one app: together never more than Fly allows, whoever stands still when. */
import * as fc from 'fast-check'
import { expect, it } from 'vitest'
import { PlatformError } from '../../schema/error.ts'
import { APP_CALLS, openCallTurns } from '../../src/fly/call-turns.ts'
import { ProviderError } from '../../src/pool/machine-provider.ts'
import { openTurns, type TurnStore } from '../../src/pool/turns.ts'
import { fakeClock, type FakeClock } from '../fake/fake-clock.ts'

/** Fly's own: one a second, three at once; what came when it was empty was too hasty. */
function tooHasty(moments: readonly number[]): number {
  let [level, at, hasty] = [3, -Infinity, 0]
  for (const now of moments.toSorted((a, b) => a - b)) {
    level = at === -Infinity ? 3 : Math.min(3, level + (now - at) / 1_000)
    at = now
    if (level >= 1) level -= 1
    else hasty += 1
  }
  return hasty
}

interface Script {
  /** By process: when it asks, after the call before. */
  readonly gaps: readonly (readonly number[])[]
  /** What each await takes longer than it should: an answer of the database, a process that stood still. */
  readonly delays: readonly number[]
  /** From here to Fly. */
  readonly ways: readonly number[]
}

async function play({ gaps, delays, ways }: Script, clock: FakeClock) {
  const turns = openTurns(clock)
  const arrivals: number[] = []
  const refused: unknown[] = []
  let [drawn, sent] = [0, 0]
  const delay = async (): Promise<void> => {
    const ms = delays[drawn++ % Math.max(1, delays.length)] ?? 0
    if (ms > 0) await clock.sleep(ms)
  }
  const slow: TurnStore = {
    async take(...given) {
      await delay()
      const wait = await turns.take(...given)
      await delay()
      return wait
    },
  }
  const late = {
    now: () => clock.now(),
    async sleep(ms: number) {
      await clock.sleep(ms)
      await delay()
    },
  }
  const processes = gaps.map(async (own) => {
    const turn = openCallTurns({ turns: slow, clock: late })
    await Promise.all(
      own.map(async (_, i) => {
        await clock.sleep(own.slice(0, i + 1).reduce((sum, gap) => sum + gap, 0))
        await turn('create', 'app').then(
          () => arrivals.push(clock.now() + (ways[sent++ % Math.max(1, ways.length)] ?? 0)),
          (error: unknown) => refused.push(error),
        )
      }),
    )
  })
  const over = { is: false }
  void Promise.all(processes).then(() => (over.is = true))
  for (let steps = 0; !over.is && steps < 20_000; steps++) await clock.advance(250)
  expect(over.is).toBe(true)
  for (const error of refused) expect(error).toMatchObject({ fault: 'throttled' })
  return { arrivals, refused }
}

it('never asks for more than Fly allows an app, however long anybody stood still between (FT1)', async () => {
  const gap = fc.oneof(fc.constant(0), fc.nat(300), fc.nat(4_000))
  const stall = fc.oneof(fc.constant(0), fc.nat(20), fc.nat(600), fc.nat(8_000))
  const scripts = fc.record<Script>({
    gaps: fc.array(fc.array(gap, { maxLength: 14 }), { minLength: 1, maxLength: 3 }),
    delays: fc.array(stall, { minLength: 1, maxLength: 23 }),
    ways: fc.array(fc.nat(400), { minLength: 1, maxLength: 7 }),
  })
  await fc.assert(
    fc.asyncProperty(scripts, async (script) => {
      const { arrivals } = await play(script, fakeClock())
      expect(tooHasty(arrivals)).toBe(0)
    }),
    { numRuns: 300 },
  )
})

it('lets go of turns that came too late, where another asks meanwhile (FT1)', async () => {
  // One process takes two turns and stands still for three seconds; then the other takes those that have come since.
  const delays = [0, 3_000, 0, 3_000, ...Array<number>(20).fill(0)]
  const { arrivals } = await play(
    {
      gaps: [
        [0, 0],
        [3_000, 0],
      ],
      delays,
      ways: [0],
    },
    fakeClock(),
  )
  expect(arrivals.length).toBeGreaterThanOrEqual(2)
  expect(tooHasty(arrivals)).toBe(0)
})

it('asks nearly as often as Fly allows where nobody stands still (FT1)', async () => {
  const gaps = Array.from({ length: 3 }, () => Array<number>(20).fill(1_500))
  const { arrivals, refused } = await play({ gaps, delays: [2], ways: [40] }, fakeClock())
  const seconds = (Math.max(...arrivals) - Math.min(...arrivals)) / 1_000
  expect(arrivals.length).toBeGreaterThan(0.85 * APP_CALLS.perSecond * seconds)
  // Two a second were asked for: whoever was far behind heard so at once.
  expect(refused.length).toBeGreaterThan(0)
})

it('asks nothing where nobody knows whose turn it is (FT2)', async () => {
  const clock = fakeClock()
  const away: TurnStore = { take: async () => Promise.reject(new PlatformError('database_unavailable', 'It is away.')) }
  const turn = openCallTurns({ turns: away, clock })
  for (const verb of ['create', 'list'] as const)
    await expect(turn(verb, 'app')).rejects.toMatchObject({ fault: 'throttled' })
  await expect(turn('create', 'app')).rejects.toBeInstanceOf(ProviderError)
  // What one process alone asks needs nobody else.
  await turn('start', 'm1')
})
