/** A budget for an open job, as the answer to what it asks about one. */
import { describe, expect, it } from 'vitest'
import { isRefusal } from '../../schema/error.ts'
import type { Budget } from '../../schema/budget.ts'
import { answersWith } from '../../src/job/job-budget.ts'
import type { QuestionSummary } from '../../src/job/job-summary.ts'

const question = {
  id: 'que_1',
  kind: 'schema',
  purpose: 'budget',
  schema: { type: 'object' },
  args: { lacking: ['costUsd'], limits: { costUsd: 1.5, steps: 4 }, used: { costUsd: 1.8, steps: 2 } },
} as unknown as QuestionSummary

const told = (budget: Budget) => {
  const answers = answersWith([question], budget)
  return isRefusal(answers) ? answers.message : answers
}

describe('a budget for a job that asks about one', () => {
  it('answers with the totals that were asked about', () => {
    expect(told({ costUsd: 2, steps: 4, toolCalls: 1 })).toEqual([
      { questionId: 'que_1', value: { raise: { costUsd: 2, steps: 4 } } },
    ])
  })

  it('says in plain words why it is no answer', () => {
    expect(told({ costUsd: 1 })).toBe('budget.costUsd 1 is below the limit of 1.5, which can only be raised.')
    expect(told({ costUsd: 1.6 })).toBe('budget.costUsd 1.6 is not above the 1.8 that were used.')
    expect(told({ steps: 9 })).toBe('Question que_1 lacks costUsd, of which the budget says nothing.')
    expect(told({ costUsd: 2, steps: 3 })).toBe('budget.steps 3 is below the limit of 4, which can only be raised.')
  })
})
