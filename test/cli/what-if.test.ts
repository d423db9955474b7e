/** A fork beside its parent, as `senmon fork --what-if` shows it. */
import { describe, expect, it } from 'vitest'
import { chain, genesisHash, type JobEvent, type NewEvent } from '../../schema/event.ts'
import { sha256 } from '../../schema/hash.ts'
import type { RunId } from '../../schema/id.ts'
import { rootRunId } from '../../schema/question.ts'
import { compare, printComparison } from '../../src/cli/what-if.ts'
import { forkLog } from '../../src/job/forks.ts'
import { jobIdOf } from '../job/given.ts'

const [PARENT, FORK] = [jobIdOf(1), jobIdOf(2)]
const RUN = rootRunId(PARENT, 0)
const place = (stepNumber: number) => ({ v: 1, runId: RUN as RunId, expertKey: 'lead@1.0.0', stepNumber }) as const

const started: NewEvent = {
  ...place(0),
  type: 'runStarted',
  data: { query: 'q', parent: null, continues: null, depth: 0 },
}
/** One step: a text, a call or none, the result, the workspace. */
function step(
  n: number,
  text: string,
  call?: { readonly args: string; readonly result: string; readonly tree: string },
) {
  const toolCall = { type: 'toolCall', callId: `call_${n}_0`, name: 'files/read', args: call?.args ?? '' } as const
  const usage = { inputTokens: 10, cachedInputTokens: 0, outputTokens: 5, reasoningTokens: 0, costUsd: 0.01 }
  const data = { parts: [{ type: 'text', text } as const, ...(call === undefined ? [] : [toolCall])], usage }
  const told = { model: 'm', finishReason: 'stop', promptHash: sha256('p'), durationMs: 1 }
  const result = {
    type: 'toolResult',
    callId: toolCall.callId,
    name: toolCall.name,
    content: [{ type: 'text', text: call?.result ?? '' }],
    isError: false,
  } as const
  return [
    { ...place(n), type: 'generated', data: { ...data, ...told } },
    ...(call === undefined
      ? []
      : [
          {
            v: 1,
            runId: null,
            expertKey: null,
            stepNumber: null,
            type: 'workspaceChanged',
            data: { treeHash: sha256(call.tree) },
          },
          { ...place(n), type: 'toolReturned', data: { result, durationMs: 1 } },
        ]),
    { ...place(n), type: 'stepFinished', data: { stateHash: sha256(`${n}`) } },
  ] as readonly NewEvent[]
}
const ended = (result: string) =>
  ({
    v: 1,
    runId: null,
    expertKey: null,
    stepNumber: null,
    type: 'jobFinished',
    data: { outcome: 'completed', reason: 'completed', message: null, result },
  }) as const

const first = step(1, 'I read.', { args: 'a', result: 'A', tree: 't1' })
const parent = chain(PARENT, 0, genesisHash(PARENT), 1, [
  started,
  ...first,
  ...step(2, 'More.', { args: 'b', result: 'B', tree: 't2' }),
  ...step(3, 'Then.', { args: 'c', result: 'C', tree: 't2' }),
  ...step(4, 'Done.'),
  ended('Done.'),
])

/** A fork from the first checkpoint, with other steps after it. */
function forked(...events: readonly NewEvent[]): readonly JobEvent[] {
  const changes = { query: null, model: null, maxSteps: null, lockHash: sha256('l'), instructed: null }
  const log = forkLog(FORK, parent, 5, 2, changes)
  const head = log.at(-1)
  return [...log, ...chain(FORK, log.length, head?.hash ?? genesisHash(FORK), 3, events)]
}

describe('a fork beside its parent', () => {
  it('shows the steps after the checkpoint that are the same, that differ and in what, and that only one took', () => {
    const fork = forked(
      ...step(2, 'More.', { args: 'b', result: 'B', tree: 't2' }),
      ...step(3, 'Rather.', { args: 'c', result: 'C, too', tree: 't3' }),
      ended('Rather.'),
    )
    const comparison = compare(parent, fork)
    expect(comparison.steps.map(({ stepNumber, differs }) => [stepNumber, differs])).toEqual([
      [2, []],
      [3, ['text', 'results', 'tree']],
      [4, ['text', 'calls', 'results', 'tree']],
    ])
    expect(printComparison(comparison)).toEqual([
      `--- ${PARENT} after event 5`,
      `+++ ${FORK}`,
      '  step 2 of lead@1.0.0: the same',
      '  step 3 of lead@1.0.0: another text, results, tree',
      '-   text: Then.',
      '+   text: Rather.',
      '-   results: files/read C',
      '+   results: files/read C, too',
      `-   tree: ${sha256('t2')}`,
      `+   tree: ${sha256('t3')}`,
      '- step 4 of lead@1.0.0: Done.',
      'the first divergence is step 3 of lead@1.0.0; 3 steps, 45 tokens for $0.0300 then, 2 steps, 30 tokens for $0.0200 now',
      '- result: Done.',
      '+ result: Rather.',
    ])
  })

  it('shows none when all is the same, and steps that come on top', () => {
    const same = [
      ...step(2, 'More.', { args: 'b', result: 'B', tree: 't2' }),
      ...step(3, 'Then.', { args: 'c', result: 'C', tree: 't2' }),
    ]
    const all = printComparison(compare(parent, forked(...same, ...step(4, 'Done.'), ended('Done.'))))
    expect(all.at(-2)).toContain('no divergence; 3 steps')
    expect(all.at(-1)).toBe('  result: Done.')
    const longer = compare(parent, forked(...same, ...step(4, 'Done.'), ...step(5, 'And on.')))
    expect(longer.steps.at(-1)).toMatchObject({ stepNumber: 5, before: null, after: { text: 'And on.' } })
    expect(printComparison(longer).at(-1)).toBe('+ result: none yet')
  })
})
