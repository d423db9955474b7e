/** The verbs of applications: who is asking, and may they. Fails closed: anything but a good key is undefined. */
import type { ApiKeyId, ApplicationId } from '../../schema/id.ts'
import type { Secret } from '../../schema/secret.ts'
import type { Application } from './application-store.ts'

export interface Caller {
  readonly application: Application
  readonly keyId: ApiKeyId
  readonly scopes: readonly string[]
}

export interface Applications {
  /** The caller that a key stands for; undefined for junk, unknown, revoked. Never throws for bad keys. */
  authenticate(key: string | null): Promise<Caller | undefined>
  /** True while the key has not been revoked: streams ask again for every event. */
  isLive(keyId: ApiKeyId): Promise<boolean>
  ensure(name: string): Promise<Application>
  createKey(applicationId: ApplicationId): Promise<Secret>
  revokeKey(applicationId: ApplicationId, keyId: ApiKeyId): Promise<boolean>
}
