/** Port: sealed secrets. It never sees a value in the clear, nor the master key. */
import type { ApplicationId } from '../../schema/id.ts'

export interface SealedSecret {
  readonly name: string
  readonly sealed: Uint8Array
  readonly updatedAt: number
}

export interface SecretStore {
  /** The application's data key under the master key; the first writer wins, and everyone gets the winner's. */
  dataKey(applicationId: ApplicationId, fresh: Uint8Array): Promise<Uint8Array>
  put(applicationId: ApplicationId, secret: SealedSecret): Promise<void>
  get(applicationId: ApplicationId, name: string): Promise<SealedSecret | undefined>
  list(applicationId: ApplicationId): Promise<readonly { readonly name: string; readonly updatedAt: number }[]>
  /** False when there was none. */
  delete(applicationId: ApplicationId, name: string): Promise<boolean>
}
