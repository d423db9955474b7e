/** What processes say of a pool, taken together. */
import { describe, expect, it } from 'vitest'
import { openPoolReports, SILENT_MS, viewPools } from '../../src/pool/pool-reports.ts'
import { openLog } from '../../src/log.ts'
import { poolReportStoreContract, reportOf } from '../contract/pool-report-store.ts'
import { fakeClock } from '../fake/fake-clock.ts'
import { memoryPoolReportStore } from '../fake/memory-pool-report-store.ts'

poolReportStoreContract('memory', async () => ({ store: memoryPoolReportStore(), close: async () => {} }))

describe('a pool as operators see it', () => {
  const now = 1_000_000
  it('counts machines from their rows, though no process says a word of them (PR1)', () => {
    const [view] = viewPools([], [{ pool: 'local', state: 'ready', count: 3 }], now)
    expect(view).toMatchObject({
      name: 'local',
      counts: [{ state: 'ready', count: 3 }],
      processes: [],
      warmShare: null,
    })
    const lying = reportOf('a', now, { counts: { busy: 99 } })
    expect(viewPools([lying], [], now)).toMatchObject([{ name: 'local', counts: [] }])
  })

  it('adds up what all gave, and shows who is silent without what it wanted (PR2)', () => {
    const silent = reportOf('a', now - SILENT_MS - 1, { given: { created: 1 }, strays: 7 })
    const live = reportOf('b', now - SILENT_MS, { given: { resumed: 2, created: 1 }, strays: 1 })
    const [view] = viewPools([silent, live], [], now)
    expect(view).toMatchObject({
      warmShare: 0.5,
      strays: 1,
      given: [
        { resume: 'created', count: 2 },
        { resume: 'resumed', count: 2 },
      ],
    })
    expect(view?.processes).toMatchObject([
      { holder: 'b', isSilent: false, leads: true, target: { ready: 2 } },
      { holder: 'a', isSilent: true, leads: false, target: null },
    ])
  })

  it('shows no process that said that it ended, and counts what it gave (PR3)', () => {
    const ended = reportOf('a', now, { given: { created: 1 }, strays: 7, isLast: true })
    const [view] = viewPools([ended, reportOf('b', now, { given: { resumed: 1 } })], [], now)
    expect(view).toMatchObject({ processes: [{ holder: 'b' }], strays: 0, warmShare: 0.5 })
  })

  it('shows the last ten actions of all, newest first', () => {
    const action = (at: number) => ({ at, type: 'create' as const, machineId: null, why: `at ${at}` })
    const one = reportOf('a', now, { actions: [9, 7, 5, 3, 1].map(action) })
    const other = reportOf('b', now, { actions: [12, 10, 8, 6, 4, 2].map(action) })
    const [view] = viewPools([one, other], [], now)
    expect(view?.actions.map(({ at }) => at)).toEqual([12, 10, 9, 8, 7, 6, 5, 4, 3, 2])
  })
})

describe('a process that keeps a pool', () => {
  it('reports every three seconds, and once more that it ends (PR3)', async () => {
    const clock = fakeClock()
    const store = memoryPoolReportStore()
    const explain = () => reportOf('a', clock.now()).explanation
    const log = openLog(
      () => {},
      () => clock.now(),
    )
    const reports = openPoolReports({ holder: 'a', explain, store, clock, log })
    const last = async () => (await store.list()).map(({ explanation: { at, isLast = false } }) => ({ at, isLast }))
    const startedAt = clock.now()
    const asleep = async () => {
      while (clock.sleepers() === 0) await new Promise((resolve) => setImmediate(resolve))
    }
    await asleep()
    await clock.advance(3000)
    await asleep()
    expect(await last()).toEqual([{ at: startedAt + 3000, isLast: false }])
    await clock.advance(1000)
    await reports.close()
    expect(await last()).toEqual([{ at: startedAt + 4000, isLast: true }])
  })
})
