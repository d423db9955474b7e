/**
 * The verbs of an application's secrets: sealed on the way in, opened only for the skill or provider that needs one.
 * Every application has a data key of its own, which the store holds sealed under the master key.
 */
import type { Chance, Clock } from '../../schema/clock.ts'
import { PlatformError, refuse, type Refusal } from '../../schema/error.ts'
import type { ApplicationId } from '../../schema/id.ts'
import { Secret } from '../../schema/secret.ts'
import { KEY_BYTES, NONCE_BYTES, seal, unseal } from './sealing.ts'
import { refuseSecretName } from './secret-name.ts'
import type { SecretStore } from './secret-store.ts'

/** The longest value, in bytes of UTF-8. */
export const VALUE_BYTES_MAX = 65_536

export interface SecretName {
  readonly name: string
  readonly updatedAt: number
}

export interface Secrets {
  /** Refuses with `input_invalid`, `input_too_large`. */
  set(applicationId: ApplicationId, name: string, value: Secret): Promise<SecretName | Refusal>
  /** Refuses with `secret_not_found`. */
  delete(applicationId: ApplicationId, name: string): Promise<{ readonly name: string } | Refusal>
  list(applicationId: ApplicationId): Promise<readonly SecretName[]>
  /** undefined when not set. Throws `secret_undecipherable`. */
  find(applicationId: ApplicationId, name: string): Promise<Secret | undefined>
}

export interface SecretsDependencies {
  readonly store: SecretStore
  /** KEY_BYTES bytes, kept outside the store and its backups. */
  readonly masterKey: Uint8Array
  readonly clock: Clock
  readonly chance: Chance
}

/** Throws `config_invalid` when the master key has another length. */
export function openSecrets({ store, masterKey, clock, chance }: SecretsDependencies): Secrets {
  if (masterKey.length !== KEY_BYTES)
    throw new PlatformError(
      'config_invalid',
      `The master key has ${masterKey.length} bytes; it must have ${KEY_BYTES}.`,
    )
  const encoder = new TextEncoder()
  const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

  async function getDataKey(applicationId: ApplicationId): Promise<Uint8Array> {
    const place = { application: applicationId, name: null, version: 1 }
    const fresh = seal(masterKey, place, chance.bytes(KEY_BYTES), chance.bytes(NONCE_BYTES))
    const kept = await store.dataKey(applicationId, fresh)
    const key = unseal(masterKey, place, kept)
    if (key?.length !== KEY_BYTES) throw undecipherable(`The data key of application ${applicationId}`)
    return key
  }

  return {
    async set(applicationId, name, value) {
      const fault = refuseSecretName(name)
      if (fault !== undefined) return refuse('input_invalid', `The name of the secret ${fault}.`)
      const text = value.reveal()
      if (text === '') return refuse('input_invalid', `Secret ${name} is empty.`)
      if (!text.isWellFormed() || text.includes('\u0000'))
        return refuse('input_invalid', `Secret ${name} holds characters that no environment can.`)
      const plain = encoder.encode(text)
      if (plain.length > VALUE_BYTES_MAX)
        return refuse('input_too_large', `Secret ${name} has ${plain.length} bytes; the limit is ${VALUE_BYTES_MAX}.`)
      const updatedAt = clock.now()
      const place = { application: applicationId, name, version: updatedAt }
      const sealed = seal(await getDataKey(applicationId), place, plain, chance.bytes(NONCE_BYTES))
      await store.put(applicationId, { name, sealed, updatedAt })
      return { name, updatedAt }
    },
    async delete(applicationId, name) {
      if (await store.delete(applicationId, name)) return { name }
      return refuse(
        'secret_not_found',
        `There is no secret ${refuseSecretName(name) === undefined ? name : 'of that name'}.`,
      )
    },
    list: async (applicationId) => store.list(applicationId),
    async find(applicationId, name) {
      const secret = await store.get(applicationId, name)
      if (secret === undefined || secret === null) return undefined
      const place = { application: applicationId, name, version: secret.updatedAt }
      const plain = unseal(await getDataKey(applicationId), place, secret.sealed)
      if (plain === undefined) throw undecipherable(`Secret ${name} of application ${applicationId}`)
      return new Secret(decoder.decode(plain))
    },
  }
}

function undecipherable(subject: string): PlatformError {
  return new PlatformError('secret_undecipherable', `${subject} does not open under this master key.`)
}
