/** What processes say of their pools, on Postgres: one row for each pool and process. */
import type { Clock } from '../../schema/clock.ts'
import type { Explanation } from '../pool/explanation.ts'
import type { MachineCount, PoolReportStore } from '../pool/pool-reports.ts'
import { retrying, type Sql } from './sql.ts'

/** Every verb may happen twice with the outcome of once, so each is tried again when a connection breaks. */
export function postgresPoolReportStore({ sql }: { readonly sql: Sql }, clock: Clock): PoolReportStore {
  const rows = async <Row>(text: string, values: readonly unknown[]) =>
    retrying(clock, () => sql.query<Row>(text, values))
  return {
    async put({ holder, explanation }, before) {
      const { pool, at } = explanation
      const upsert = `
        with old as (delete from pool_reports where at < $5)
        insert into pool_reports (pool, holder, at, report) values ($1, $2, $3, $4)
        on conflict (pool, holder) do update set at = excluded.at, report = excluded.report`
      await rows(upsert, [pool, holder, at, JSON.stringify(explanation), before])
    },
    async list() {
      const select = 'select holder, report from pool_reports order by pool, holder'
      const found = await rows<{ readonly holder: string; readonly report: Explanation }>(select, [])
      return found.map(({ holder, report }) => ({ holder, explanation: report }))
    },
    count: () =>
      rows<MachineCount>(
        `select pool, state, count(*)::int as count from machines where state <> 'gone' group by pool, state order by pool, state`,
        [],
      ),
  }
}
