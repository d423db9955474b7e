/** Faults of a run's fold and of what it owes. */
import type { Fault } from './fault.ts'

const tests = ['test/run/run.test.ts', 'test/run/loop.test.ts']

export const faults: readonly Fault[] = [
  {
    name: 'a result that is recorded is owed again (R1)',
    file: 'runner/run/owed.ts',
    find: '(call.result === null ? owedForCall(state, run, call) : [])',
    replace: 'owedForCall(state, run, call)',
    tests,
  },
  {
    name: 'a result taken twice replaces the first (R2)',
    file: 'runner/run/happened.ts',
    find: 'call.part.callId === result.callId && call.result === null',
    replace: 'call.part.callId === result.callId',
    tests,
  },
  {
    name: 'a generation taken twice is two steps (R2)',
    file: 'runner/run/happened.ts',
    find: "if (run.turn !== 'generate' || fact.stepNumber !== run.stepNumber + 1) return state",
    replace: "if (run.turn !== 'generate' && run.turn !== 'calls') return state",
    tests,
  },
  {
    name: 'results stand in the order in which they came (R3)',
    file: 'schema/conversation.ts',
    find: 'calls.map((call) => byCall.get(call.callId) ?? unfinished(call))',
    replace: 'results.map((result) => byCall.get(result.callId) ?? result)',
    tests: ['test/run/run.test.ts'],
  },
  {
    name: "a state hash covers a step's messages twice (R3)",
    file: 'runner/run/happened.ts',
    find: 'stateHash, newMessages: [], calls: [], isRejected',
    replace: 'stateHash, calls: [], isRejected',
    tests,
  },
  {
    name: 'more runs generate than steps are left (R5)',
    file: 'runner/run/owed.ts',
    find: '.slice(0, Math.max(0, state.stepsMax - state.steps))',
    replace: '.slice(0, Math.max(1, state.stepsMax))',
    tests,
  },
  {
    name: 'the run that came last takes the step that is left (R5)',
    file: 'runner/run/owed.ts',
    find: 'a.turnSince - b.turnSince',
    replace: 'b.turnSince - a.turnSince',
    tests,
  },
  {
    name: "an expert's own limit is not kept",
    file: 'runner/run/owed.ts',
    find: 'if (run.stepsMax !== null && run.steps >= run.stepsMax)',
    replace: 'if (run.stepsMax !== null && run.steps > run.stepsMax)',
    tests,
  },
  {
    name: 'a canceled job still owes (R6)',
    file: 'runner/run/owed.ts',
    find: 'if (state.canceled) return []',
    replace: 'if (state.canceled && state.active.length === 0) return []',
    tests,
  },
  {
    name: 'an answer goes to every call of its run (J5)',
    file: 'runner/run/happened.ts',
    find: '(call.part.callId === callId ? alter(call) : call)',
    replace: 'alter(call)',
    tests,
  },
  {
    name: 'a second answer replaces the first',
    file: 'runner/run/happened.ts',
    find: "const waits = path.to === 'human' && path.answer === null && !path.isExpired",
    replace: "const waits = path.to === 'human' && !path.isExpired",
    tests,
  },
]
