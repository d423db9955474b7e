/** What a machine may say that a skill asked, judged by the log alone. */
import { describe, expect, it } from 'vitest'
import { ELICITATIONS_MAX, elicitationQuestionOf } from '../../schema/elicitation.ts'
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

describe('the answer to a skill', () => {
  it('is what its form asks for, or false', () => {
    for (const value of [{ name: 'Ann' }, false]) expect(refuseAnswer(questionOf(0), value)).toBeUndefined()
    for (const value of [{}, { name: 1 }, true, null, 'Ann']) expect(refuseAnswer(questionOf(0), value)).toBeDefined()
  })
})
