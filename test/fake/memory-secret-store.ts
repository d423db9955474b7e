/** A secret store in memory. */
import type { ApplicationId } from '../../schema/id.ts'
import type { SealedSecret, SecretStore } from '../../src/secret/secret-store.ts'

export interface MemorySecretStore extends SecretStore {
  /** What is stored, to be looked through and tampered with. */
  readonly dataKeys: Map<ApplicationId, Uint8Array>
  readonly secrets: Map<ApplicationId, Map<string, SealedSecret>>
}

export function memorySecretStore(): MemorySecretStore {
  const dataKeys = new Map<ApplicationId, Uint8Array>()
  const secrets = new Map<ApplicationId, Map<string, SealedSecret>>()
  return {
    dataKeys,
    secrets,
    async dataKey(applicationId, fresh) {
      const key = dataKeys.get(applicationId) ?? Uint8Array.from(fresh)
      dataKeys.set(applicationId, key)
      return Uint8Array.from(key)
    },
    async put(applicationId, secret) {
      const all = secrets.get(applicationId) ?? new Map<string, SealedSecret>()
      secrets.set(applicationId, all)
      all.set(secret.name, structuredClone(secret))
    },
    get: async (applicationId, name) => structuredClone(secrets.get(applicationId)?.get(name)),
    list: async (applicationId) =>
      [...(secrets.get(applicationId)?.values() ?? [])]
        .map(({ name, updatedAt }) => ({ name, updatedAt }))
        .toSorted((a, b) => (a.name < b.name ? -1 : 1)),
    delete: async (applicationId, name) => secrets.get(applicationId)?.delete(name) ?? false,
  }
}
