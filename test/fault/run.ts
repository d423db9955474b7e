/** Faults of a run's fold and of what it owes. */
import type { Fault } from './fault.ts'

export const faults: readonly Fault[] = [
  {
    name: 'a result that is recorded is owed again',
    file: 'runner/run/owed.ts',
    find: '(call.result === null ? owedForCall(state, run, call) : [])',
    replace: 'owedForCall(state, run, call)',
    tests: ['test/run/run.test.ts'],
  },
]
