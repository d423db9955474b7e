/** The expert file: what it may say, and the sentences that each mistake gives. */
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { namesWithout } from '../../schema/base-choice.ts'
import { parseExpertFile } from '../../schema/expert-file.ts'
import type { ExpertFile } from '../../schema/expert.ts'
import { isFaults } from '../../schema/toml-file.ts'
import { parseSkillFile } from '../../schema/skill-file.ts'

function parsed(text: string): ExpertFile {
  const file = parseExpertFile(text, 'senmon.toml')
  if (isFaults(file)) throw new Error(file.map((fault) => fault.message).join('\n'))
  return file
}

function refused(text: string): readonly string[] {
  const file = parseExpertFile(text, 'senmon.toml')
  return isFaults(file) ? file.map((fault) => fault.message) : []
}

const head = '[experts."a"]\ninstruction = "Do it."\n'
const files = `${head}[experts."a".skills."files"]\ntype = "mcpStdioSkill"\npackageName = "@senmon/files"\n`
const tool = (lines: string) =>
  `${head}[experts."a".skills."human"]\ntype = "interactiveSkill"\n[experts."a".skills."human".tools."ok"]\n${lines}\n`

/** Each malformed file with every sentence that it gives. */
const malformed: readonly (readonly [name: string, text: string, sentences: readonly string[]])[] = [
  [
    'nothing',
    '',
    [
      'senmon.toml:1: experts in the top level must be a table with at least one expert, such as [experts."my-expert"].',
    ],
  ],
  [
    'no expert',
    'model = "x/y"\n',
    [
      'senmon.toml:1: experts in the top level must be a table with at least one expert, such as [experts."my-expert"].',
    ],
  ],
  ['an empty table of experts', '[experts]\n', ['senmon.toml:1:1: [experts] must hold at least one expert.']],
  [
    'experts that are no table',
    'experts = 3\n',
    [
      'senmon.toml:1:1: experts in the top level must be a table with at least one expert, such as [experts."my-expert"].',
    ],
  ],
  [
    'an unclosed string',
    `${head}description = "x\n`,
    ['senmon.toml:3:17: the file is not valid TOML: control characters are not allowed in strings.'],
  ],
  [
    'a key twice',
    `${head}instruction = "again"\n`,
    ['senmon.toml:3:1: the file is not valid TOML: trying to redefine an already defined table or value.'],
  ],
  [
    'a table twice',
    `${head}[experts."a"]\n`,
    ['senmon.toml:3:2: the file is not valid TOML: trying to redefine an already defined table or value.'],
  ],
  [
    'a bare carriage return',
    'a = 1\rb = 2',
    ['senmon.toml:1:6: the file is not valid TOML: each key-value declaration must be followed by an end-of-line.'],
  ],
  [
    'NUL',
    'a = "\u0000"',
    ['senmon.toml:1:6: the file is not valid TOML: control characters are not allowed in strings.'],
  ],
  ['a date that is none', 'a = 2024-13-45', ['senmon.toml:1:5: the file is not valid TOML: invalid date.']],
  [
    'a number above 2^53',
    'maxSteps = 9223372036854775808\n' + head,
    ['senmon.toml:1:12: the file is not valid TOML: integer value cannot be represented losslessly.'],
  ],
  [
    'no instruction',
    '[experts."a"]\ndescription = "x"\n',
    ['senmon.toml:1: instruction in [experts."a"] must be a string; it is missing.'],
  ],
  [
    'an empty instruction',
    '[experts."a"]\ninstruction = ""\n',
    ['senmon.toml:2:1: instruction in [experts."a"] must not be empty; got "".'],
  ],
  [
    'an instruction that is too long',
    `[experts."a"]\ninstruction = """\n${'é'.repeat(10241)}"""\n`,
    ['senmon.toml:2:1: instruction in [experts."a"] must be at most 20480 bytes long.'],
  ],
  [
    'a description that is too long',
    `${head}description = "${'x'.repeat(2049)}"\n`,
    ['senmon.toml:3:1: description in [experts."a"] must be at most 2048 characters long.'],
  ],
  [
    'two faults at once',
    `${head}maxSteps = 0\nversion = "1"\n`,
    [
      'senmon.toml:3:1: maxSteps in [experts."a"] must be at least 1; got 0.',
      'senmon.toml:4:1: version in [experts."a"] must be an exact version such as "1.0.0".',
    ],
  ],
  [
    'a wrong type',
    `${head}maxSteps = "many"\n`,
    ['senmon.toml:3:1: maxSteps in [experts."a"] must be a number; got "many".'],
  ],
  [
    'a number that is not whole',
    `${head}maxSteps = 1.5\n`,
    ['senmon.toml:3:1: maxSteps in [experts."a"] must be a whole number; got 1.5.'],
  ],
  [
    'not a number',
    `${head}maxSteps = nan\n`,
    ['senmon.toml:3:1: maxSteps in [experts."a"] must be a number; got NaN.'],
  ],
  [
    'a date',
    `${head}description = 2024-01-02\n`,
    ['senmon.toml:3:1: description in [experts."a"] must be a string; got a date.'],
  ],
  [
    'a key that is nearly right',
    `${head}instrucion = "x"\n`,
    ['senmon.toml:3:1: instrucion in [experts."a"] is not a key that is known here; did you mean instruction?'],
  ],
  [
    'a key in the wrong case',
    `${head}MaxSteps = 3\n`,
    ['senmon.toml:3:1: MaxSteps in [experts."a"] is not a key that is known here; did you mean maxSteps?'],
  ],
  [
    'a key that is like none',
    `${head}colour = "red"\n`,
    [
      'senmon.toml:3:1: colour in [experts."a"] is not a key that is known here; known are version, minRuntimeVersion, description, instruction, model, maxSteps, delegates, tags, skills, approvals, base, effects, budget, compaction, outputJsonSchema, outputRetries, reasoningBudget, maxRetries, timeout.',
    ],
  ],
  [
    'a key at the top that is like none',
    `colour = "red"\n${head}`,
    [
      'senmon.toml:1:1: colour in the top level is not a key that is known here; known are model, provider, maxSteps, reasoningBudget, maxRetries, timeout, envPath, temperature, perstackApiBaseUrl, runtime, experts.',
    ],
  ],
  [
    '__proto__',
    `${head}[experts.__proto__]\ninstruction = "x"\n`,
    ['senmon.toml:3:1: [experts."__proto__"] is not a name that may be used.'],
  ],
  [
    'constructor.prototype',
    `[constructor.prototype]\nx = 1\n${head}`,
    ['senmon.toml:1: [constructor] is not a name that may be used.'],
  ],
  [
    'deep nesting',
    `${'a.'.repeat(40)}b = 1\n${head}`,
    ['senmon.toml:1:1: [a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a] is nested deeper than 16; flatten it.'],
  ],
  [
    'nested arrays',
    `a = ${'['.repeat(5000)}${']'.repeat(5000)}\n`,
    ['senmon.toml:1:1005: the file is not valid TOML: document contains excessively nested structures. aborting.'],
  ],
  [
    '20000 segments',
    `${'a.'.repeat(20000)}b = 1\n`,
    ['senmon.toml:1:1: [a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a] is nested deeper than 16; flatten it.'],
  ],
  [
    'many keys',
    Array.from({ length: 10001 }, (_, i) => `k${i} = 1`).join('\n'),
    ['senmon.toml:1: the top level has 10001 keys; keep it within 10000.'],
  ],
  ['size', `# ${'x'.repeat(1024 * 1024)}`, ['senmon.toml:1: the file is 1048578 bytes long; keep it within 1048576.']],
  [
    'an expert name in capitals',
    '[experts."Reviewer"]\ninstruction = "x"\n',
    [
      'senmon.toml:1:1: [experts."Reviewer"] is not a name of an expert: use lower case letters, digits, ".", "_" and "-", at most 64.',
    ],
  ],
  [
    'an expert name that climbs',
    '[experts."../x"]\ninstruction = "x"\n',
    [
      'senmon.toml:1:1: [experts."../x"] is not a name of an expert: use lower case letters, digits, ".", "_" and "-", at most 64.',
    ],
  ],
  [
    'a delegate that is no key',
    `${head}delegates = ["b", "No Such"]\n`,
    [
      'senmon.toml:3:19: delegates[1] in [experts."a"] must be an expert key such as "security-analyst" or "@acme/licences@^2"; got "No Such".',
    ],
  ],
  [
    'a delegate to itself',
    `${head}delegates = ["a"]\n`,
    ['senmon.toml:3:14: delegates[0] in [experts."a"] names the expert itself, "a"; remove it.'],
  ],
  [
    'a delegate twice',
    `${head}delegates = ["b@1", "b@2"]\n`,
    ['senmon.toml:3:21: delegates[1] in [experts."a"] names "b" a second time; remove it.'],
  ],
  [
    'delegates as a string',
    `${head}delegates = "b"\n`,
    ['senmon.toml:3:1: delegates in [experts."a"] must be a list; got "b".'],
  ],
  [
    'an approval of a tool that no skill has',
    `${head}[[experts."a".approvals]]\ntool = "mail/send"\n`,
    [
      'senmon.toml:4:1: tool in [experts."a".approvals.0] covers no tool of the skills and delegates of this expert: "mail/send"; correct or remove it.',
    ],
  ],
  [
    'an approval with a list for a glob',
    `${head}[[experts."a".approvals]]\ntool = "*"\nargs.command = ["git push"]\n`,
    ['senmon.toml:5:1: command in [experts."a".approvals.0.args] must be a string; got a list.'],
  ],
  [
    'a budget of nothing and a budget of too little',
    `${head}[experts."a".budget]\ncostUsd = -1\noutputTokens = 10\nsteps = 1.5\ntokens = 5\n`,
    [
      'senmon.toml:4:1: costUsd in [experts."a".budget] must be at least 0.000001; got -1.',
      'senmon.toml:5:1: outputTokens in [experts."a".budget] must be at least 256; got 10.',
      'senmon.toml:6:1: steps in [experts."a".budget] must be a whole number; got 1.5.',
      'senmon.toml:7:1: tokens in [experts."a".budget] is not a key that is known here; known are costUsd, inputTokens, cachedInputTokens, outputTokens, steps, toolCalls, wallSeconds.',
    ],
  ],
  [
    'a reasoningBudget that is neither a word nor a number',
    `reasoningBudget = "enormous"\n${head}reasoningBudget = -1\n`,
    [
      'senmon.toml:1:1: reasoningBudget in the top level must be "none", "minimal", "low", "medium", "high", or whole tokens up to 1000000.',
      'senmon.toml:4:1: reasoningBudget in [experts."a"] must be at least 0; got -1.',
    ],
  ],
  [
    'a compaction out of bounds',
    `${head}[experts."a".compaction]\nat = 80\nkeepSteps = 0\nkeep = 5\n`,
    [
      'senmon.toml:4:1: at in [experts."a".compaction] must be at most 0.95; got 80.',
      'senmon.toml:5:1: keepSteps in [experts."a".compaction] must be at least 1; got 0.',
      'senmon.toml:6:1: keep in [experts."a".compaction] is not a key that is known here; known are at, keepSteps.',
    ],
  ],
  [
    'a compaction that says nothing',
    `${head}[experts."a".compaction]\n`,
    ['senmon.toml:3:1: [experts."a".compaction] says nothing; give at or keepSteps, or remove it.'],
  ],
  [
    'an output schema that is none',
    `${head}outputJsonSchema = "[]"\n`,
    ['senmon.toml:3:1: outputJsonSchema in [experts."a"] must hold a JSON object: a JSON Schema.'],
  ],
  [
    'an output schema that refers elsewhere',
    `${head}outputJsonSchema = '{"$ref":"#/x"}'\n`,
    ['senmon.toml:3:1: outputJsonSchema in [experts."a"] may not use $ref; write the schema out.'],
  ],
  [
    'retries of an output that is not checked',
    `${head}outputRetries = 1\n`,
    [
      'senmon.toml:3:1: outputRetries in [experts."a"] has no effect without an outputJsonSchema; give one or remove it.',
    ],
  ],
  [
    'a model without provider',
    `${head}model = "gpt"\n`,
    ['senmon.toml:3:1: model in [experts."a"] must name its provider: write provider/model.'],
  ],
  [
    'provider settings',
    `${head}[provider]\nproviderName = "openai"\n[provider.setting]\nbaseUrl = "x"\n`,
    [
      'senmon.toml:5:1: [provider.setting] does not belong into the file: providers are set up on the server; remove it.',
    ],
  ],
  [
    'a skill without type',
    `${head}[experts."a".skills."files"]\npackageName = "x"\n`,
    [
      'senmon.toml:3: type in [experts."a".skills."files"] must be one of "mcpStdioSkill", "mcpHttpSkill", "mcpSseSkill", "interactiveSkill"; it is missing.',
    ],
  ],
  [
    'a skill of unknown type',
    `${head}[experts."a".skills."files"]\ntype = "stdio"\n`,
    [
      'senmon.toml:4:1: type in [experts."a".skills."files"] must be one of "mcpStdioSkill", "mcpHttpSkill", "mcpSseSkill", "interactiveSkill"; got "stdio".',
    ],
  ],
  [
    'a skill without package',
    `${head}[experts."a".skills."files"]\ntype = "mcpStdioSkill"\n`,
    [
      'senmon.toml:3: packageName in [experts."a".skills."files"] must name the npm package of the skill; it is missing.',
    ],
  ],
  [
    'a command that is not npx',
    `${files}command = "uvx"\n`,
    [
      'senmon.toml:6:1: command in [experts."a".skills."files"] must be "npx" or be left out: a skill is an npm package, started by its bin.',
    ],
  ],
  [
    'a local script',
    `${head}[experts."a".skills."files"]\ntype = "mcpStdioSkill"\ncommand = "node"\nargs = ["./server.js"]\n`,
    [
      'senmon.toml:3: packageName in [experts."a".skills."files"] must name an npm package that is published here; "./server.js" is none.',
    ],
  ],
  [
    'a package that is a URL',
    `${head}[experts."a".skills."files"]\ntype = "mcpStdioSkill"\npackageName = "git+ssh://x/y"\n`,
    [
      'senmon.toml:5:1: packageName in [experts."a".skills."files"] must be the name of an npm package, such as "@senmon/files" or "@senmon/files@^1".',
    ],
  ],
  [
    'a skill named delegate',
    `${head}[experts."a".skills."delegate"]\ntype = "mcpStdioSkill"\npackageName = "x"\n`,
    ['senmon.toml:3:1: [experts."a".skills."delegate"] has a name that is kept for delegation; rename it.'],
  ],
  [
    'a skill key that is nearly right',
    `${files}requiredEnvs = []\n`,
    [
      'senmon.toml:6:1: requiredEnvs in [experts."a".skills."files"] is not a key that is known here; did you mean requiredEnv?',
    ],
  ],
  [
    'an env that changes programs',
    `${files}requiredEnv = ["GITHUB_TOKEN", "NODE_OPTIONS", "LD_PRELOAD", "PATH", "a=b"]\n`,
    [
      'senmon.toml:6:32: requiredEnv[1] in [experts."a".skills."files"] would change how programs run rather than carry a value; choose another name.',
      'senmon.toml:6:48: requiredEnv[2] in [experts."a".skills."files"] would change how programs run rather than carry a value; choose another name.',
      'senmon.toml:6:62: requiredEnv[3] in [experts."a".skills."files"] would change how programs run rather than carry a value; choose another name.',
      'senmon.toml:6:70: requiredEnv[4] in [experts."a".skills."files"] must be the name of a variable: letters, digits and "_", at most 64.',
    ],
  ],
  [
    '65 envs',
    `${files}requiredEnv = [${Array.from({ length: 65 }, (_, i) => `"A${i}"`).join(',')}]\n`,
    ['senmon.toml:6:1: requiredEnv in [experts."a".skills."files"] must have at most 32 entries.'],
  ],
  [
    'a domain with a scheme',
    `${files}allowedDomains = ["https://api.example.com"]\n`,
    [
      'senmon.toml:6:19: allowedDomains[0] in [experts."a".skills."files"] must be a host name in lower case such as "api.example.com" or "*.example.com", without scheme, port or path.',
    ],
  ],
  [
    'an address as domain',
    `${files}allowedDomains = ["169.254.169.254"]\n`,
    [
      'senmon.toml:6:19: allowedDomains[0] in [experts."a".skills."files"] must be a host name in lower case such as "api.example.com" or "*.example.com", without scheme, port or path.',
    ],
  ],
  [
    'pick and omit of the same tool',
    `${files}pick = ["read"]\nomit = ["read"]\n`,
    ['senmon.toml:7:1: omit in [experts."a".skills."files"] omits "read", which pick asks for; decide.'],
  ],
  [
    'a tool name with a newline',
    `${files}pick = ["read\\nfile"]\n`,
    [
      'senmon.toml:6:9: pick[0] in [experts."a".skills."files"] must be the name of a tool: letters, digits, ".", "_" and "-", at most 64.',
    ],
  ],
  [
    'a direction character',
    `${head}description = "abc\u202edef"\n`,
    ['senmon.toml:3:1: description in [experts."a"] holds the invisible character U+202E; remove it.'],
  ],
  [
    'a tag character',
    `${head}description = "abc\u{e0041}def"\n`,
    ['senmon.toml:3:1: description in [experts."a"] holds the invisible character U+E0041; remove it.'],
  ],
  [
    'a skill on the network that is not encrypted',
    `${head}[experts."a".skills."w"]\ntype = "mcpSseSkill"\nendpoint = "http://mcp.example.com/sse"\n`,
    [
      'senmon.toml:5:1: endpoint in [experts."a".skills."w"] must begin with https://: what is not encrypted is read and changed on its way.',
    ],
  ],
  [
    'a secret in a header',
    `${head}[experts."a".skills."w"]\ntype = "mcpHttpSkill"\nendpoint = "https://mcp.example.com/mcp"\nrequiredEnv = ["B"]\nheaders = { Authorization = "Bearer abc", Host = "x" }\n`,
    [
      'senmon.toml:6:1: requiredEnv in [experts."a".skills."w"] names B, which no header uses.',
      'senmon.toml:7:13: Authorization in [experts."a".skills."w".headers] holds a secret, which a package must not: write "${NAME}", and NAME into requiredEnv.',
      'senmon.toml:7:43: Host in [experts."a".skills."w".headers] is a header of the connection or the protocol; remove it.',
    ],
  ],
  [
    'an interactive skill without tools',
    `${head}[experts."a".skills."h"]\ntype = "interactiveSkill"\n`,
    ['senmon.toml:3:1: [experts."a".skills."h"] brings no tool; give it tools or a packageName.'],
  ],
  [
    'a kind that is none',
    tool('kind = "approve"'),
    [
      'senmon.toml:6:1: kind in [experts."a".skills."human".tools."ok"] must be "confirm", "ask", "choose", or the JSON Schema of the answer as text.',
    ],
  ],
  [
    'a schema that is no JSON',
    tool(`inputJsonSchema = '{"type":'`),
    [
      'senmon.toml:6:1: inputJsonSchema in [experts."a".skills."human".tools."ok"] is not valid JSON: Unexpected end of JSON input.',
    ],
  ],
  [
    'a schema of a string',
    tool(`inputJsonSchema = '{"type":"string"}'`),
    [
      'senmon.toml:6:1: inputJsonSchema in [experts."a".skills."human".tools."ok"] must be a schema of an object: give it "type": "object".',
    ],
  ],
  [
    'a schema that is a list',
    tool(`inputJsonSchema = '[]'`),
    [
      'senmon.toml:6:1: inputJsonSchema in [experts."a".skills."human".tools."ok"] must hold a JSON object: a JSON Schema.',
    ],
  ],
  [
    'a schema that is not one',
    tool(`inputJsonSchema = '{"type":"object","required":"x"}'`),
    [
      'senmon.toml:6:1: inputJsonSchema in [experts."a".skills."human".tools."ok"] is not a valid JSON Schema: data/required must be array.',
    ],
  ],
  [
    'a schema with a reference',
    tool(`inputJsonSchema = '{"type":"object","properties":{"x":{"$ref":"http://example.com/s"}}}'`),
    [
      'senmon.toml:6:1: inputJsonSchema in [experts."a".skills."human".tools."ok"] may not use $ref; write the schema out.',
    ],
  ],
  [
    'a schema with a slow pattern',
    tool(`inputJsonSchema = '{"type":"object","properties":{"x":{"pattern":"^(a+)+$"}}}'`),
    [
      'senmon.toml:6:1: inputJsonSchema in [experts."a".skills."human".tools."ok"] has a pattern that may take exponential time: "^(a+)+$"; simplify it.',
    ],
  ],
  [
    'a schema with a slow pattern of names',
    tool(`inputJsonSchema = '{"type":"object","patternProperties":{"^(a+)+$":{}}}'`),
    [
      'senmon.toml:6:1: inputJsonSchema in [experts."a".skills."human".tools."ok"] has a pattern that may take exponential time: "^(a+)+$"; simplify it.',
    ],
  ],
  [
    'a schema with a pattern that is none',
    `${head}outputJsonSchema = '{"type":"string","pattern":"("}'\n`,
    [
      'senmon.toml:3:1: outputJsonSchema in [experts."a"] is unusable: Invalid regular expression: /(/u: Unterminated group.',
    ],
  ],
  [
    'a schema with 1e4 enums',
    tool(`inputJsonSchema = '{"type":"object","properties":{"x":{"enum":[${'1,'.repeat(9999)}1]}}}'`),
    [
      'senmon.toml:6:1: inputJsonSchema in [experts."a".skills."human".tools."ok"] has an enum of 10000 values; keep it within 500.',
    ],
  ],
  [
    'options without choose',
    tool('options = ["a", "b"]'),
    [
      'senmon.toml:6:1: options in [experts."a".skills."human".tools."ok"] belongs to kind "choose"; set the kind or remove it.',
    ],
  ],
  [
    'one option',
    tool('kind = "choose"\noptions = ["a"]'),
    ['senmon.toml:7:1: options in [experts."a".skills."human".tools."ok"] must have at least 2 entries; got a list.'],
  ],
  [
    'an inline table',
    `experts = { a = { instruction = "x", skils = {} } }\n`,
    ['senmon.toml:1:38: [experts."a".skils] is not a key that is known here; did you mean skills?'],
  ],
  [
    'a fault after a long string',
    `[experts."a"]\ninstruction = """\nline\n[experts."b"]\nmaxSteps = 3\n"""\nmaxSteps = "x"\n`,
    ['senmon.toml:7:1: maxSteps in [experts."a"] must be a number; got "x".'],
  ],
  [
    'the second of two experts',
    `${head}[experts.b]\n  instruction = 'x' # [experts.c]\n  maxSteps = -1\n`,
    ['senmon.toml:5:3: maxSteps in [experts."b"] must be at least 1; got -1.'],
  ],
]

describe('a malformed expert file', () => {
  it.each(malformed)('with %s is refused in so many words', (_name, text, sentences) => {
    expect(refused(text)).toEqual(sentences)
  })

  it('gives every fault at once, in order of lines, with its place as fields', () => {
    const text = `${head}maxSteps = 0\n[experts."b"]\ninstruction = "x"\ndelegates = ["b"]\n[experts."c"]\nmodel = 3\n`
    const faults = parseExpertFile(text, 'my.toml')
    expect(isFaults(faults) && faults.map(({ file, line, table, field }) => [file, line, table, field])).toEqual([
      ['my.toml', 3, '[experts."a"]', 'maxSteps'],
      ['my.toml', 6, '[experts."b"]', 'delegates[0]'],
      ['my.toml', 7, '[experts."c"]', 'instruction'],
      ['my.toml', 8, '[experts."c"]', 'model'],
    ])
  })

  it('names the line of a fault wherever the fault stands', () => {
    const filler = fc.constantFrom(
      '',
      '# maxSteps = 3 [experts.z]',
      'description = """\n[experts."b"]\nmaxSteps = 1\n"""',
      "tags = [ # ]\n  'x', # \"\n  'y]',\n]",
      'description = \'a = "b" # c\'',
      'description = "\\" maxSteps = 1 # "',
      'description = """a""\\""" ""b"""""',
      'skills = { s = { type = "interactiveSkill", packageName = "x" } } # }',
    )
    fc.assert(
      fc.property(fc.uniqueArray(filler, { selector: (line) => line.split(' ')[0] }), fc.boolean(), (lines, dotted) => {
        const body = ['[experts."a"]', 'instruction = "x"', ...lines, dotted ? '"max\\u0053teps" = 0' : 'maxSteps = 0']
        const text = body.join('\n')
        const faults = parseExpertFile(text, 'f')
        const line = text.split('\n').length
        expect(isFaults(faults) && faults.map((fault) => [fault.line, fault.column])).toEqual([[line, 1]])
      }),
    )
  })

  it('names the column of an entry behind a long string that ends in quotes', () => {
    expect(refused(`${head}tags = ["""a""""", 3]\n`)).toEqual([
      'senmon.toml:3:20: tags[1] in [experts."a"] must be a string; got 3.',
    ])
  })

  it('costs little, however it is written', () => {
    const hostile = [
      `${'a.'.repeat(400_000)}b = 1`,
      `[${'a.'.repeat(400_000)}b]`,
      `a = ${'[1,'.repeat(60)}${']'.repeat(60)}`,
      `a = [${'1,'.repeat(400_000)}]`,
      Array.from({ length: 60_000 }, (_, i) => `[[experts.a.x${i % 3}]]`).join('\n'),
      `a = "${'\\\\'.repeat(400_000)}"`,
    ]
    for (const text of hostile) expect(refused(text).length).toBeGreaterThan(0)
  }, 20_000)
})

describe('an expert file', () => {
  it('reads rules of approval', () => {
    const skill = '[experts."a".skills."shell"]\ntype = "mcpStdioSkill"\npackageName = "@x/shell"\n'
    const rules = '[[experts."a".approvals]]\ntool = "sh*/exec"\nedits = true\nargs.command = "git push*"\n'
    expect(parsed(`${head}${skill}${rules}`)).toMatchObject({
      experts: { a: { approvals: [{ tool: 'sh*/exec', args: { command: 'git push*' }, edits: true }] } },
    })
  })

  it('gives absent keys their defaults', () => {
    expect(parsed(head)).toEqual({
      experts: {
        a: {
          name: 'a',
          version: null,
          description: '',
          instruction: 'Do it.',
          model: null,
          maxSteps: null,
          delegates: [],
          tags: [],
          skills: {},
          approvals: [],
          output: null,
          modelSettings: null,
          base: { tools: namesWithout([]), rule: null, requiredEnv: [], allowedDomains: [] },
        },
      },
    })
  })

  it('reads what its result must be, with two retries unless it says another number', () => {
    const schema = { type: 'object', properties: { n: { type: 'integer' } } }
    const text = `${head}outputJsonSchema = '${JSON.stringify(schema)}'\n`
    expect(parsed(text)).toMatchObject({ experts: { a: { output: { schema, retries: 2 } } } })
    expect(parsed(`${text}outputRetries = 0\n`)).toMatchObject({ experts: { a: { output: { retries: 0 } } } })
  })

  it('reads when its conversation is compacted, and what stays', () => {
    const read = (lines: string) => parsed(`${head}[experts."a".compaction]\n${lines}\n`).experts['a']?.compaction
    expect(read('at = 0.5\nkeepSteps = 4')).toEqual({ at: 0.5, keepSteps: 4 })
    expect(read('at = 0.1')).toEqual({ at: 0.1 })
  })

  it('reads how its model is asked, the file for all and an expert for itself', () => {
    const text = `reasoningBudget = "low"\nmaxRetries = 3\ntimeout = 60000\n${head}`
    expect(parsed(text).experts['a']?.modelSettings).toEqual({
      reasoningBudget: 'low',
      maxRetries: 3,
      timeoutMs: 60_000,
    })
    expect(parsed(`${text}reasoningBudget = 2000\ntimeout = 5\n`).experts['a']?.modelSettings).toEqual({
      reasoningBudget: 2000,
      maxRetries: 3,
      timeoutMs: 5,
    })
  })

  it('reads every key of the origin: what has no meaning here is left aside, or refused with the reason', () => {
    const left =
      'temperature = 0.3\nruntime = "docker"\nperstackApiBaseUrl = "https://example.com"\nenvPath = [".env"]\n'
    const provider = '[provider]\nproviderName = "anthropic"\nenvPath = [".env"]\n'
    const human = tool('name = "ok"\ninputJsonSchema = \'{"type":"object"}\'')
    expect(parsed(`${left}${provider}${human}`).experts['a']?.skills['human']).toMatchObject({
      tools: { ok: { kind: 'ask' } },
    })
    expect(refused(tool('name = "other"'))).toEqual([
      expect.stringContaining('differs from the name of its table, "ok"'),
    ])
    for (const [line, reason] of [
      ['runtime = "claude-code"', 'experts run in the machines of the server'],
      ['perstackBaseSkillCommand = ["node", "base.js"]', 'takes the place of a base tool'],
      ['headers = { a = "b" }', 'set them as secrets'],
      ['[provider]\nproviderName = "openai"\nsetting = { organization = "x" }', 'providers are set up on the server'],
    ] as const)
      expect(refused(`${line}\n${head}`), line).toEqual([expect.stringContaining(reason)])
    const remote = (domains: string) =>
      `${head}[experts."a".skills."r"]\ntype = "mcpSseSkill"\nendpoint = "https://mcp.example.com/sse"\nallowedDomains = ${domains}\n`
    for (const domains of ['["mcp.example.com"]', '["x.org", "*.example.com"]'])
      expect(refused(remote(domains)), domains).toEqual([])
    for (const domains of ['["example.com"]', '[]', '["*.mcp.example.com"]'])
      expect(refused(remote(domains)), domains).toEqual([
        expect.stringContaining('host of the endpoint, "mcp.example.com"'),
      ])
    const python = files.replace('packageName = "@senmon/files"', 'command = "uvx"\npackageName = "x"')
    expect(refused(python)).toEqual([expect.stringContaining('a skill is an npm package')])
  })

  it('reads a file as the origin writes it', () => {
    const text = `
model = "claude-sonnet-4-5"
reasoningBudget = "low"
maxSteps = 50
maxRetries = 3
timeout = 60000
envPath = [".env"]
[provider]
providerName = "anthropic"
[experts."tester"]
version = "1.0.0"
minRuntimeVersion = "v1.0"
description = "Tests."
instruction = """
Test it.
"""
delegates = ["helper-expert", "@acme/other@^2"]
[experts."tester".skills."@perstack/base"]
type = "mcpStdioSkill"
command = "npx"
packageName = "@perstack/base"
pick = ["readTextFile"]
lazyInit = false
[experts."tester".skills."web"]
type = "mcpStdioSkill"
command = "npx"
args = ["-y", "exa-mcp-server@1.2.0", "--fast"]
requiredEnv = ["EXA_API_KEY"]
allowedDomains = ["api.exa.ai", "*.exa.ai"]
`
    const expert = parsed(text).experts['tester']
    expect(expert).toMatchObject({
      model: 'anthropic/claude-sonnet-4-5',
      maxSteps: 50,
      instruction: 'Test it.\n',
      delegates: ['helper-expert', '@acme/other@^2'],
    })
    expect(expert?.base).toMatchObject({ tools: ['files/read_file'], rule: null })
    expect(expert?.skills).toEqual({
      web: {
        type: 'mcpStdioSkill',
        packageName: 'exa-mcp-server',
        spec: '1.2.0',
        args: ['--fast'],
        pick: null,
        omit: [],
        rule: null,
        requiredEnv: ['EXA_API_KEY'],
        allowedDomains: ['api.exa.ai', '*.exa.ai'],
        lazyInit: true,
        pin: true,
        required: false,
        effects: {},
      },
    })
  })

  it('accepts a byte order mark at the start only', () => {
    expect(parsed(`\ufeff${head}`).experts['a']?.name).toBe('a')
    expect(refused(`${head}description = "\ufeff"\n`)).toHaveLength(1)
  })

  it('reads the four kinds of questions', () => {
    const tools = (lines: string) => {
      const skill = parsed(tool(lines)).experts['a']?.skills['human']
      return skill?.type === 'interactiveSkill' ? skill.tools['ok'] : undefined
    }
    expect(tools('kind = "confirm"')).toMatchObject({ kind: 'confirm', answerSchema: null })
    expect(tools('description = "x"')).toMatchObject({ kind: 'ask', description: 'x', answerSchema: null })
    expect(tools('kind = "choose"\noptions = ["b", "a"]')).toMatchObject({
      kind: 'choose',
      answerSchema: { type: 'string', enum: ['b', 'a'] },
    })
    expect(tools('kind = "choose"')?.inputSchema).toMatchObject({ required: ['question', 'options'] })
    expect(tools(`kind = '{"type":"number"}'`)).toMatchObject({ kind: 'schema', answerSchema: { type: 'number' } })
    expect(tools(`kind = "schema"\nanswerJsonSchema = '{"type":"number"}'`)).toMatchObject({ kind: 'schema' })
    expect(tools(`inputJsonSchema = '{"type":"object","properties":{"x":{}}}'`)).toMatchObject({
      inputSchema: { type: 'object', properties: { x: {} } },
    })
  })
})

describe('a skill file', () => {
  it('brings its tools', () => {
    const file = parseSkillFile('type = "interactiveSkill"\n[tools.ask]\nkind = "ask"\n', 'skill.toml')
    expect(isFaults(file) ? file : Object.keys(file.tools)).toEqual(['ask'])
  })

  it.each([
    [
      'another type',
      'type = "mcpStdioSkill"\n[tools.a]\n',
      'skill.toml:1:1: type in the top level must be "interactiveSkill"; got "mcpStdioSkill".',
    ],
    ['no tools', 'type = "interactiveSkill"\n[tools]\n', 'skill.toml:2:1: [tools] must hold at least one tool.'],
    [
      'a wrong kind',
      'type = "interactiveSkill"\n[tools.a]\nkind = "x"\n',
      'skill.toml:3:1: kind in [tools."a"] must be "confirm", "ask", "choose", or the JSON Schema of the answer as text.',
    ],
    [
      'a wrong key',
      'type = "interactiveSkill"\n[tools.a]\nkinds = "ask"\n',
      'skill.toml:3:1: kinds in [tools."a"] is not a key that is known here; did you mean kind?',
    ],
  ])('with %s is refused in so many words', (_name, text, sentence) => {
    const file = parseSkillFile(text, 'skill.toml')
    expect(isFaults(file) && file.map((fault) => fault.message)).toEqual([sentence])
  })
})
