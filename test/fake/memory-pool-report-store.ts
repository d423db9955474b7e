/** Reports of pools in memory, and counts that a test sets. */
import type { MachineCount, PoolReport, PoolReportStore } from '../../src/pool/pool-reports.ts'

export interface MemoryPoolReportStore extends PoolReportStore {
  /** What `count` gives. */
  counts: readonly MachineCount[]
}

export function memoryPoolReportStore(): MemoryPoolReportStore {
  const kept = new Map<string, PoolReport>()
  const nameOf = ({ holder, explanation }: PoolReport) => JSON.stringify([explanation.pool, holder])
  return {
    counts: [],
    async put(report, before) {
      for (const [name, { explanation }] of kept) if (explanation.at < before) kept.delete(name)
      kept.set(nameOf(report), structuredClone(report))
    },
    list: async () => [...kept].toSorted(([one], [other]) => (one < other ? -1 : 1)).map(([, report]) => report),
    async count() {
      return this.counts
    },
  }
}
