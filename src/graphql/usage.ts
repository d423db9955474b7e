/** What models were paid for. */
import type { Usage } from '../../schema/usage.ts'
import { builder } from './builder.ts'

export const UsageRef = builder.objectRef<Usage>('Usage').implement({
  fields: (t) => ({
    inputTokens: t.exposeInt('inputTokens'),
    cachedInputTokens: t.exposeInt('cachedInputTokens', { description: 'The part of inputTokens read from a cache.' }),
    outputTokens: t.exposeInt('outputTokens'),
    reasoningTokens: t.exposeInt('reasoningTokens', { description: 'The part of outputTokens spent on reasoning.' }),
    costUsd: t.exposeFloat('costUsd', { nullable: true, description: 'null while a price is not known.' }),
  }),
})
