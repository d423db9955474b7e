/** Faults of effect classes: what is made again, what is recorded before it is made, and who says what came of it. */
import type { Fault } from './fault.ts'

const tests = ['test/schema/effect.test.ts', 'test/run/once.test.ts', 'test/pool/once.test.ts']

export const faults: readonly Fault[] = [
  {
    name: 'the loosest of several globs counts',
    file: 'schema/effect.ts',
    find: 'CALL_EFFECTS.findLast(',
    replace: 'CALL_EFFECTS.find(',
    tests,
  },
  {
    name: 'a glob counts before a name',
    file: 'schema/effect.ts',
    find: 'if (Object.hasOwn(table, tool)) return',
    replace: 'if (Object.hasOwn(table, tool) && Object.keys(table).length === 1) return',
    tests,
  },
  {
    name: 'a call that was started is made again after its machine died (O1)',
    file: 'runner/run/happened.ts',
    find: 'return losesMachine(jobId, state)',
    replace: 'return state',
    tests,
  },
  {
    name: 'a skill that died in the middle of a call leaves no doubt (O2)',
    file: 'runner/run/perform.ts',
    find: 'const end = question === undefined ? returned :',
    replace: 'const end = question !== null ? returned :',
    tests,
  },
  {
    name: 'a call in doubt that is answered with retry is not made again',
    file: 'runner/run/once.ts',
    find: "if (value === 'retry') return",
    replace: "if (value === 'again') return",
    tests,
  },
  {
    name: 'the start of a call is not recorded before the call is permitted',
    file: 'src/pool/keeper.ts',
    find: 'await Promise.all(started.map(',
    replace: 'void Promise.all(started.map(',
    tests,
  },
  {
    name: 'the machine does not hear that its call was started',
    file: 'src/pool/keeper.ts',
    find: "} else if (event.type === 'callStarted') this.#machine.send({ type: 'recorded', event })",
    replace: "} else if (event.type === 'callStarted') return",
    tests,
  },
  {
    name: 'a call is permitted twice because its start is forgotten (A10)',
    file: 'src/pool/admission.ts',
    find: 'if (callKey === undefined || call.isStarted === true) continue',
    replace: 'if (callKey === undefined) continue',
    tests,
  },
  {
    name: 'a call is permitted without saying which it is (A10)',
    file: 'src/pool/admission.ts',
    find: 'if (callKey === undefined || call.isStarted === true) continue',
    replace: 'if (call.isStarted === true) continue',
    tests,
  },
  {
    name: 'a machine makes up the result of a call that another machine started (A10)',
    file: 'src/pool/admission.ts',
    find: '(call.isStarted === true ? { ...call, isLost: true } : call)',
    replace: 'call',
    tests,
  },
  {
    name: 'a machine makes up what its human said of a call (A10)',
    file: 'src/pool/admission.ts',
    find: 'if (said !== undefined && canonical(said) === canonical(result)) return undefined',
    replace: 'if (said !== undefined) return undefined',
    tests,
  },
  {
    name: 'a call that was not started succeeds (A10)',
    file: 'src/pool/admission.ts',
    find: 'return result.isError ? undefined : `call ${result.callId} was not started`',
    replace: 'return undefined',
    tests,
  },
]
