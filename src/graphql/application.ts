/** The caller's application and its keys. */
import { isRefusal, refuse, type Refusal } from '../../schema/error.ts'
import { parseId } from '../../schema/id.ts'
import type { Application } from '../application/application-store.ts'
import { builder } from './builder.ts'
import { RefusalRef } from './refusal.ts'

const ApplicationRef = builder.objectRef<Application>('Application').implement({
  description: 'Who owns jobs, secrets, workspaces and packages.',
  fields: (t) => ({
    id: t.exposeID('id'),
    name: t.exposeString('name'),
    createdAt: t.expose('createdAt', { type: 'DateTime' }),
  }),
})

const CreatedApiKeyRef = builder.objectRef<{ readonly key: string }>('CreatedApiKey').implement({
  description: 'A new key. It is shown this once and stored only as a hash.',
  fields: (t) => ({ key: t.exposeString('key') }),
})
const RevokedApiKeyRef = builder.objectRef<{ readonly id: string }>('RevokedApiKey').implement({
  fields: (t) => ({ id: t.exposeID('id') }),
})

const CreateApiKeyResult = builder.unionType('CreateApiKeyResult', {
  types: [CreatedApiKeyRef, RefusalRef],
  resolveType: (value) => (isRefusal(value) ? RefusalRef : CreatedApiKeyRef),
})
const RevokeApiKeyResult = builder.unionType('RevokeApiKeyResult', {
  types: [RevokedApiKeyRef, RefusalRef],
  resolveType: (value) => (isRefusal(value) ? RefusalRef : RevokedApiKeyRef),
})
const RevokeApiKeyInput = builder.inputType('RevokeApiKeyInput', {
  fields: (t) => ({ keyId: t.id({ required: true }) }),
})

builder.queryField('application', (t) =>
  t.field({ type: ApplicationRef, resolve: (_root, _args, { caller }) => caller.application }),
)

builder.mutationFields((t) => ({
  createApiKey: t.field({
    type: CreateApiKeyResult,
    resolve: async (_root, _args, { applications, caller }) => ({
      key: (await applications.createKey(caller.application.id)).reveal(),
    }),
  }),
  revokeApiKey: t.field({
    type: RevokeApiKeyResult,
    args: { input: t.arg({ type: RevokeApiKeyInput, required: true }) },
    resolve: async (_root, { input }, { applications, caller }): Promise<{ readonly id: string } | Refusal> => {
      const keyId = parseId('key', input.keyId)
      const revoked = keyId !== undefined && (await applications.revokeKey(caller.application.id, keyId))
      return revoked
        ? { id: input.keyId }
        : refuse('input_invalid', `This application has no key ${input.keyId.slice(0, 64)}.`)
    },
  }),
}))
