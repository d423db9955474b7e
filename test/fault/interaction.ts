/** Faults in structured results, questions and model failures. */
import type { Fault } from './fault.ts'

const output = ['test/run/output.test.ts', 'test/schema/output.test.ts']

const expiry = ['test/job/expire-questions.test.ts', 'test/attempt/expiry.test.ts', 'test/run/run.test.ts']

const elicitation = ['test/attempt/elicitation.test.ts', 'test/run/skills.test.ts', 'test/run/run.test.ts']

export const faults: readonly Fault[] = [
  {
    name: 'a machine may complete a run with what its expert does not owe',
    file: 'src/attempt/admission.ts',
    find: "  if ('fault' in output) return",
    replace: "  if ('fault' in output && structured === null) return",
    tests: output,
  },
  {
    name: 'a machine may say other data than the text of its result',
    file: 'src/attempt/admission.ts',
    find: "return isSame(output.value, structured) ? undefined : 'a run completes",
    replace: "return structured !== undefined ? undefined : 'a run completes",
    tests: output,
  },
  {
    name: 'a machine may put its own words into a rejection',
    file: 'src/attempt/admission.ts',
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
    find: 'return say(conversation, queryMessage(fact.data.message))',
    replace: 'return conversation',
    tests: output,
  },
  {
    name: 'the last of several fenced blocks counts',
    file: 'schema/output.ts',
    find: 'block?.[1] === undefined || others.length > 0',
    replace: 'block?.[1] === undefined',
    tests: output,
  },
  {
    name: 'an answer counts that came when its time was over',
    file: 'src/job/job.ts',
    find: 'if (question.expired === true || isDue(question, now))',
    replace: 'if (question.expired === true)',
    tests: expiry,
  },
  {
    name: 'a question expires a moment too late',
    file: 'src/job/job.ts',
    find: 'dueAt !== undefined && dueAt <= now',
    replace: 'dueAt !== undefined && dueAt < now',
    tests: expiry,
  },
  {
    name: 'one question that is due takes the others along',
    file: 'src/job/job.ts',
    find: '.filter((question) => isDue(question, now))',
    replace: '.filter((question) => question.answeredAt === null)',
    tests: expiry,
  },
  {
    name: 'a job whose question expired stays waiting',
    file: 'src/job/job-fold.ts',
    find: 'return closeQuestion(job, id, { answeredAt: at, answer: null, expired: true })',
    replace:
      'return { ...closeQuestion(job, id, { answeredAt: at, answer: null, expired: true }), status: job.status }',
    tests: expiry,
  },
  {
    name: 'a machine may say that a question has expired',
    file: 'src/attempt/admission.ts',
    find: 'answer === undefined && this.#book.isExpired(call.questionId) && result.isError',
    replace: 'answer === undefined && result.isError',
    tests: expiry,
  },
  {
    name: 'an approval that nobody gave in time is a yes',
    file: 'runner/run/happened.ts',
    find: '? { ...call, approval: { ...approval, isExpired: true } } : call',
    replace: '? { ...call, approval: null } : call',
    tests: expiry,
  },
  {
    name: 'a machine that works on does not hear that a question expired',
    file: 'src/attempt/keeper.ts',
    find: "event.type === 'answered' || event.type === 'questionExpired'",
    replace: "event.type === 'answered'",
    tests: expiry,
  },
  {
    name: 'arguments that do not fit reach the tool',
    file: 'runner/run/catalog.ts',
    find: "return fault === undefined ? { at: 'skill', skill: owner, tool: rest } : invalid(call, fault)",
    replace: "return fault !== 'never' ? { at: 'skill', skill: owner, tool: rest } : invalid(call, fault)",
    tests: ['test/run/arguments.test.ts'],
  },
  {
    name: 'the control plane takes a covered call with arguments that do not fit for one that could be made',
    file: 'src/attempt/admission.ts',
    find: 'tool !== undefined && argumentFault(tool.inputSchema, args) === undefined',
    replace: 'tool !== undefined',
    tests: ['test/run/arguments.test.ts'],
  },
  {
    name: 'a call is made while the question of its skill is open',
    file: 'runner/run/owed.ts',
    find: 'if (waitsForHuman(call)) return []',
    replace: 'if (waitsForHuman(call) && call.edited !== null) return []',
    tests: elicitation,
  },
  {
    name: 'a question in the same words gets the first answer again',
    file: 'runner/skill/turn.ts',
    find: 'known[sameWords(this.#put, asked).length]',
    replace: 'known[0]',
    tests: elicitation,
  },
  {
    name: 'any call under way takes the question of a skill',
    file: 'runner/skill/turn.ts',
    find: 'if (another !== undefined)',
    replace: "if (another !== undefined && process.argv.includes('never'))",
    tests: elicitation,
  },
  {
    name: 'a call that may be made once asks and is made again',
    file: 'runner/skill/turn.ts',
    find: 'if (this.elicited === null) throw',
    replace: "if (this.elicited === null && process.argv.includes('never')) throw",
    tests: elicitation,
  },
  {
    name: 'one answer permits a covered call as often as it comes',
    file: 'src/attempt/admission.ts',
    find: 'if (call !== undefined && !this.#book.isClosed(questionId)) this.#permitted.delete(call)',
    replace: 'if (call !== undefined) this.#permitted.delete(call)',
    tests: elicitation,
  },
  {
    name: 'a machine words the question of a skill',
    file: 'src/attempt/elicited.ts',
    find: 'const owed = elicitationQuestionOf(jobId, runId, part, asked, nth, timeoutSeconds)',
    replace:
      'const owed = { ...question, id: elicitationQuestionOf(jobId, runId, part, asked, nth, timeoutSeconds).id }',
    tests: elicitation,
  },
  {
    name: 'a call returns while the question of its skill is open',
    file: 'src/attempt/admission.ts',
    find: 'if (open !== undefined && !(this.interrupts && run === this.#lastRoot()))',
    replace: 'if (open !== undefined && result.isError && !this.interrupts)',
    tests: elicitation,
  },
  {
    name: 'a machine hands an answer to a server that nobody gave',
    file: 'src/attempt/admission.ts',
    find: 'if (handedBack !== undefined && handedBack !== handsBack(call.elicited ?? [], this.#book)) continue',
    replace: '',
    tests: elicitation,
  },
  {
    name: 'a call is made while one of several questions is open',
    file: 'src/attempt/admission.ts',
    find: 'if (waitsFor(call.elicited ?? [], this.#book) !== undefined) continue',
    replace: '',
    tests: elicitation,
  },
  {
    name: 'half of what came together counts as all of it',
    file: 'schema/elicitation.ts',
    find: 'last !== null && elicited.length - last.from < last.of',
    replace: 'last !== null && elicited.length < last.from',
    tests: elicitation,
  },
  {
    name: 'a server hears answers that it did not ask for in this round',
    file: 'schema/elicitation.ts',
    find: 'reply !== null && resumption?.from === last.from',
    replace: 'reply !== null && resumption !== null',
    tests: elicitation,
  },
  {
    name: 'the page to visit may hide its host',
    file: 'schema/elicitation.ts',
    find: "if (url.hostname.split('.').some((label) => label.startsWith('xn--')))",
    replace: "if (url.hostname.split('.').some((label) => label.startsWith('xn--x')))",
    tests: elicitation,
  },
  {
    name: 'what an expert says of its model never reaches the gateway',
    file: 'registry/lock.ts',
    find: '...(expert.modelSettings === null ? {} : { modelSettings: expert.modelSettings }),',
    replace: '',
    tests: ['test/schema/model-settings.test.ts'],
  },
]
