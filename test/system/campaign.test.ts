/** A sample of the crash campaign (`npm run campaign -- crash`): real processes killed at random, effects counted outside. */
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, it } from 'vitest'
import { crashCampaign } from '../campaign/crash.ts'
import { sandboxMissing } from '../support/sandbox.ts'

const missing = await sandboxMissing()

it.skipIf(missing !== undefined)(
  'jobs in sandboxes whose processes are killed at random lose nothing and repeat nothing that may happen once',
  async () => {
    const verdict = await crashCampaign({
      points: 8,
      seed: 1,
      jobsAtOnce: 3,
      machines: 'local',
      sleep: (ms) => sleep(ms),
      say: () => {},
    })
    expect(verdict.failures).toEqual([])
    expect(verdict.points).toBeGreaterThanOrEqual(8)
    expect(verdict.lost).toBe(0)
    expect(verdict.repeated['pay']).toBe(0)
  },
  600_000,
)
