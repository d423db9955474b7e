/** Calls whose skill asks a human: when they wait, and for how long they are not made. */
import { describe, expect, it } from 'vitest'
import { elicitationQuestionOf } from '../../schema/elicitation.ts'
import type { Question } from '../../schema/event.ts'
import type { ToolCallPart } from '../../schema/message.ts'
import { rootRunId } from '../../schema/question.ts'
import { hearsReply, putsQuestion, waitsForHuman } from '../../runner/run/elicited.ts'
import type { Call } from '../../runner/run/run-state.ts'
import { JOB } from './team.ts'

const part: ToolCallPart = { type: 'toolCall', callId: 'call_1_0', name: 'files/write', args: { path: 'x' } }
const form = { type: 'object', properties: { name: { type: 'string' } }, required: ['name'] } as const
const asks = (nth: number): Question =>
  elicitationQuestionOf(JOB, rootRunId(JOB, 0), part, { message: `Who is ${nth}?`, requestedSchema: form }, nth)

function call(to: 'skill' | 'human' = 'skill'): Call {
  const path = to === 'skill' ? { to, skill: 'files', tool: 'write' } : { to, question: asks(0), answer: null }
  const blank = { approval: null, granted: null, once: null, elicited: [], edited: null, result: null }
  return { part, path, ...blank } as unknown as Call // what paths hold besides is of no interest here
}

describe('a call whose skill asks', () => {
  it('is not made while its question is open, and is owed again once every question is closed (EL1)', () => {
    const [first, second] = [asks(0), asks(1)]
    expect(waitsForHuman(call())).toBe(false)
    const asking = putsQuestion(call(), first, null)
    expect(waitsForHuman(asking)).toBe(true)
    const answered = hearsReply(asking, first.id, { value: { name: 'Ann' } })
    if (answered === undefined) throw new Error('the question is not of this call')
    expect(waitsForHuman(answered)).toBe(false)
    expect(answered.elicited).toMatchObject([{ reply: { action: 'accept', content: { name: 'Ann' } } }])
    const again = putsQuestion(answered, second, null)
    expect(waitsForHuman(again)).toBe(true)
    const closed = hearsReply(again, second.id, null)
    expect([closed && waitsForHuman(closed), closed?.elicited[1]?.reply]).toEqual([false, { action: 'cancel' }])
  })

  it('is made again where a crash left some of what came together, to be asked the rest (EL2)', () => {
    const round = (key: string) => ({ key, from: 0, of: 2, state: null })
    const half = putsQuestion(call(), asks(0), round('a'))
    expect(waitsForHuman(half)).toBe(false)
    const whole = putsQuestion(half, asks(1), round('b'))
    expect(waitsForHuman(whole)).toBe(true)
    const answered = hearsReply(whole, asks(0).id, { value: { name: 'Ann' } })
    expect(answered && waitsForHuman(answered)).toBe(true)
  })

  it('takes a question once, and the first answer to it, however often they come', () => {
    const question = asks(0)
    const asking = putsQuestion(putsQuestion(call(), question, null), question, null)
    expect(asking.elicited).toHaveLength(1)
    const answered = hearsReply(asking, question.id, { value: { name: 'Ann' } })
    if (answered === undefined) throw new Error('the question is not of this call')
    expect(hearsReply(answered, question.id, { value: { name: 'Bea' } })).toBe(answered)
    expect(putsQuestion(answered, question, null)).toBe(answered)
  })

  it('hears nothing of a question of another call, and one of no skill asks nothing', () => {
    expect(hearsReply(putsQuestion(call(), asks(0), null), asks(1).id, { value: {} })).toBeUndefined()
    expect(putsQuestion(call('human'), asks(0), null).elicited).toEqual([])
  })
})
