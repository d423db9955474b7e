/** What a machine may say that a skill asked, judged by the log alone. */
import { describe, expect, it } from 'vitest'
import { ELICITATIONS_MAX, elicitationQuestionOf, handedBackIn } from '../../schema/elicitation.ts'
import type { Question } from '../../schema/event.ts'
import { hashOf, sha256 } from '../../schema/hash.ts'
import type { Json } from '../../schema/json.ts'
import type { Lock } from '../../schema/lock.ts'
import type { ToolCallPart } from '../../schema/message.ts'
import { approvalQuestionOf, rootRunId } from '../../schema/question.ts'
import { noUsage } from '../../schema/usage.ts'
import { refuseAnswer } from '../../src/job/answer.ts'
import { Admission } from '../../src/attempt/admission.ts'
import { partsOf } from '../fake/scripted-model.ts'
import { files, human, JOB, LEAD, team, TOOLS } from '../run/team.ts'

const root = rootRunId(JOB, 0)
const place = { runId: root, expertKey: LEAD, stepNumber: 1 }
const nowhere = { runId: null, expertKey: null, stepNumber: null }
const form = { type: 'object', properties: { name: { type: 'string' } }, required: ['name'] } as const
const calls = [
  { name: 'files/write', args: { path: 'x' } },
  { name: 'human/approve', args: { change: 'x' } },
  { name: 'delegate/reader', args: { query: 'x' } },
  { name: 'files/hidden', args: {} },
]
const parts = partsOf({ text: 'on', calls }, 1)
const partAt = (i: number): ToolCallPart => parts[i + 1] as ToolCallPart // after the text
const questionOf = (i: number, message = 'Who?', nth = 0, requestedSchema: object = form): Question =>
  elicitationQuestionOf(JOB, root, partAt(i), { message, requestedSchema: requestedSchema as never }, nth)
const asked = (question: Question) => ({ type: 'questionAsked', data: { question }, ...place }) as const
const answered = ({ id: questionId }: Question, value: Json = { name: 'Ann' }) =>
  ({ type: 'answered', data: { questionId, value }, ...nowhere }) as never
const returned = (i: number, isError = false) => {
  const { callId, name } = partAt(i)
  const result = { type: 'toolResult', callId, name, content: [], isError } as const
  return { type: 'toolReturned', data: { result, durationMs: 0 }, ...place } as const
}
const leave = { expertKey: LEAD, toolName: 'files/write', argsHash: hashOf({ path: 'x' }) }

function judge(lock: Lock = team()): Admission {
  const admission = new Admission(JOB, lock)
  const start = { query: 'q', parent: null, continues: null, depth: 0 }
  admission.take({ type: 'runStarted', data: start, ...place, stepNumber: 0 })
  admission.take({ type: 'toolsListed', data: { skill: 'files', tools: TOOLS }, ...place, stepNumber: 0 })
  const data = { parts, usage: noUsage, model: 'm', finishReason: 'stop', promptHash: sha256(''), durationMs: 0 }
  admission.take({ type: 'generated', data, ...place })
  return admission
}

describe('the judge of a call whose skill asks', () => {
  it('takes one question at a time, no result while it is open, and goes on with the answer (A3)', () => {
    const admission = judge()
    expect(admission.admit(asked(questionOf(0)))).toBeUndefined()
    expect(admission.admit(asked(questionOf(0, 'And?')))).toContain('waits for an answer')
    for (const isError of [false, true]) expect(admission.admit(returned(0, isError))).toContain('waits for the answer')
    admission.take(answered(questionOf(0)))
    expect(admission.admit(asked(questionOf(0)))).toBeTypeOf('string')
    expect(admission.admit(asked(questionOf(0, 'Who?', 1)))).toBeUndefined()
    admission.take({ type: 'questionExpired', data: { questionId: questionOf(0, 'Who?', 1).id }, ...nowhere } as never)
    expect(admission.admit(returned(0))).toBeUndefined()
  })

  it('takes no question for a call that is none of a skill, or in other words than ours around the words of the server', () => {
    for (const i of [1, 2, 3]) expect(judge().admit(asked(questionOf(i)))).toBeTypeOf('string')
    const honest = questionOf(0)
    const lies: Partial<Question>[] = [
      { title: 'Your bank asks: password?' },
      { kind: 'confirm' },
      { schema: {} },
      { toolName: 'files/read' },
      { args: { path: 'x' } },
      { argsHash: hashOf({}) },
      { id: questionOf(0, 'Else?').id },
    ]
    for (const lie of lies) expect(judge().admit(asked({ ...honest, ...lie }))).toBeTypeOf('string')
    for (const schema of [{ type: 'object', $ref: '#/x' }, { type: 'string' }])
      expect(judge().admit(asked(questionOf(0, 'Who?', 0, schema)))).toBeTypeOf('string')
    expect(judge().admit(asked(questionOf(0, ' ')))).toBeTypeOf('string')
  })

  it('takes no question of a call that may be made only once, and no more than a call may ask', () => {
    const once = team({ skills: { files: { ...files, effects: { write: 'once' } }, human } })
    expect(judge(once).admit(asked(questionOf(0)))).toContain('may ask')
    const admission = judge()
    for (let i = 0; i < ELICITATIONS_MAX; i++) {
      expect(admission.admit(asked(questionOf(0, `Number ${i}?`)))).toBeUndefined()
      admission.take(answered(questionOf(0, `Number ${i}?`)))
    }
    expect(admission.admit(asked(questionOf(0, 'One more?')))).toContain(`asked ${ELICITATIONS_MAX} times`)
  })

  it('lets a server hear what its human said to an open call, in the same words, and nothing else (A3)', () => {
    const admission = judge()
    const asks = { message: 'Who?', requestedSchema: form }
    const skill = { expertKey: LEAD, skill: 'files' }
    const hears = (reply: object, asked: object = asks, to: object = skill) =>
      admission.refuseReply({ ...skill, ...to, asked: asked as never, replyHash: hashOf(reply as Json) })
    const ann = { action: 'accept', content: { name: 'Ann' } }
    expect(hears(ann)).toContain('no human')
    admission.admit(asked(questionOf(0)))
    for (const early of [ann, { action: 'decline' }, { action: 'cancel' }]) expect(hears(early)).toContain('no human')
    admission.take(answered(questionOf(0)))
    expect(hears(ann)).toBeUndefined()
    expect(hears({ ...ann, content: { name: 'Eve' } })).toContain('no human')
    expect(hears({ ...ann, note: 'more' })).toContain('no human')
    expect(hears({ action: 'decline' })).toContain('no human')
    expect(hears(ann, { ...asks, message: 'Which card?' })).toContain('no human')
    expect(hears(ann, asks, { skill: 'file' })).toContain('no human')
    expect(hears(ann, asks, { expertKey: 'reader@1.0.0' })).toContain('no human')
    admission.take(returned(0))
    expect(hears(ann)).toContain('no human')
  })

  it('gives leave for a covered call again after each answer, and never without one (A7)', () => {
    const lock = team({ approvals: [{ tool: 'files/write', args: {}, edits: false }] })
    const admission = judge(lock)
    expect(admission.admit(asked(questionOf(0)))).toContain('may ask')
    const approval = approvalQuestionOf(JOB, root, partAt(0), { edits: false })
    admission.take(asked(approval))
    admission.take(answered(approval, true))
    expect(admission.refuseCall(leave)).toBeUndefined()
    expect(admission.admit(asked(questionOf(0)))).toBeUndefined()
    expect(admission.refuseCall(leave)).toBeTypeOf('string')
    admission.take(answered(questionOf(0)))
    expect(admission.refuseCall(leave)).toBeUndefined()
    admission.take(answered(questionOf(0)))
    expect(admission.refuseCall(leave)).toBeTypeOf('string')
    expect(admission.admit(returned(0))).toBeUndefined()
  })
})

describe('the judge of a call whose server goes on where it asked', () => {
  const together = (i: number, of = 2, from = 0, words = `Number ${i}?`, nth = 0) => ({
    type: 'questionAsked' as const,
    data: { question: questionOf(0, words, nth), resumption: { key: `q${i}`, from, of, state: 'its own' } },
    ...place,
  })
  const replies = (names: Readonly<Record<string, Json>>, state = 'its own') =>
    handedBackIn({ inputResponses: names, requestState: state })
  const said = (name: string) => ({ action: 'accept', content: { name } })

  it('takes what came together, and the call again when all of it is answered (A3)', () => {
    const admission = judge()
    expect(admission.refuseCall(leave)).toBeUndefined()
    expect(admission.admit(together(0))).toBeUndefined()
    for (const lie of [together(0, 2, 0, 'Other?'), together(1, 3), together(1, 2, 1), asked(questionOf(0, 'Other?'))])
      expect(admission.admit(lie)).toBeTypeOf('string')
    expect(admission.admit(together(1))).toBeUndefined()
    expect(admission.admit(together(2))).toContain('waits for an answer')
    expect(admission.admit(returned(0))).toContain('waits for the answer')
    admission.take(answered(questionOf(0, 'Number 0?')))
    expect(admission.refuseCall(leave)).toBeTypeOf('string')
    admission.take(answered(questionOf(0, 'Number 1?'), { name: 'Bob' }))
    for (const forged of [
      replies({ q0: said('Ann'), q1: said('Eve') }),
      replies({ q0: said('Ann') }),
      replies({ q0: said('Ann'), q1: said('Bob') }, 'of mine'),
    ])
      expect(admission.refuseCall({ ...leave, handedBack: forged as never })).toBeTypeOf('string')
    const honest = replies({ q0: said('Ann'), q1: said('Bob') })
    expect(admission.refuseCall({ ...leave, handedBack: honest as never })).toBeUndefined()
    expect(admission.refuseCall({ ...leave, handedBack: honest as never })).toBeTypeOf('string')
    expect(admission.admit(together(2, 1, 2))).toBeUndefined()
  })

  it('takes the rest of what a crash cut short, also when the first of it is answered by then (EL2)', () => {
    for (const isAnswered of [false, true]) {
      const admission = judge()
      admission.take(together(0))
      if (isAnswered) admission.take(answered(questionOf(0, 'Number 0?')))
      expect(admission.refuseCall({ ...leave, handedBack: replies({ q0: said('Ann') }) as never })).toBeTypeOf('string')
      expect(admission.refuseCall(leave)).toBeUndefined()
      expect(admission.admit(together(1))).toBeUndefined()
      expect(admission.admit(returned(0))).toContain('waits for the answer')
    }
  })

  it('hands back nothing where nothing was asked, and only a server has words of its own', () => {
    const admission = judge()
    expect(admission.refuseCall({ ...leave, handedBack: replies({}) as never })).toBeTypeOf('string')
    const approval = approvalQuestionOf(JOB, root, partAt(0), { edits: false })
    const lock = team({ approvals: [{ tool: 'files/write', args: {}, edits: false }] })
    const data = { ...together(0).data, question: approval }
    expect(judge(lock).admit({ ...together(0), data })).toContain('of no server')
  })

  it('takes the time that its human has from the lock, and from nowhere else', () => {
    const lock = team({ skills: { files: { ...files, questionTimeoutSeconds: 60 }, human } })
    const timed = { ...questionOf(0), timeoutSeconds: 60 }
    expect(judge(lock).admit(asked(timed))).toBeUndefined()
    expect(judge(lock).admit(asked(questionOf(0)))).toBeTypeOf('string')
    expect(judge().admit(asked(timed))).toBeTypeOf('string')
  })
})

describe('the answer to a skill', () => {
  it('is what its form asks for, or false', () => {
    for (const value of [{ name: 'Ann' }, false]) expect(refuseAnswer(questionOf(0), value)).toBeUndefined()
    for (const value of [{}, { name: 1 }, true, null, 'Ann']) expect(refuseAnswer(questionOf(0), value)).toBeDefined()
    const visit = elicitationQuestionOf(JOB, root, partAt(0), { message: 'Go.', url: 'https://example.com/' }, 0)
    for (const value of [true, false]) expect(refuseAnswer(visit, value)).toBeUndefined()
    for (const value of [{}, 'true', null]) expect(refuseAnswer(visit, value)).toBeDefined()
  })
})
