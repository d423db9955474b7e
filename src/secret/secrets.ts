/** The verbs of an application's secrets: sealed on the way in, opened only for the skill or provider that needs one. */
import type { Refusal } from '../../schema/error.ts'
import type { ApplicationId } from '../../schema/id.ts'
import type { Secret } from '../../schema/secret.ts'

export interface SecretName {
  readonly name: string
  readonly updatedAt: number
}

export interface Secrets {
  set(applicationId: ApplicationId, name: string, value: Secret): Promise<SecretName | Refusal>
  delete(applicationId: ApplicationId, name: string): Promise<{ readonly name: string } | Refusal>
  list(applicationId: ApplicationId): Promise<readonly SecretName[]>
  /** undefined when not set. Throws `secret_undecipherable`. */
  find(applicationId: ApplicationId, name: string): Promise<Secret | undefined>
}
