/** What real skills offer, asked in machines that live for nothing else. */
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import type { LockedStdioSkill } from '../../schema/lock.ts'
import { Networks } from '../../schema/network.ts'
import { listingLimits, openToolListings } from '../../src/attempt/tool-listings.ts'
import { fakeChance } from '../fake/fake-clock.ts'
import { lockOf } from '../support/machine-drive.ts'
import { until } from '../support/patience.ts'
import {
  openHost,
  openSandboxes,
  realClock,
  sandboxMissing,
  silentLog,
  type OpenLocalHost,
} from '../support/sandbox.ts'

const missing = await sandboxMissing()

function skillOf(deed: string, more: Partial<LockedStdioSkill> = {}): LockedStdioSkill {
  const lock = lockOf({ it: { package: 'unruly', args: [deed], ...more } })
  const skill = lock.experts[lock.coordinator]?.skills['it']
  if (skill?.type !== 'mcpStdioSkill') throw new Error('no skill')
  return skill
}

describe.skipIf(missing !== undefined)(`a listing${missing === undefined ? '' : ` (${missing})`}`, () => {
  let opened: OpenLocalHost
  let live = 0
  let most = 0
  const counted: typeof opened.host.open = async (owner, lock) => {
    // From the wish for a machine on: how long one takes to open is not what is counted.
    live += 1
    most = Math.max(most, live)
    const machine = await opened.host.open(owner, lock)
    void machine.ended.then(() => (live -= 1))
    return machine
  }
  /** Its real limit of time is nothing that a slow computer should meet. */
  const open = (limits = { ...listingLimits, listMs: 3_600_000 }) =>
    openToolListings({
      host: { open: counted },
      networks: new Networks([]),
      clock: realClock,
      chance: fakeChance(),
      log: silentLog,
      limits,
    })
  beforeAll(async () => {
    // The runner of this repository, not a puppet.
    const first = await openHost(openSandboxes)
    await first.close()
    const { bundles: _bundles, ...options } = first.options
    opened = { ...first, host: await openSandboxes(options), options }
  })
  afterEach(() => until(() => live === 0))
  afterAll(async () => {
    await opened.host.close()
    await opened.close()
  })

  it('holds every tool, whatever is picked, and the machine is gone', async () => {
    const tools = await open().list(skillOf('answers twice', { pick: ['ok'], omit: [], requiredEnv: ['TOKEN'] }))
    expect(tools).toMatchObject([{ name: 'go' }, { name: 'ok' }])
  })

  it('of a skill that cannot be asked says why', async () => {
    const unlisted = (text: string) => ({ unlisted: expect.stringContaining(text) as string })
    expect(await open({ concurrent: 1, listMs: 1500 }).list(skillOf('hangs at start'))).toEqual(
      unlisted('it did not tell its tools within 1500 ms'),
    )
    expect(await open().list(skillOf('exits at start'))).toEqual(unlisted('it did not start (exit code 4). No TOKEN'))
    expect(await open().list(skillOf('x', { entry: 'nothing.mjs' }))).toEqual(unlisted('did not start'))
  })

  it('starts no more machines at once than it may', async () => {
    most = 0
    const listings = open({ concurrent: 2, listMs: 3_600_000 })
    const all = await Promise.all(Array.from({ length: 5 }, () => listings.list(skillOf('answers twice'))))
    expect(all.every((one) => !('unlisted' in one))).toBe(true)
    expect(most).toBe(2)
  })
})
