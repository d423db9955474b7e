/** What a person reads of a question. */
import { expect, it } from 'vitest'
import { questionOf, rootRunId } from '../../schema/question.ts'
import { human, JOB } from '../run/team.ts'

const call = (args: object) =>
  ({ type: 'toolCall', callId: 'call_1_0', name: 'human/approve', args: { ...args } }) as const
const tool = human.tools['approve']

it('is what its tool says of itself, with what the expert says; without a word of the tool it names that', () => {
  if (tool === undefined) throw new Error('the team has no such tool')
  const titleOf = (description: string, args: object) =>
    questionOf(JOB, rootRunId(JOB, 0), call(args), { ...tool, description })?.title
  expect(titleOf('May I?', { change: 'this' })).toBe('May I?\nchange: this')
  expect(titleOf(' ', {})).toBe('human/approve: what do you answer?')
  expect(titleOf('', { change: 'this' })).toBe('human/approve: what do you answer?\nchange: this')
})
