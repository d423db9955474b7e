/** Faults of approvals: which calls wait, what an answer lets through, and who is asked for leave. */
import type { Fault } from './fault.ts'

const tests = [
  'test/schema/approval.test.ts',
  'test/attempt/approvals.test.ts',
  'test/attempt/admission.test.ts',
  'test/run',
]

const edits = ['test/job/answer.test.ts', 'test/job/continue-job.test.ts']

export const faults: readonly Fault[] = [
  {
    name: 'an argument that is missing is not covered',
    file: 'schema/approval.ts',
    find: "if (value === undefined || value === null || typeof value === 'object') return true",
    replace: "if (value === undefined || value === null || typeof value === 'object') return false",
    tests,
  },
  {
    name: 'one argument that matches is enough',
    file: 'schema/approval.ts',
    find: 'return Object.entries(rule.args).every(',
    replace: 'return Object.entries(rule.args).some(',
    tests,
  },
  {
    name: 'edits are allowed when one of the rules allows them',
    file: 'schema/approval.ts',
    find: 'covering.every((rule) => rule.edits)',
    replace: 'covering.some((rule) => rule.edits)',
    tests,
  },
  {
    name: 'any answer but false is a yes',
    file: 'schema/approval.ts',
    find: 'if (answer === true) return args',
    replace: 'if (answer !== false) return args',
    tests,
  },
  {
    name: 'edited arguments pass where no rule allows edits',
    file: 'schema/approval.ts',
    find: 'return approval.edits ? editedArgs(answer) : undefined',
    replace: 'return editedArgs(answer)',
    tests,
  },
  {
    name: 'edited arguments are not held against what their tool takes (J5)',
    file: 'src/job/answer.ts',
    find: 'return unfit === undefined ? undefined : no(',
    replace: 'return unfit !== null ? undefined : no(',
    tests: edits,
  },
  {
    name: 'what a tool takes is looked for in the coordinator alone (J5)',
    file: 'src/job/jobs.ts',
    find: 'run.expertKey, question.toolName)',
    replace: 'job.expertKey, question.toolName)',
    tests: edits,
  },
  {
    name: 'an answer to a form is taken for edited arguments',
    file: 'src/job/answer.ts',
    find: "return purpose === undefined && kind === 'confirm' && 'anyOf' in schema",
    replace: "return purpose !== null && kind !== null && 'anyOf' in schema",
    tests: edits,
  },
  {
    name: 'a denied call is made',
    file: 'runner/run/happened.ts',
    find: 'if (args === undefined) return { ...call, approval: { ...approval, answer: { value } } }',
    replace: 'if (args === undefined) return { ...call, approval: null }',
    tests,
  },
  {
    name: 'a covered call is made without asking',
    file: 'runner/run/happened.ts',
    find: 'if (rule === undefined) return { part, path, approval: null, granted: null, ...rest }',
    replace: 'if (rule !== null) return { part, path, approval: null, granted: null, ...rest }',
    tests,
  },
  {
    name: 'the control plane permits a call that nobody approved (A7)',
    file: 'src/attempt/admission.ts',
    find: 'return answer === undefined ? undefined : approvedArgs(approval, part.args, answer)',
    replace: 'return answer === undefined ? part.args : approvedArgs(approval, part.args, answer)',
    tests,
  },
  {
    name: 'the control plane permits a call twice (A7)',
    file: 'src/attempt/admission.ts',
    find: 'this.#permitted.add(key)\n',
    replace: '\n',
    tests,
  },
  {
    name: 'the control plane permits other arguments than were approved (A7)',
    file: 'src/attempt/admission.ts',
    find: 'if (args === undefined || hashOf(args) !== argsHash) continue',
    replace: 'if (args === undefined) continue',
    tests,
  },
  {
    name: 'a question may say other than its call (A3)',
    file: 'src/attempt/admission.ts',
    find: 'if (own !== undefined && canonical(own) === canonical(question)) return undefined',
    replace: 'if (owed !== undefined && owed.id === question.id) return undefined',
    tests,
  },
  {
    name: 'an answer can be forged (A3)',
    file: 'src/attempt/admission.ts',
    find: 'const isIt = canonical(answer) === canonical(result.structured ?? null) && !result.isError',
    replace: 'const isIt = !result.isError',
    tests,
  },
  {
    name: 'the supervisor passes covered calls without leave (P7.10)',
    file: 'runner/supervisor/skills.ts',
    find: 'const refused = leave === undefined ? undefined : await this.#refuse(leave)',
    replace: "const refused = leave === 'never' ? await this.#refuse(leave) : undefined",
    tests: ['test/adapter/unsafe-process-provider.test.ts'],
    suite: 'whole',
  },
]
