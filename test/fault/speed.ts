/** Faults in what every step goes through: texts and their hashes, and the lines that are checked by hand. */
import type { Fault } from './fault.ts'

const tests = ['test/schema/hot-line.test.ts']

export const faults: readonly Fault[] = [
  {
    name: 'a canonical text keeps the order in which members came',
    file: 'schema/hash.ts',
    find: 'Object.keys(members).toSorted()',
    replace: 'Object.keys(members)',
    tests: ['test/schema/hash.test.ts'],
  },
  {
    name: 'an event is hashed without its step',
    file: 'schema/event.ts',
    find: '"stepNumber":${canonical(stepNumber)}',
    replace: '"stepNumber":null',
    tests: ['test/schema/hash.test.ts'],
  },
  {
    name: 'a short line may nest as deep as it likes',
    file: 'schema/control-line.ts',
    find: "if (depth > JSON_DEPTH_MAX) return 'deep'",
    replace: '',
    tests: ['test/schema/control-line.test.ts'],
  },
  {
    name: 'a short line may hold a number that is not finite',
    file: 'schema/control-line.ts',
    find: "return Number.isFinite(value) ? undefined : 'infinite'",
    replace: 'return undefined',
    tests,
  },
  {
    name: 'a name of a line that every step says may have any length',
    file: 'schema/hot-line.ts',
    find: ' && value.length <= NAME_CHARS_MAX',
    replace: '',
    tests,
  },
  {
    name: 'a result may hold parts that are no text, unchecked',
    file: 'schema/hot-line.ts',
    find: 'isName(name) && content.every(isTextPart)',
    replace: 'isName(name)',
    tests,
  },
  {
    name: 'a generation may be asked for before the first step',
    file: 'schema/hot-line.ts',
    find: " || params['stepNumber'] === 0) return false",
    replace: ') return false',
    tests,
  },
  {
    name: 'members that nobody knows pass with a result',
    file: 'schema/hot-line.ts',
    find: "hasSize(result, has(result, 'structured') ? 6 : 5)",
    replace: 'Object.keys(result).length >= 5',
    tests,
  },
  {
    name: "a batch passes to a skill's door",
    file: 'schema/hot-line.ts',
    find: "return isFrame(value) && isJsonObject(value['frame'])",
    replace: 'return isFrame(value)',
    tests,
  },
  {
    name: 'a conversation is measured as the one before with its end, whatever is between',
    file: 'src/gateway/token.ts',
    find: 'if (items[i] !== longer[i]) return false',
    replace: ';',
    tests: ['test/gateway/token.test.ts'],
  },
  {
    name: 'a recorded turn of a step comes before one of any step that stands above it',
    file: 'src/gateway/rehearsal.ts',
    find: '(at) => at < own && fits(at)',
    replace: '(at) => own === Infinity && fits(at)',
    tests: ['test/gateway/rehearsal.test.ts'],
  },
  {
    name: 'an answer of text passes with members that nobody looked at',
    file: 'runner/skill/tool-calls.ts',
    find: 'const hasOnly = Object.keys(result).length === members && ',
    replace: 'const hasOnly = members > 0 && ',
    tests: ['test/run/tool-calls.test.ts'],
  },
  {
    name: 'a block of an answer passes for text whatever it is',
    file: 'runner/skill/tool-calls.ts',
    find: ' && content.every(isText)',
    replace: '',
    tests: ['test/run/tool-calls.test.ts'],
  },
  {
    name: 'a call of a tool whose answer has a schema is not checked by it',
    file: 'runner/skill/compartment.ts',
    find: ' && definition.outputSchema === undefined',
    replace: '',
    tests: ['test/run/skills.test.ts'],
  },
  {
    name: 'a call under way when its skill falls is waited for by the next start',
    file: 'runner/skill/compartment.ts',
    find: 'this.#calls?.end()',
    replace: '',
    tests: ['test/run/skills.test.ts'],
  },
  {
    name: 'a call that hangs beside others is not found',
    file: 'runner/skill/compartment.ts',
    find: 'if (left <= 0) call.hung()',
    replace: '',
    tests: ['test/run/skills.test.ts'],
  },
]
