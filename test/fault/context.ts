/** Faults of long results, and of conversations that fill the window of their model. */
import type { Fault } from './fault.ts'

const long = ['test/run/long-answer.test.ts']
const loop = ['test/run/compaction.test.ts']
const pool = ['test/attempt/compaction.test.ts']

export const faults: readonly Fault[] = [
  {
    name: 'a skill says where its answer is kept',
    file: 'runner/skill/long-answer.ts',
    find: 'if (path === undefined && !Object.hasOwn(meta, KEPT)) return frame',
    replace: 'if (path === undefined) return frame',
    tests: long,
  },
  {
    name: 'any path is taken for one that is kept',
    file: 'runner/skill/long-answer.ts',
    find: "typeof path === 'string' && KEPT_PATH.test(path)",
    replace: "typeof path === 'string'",
    tests: long,
  },
  {
    name: 'an excerpt cuts a character in two',
    file: 'runner/skill/long-answer.ts',
    find: 'newline + 1 : startOfCharacter(bytes, HEAD_BYTES)',
    replace: 'newline + 1 : HEAD_BYTES',
    tests: long,
  },
  {
    name: 'an excerpt sends its reader one line too far',
    file: 'runner/skill/long-answer.ts',
    find: '`offset ${headLines + 1}`',
    replace: '`offset ${headLines + 2}`',
    tests: long,
  },
  {
    name: 'texts of one answer are measured one by one',
    file: 'runner/skill/long-answer.ts',
    find: 'Buffer.byteLength(text) > INLINE_BYTES_MAX ? text',
    replace: "text.split('\\n').some((one) => Buffer.byteLength(one) > INLINE_BYTES_MAX) ? text",
    tests: long,
  },
  {
    name: 'a compaction leaves a call without its result',
    file: 'src/attempt/compaction.ts',
    find: "findLastIndex(({ role }) => role === 'expert')",
    replace: "findLastIndex(({ role }) => role === 'tool')",
    tests: [...loop, ...pool],
  },
  {
    name: 'the runner counts other messages after a compaction than the log has',
    file: 'runner/run/happened.ts',
    find: 'messageCount: 2 + data.kept',
    replace: 'messageCount: 1 + data.kept',
    tests: [...loop, ...pool],
  },
  {
    name: 'as many messages as before are taken for the same',
    file: 'runner/run/owed.ts',
    find: '`generate ${effect.runId} ${effect.stepNumber} ${effect.messageCount} ${effect.asks} ${effect.compactions}`',
    replace: '`generate ${effect.runId} ${effect.stepNumber} ${effect.messageCount} ${effect.asks}`',
    tests: loop,
  },
  {
    name: 'no state hash covers the summary',
    file: 'schema/conversation.ts',
    find: 'added: [...added, summary]',
    replace: 'added',
    tests: [...loop, ...pool],
  },
  {
    name: 'a compaction loses the first query',
    file: 'schema/conversation.ts',
    find: '[...messages.slice(0, 1), summary, ',
    replace: '[...messages.slice(1, 2), summary, ',
    tests: [...loop, ...pool],
  },
  {
    name: 'a compaction that failed is tried again at once',
    file: 'schema/context.ts',
    find: 'if (hasFailed || settled < SETTLED_MIN) return false',
    replace: 'if (settled < SETTLED_MIN) return false',
    tests: [...loop, ...pool],
  },
  {
    name: 'what has just been compacted is compacted again',
    file: 'schema/context.ts',
    find: 'const SETTLED_MIN = 5',
    replace: 'const SETTLED_MIN = 2',
    tests: [...loop, ...pool],
  },
  {
    name: 'a run that its provider refused as too long fails without a compaction',
    file: 'schema/context.ts',
    find: 'return wantsCompaction(exceeded, settled) ? exceeded : undefined',
    replace: 'return undefined',
    tests: [...loop, ...pool],
  },
  {
    name: 'a machine has a compaction whenever it asks',
    file: 'src/attempt/generations.ts',
    find: "if (purpose === 'compaction' && !wantsCompaction(context, settled(conversation)))",
    replace: "if (purpose === 'compaction' && settled(conversation) < 0)",
    tests: pool,
  },
  {
    name: 'a summary is shown as if the run said it',
    file: 'src/attempt/generations.ts',
    find: 'if (!isCompaction) jobs.show(',
    replace: 'if (kind !== undefined) jobs.show(',
    tests: pool,
  },
  {
    name: 'an empty summary replaces the conversation',
    file: 'src/attempt/generations.ts',
    find: "if (summary === '') return",
    replace: "if (summary === '-') return",
    tests: pool,
  },
  {
    name: 'a compaction costs nothing',
    file: 'src/job/job-fold.ts',
    find: "case 'compacted':\n      return used(job, event.runId, event.data.usage)",
    replace: "case 'compacted':\n      return job",
    tests: pool,
  },
  {
    name: 'what was refused as too long is sent again for its summary',
    file: 'src/attempt/generations.ts',
    find: 'compactionMessages(messages, context.exceeded !== null)',
    replace: 'compactionMessages(messages, false)',
    tests: pool,
  },
  {
    name: 'a similar name has the window of a model',
    file: 'src/gateway/window.ts',
    find: 'const STATE = /-(?:\\d{8}|\\d{4}-\\d{2}-\\d{2}|latest)$/',
    replace: 'const STATE = /-[^-]*$/',
    tests: ['test/gateway/window.test.ts'],
  },
  {
    name: 'the words of a provider for a full window are not known',
    file: 'src/gateway/model-failure.ts',
    find: "'prompt is too long'",
    replace: "'prompt is long'",
    tests: ['test/gateway/model-failure.test.ts'],
  },
]
