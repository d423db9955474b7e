/** Statements on whichever database there is: a server behind a pool, or PGlite in this process. */
import type { PGlite, Transaction } from '@electric-sql/pglite'
import type { Pool, PoolClient } from 'pg'
import type { Clock } from '../../schema/clock.ts'
import { PlatformError } from '../../schema/error.ts'
import { sha256 } from '../../schema/hash.ts'

export interface Sql {
  /**
   * The rows of one statement, which is a transaction of its own. `text` must be one of few: it is prepared once per
   * connection. Throws `database_unavailable` when the connection is gone, and then nobody knows whether a writing
   * statement took effect; `internal` when the database refuses the statement.
   */
  query<Row>(text: string, values?: readonly unknown[]): Promise<readonly Row[]>
  /** Commits when `work` resolves. Inside, use only the given `Sql`: PGlite has one connection and would wait for ever. */
  transaction<Result>(work: (sql: Sql) => Promise<Result>): Promise<Result>
}

/** What any of the clients has that we use; each row is what the caller says it is. */
interface Client {
  query(query: {
    readonly name: string
    readonly text: string
    readonly values: unknown[]
  }): Promise<{ rows: unknown[] }>
}

const names = new Map<string, string>()

function nameOf(text: string): string {
  let name = names.get(text)
  if (name === undefined) names.set(text, (name = sha256(text).slice(0, 32)))
  return name
}

const LOST =
  /^(08...|53300|57P0[123]|25P03|ECONN.*|EPIPE|ENOENT|EACCES|ETIMEDOUT|EHOSTUNREACH|ENETUNREACH|ENOTFOUND|EAI_AGAIN)$/

/** True when the connection broke, or could not be made: the database itself did not refuse anything. */
export function isConnectionLost(error: unknown): boolean {
  if (!(error instanceof Error)) return false
  const code = 'code' in error ? error.code : undefined
  if (typeof code === 'string') return LOST.test(code)
  return /terminated|timeout|timed out|not queryable|Client was closed|Cannot use a pool|is closed/i.test(error.message)
}

const DISK_FULL = '53100'

/** The world's failure under one of our codes. */
export function classify(cause: unknown): PlatformError {
  if (cause instanceof PlatformError) return cause
  if (isConnectionLost(cause))
    return new PlatformError('database_unavailable', 'The database is out of reach.', { cause })
  // What the database says names its files.
  if (cause instanceof Error && 'code' in cause && cause.code === DISK_FULL)
    return new PlatformError('storage_full', 'The disk of the database is full.', { cause })
  return new PlatformError('internal', 'The database refused a statement.', { cause })
}

async function ask<Row>(client: Client, text: string, values: readonly unknown[]): Promise<readonly Row[]> {
  try {
    const { rows } = await client.query({ name: nameOf(text), text, values: [...values] })
    return rows as Row[] // the caller wrote the statement and knows its columns
  } catch (cause) {
    throw classify(cause)
  }
}

function within(client: Client): Sql {
  const sql: Sql = {
    query: (text, values = []) => ask(client, text, values),
    transaction: (work) => work(sql),
  }
  return sql
}

export function poolSql(pool: Pool): Sql {
  return {
    query: (text, values = []) => ask(pool, text, values),
    async transaction(work) {
      let client: PoolClient | undefined
      let broken = true
      try {
        client = await pool.connect()
        await client.query('begin')
        const result = await work(within(client))
        await client.query('commit')
        broken = false
        return result
      } catch (cause) {
        // A connection that cannot even roll back is thrown away.
        broken = await (client?.query('rollback').then(
          () => false,
          () => true,
        ) ?? true)
        throw classify(cause)
      } finally {
        client?.release(broken)
      }
    },
  }
}

export function pgliteSql(pglite: PGlite): Sql {
  const client = (target: PGlite | Transaction): Client => ({ query: ({ text, values }) => target.query(text, values) })
  const outside = client(pglite)
  return {
    query: (text, values = []) => ask(outside, text, values),
    async transaction(work) {
      try {
        return await pglite.transaction((transaction) => work(within(client(transaction))))
      } catch (cause) {
        throw classify(cause)
      }
    },
  }
}

const RETRY_MS = [20, 100, 500, 2000]

/** Tries again while the database is out of reach, for about three seconds. Only for what may happen twice. */
export async function retrying<Result>(clock: Clock, work: (attempt: number) => Promise<Result>): Promise<Result> {
  for (let attempt = 0; ; attempt++) {
    try {
      return await work(attempt)
    } catch (cause) {
      const ms = RETRY_MS[attempt]
      if (ms === undefined || !(cause instanceof PlatformError) || cause.code !== 'database_unavailable') throw cause
      await clock.sleep(ms)
    }
  }
}

/** The constraint that a statement broke; undefined when it failed for another reason. */
export function brokenConstraint(error: unknown): string | undefined {
  const cause = error instanceof PlatformError ? error.cause : error
  if (!(cause instanceof Error) || !('code' in cause) || cause.code !== '23505') return undefined
  return 'constraint' in cause ? String(cause.constraint) : ''
}
