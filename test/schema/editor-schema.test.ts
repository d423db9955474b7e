/** senmon.schema.json: what editors check as one writes, against what the parser accepts. */
import { Ajv } from 'ajv'
import { join } from 'node:path'
import { parse } from 'smol-toml'
import { describe, expect, it } from 'vitest'
import { EDITOR_SCHEMA_NAME, printEditorSchema } from '../../schema/editor-schema.ts'
import { parseExpertFile } from '../../schema/expert-file.ts'
import { isFaults } from '../../schema/toml-file.ts'
import { ROOT } from '../support/source.ts'

const validate = new Ajv({ strict: false }).compile(JSON.parse(printEditorSchema()))
const expert = '[experts."a"]\ninstruction = "Do it."\n'
const skill = (lines: string) => `${expert}[experts."a".skills."s"]\n${lines}\n`
const stdio = (lines: string) => skill(`type = "mcpStdioSkill"\npackageName = "x"\n${lines}`)

/** Every key of the origin's file: taken, or refused with these words. */
const ORIGIN: readonly (readonly [key: string, text: string, words: string | null])[] = [
  ['model', `model = "anthropic/x"\n${expert}`, null],
  ['provider', `model = "x"\n[provider]\nproviderName = "anthropic"\n${expert}`, null],
  [
    'provider.setting',
    `[provider]\nproviderName = "x"\n[provider.setting]\nbaseUrl = "y"\n${expert}`,
    'set up on the server',
  ],
  ['reasoningBudget, a word', `reasoningBudget = "low"\n${expert}`, null],
  ['reasoningBudget, tokens', `reasoningBudget = 2000\n${expert}`, null],
  ['maxSteps', `maxSteps = 50\n${expert}`, null],
  ['maxRetries', `maxRetries = 3\n${expert}`, null],
  ['timeout', `timeout = 60000\n${expert}`, null],
  ['envPath', `envPath = [".env"]\n${expert}`, null],
  ['runtime', `runtime = "local"\n${expert}`, null],
  ['runtime of elsewhere', `runtime = "cursor"\n${expert}`, 'experts run in the machines of the server'],
  ['headers', `[headers]\nx = "y"\n${expert}`, 'set them as secrets'],
  ['version', `${expert}version = "1.0.0"`, null],
  ['minRuntimeVersion', `${expert}minRuntimeVersion = "v1.0"`, null],
  ['minRuntimeVersion above ours', `${expert}minRuntimeVersion = "v1.0.1"`, 'asks for a newer runtime'],
  ['description', `${expert}description = "x"`, null],
  ['instruction', expert, null],
  ['delegates', `${expert}delegates = ["b", "@acme/x@^2", "y@beta"]`, null],
  ['tags', `${expert}tags = ["x"]`, null],
  ['mcpStdioSkill command, args', skill('type = "mcpStdioSkill"\ncommand = "npx"\nargs = ["-y", "x", "--y"]'), null],
  ['mcpStdioSkill packageName', stdio(''), null],
  ['mcpStdioSkill pick', stdio('pick = ["a"]'), null],
  ['mcpStdioSkill omit', stdio('omit = ["a"]'), null],
  ['mcpStdioSkill rule', stdio('rule = "x"'), null],
  ['mcpStdioSkill description', stdio('description = "x"'), null],
  ['mcpStdioSkill requiredEnv', stdio('requiredEnv = ["TOKEN"]'), null],
  ['mcpStdioSkill allowedDomains', stdio('allowedDomains = ["x.example.com", "*.example.com"]'), null],
  ['mcpStdioSkill lazyInit', stdio('lazyInit = false'), null],
  ['mcpStdioSkill pin, required', stdio('pin = false\nrequired = true'), null],
  [
    'mcpHttpSkill',
    skill(
      'type = "mcpHttpSkill"\nendpoint = "https://x.example.com/mcp"\npick = ["a"]\nlazyInit = false\npin = false\nrequired = true\nrequiredEnv = ["TOKEN"]\nheaders = { Authorization = "Bearer ${TOKEN}" }',
    ),
    null,
  ],
  ['mcpSseSkill', skill('type = "mcpSseSkill"\nendpoint = "https://x.example.com/sse"\nomit = ["a"]'), null],
  ['approvals', `${stdio('')}[[experts."a".approvals]]\ntool = "s/*"\nedits = true\nargs.command = "git *"`, null],
  ['budget', `${expert}[experts."a".budget]\ncostUsd = 0.5\noutputTokens = 10000`, null],
  ['compaction', `${expert}[experts."a".compaction]\nat = 0.6\nkeepSteps = 3`, null],
  ['a compaction that says nothing', `${expert}[experts."a".compaction]`, 'says nothing'],
  ['a budget that bounds nothing', `${expert}[experts."a".budget]`, 'bounds nothing'],
  [
    'a command of its own',
    skill('type = "mcpStdioSkill"\ncommand = "python"\nargs = ["x.py"]'),
    'a skill is an npm package',
  ],
  [
    'interactiveSkill',
    skill('type = "interactiveSkill"\ntools = { ask = { inputJsonSchema = \'{"type":"object"}\' } }'),
    null,
  ],
]

describe('senmon.schema.json', () => {
  it('is what the parser prints', async () => {
    await expect(printEditorSchema()).toMatchFileSnapshot(join(ROOT, EDITOR_SCHEMA_NAME))
  })

  it('has words at every key', () => {
    const bare: string[] = []
    const visit = (schema: unknown, path: string): void => {
      if (typeof schema !== 'object' || schema === null) return
      for (const [name, value] of Object.entries(schema)) {
        if (name === 'properties')
          for (const [key, property] of Object.entries(value as Record<string, object>))
            if (!('description' in property)) bare.push(`${path}.${key}`)
        visit(value, name === 'properties' ? path : `${path}.${name}`)
      }
    }
    visit(JSON.parse(printEditorSchema()), '')
    expect(bare).toEqual([])
  })

  it.each(ORIGIN)('and the parser agree on %s', (_key, text, words) => {
    const file = parseExpertFile(text, 'senmon.toml')
    if (words === null) {
      expect(isFaults(file) ? file : []).toEqual([])
      expect(validate(parse(text)) ? [] : validate.errors).toEqual([])
    } else {
      expect(isFaults(file) && file.map((fault) => fault.message)).toEqual([expect.stringContaining(words)])
    }
  })

  it('refuses what it can see to be wrong', () => {
    const wrong = [
      '',
      `${expert}maxStep = 3`,
      `${expert}maxSteps = 0`,
      `${expert}[experts."A"]\ninstruction = "x"`,
      stdio('allowedDomains = ["https://x.example.com"]'),
      `[headers]\nx = "y"\n${expert}`,
    ]
    for (const text of wrong) expect([text, validate(parse(text))]).toEqual([text, false])
  })
})

describe('a domain', () => {
  const domain = (name: string) => {
    const file = parseExpertFile(stdio(`allowedDomains = [${JSON.stringify(name)}]`), 'senmon.toml')
    return isFaults(file) ? file.map((fault) => fault.message).join('\n') : ''
  }

  it.each([
    ['xn--mnchen-3ya.de', 'not in Punycode'],
    ['api.xn--80ak6aa92e.com', 'not in Punycode'],
    ['*.XN--80ak6aa92e.com', 'not in Punycode'],
    ['münchen.de', 'plain ASCII'],
    ['аpple.com', 'plain ASCII'],
    ['*', 'a whole top level is no limit'],
    ['*.com', 'a whole top level is no limit'],
    ['*.', 'a whole top level is no limit'],
    ['api.*.com', 'only as its whole first label'],
    ['*api.example.com', 'only as its whole first label'],
    ['*.*.example.com', 'only as its whole first label'],
    ['example.com/*', 'only as its whole first label'],
    ['metadata.google.internal', 'must be a public name'],
    ['db.flycast', 'must be a public name'],
    ['foo.localhost', 'must be a public name'],
    [`${'a.'.repeat(130)}com`, 'at most 253'],
    ['localhost', 'must be a host name'],
    ['Api.example.com', 'must be a host name'],
    ['api.example.com.', 'must be a host name'],
    ['api.example.com:443', 'must be a host name'],
    ['-a.example.com', 'must be a host name'],
    ['127.1', 'must be a host name'],
    ['[::1]', 'must be a host name'],
  ])('%s is refused', (name, words) => expect(domain(name)).toContain(words))

  it.each(['example.com', '*.example.com', 'a-b.example.co.uk', 'xn.example.com', 'api.x--y.io'])(
    '%s is taken',
    (name) => expect(domain(name)).toBe(''),
  )
})
