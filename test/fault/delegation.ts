/** Faults of delegation: what a delegate sees, how deep it goes, and what its caller learns. */
import type { Fault } from './fault.ts'

const tests = ['test/run/run.test.ts', 'test/run/loop.test.ts', 'test/attempt/admission.test.ts']

export const faults: readonly Fault[] = [
  {
    name: 'delegations nest without a limit',
    file: 'runner/run/happened.ts',
    find: 'if (run.depth >= DEPTH_MAX)',
    replace: 'if (run.depth >= DEPTH_MAX * 100)',
    tests,
  },
  {
    name: 'the control plane lets delegations nest without a limit (A5)',
    file: 'src/attempt/admission.ts',
    find: 'data.depth <= DEPTH_MAX',
    replace: 'data.depth <= DEPTH_MAX * 100',
    tests,
  },
  {
    name: 'a delegate that failed is a result like any other',
    file: 'runner/run/owed.ts',
    find: "if (outcome === 'completed') return [returns(run, part, result ?? '', false, structured)]",
    replace: "if (outcome !== 'canceled') return [returns(run, part, result ?? message ?? '', false)]",
    tests,
  },
  {
    name: 'a delegate may be asked something else than its caller wrote (A5)',
    file: 'src/attempt/admission.ts',
    find: "args['query'] === data.query &&",
    replace: "typeof args['query'] === 'string' &&",
    tests,
  },
  {
    name: 'a call may start the run of another expert (A5)',
    file: 'src/attempt/admission.ts',
    find: 'key !== undefined &&\n      expertKey === key &&',
    replace: 'key !== undefined &&',
    tests,
  },
  {
    name: 'a call of a delegate returns before the delegate has completed',
    file: 'src/attempt/admission.ts',
    find: "if (delegate?.finished !== 'completed') return",
    replace: "if (delegate?.finished === 'failed') return",
    tests,
  },
  {
    name: 'a run completes with any text (A4)',
    file: 'src/attempt/admission.ts',
    find: "const isEnd = run.turn === 'end' && reason === 'completed' && result === run.text",
    replace: "const isEnd = run.turn === 'end' && reason === 'completed'",
    tests,
  },
  {
    name: 'a delegate sees the conversation of its caller (R4)',
    file: 'runner/run/owed.ts',
    find: 'const data = { query: path.query, parent, continues: null, depth: run.depth + 1 }',
    replace: 'const data = { query: path.query, parent, continues: run.id, depth: run.depth + 1 }',
    tests,
  },
]
