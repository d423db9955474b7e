/** A statement that writes a job and its events, by itself or with the claim of a machine in the same commit. */
import type { ClaimRider } from './claim-rider.ts'
import type { Sql } from './sql.ts'

/** In parts, so that more may go with it. One object for each text, so that each is made once. */
export interface Statement {
  /** Up to and with what is called `job`. */
  readonly before: string
  /** Inserts the events, and returns a row for each. */
  readonly insert: string
  /** A row where a lease was given. */
  readonly leased: string
  /** How many values it has. */
  readonly count: number
}

const texts = new WeakMap<Statement, { alone: string; ridden?: string }>()

function textOf(statement: Statement, rider: ClaimRider | undefined): string {
  const { before, insert, leased, count } = statement
  let known = texts.get(statement)
  if (known === undefined) texts.set(statement, (known = { alone: `${before}\n${insert}` }))
  if (rider === undefined) return known.alone
  known.ridden ??= `${before}, written as (${insert}), leased as (${leased}), ${rider.text(count + 1)}
    select (select count(*)::int from written) as events, machine.* from (values (1)) as one left join machine on true`
  return known.ridden
}

/** Runs it; gives how many events it wrote. */
export async function write(
  sql: Sql,
  statement: Statement,
  values: readonly unknown[],
  rider: ClaimRider | undefined,
): Promise<number> {
  if (rider === undefined) return (await sql.query(textOf(statement, rider), values)).length
  const [row] = await sql.query<{ readonly events: number; readonly id: string | null }>(textOf(statement, rider), [
    ...values,
    ...rider.values,
  ])
  if (row === undefined) throw new TypeError('an append with a claim has an answer')
  if (row.events > 0) rider.take(row)
  return row.events
}
