/** What a person reads of a job that is steered, compacted or asked something. */
import { describe, expect, it } from 'vitest'
import { approvalSchema } from '../../schema/approval.ts'
import type { ShownEvent } from '../../src/cli/api.ts'
import { printHowToAnswer } from '../../src/cli/follow.ts'
import { advance, noProgress } from '../../src/cli/progress.ts'

const event = (type: string, data: object, runId: string | null = 'run_1') =>
  ({
    seq: 1,
    type,
    runId,
    expertKey: runId === null ? null : 'lead@1.0.0',
    stepNumber: null,
    at: new Date(0).toISOString(),
    data,
    hash: '',
  }) as unknown as ShownEvent
const linesOf = (one: ShownEvent) => advance(noProgress, one).lines.map(({ text }) => text.trim())

describe('the progress of a job', () => {
  it('shows queries when they come and when they are read', () => {
    const put = (mode?: string) =>
      event('jobContinued', { query: 'in French', maxSteps: null, ...(mode && { mode }) }, null)
    expect(linesOf(put('queue'))).toEqual(['> waits to be read: in French'])
    expect(linesOf(put('interrupt'))).toEqual(['> interrupts: in French'])
    expect(linesOf(put())).toEqual([])
    expect(linesOf(event('steered', { queries: ['in French', 'and short'] }))).toEqual([
      '> lead@1.0.0 reads: in French · and short',
    ])
  })

  it('shows no step that took less than no time, though the clock was set back', () => {
    const at = (ms: number, one: ShownEvent) => ({ ...one, at: new Date(ms).toISOString() })
    const { progress } = advance(noProgress, at(60_000, event('runStarted', { query: 'go', parentRunId: null })))
    const { lines } = advance(progress, at(0, { ...event('stepFinished', {}), stepNumber: 1 }))
    expect(lines.map(({ text }) => text.trim())).toEqual(['step 1 lead@1.0.0 answered (0.0 s)'])
  })

  it('shows compactions, and those that failed', () => {
    expect(linesOf(event('compacted', { summary: 's', kept: 2 }))).toEqual([
      '= lead@1.0.0 goes on from a summary of its conversation',
    ])
    expect(
      linesOf(event('compactionFailed', { code: 'model_error', message: 'It wrote none.', model: 'a/b' })),
    ).toEqual(['! no summary from a/b: It wrote none.'])
  })

  it('says why a machine is gone, and what it said last', () => {
    const gone = (data: object) => linesOf(event('leaseExpired', { fence: 1, ...data }, null))
    expect(gone({ reason: 'signal SIGKILL' })).toEqual(['! the machine is gone: signal SIGKILL'])
    expect(gone({ reason: 'exit 1', detail: 'Error: x' })).toEqual(['! the machine is gone: exit 1: Error: x'])
  })

  it('prints no control character of a query', () => {
    const [line = ''] = linesOf(event('steered', { queries: ['a\u001b[31m\nb'] }))
    expect(line).not.toMatch(/[\u0000-\u001f]/)
  })

  it('says that a result was rejected, and why', () => {
    expect(linesOf(event('outputRejected', { message: 'That is not JSON.' }))).toEqual([
      '! lead@1.0.0 That is not JSON.',
    ])
  })

  it('says that no answer came in time', () => {
    expect(linesOf(event('questionExpired', { questionId: 'que_1' }))).toEqual(['! no answer came in time'])
  })

  it('shows a call that a human edited with the arguments that were approved, and that it was edited', () => {
    const call = (callId: string, cmd: string) => ({ type: 'toolCall', callId, name: 'shell/exec', args: { cmd } })
    const question = { id: 'que_1', callId: 'call_1_1', kind: 'confirm', title: 'May it?' }
    const said = (value: unknown, kind = 'confirm') => {
      let progress = noProgress
      const all = [
        event('runStarted', { depth: 0, query: 'push' }),
        event('generated', { parts: [call('call_1_0', 'ls'), call('call_1_1', 'git push')] }),
        event('questionAsked', { question: { ...question, kind } }),
        event('answered', { questionId: 'que_1', value }, null),
        event('stepFinished', {}),
      ]
      return all.flatMap((one) => {
        const next = advance(progress, one)
        progress = next.progress
        return next.lines.map(({ text }) => text.trim())
      })
    }
    const edited = { approved: true, args: { cmd: 'git push --dry-run' } }
    expect(said(edited).slice(2)).toEqual([
      '! approved with other arguments: shell/exec(git push --dry-run)',
      'step null lead@1.0.0 shell/exec(ls) · shell/exec(git push --dry-run) as edited by a human (0.0 s)',
    ])
    const asWritten = 'step null lead@1.0.0 shell/exec(ls) · shell/exec(git push) (0.0 s)'
    expect(said(true).slice(2)).toEqual(['! answered: true', asWritten])
    // A form of a tool's own may ask for the same members; it approves nothing.
    expect(said(edited, 'schema').at(-1)).toBe(asWritten)
  })

  it('shows an answer where its question is, however deep', () => {
    const events = [
      event('runStarted', { depth: 2, query: 'choose' }),
      event('questionAsked', { question: { id: 'que_1', kind: 'choose', title: 'Which?' } }),
      event('answered', { questionId: 'que_1', value: 'blue' }, null),
    ]
    let progress = noProgress
    const lines = events.flatMap((one) => {
      const next = advance(progress, one)
      progress = next.progress
      return next.lines.map(({ text }) => text)
    })
    expect(lines.slice(1)).toEqual(['      ? lead@1.0.0 asks: Which?', '      ! answered: "blue"'])
  })

  it('counts no time for which a job had no machine as a step’s', () => {
    const at = (ms: number, one: ShownEvent): ShownEvent => ({ ...one, at: new Date(ms).toISOString() })
    const events = [
      at(0, event('runStarted', { depth: 0, query: 'go' })),
      at(100, event('questionAsked', { question: { id: 'que_1', kind: 'confirm' } })),
      at(60_000, event('answered', { questionId: 'que_1', value: true }, null)),
      at(61_000, event('machineStarted', { host: 'local', resume: 'cold' }, null)),
      at(63_000, event('stepFinished', {})),
    ]
    const { lines } = events.reduce((seen, one) => advance(seen.progress, one), {
      progress: noProgress,
      lines: [],
    } as ReturnType<typeof advance>)
    expect(lines[0]?.text).toContain('(2.0 s)')
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

  it('shows what can be chosen, and how to approve other arguments where that is allowed', () => {
    const asked = { id: 'que_1', purpose: null, title: 'x?', toolName: 'a/b', args: {}, argsHash: '', answeredAt: null }
    const chosen = printHowToAnswer('job_1', { ...asked, kind: 'choose', schema: { enum: ['red', 'blue'] } })
    expect(chosen).toContain('x?\n  1. red\n  2. blue\nAnswer with: senmon answer job_1 que_1 <option>\n')
    const yes = { ...asked, kind: 'confirm' }
    expect(printHowToAnswer('job_1', { ...yes, schema: { type: 'boolean' } })).not.toContain('--json-value')
    const edits = approvalSchema({ edits: true })
    expect(printHowToAnswer('job_1', { ...yes, schema: edits })).toContain(
      `Or with: senmon answer job_1 que_1 --json-value '{"approved":true,"args":{…}}'`,
    )
  })
})
