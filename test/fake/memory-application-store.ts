/** An application store in memory. */
import type { ApiKeyId, ApplicationId } from '../../schema/id.ts'
import type { Application, ApplicationStore, StoredKey } from '../../src/application/application-store.ts'

export function memoryApplicationStore(): ApplicationStore {
  const applications = new Map<ApplicationId, Application>()
  const keys = new Map<ApiKeyId, StoredKey>()
  return {
    async ensure(application) {
      const known = [...applications.values()].find((other) => other.name === application.name)
      if (known !== undefined) return { ...known }
      applications.set(application.id, { ...application })
      return { ...application }
    },
    find: async (id) => structuredClone(applications.get(id)),
    async putKey(key) {
      keys.set(key.id, structuredClone(key))
    },
    findKey: async (id) => structuredClone(keys.get(id)),
    async revokeKey(id, at) {
      const key = keys.get(id)
      if (key === undefined || key.revokedAt !== null) return false
      keys.set(id, { ...key, revokedAt: at })
      return true
    },
  }
}
