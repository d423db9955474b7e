/** Sealed secrets on Postgres. */
import type { Clock } from '../../schema/clock.ts'
import { PlatformError } from '../../schema/error.ts'
import type { SealedSecret, SecretStore } from '../secret/secret-store.ts'
import { retrying, type Sql } from './sql.ts'

interface SecretRow {
  readonly name: string
  readonly sealed: Uint8Array
  readonly updated_at: number
}

/** Every verb may happen twice with the outcome of once, so each is tried again when a connection breaks. */
export function postgresSecretStore({ sql }: { readonly sql: Sql }, clock: Clock): SecretStore {
  const rows = async <Row>(text: string, values: readonly unknown[]) =>
    retrying(clock, () => sql.query<Row>(text, values))
  return {
    async dataKey(applicationId, fresh) {
      // Bytes go as hex: the two clients differ in how they take them.
      const insert = `insert into data_keys (application_id, sealed) values ($1, decode($2, 'hex')) on conflict do nothing`
      await rows(insert, [applicationId, Buffer.from(fresh).toString('hex')])
      const select = 'select sealed from data_keys where application_id = $1'
      const [row] = await rows<{ sealed: Uint8Array }>(select, [applicationId])
      if (row === undefined) throw new PlatformError('internal', `The data key of ${applicationId} is gone.`)
      return Uint8Array.from(row.sealed)
    },
    async put(applicationId, { name, sealed, updatedAt }: SealedSecret) {
      const upsert = `
        insert into secrets (application_id, name, sealed, updated_at) values ($1, $2, decode($3, 'hex'), $4)
        on conflict (application_id, name) do update set sealed = excluded.sealed, updated_at = excluded.updated_at`
      await rows(upsert, [applicationId, name, Buffer.from(sealed).toString('hex'), updatedAt])
    },
    async get(applicationId, name) {
      const select = `
        select name, sealed, updated_at::float8 as updated_at from secrets where application_id = $1 and name = $2`
      const [row] = await rows<SecretRow>(select, [applicationId, name])
      if (row === undefined) return undefined
      return { name: row.name, sealed: Uint8Array.from(row.sealed), updatedAt: row.updated_at }
    },
    async list(applicationId) {
      const select = `
        select name, updated_at::float8 as updated_at from secrets where application_id = $1 order by name`
      const found = await rows<Omit<SecretRow, 'sealed'>>(select, [applicationId])
      return found.map((row) => ({ name: row.name, updatedAt: row.updated_at }))
    },
    async delete(applicationId, name) {
      const statement = 'delete from secrets where application_id = $1 and name = $2 returning name'
      return (await rows(statement, [applicationId, name])).length > 0
    },
  }
}
