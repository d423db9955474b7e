/** Checkpoints as a fold of events. */
import { describe, expect, it } from 'vitest'
import type { NewEvent } from '../../schema/event.ts'
import { hashState } from '../../schema/conversation.ts'
import { sha256 } from '../../schema/hash.ts'
import type { JsonObject } from '../../schema/json.ts'
import type { GeneratedPart } from '../../schema/message.ts'
import { listCheckpoints, openCheckpoints, parseCheckpointId, printCheckpointId } from '../../src/job/checkpoint.ts'
import { aLockHash, created, jobIdOf, ofRun, runFinished, runIdOf, runStarted, stepFinished, tell } from './given.ts'

const jobId = jobIdOf(1)
const root = runIdOf(jobId)
const delegate = runIdOf(jobId, 'delegate')
const next = runIdOf(jobId, 'next')
const usage = { inputTokens: 5, cachedInputTokens: 1, outputTokens: 7, reasoningTokens: 2, costUsd: 0.5 }

function generated(runId: typeof root, stepNumber: number, ...parts: readonly GeneratedPart[]): NewEvent {
  const data = { parts, usage, model: 'm', finishReason: 'stop', promptHash: aLockHash, durationMs: 1 }
  return ofRun(runId, stepNumber, { type: 'generated', data })
}
const call = (callId: string, name = 'files/read_file'): GeneratedPart => ({ type: 'toolCall', callId, name, args: {} })
const text = (text: string): GeneratedPart => ({ type: 'text', text })
const result = (callId: string) =>
  ({ type: 'toolResult', callId, name: 'files/read_file', content: [], isError: false }) as const
const returned = (runId: typeof root, stepNumber: number, callId: string): NewEvent =>
  ofRun(runId, stepNumber, { type: 'toolReturned', data: { result: result(callId), durationMs: 1 } })

const FIRST: readonly NewEvent[] = [
  runStarted(root),
  generated(root, 1, text('Let me look.'), call('call_1_0'), call('call_1_1', 'delegate/reader')),
  // The second call's result is in before the first's, and a delegate works in between.
  runStarted(delegate, { runId: root, callId: 'call_1_1' }),
  generated(delegate, 1, text('Fine.')),
  stepFinished(delegate, 1),
  runFinished(delegate),
  returned(root, 1, 'call_1_1'),
  returned(root, 1, 'call_1_0'),
  ofRun(root, 1, { type: 'workspaceChanged', data: { treeHash: sha256('tree') } }),
  stepFinished(root, 1),
  generated(root, 2, text('Done.')),
  stepFinished(root, 2),
  runFinished(root),
]

function history() {
  const held = tell(created(jobId), { type: 'grant', now: 2000, holder: 'k', lease: null, barrenAttemptsMax: 3 })
  const ended = tell(held, { type: 'record', now: 2001, fence: 1, events: FIRST })
  const continued = tell(ended, { type: 'continue', now: 3000, query: 'More', maxSteps: null })
  const again = tell(continued, { type: 'grant', now: 3001, holder: 'k', lease: null, barrenAttemptsMax: 3 })
  const start = { query: 'More', parent: null, continues: root, depth: 0 }
  const events = [
    ofRun(next, 0, { type: 'runStarted', data: start }),
    generated(next, 1, text('Again.')),
    stepFinished(next, 1),
  ]
  return tell(again, { type: 'record', now: 3002, fence: 2, events }).events
}

describe('checkpoints', () => {
  it('are one for each finished step of any run, in the order of the log', () => {
    const checkpoints = listCheckpoints(jobId, history())
    expect(checkpoints.map(({ runId, stepNumber, status }) => [runId, stepNumber, status])).toEqual([
      [delegate, 1, 'completed'],
      [root, 1, 'proceeding'],
      [root, 2, 'completed'],
      [next, 1, 'completed'],
    ])
    expect(checkpoints.map(({ seq }) => seq)).toEqual(
      history()
        .filter((event) => event.type === 'stepFinished')
        .map((event) => event.seq),
    )
  })

  it('say that a step completed its run by a tool, and that one that may not yet did not', () => {
    const statusAfter = (answer: JsonObject, ...more: Parameters<typeof ofRun>[2][]) => {
      const held = tell(created(jobId), { type: 'grant', now: 2000, holder: 'k', lease: null, barrenAttemptsMax: 3 })
      const name = 'base/attemptCompletion'
      const call = { type: 'toolCall', callId: 'call_1_0', name, args: { result: 'Done.' } } as const
      const content = [text(JSON.stringify(answer))]
      const said = {
        type: 'toolResult',
        callId: 'call_1_0',
        name,
        content,
        structured: answer,
        isError: false,
      } as const
      const start = { query: 'q', parent: null, continues: null, depth: 0 }
      const facts = [
        ofRun(root, 0, { type: 'runStarted', data: start }),
        generated(root, 1, call),
        ofRun(root, 1, { type: 'toolReturned', data: { result: said, durationMs: 0 } }),
        ...more.map((fact) => ofRun(root, 1, fact)),
        stepFinished(root, 1),
      ]
      const { events } = tell(held, { type: 'record', now: 2001, fence: 1, events: facts })
      return listCheckpoints(jobId, events).map(({ status }) => status)
    }
    expect(statusAfter({ completed: true })).toEqual(['completed'])
    expect(statusAfter({ remainingTodos: [] })).toEqual(['proceeding'])
    const rejected = { type: 'outputRejected', data: { message: 'It is no JSON.' } } as const
    expect(statusAfter({ completed: true }, rejected)).toEqual(['proceeding'])
  })

  it('hold the whole conversation of their run and what is new in it', () => {
    const [ofDelegate, first, second, third] = listCheckpoints(jobId, history())
    expect(ofDelegate?.messages.map((message) => message.role)).toEqual(['user', 'expert'])
    expect(first?.messages.map((message) => message.role)).toEqual(['user', 'expert', 'tool'])
    expect(first?.newMessages).toEqual(first?.messages)
    expect(first?.toolCalls.map((part) => part.callId)).toEqual(['call_1_0', 'call_1_1'])
    expect(first?.toolResults).toEqual([result('call_1_0'), result('call_1_1')])
    expect(first?.treeHash).toBe(sha256('tree'))
    expect(second?.newMessages).toEqual([{ role: 'expert', content: [text('Done.')] }])
    expect(second?.toolCalls).toEqual([])
    // A continued run goes on from all that was said, of which only its own part is new.
    expect(third?.messages.slice(0, 4)).toEqual(second?.messages)
    expect(third?.newMessages).toEqual([
      { role: 'user', content: [text('More')] },
      { role: 'expert', content: [text('Again.')] },
    ])
  })

  it('count the usage of their step alone', () => {
    const checkpoints = listCheckpoints(jobId, history())
    expect(checkpoints.map((checkpoint) => checkpoint.usage.outputTokens)).toEqual([7, 7, 7, 7])
  })

  it('are the same whether folded at once or as events come', () => {
    const checkpoints = openCheckpoints(jobId)
    const oneByOne = history().flatMap((event) => checkpoints.add(event) ?? [])
    expect(oneByOne).toEqual(listCheckpoints(jobId, history()))
  })

  it('keep the new messages that their state hashes chain over', () => {
    const [, first, second] = listCheckpoints(jobId, history())
    if (first === undefined || second === undefined) throw new Error('no checkpoints')
    const chained = hashState(hashState(null, first.newMessages), second.newMessages)
    expect(chained).toBe(hashState(hashState(null, first.messages), second.messages.slice(first.messages.length)))
  })

  it('have ids that say their job and place', () => {
    const id = printCheckpointId(jobId, 17)
    expect(id).toMatch(/^chk_[0-9a-z]+_17$/)
    expect(parseCheckpointId(id)).toEqual({ jobId, seq: 17 })
    for (const junk of ['', jobId, `${id}x`, id.replace('_17', '_0'), id.replace('chk', 'job'), 'chk__1', `${id}\n`])
      expect(parseCheckpointId(junk)).toBeUndefined()
  })
})
