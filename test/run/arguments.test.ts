/** Arguments that a model wrote and no tool can use: they come back to it as an error, and the run goes on. */
import { describe, expect, it } from 'vitest'
import type { Json } from '../../schema/json.ts'
import { simulate } from './simulation.ts'
import { team } from './team.ts'

const calling = (args: Json, given: Parameters<typeof team>[0] = {}) =>
  simulate(
    {
      lock: team(given),
      maxSteps: null,
      turnOf: (_run, step) =>
        step === 1 ? { text: 'on', calls: [{ name: 'files/read', args }] } : { text: 'gone on with' },
    },
    { choose: () => 0, killAt: null },
  )
const readBack = (outcome: ReturnType<typeof calling>) =>
  outcome.log.flatMap((fact) => (fact.type === 'toolReturned' ? [fact.data.result] : []))

describe('arguments', () => {
  it.each([
    ['no JSON', '{"path": "cut of', 'they must be one JSON object'],
    ['no object', ['a'], 'they must be one JSON object'],
    ['a value of another type', { path: 7 }, '/path must be string'],
  ] as const)('that are %s never reach the tool', (_name, args, words) => {
    const outcome = calling(args as Json)
    expect(outcome.performed).toEqual([])
    const [result] = readBack(outcome)
    expect(result).toMatchObject({ isError: true, content: [{ text: expect.stringContaining(words) }] })
    expect(outcome.refused).toEqual([])
    expect(outcome.log.at(-1)).toMatchObject({ type: 'runFinished', data: { result: 'gone on with' } })
  })

  it('that fit reach it', () => {
    expect(calling({ path: 'a', more: 1 }).performed).toHaveLength(1)
  })

  it('that cannot be used are no question for a human, though a rule covers the call', () => {
    const outcome = calling({ path: 7 }, { approvals: [{ tool: 'files/*', args: {}, edits: false }] })
    expect(outcome.log.filter((fact) => fact.type === 'questionAsked')).toEqual([])
    expect(outcome.refused).toEqual([])
    expect(readBack(outcome)[0]?.isError).toBe(true)
  })
})
