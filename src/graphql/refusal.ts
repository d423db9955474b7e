/** Refusals as members of the result unions: an expected "no" is data, not an error. */
import { CATALOGUE, isRefusal, type Refusal } from '../../schema/error.ts'
import { builder } from './builder.ts'

export const RefusalRef = builder.objectRef<Refusal>('Refusal').implement({
  description: 'An expected "no": the code says the fact, the message what happened, the hint what to do.',
  isTypeOf: isRefusal,
  fields: (t) => ({
    code: t.string({ resolve: (refusal) => refusal.refused }),
    message: t.exposeString('message'),
    hint: t.string({ nullable: true, resolve: (refusal) => CATALOGUE[refusal.refused].hint }),
  }),
})
