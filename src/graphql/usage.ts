/** What models were paid for, and what a job may cost. */
import type { Usage } from '../../schema/usage.ts'
import { MEASURES } from '../../schema/budget.ts'
import type { JobBudget, Measured } from '../job/job-budget.ts'
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

const MeasuredRef = builder.objectRef<Partial<Measured>>('Measures').implement({
  description: 'Amounts in the measures that a budget can bound.',
  fields: (t) => ({
    costUsd: t.float({
      nullable: true,
      description: 'Of a limit, null is no limit; of what was used, a price that is not known.',
      resolve: ({ costUsd }) => costUsd ?? null,
    }),
    inputTokens: t.float({ nullable: true, resolve: ({ inputTokens }) => inputTokens ?? null }),
    cachedInputTokens: t.float({ nullable: true, resolve: ({ cachedInputTokens }) => cachedInputTokens ?? null }),
    outputTokens: t.float({ nullable: true, resolve: ({ outputTokens }) => outputTokens ?? null }),
    steps: t.float({ nullable: true, resolve: ({ steps }) => steps ?? null }),
    toolCalls: t.float({ nullable: true, resolve: ({ toolCalls }) => toolCalls ?? null }),
    wallSeconds: t.float({
      nullable: true,
      description: 'Time in which a machine had the job; waiting for humans is not in it.',
      resolve: ({ wallSeconds }) => wallSeconds ?? null,
    }),
  }),
})

export const JobBudgetRef = builder.objectRef<JobBudget>('JobBudget').implement({
  description: 'What the job may cost, all its runs together, and what it has cost.',
  fields: (t) => ({
    limits: t.field({ type: MeasuredRef, resolve: ({ limits }) => limits }),
    used: t.field({
      type: MeasuredRef,
      description: 'With what was set aside for generations that a crash or a cut left unsettled.',
      resolve: ({ used }) => used,
    }),
    reserved: t.field({
      type: MeasuredRef,
      description: 'Set aside for generations that are under way.',
      resolve: ({ reserved }) => reserved,
    }),
  }),
})

export const BudgetInputRef = builder.inputType('BudgetInput', {
  description: 'The most of each; what is left out, or null, has no limit.',
  fields: (t) => Object.fromEntries(MEASURES.map((measure) => [measure, t.float()])),
})
