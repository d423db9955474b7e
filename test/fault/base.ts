/** Faults in the base tools. */
import type { Fault } from './fault.ts'

export const faults: readonly Fault[] = [
  {
    name: 'a run completes while todos are left',
    file: 'schema/base-tool.ts',
    find: 'const remaining = todos.filter((todo) => !todo.completed)',
    replace: 'const remaining = todos.filter((todo) => todo.completed)',
    tests: ['test/schema/base-tool.test.ts'],
  },
  {
    name: 'a run completes over calls whose results nobody has read',
    file: 'schema/base-tool.ts',
    find: 'const isAlone = calls.length === ours.length',
    replace: 'const isAlone = true',
    tests: ['test/schema/base-tool.test.ts'],
  },
  {
    name: 'todos that the same step adds do not count at its completion',
    file: 'schema/base-tool.ts',
    find: 'attemptCompletion(todos, isAlone, call, textOf(parts))',
    replace: 'attemptCompletion(before, isAlone, call, textOf(parts))',
    tests: ['test/schema/base-tool.test.ts'],
  },
  {
    name: 'a call that names a todo which is not there changes the others',
    file: 'schema/base-tool.ts',
    find: 'if (unknown !== undefined) return { todos, answer',
    replace: 'if (unknown !== undefined) return { todos: listed, answer',
    tests: ['test/schema/base-tool.test.ts'],
  },
  {
    name: 'a base tool that the lock does not name is answered',
    file: 'schema/base-tool.ts',
    find: 'return expert.base?.tools.find((tool) => name === `${BASE}/${tool}`)',
    replace: 'return BASE_TOOL_NAMES.find((tool) => name === `${BASE}/${tool}`)',
    tests: ['test/schema/base-tool.test.ts'],
  },
  {
    name: 'an attempted completion ends the run with the text beside it',
    file: 'runner/run/happened.ts',
    find: 'text: base?.completion ?? textOf(parts)',
    replace: 'text: textOf(parts)',
    tests: ['test/run/run.test.ts'],
  },
  {
    name: 'a completed run generates again',
    file: 'runner/run/run-state.ts',
    find: 'return calls.length === 0 || isComplete',
    replace: 'return calls.length === 0 || (isComplete && calls.length > 9)',
    tests: ['test/run/run.test.ts'],
  },
  {
    name: 'a continued run begins with an empty list',
    file: 'runner/run/happened.ts',
    find: 'todos: continued?.todos ?? []',
    replace: 'todos: []',
    tests: ['test/run/run.test.ts'],
  },
  {
    name: 'a machine may say what a base tool answers',
    file: 'src/pool/admission.ts',
    find: 'canonical(baseResult(call.part, base)) === canonical(result)',
    replace: 'base.isError === result.isError',
    tests: ['test/pool/admission.test.ts'],
  },
  {
    name: 'a machine may end a run with text beside the attempted completion',
    file: 'src/pool/admission.ts',
    find: 'run.text = run.base?.completion ?? textOf(fact.data.parts)',
    replace: 'run.text = textOf(fact.data.parts)',
    tests: ['test/pool/admission.test.ts'],
  },
]
