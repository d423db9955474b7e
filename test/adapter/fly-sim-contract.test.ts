/**
 * The simulator, and Fly itself when FLY_API_TOKEN, FLY_APP_NAME and FLY_IMAGE are set, pass one suite. With
 * FLY_RECORD_DIR each case of Fly's is kept there as JSON.
 */
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'vitest'
import { machinesApiContract } from '../contract/machines-api.ts'
import { openFlySim } from '../fake/fly-sim/fly-sim.ts'
import { realClock } from '../support/database.ts'
import { liveFly } from '../support/fly.ts'

machinesApiContract(
  'simulated',
  async () => {
    const sim = await openFlySim({ seed: 1, profile: 'zero', clock: { type: 'real', now: () => realClock.now() } })
    await sim.call('POST', '/v1/apps', { app_name: 'pool', org_slug: 'personal' })
    return {
      url: sim.url,
      token: sim.deployToken('pool'),
      app: 'pool',
      image: 'registry.fly.io/senmon:1',
      region: 'iad',
      run: 'sim',
      rest: async () => {},
      close: () => sim.close(),
    }
  },
  async () => {},
)

const live = liveFly()
if (live === undefined)
  describe('the Machines API: Fly', () => {
    it.skip('is not asked: FLY_API_TOKEN, FLY_APP_NAME and FLY_IMAGE say which app is for these cases', () => {})
  })
else
  machinesApiContract(
    'Fly',
    async () => ({
      ...live,
      run: String(Math.floor(realClock.now())),
      rest: () => realClock.sleep(1_100),
      close: async () => {},
    }),
    async (title, exchanges) => {
      if (live.recordTo === undefined) return
      await mkdir(live.recordTo, { recursive: true })
      const name = title.replace(/[^a-z]+/gi, '-').toLowerCase()
      await writeFile(join(live.recordTo, `${name}.json`), `${JSON.stringify(exchanges, null, 2)}\n`)
    },
  )
