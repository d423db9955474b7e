/** Secrets of the caller's application: set, named, deleted; a value goes in and never comes out. */
import { isRefusal } from '../../schema/error.ts'
import { Secret } from '../../schema/secret.ts'
import type { SecretName } from '../secret/secrets.ts'
import { builder } from './builder.ts'
import { RefusalRef } from './refusal.ts'

const SecretRef = builder.objectRef<SecretName>('Secret').implement({
  description: 'A secret by its name. Its value reaches only the skills whose requiredEnv names it.',
  isTypeOf: (value) => typeof value === 'object' && value !== null && 'updatedAt' in value,
  fields: (t) => ({
    name: t.exposeString('name'),
    updatedAt: t.expose('updatedAt', { type: 'DateTime' }),
  }),
})

const DeletedSecretRef = builder.objectRef<{ readonly name: string }>('DeletedSecret').implement({
  fields: (t) => ({ name: t.exposeString('name') }),
})

const SetSecretResult = builder.unionType('SetSecretResult', {
  types: [SecretRef, RefusalRef],
  resolveType: (value) => (isRefusal(value) ? RefusalRef : SecretRef),
})
const DeleteSecretResult = builder.unionType('DeleteSecretResult', {
  types: [DeletedSecretRef, RefusalRef],
  resolveType: (value) => (isRefusal(value) ? RefusalRef : DeletedSecretRef),
})

const SetSecretInput = builder.inputType('SetSecretInput', {
  fields: (t) => ({ name: t.string({ required: true }), value: t.string({ required: true }) }),
})
const DeleteSecretInput = builder.inputType('DeleteSecretInput', {
  fields: (t) => ({ name: t.string({ required: true }) }),
})

builder.queryField('secrets', (t) =>
  t.field({
    type: [SecretRef],
    resolve: (_root, _args, { secrets, caller }) => secrets.list(caller.application.id) as Promise<SecretName[]>,
  }),
)

builder.mutationFields((t) => ({
  setSecret: t.field({
    type: SetSecretResult,
    args: { input: t.arg({ type: SetSecretInput, required: true }) },
    resolve: (_root, { input }, { secrets, caller }) =>
      secrets.set(caller.application.id, input.name, new Secret(input.value)),
  }),
  deleteSecret: t.field({
    type: DeleteSecretResult,
    args: { input: t.arg({ type: DeleteSecretInput, required: true }) },
    resolve: (_root, { input }, { secrets, caller }) => secrets.delete(caller.application.id, input.name),
  }),
}))
