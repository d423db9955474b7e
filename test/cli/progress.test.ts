/** The lines that a person reads of questions that expire, results that are rejected, and skills that ask. */
import { expect, it } from 'vitest'
import type { ShownEvent } from '../../src/cli/api.ts'
import { advance, noProgress } from '../../src/cli/progress.ts'
import { printHowToAnswer } from '../../src/cli/follow.ts'

const event = (type: string, data: ShownEvent['data']): ShownEvent =>
  ({
    type,
    data,
    seq: 1,
    runId: 'run_1',
    expertKey: 'triage@1.0.0',
    stepNumber: 1,
    at: '2026-01-01T00:00:00Z',
  }) as never
const linesOf = (one: ShownEvent) => advance(noProgress, one).lines.map(({ text }) => text.trim())

it('says that a result was rejected, and why', () => {
  expect(linesOf(event('outputRejected', { message: 'That is not JSON.' }))).toEqual([
    '! triage@1.0.0 That is not JSON.',
  ])
})

it('says that no answer came in time', () => {
  expect(linesOf(event('questionExpired', { questionId: 'que_1' }))).toEqual(['! no answer came in time'])
})

it('shows the form that a skill wants filled in, and how to answer or decline', () => {
  const form = { type: 'object', properties: { name: { type: 'string' } } }
  const question = {
    id: 'que_1',
    kind: 'schema',
    purpose: 'elicitation',
    title: 'pen/sign asks: Whose name?',
    schema: { anyOf: [form, { const: false }] },
    toolName: 'pen/sign',
    args: {},
    argsHash: '',
    answeredAt: null,
  }
  const told = printHowToAnswer('job_1', question)
  expect(told).toContain('"name"')
  expect(told).not.toContain('anyOf')
  expect(told).toContain('or false to decline')
  expect(told).toContain("Answer with: senmon answer job_1 que_1 '<JSON>'\n")
})
