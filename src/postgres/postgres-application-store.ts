/** Applications and the hashes of their keys on Postgres. */
import type { Clock } from '../../schema/clock.ts'
import { PlatformError } from '../../schema/error.ts'
import type { Sha256 } from '../../schema/hash.ts'
import type { ApiKeyId, ApplicationId } from '../../schema/id.ts'
import type { Application, ApplicationStore } from '../application/application-store.ts'
import { retrying, type Sql } from './sql.ts'

interface ApplicationRow {
  readonly id: ApplicationId
  readonly name: string
  readonly created_at: number
}

interface KeyRow {
  readonly id: ApiKeyId
  readonly application_id: ApplicationId
  readonly secret_hash: Sha256
  readonly scopes: readonly string[]
  readonly revoked_at: number | null
}

const COLUMNS = 'id, name, created_at::float8 as created_at'

function applicationOf({ id, name, created_at: createdAt }: ApplicationRow): Application {
  return { id, name, createdAt }
}

export function postgresApplicationStore({ sql }: { readonly sql: Sql }, clock: Clock): ApplicationStore {
  const rows = async <Row>(text: string, values: readonly unknown[]) =>
    retrying(clock, () => sql.query<Row>(text, values))
  return {
    async ensure({ id, name, createdAt }) {
      const insert = 'insert into applications (id, name, created_at) values ($1, $2, $3) on conflict (name) do nothing'
      await rows(insert, [id, name, createdAt])
      const [row] = await rows<ApplicationRow>(`select ${COLUMNS} from applications where name = $1`, [name])
      if (row === undefined) throw new PlatformError('internal', `The application ${name} is gone.`)
      return applicationOf(row)
    },
    async find(id) {
      const [row] = await rows<ApplicationRow>(`select ${COLUMNS} from applications where id = $1`, [id])
      return row === undefined ? undefined : applicationOf(row)
    },
    async putKey({ id, applicationId, secretHash, scopes, revokedAt }) {
      // A second time with the same id is our own, tried again.
      const insert = `
        insert into api_keys (id, application_id, secret_hash, scopes, revoked_at) values ($1, $2, $3, $4::jsonb, $5)
        on conflict (id) do nothing`
      await rows(insert, [id, applicationId, secretHash, JSON.stringify(scopes), revokedAt])
    },
    async findKey(id) {
      const select = `
        select id, application_id, secret_hash, scopes, revoked_at::float8 as revoked_at from api_keys where id = $1`
      const [row] = await rows<KeyRow>(select, [id])
      if (row === undefined) return undefined
      const { application_id: applicationId, secret_hash: secretHash, scopes, revoked_at: revokedAt } = row
      return { id: row.id, applicationId, secretHash, scopes, revokedAt }
    },
    async revokeKey(id, at) {
      const update = 'update api_keys set revoked_at = $2 where id = $1 and revoked_at is null returning id'
      return (await rows(update, [id, at])).length > 0
    },
  }
}
