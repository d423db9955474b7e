/** Turns of all processes, on Postgres and by its clock: one row for each thing that is asked. */
import { turnMs } from '../pool/turn.ts'
import type { TurnStore } from '../pool/turns.ts'
import type { Sql } from './sql.ts'

/**
 * As `takeTurn`, in one statement. The moment is taken before the row's lock: whoever waits for that counts from earlier,
 * and its turn is the earlier over. The statement is not tried again: a turn whose answer was lost is nobody's.
 */
const TAKE = `
  with moment as (select extract(epoch from clock_timestamp())::double precision * 1000 as now)
  insert into turns as taken (subject, free_at) select $1, now + $2::double precision from moment
  on conflict (subject) do update set free_at = greatest(taken.free_at, (select now from moment)) + $2
  where greatest(taken.free_at, (select now from moment)) + $2 - $3::double precision * $2
    - (select now from moment) <= $4::double precision
  returning greatest(0, ceil(free_at - $3 * $2 - (select now from moment))) as wait`

export function postgresTurnStore({ sql }: { readonly sql: Sql }): TurnStore {
  return {
    async take(subject, rate, waitMsMax) {
      if (waitMsMax < 0) return undefined
      const [row] = await sql.query<{ readonly wait: number }>(TAKE, [subject, turnMs(rate), rate.burst, waitMsMax])
      return row?.wait
    },
  }
}
