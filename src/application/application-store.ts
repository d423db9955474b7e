/** Port: applications and the hashes of their keys. */
import type { ApiKeyId, ApplicationId } from '../../schema/id.ts'
import type { Sha256 } from '../../schema/hash.ts'

export interface Application {
  readonly id: ApplicationId
  readonly name: string
  readonly createdAt: number
}

export interface StoredKey {
  readonly id: ApiKeyId
  readonly applicationId: ApplicationId
  readonly secretHash: Sha256
  readonly scopes: readonly string[]
  readonly revokedAt: number | null
}

export interface ApplicationStore {
  /** Creates the application, or gives the one of that name. */
  ensure(application: Application): Promise<Application>
  find(id: ApplicationId): Promise<Application | undefined>
  putKey(key: StoredKey): Promise<void>
  findKey(id: ApiKeyId): Promise<StoredKey | undefined>
  revokeKey(id: ApiKeyId, at: number): Promise<boolean>
}
