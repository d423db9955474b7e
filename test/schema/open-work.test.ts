/** The receipt of a canceled job as a fold of its log: what is open, and what is known of it. */
import { describe, expect, it } from 'vitest'
import { chain, genesisHash, type JobEvent, type NewEvent } from '../../schema/event.ts'
import { sha256 } from '../../schema/hash.ts'
import { NOTHING_STOPPED, OpenWork } from '../../schema/open-work.ts'
import { approvalQuestionOf, delegateRunId, rootRunId } from '../../schema/question.ts'
import { noUsage } from '../../schema/usage.ts'
import { partsOf } from '../fake/scripted-model.ts'
import { files, human, JOB, LEAD, READER, team } from '../run/team.ts'

const root = rootRunId(JOB, 0)
const lock = team({
  skills: { files: { ...files, effects: { write: 'once', read: 'pure' } }, human },
  approvals: [{ tool: 'files/append', args: {}, edits: false }],
})
const nowhere = { runId: null, expertKey: null, stepNumber: null }
const at = (stepNumber: number, runId = root, expertKey: string = LEAD) => ({ runId, expertKey, stepNumber })
const calls = [
  { name: 'files/write', args: { path: 'a' } },
  { name: 'files/read', args: {} },
  { name: 'files/list', args: {} },
  { name: 'files/append', args: {} },
  { name: 'delegate/reader', args: { query: 'look' } },
  { name: 'human/approve', args: { change: 'x' } },
]
const parts = partsOf({ text: 'on', calls }, 1)
const generated = { parts, usage: noUsage, model: 'm', finishReason: 'stop', promptHash: sha256(''), durationMs: 0 }
const start = { query: 'q', parent: null, continues: null, depth: 0 }
const append = parts[4]
if (append?.type !== 'toolCall') throw new Error('the parts are not the calls')
const approval = approvalQuestionOf(JOB, root, append, { edits: false })
const delegate = delegateRunId(JOB, root, 'call_1_4')

const BEGUN = [
  { type: 'runStarted', data: start, ...at(0) },
  { type: 'generated', data: generated, ...at(1) },
  { type: 'questionAsked', data: { question: approval }, ...at(1) },
  {
    type: 'runStarted',
    data: { ...start, parent: { runId: root, callId: 'call_1_4' }, depth: 1 },
    ...at(0, delegate, READER),
  },
]
const started = { type: 'callStarted', data: { callId: 'call_1_0', effect: 'once', argsHash: sha256('') }, ...at(1) }
const canceled = { type: 'cancelRequested', data: { reason: 'canceled_by_user' }, ...nowhere }
const answered = { type: 'answered', data: { questionId: approval.id, value: true }, ...nowhere }

function receiptAfter(...facts: readonly object[]) {
  const open = new OpenWork()
  const events: readonly JobEvent[] = chain(
    JOB,
    0,
    genesisHash(JOB),
    1000,
    facts.map((fact) => ({ v: 1, ...fact }) as NewEvent),
  )
  for (const event of events) open.take(event)
  return open.receipt(lock, 5, NOTHING_STOPPED)
}
const outcomes = (receipt: ReturnType<typeof receiptAfter>) =>
  Object.fromEntries(receipt.inFlight.calls.map(({ toolName, outcome }) => [toolName, outcome]))

describe('the receipt of a canceled job', () => {
  it('lists the runs that are open, delegates among them, and the questions that nobody need answer', () => {
    const { stopped, durationMs } = receiptAfter(...BEGUN)
    expect(stopped.runs).toEqual([at(1), at(0, delegate, READER)])
    expect(stopped.questions).toEqual([approval.id])
    expect(durationMs).toBe(5)
  })

  it('tells a call that never began from one that changes nothing and one of which nobody knows', () => {
    const receipt = receiptAfter(...BEGUN)
    expect(outcomes(receipt)).toEqual({
      'files/write': 'notStarted',
      'files/read': 'noEffect',
      'files/list': 'unknown',
      'files/append': 'notStarted',
    })
    expect(receipt.unknown.calls.map(({ toolName }) => toolName)).toEqual(['files/list'])
    expect(outcomes(receiptAfter(...BEGUN, started))).toMatchObject({ 'files/write': 'unknown' })
    expect(outcomes(receiptAfter(...BEGUN, answered))).toMatchObject({ 'files/append': 'unknown' })
    expect(outcomes(receiptAfter(...BEGUN, { ...answered, data: { ...answered.data, value: false } }))).toMatchObject({
      'files/append': 'notStarted',
    })
  })

  it('counts no start that was recorded after the wish to cancel, since it was never let through', () => {
    expect(outcomes(receiptAfter(...BEGUN, canceled, started))).toMatchObject({ 'files/write': 'notStarted' })
    expect(outcomes(receiptAfter(...BEGUN, started, canceled))).toMatchObject({ 'files/write': 'unknown' })
  })

  it('lists nothing that has returned, finished, or was answered', () => {
    const result = { type: 'toolResult', callId: 'call_1_2', name: 'files/list', content: [], isError: false }
    const returned = { type: 'toolReturned', data: { result, durationMs: 1 }, ...at(1) }
    const finished = { outcome: 'completed', reason: 'completed', message: null, result: '' }
    const ended = { type: 'runFinished', data: finished, ...at(0, delegate, READER) }
    const receipt = receiptAfter(...BEGUN, returned, ended, answered)
    expect(outcomes(receipt)).not.toHaveProperty('files/list')
    expect(receipt.stopped.runs).toHaveLength(1)
    expect(receipt.stopped.questions).toEqual([])
    expect(receiptAfter(...BEGUN, { type: 'jobFinished', data: finished, ...nowhere }).stopped.runs).toEqual([])
  })

  it('says of every call of an expert that the lock has lost that it is unknown', () => {
    const open = new OpenWork()
    const events = chain(
      JOB,
      0,
      genesisHash(JOB),
      1000,
      BEGUN.map((fact) => ({ v: 1, ...fact }) as NewEvent),
    )
    for (const event of events) open.take(event)
    const { unknown } = open.receipt({ ...lock, experts: {} }, 0, NOTHING_STOPPED)
    expect(unknown.calls.map(({ toolName }) => toolName)).toContain('files/write')
  })
})
