/** What every store of reports on pools keeps, whatever it is made of. */
import { describe, expect, it } from 'vitest'
import type { PoolReport, PoolReportStore } from '../../src/pool/pool-reports.ts'

export const reportOf = (holder: string, at: number, given: Partial<PoolReport['explanation']> = {}): PoolReport => ({
  holder,
  explanation: {
    pool: 'local',
    at,
    leads: true,
    target: { ready: 2, machines: 4, isPanic: false, why: 'the policy says so' },
    counts: {},
    strays: 0,
    given: {},
    actions: [],
    faults: [],
    ...given,
  },
})

/** `open` gives an empty store. */
export function poolReportStoreContract(
  subject: string,
  open: () => Promise<{ readonly store: PoolReportStore; close(): Promise<void> }>,
): void {
  describe(`the store of reports on pools (${subject})`, () => {
    it('keeps the newest of each pool and process, and forgets the old', async () => {
      const opened = await open()
      const { store } = opened
      try {
        await store.put(reportOf('a', 1000), 0)
        await store.put(reportOf('b', 2000, { pool: 'fly' }), 0)
        await store.put(reportOf('a', 3000, { strays: 2 }), 0)
        expect(await store.list()).toEqual([reportOf('b', 2000, { pool: 'fly' }), reportOf('a', 3000, { strays: 2 })])
        await store.put(reportOf('c', 4000), 3000)
        expect((await store.list()).map(({ holder }) => holder)).toEqual(['a', 'c'])
        expect(await store.count()).toEqual([])
      } finally {
        await opened.close()
      }
    })
  })
}
