/** Faults in structured results, questions and model failures. */
import type { Fault } from './fault.ts'

const output = ['test/run/output.test.ts', 'test/schema/output.test.ts']

export const faults: readonly Fault[] = [
  {
    name: 'a machine may complete a run with what its expert does not owe',
    file: 'src/pool/admission.ts',
    find: "  if ('fault' in output) return",
    replace: "  if ('fault' in output && structured === null) return",
    tests: output,
  },
  {
    name: 'a machine may say other data than the text of its result',
    file: 'src/pool/admission.ts',
    find: "return isSame(output.value, structured) ? undefined : 'a run completes",
    replace: "return structured !== undefined ? undefined : 'a run completes",
    tests: output,
  },
  {
    name: 'a machine may put its own words into a rejection',
    file: 'src/pool/admission.ts',
    find: 'message !== undefined && message === proposal.data.message',
    replace: 'message !== undefined',
    tests: output,
  },
  {
    name: 'a rejection does not count as a try',
    file: 'runner/run/happened.ts',
    find: 'rejections: run.rejections + 1',
    replace: 'rejections: run.rejections',
    tests: output,
  },
  {
    name: 'the gateway does not see what the model reads about its rejected text',
    file: 'schema/conversation.ts',
    find: '[...conversation.messages, queryMessage(fact.data.message)]',
    replace: '[...conversation.messages]',
    tests: output,
  },
  {
    name: 'the last of several fenced blocks counts',
    file: 'schema/output.ts',
    find: 'block?.[1] === undefined || others.length > 0',
    replace: 'block?.[1] === undefined',
    tests: output,
  },
]
