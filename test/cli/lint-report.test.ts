/** What a file comes to: over all that its experts reach, here and in the registry. */
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { parseExpertFile } from '../../schema/expert-file.ts'
import { faultsAt, isFaults } from '../../schema/toml-file.ts'
import { reportOn, type Published } from '../../src/cli/lint-report.ts'

const OWN = { name: '@acme/team', version: '1.2.0' }

const unknown: Published = { experts: new Map(), skills: new Map() }

function report(text: string, published: Published = unknown) {
  const file = parseExpertFile(text, 'senmon.toml')
  if (isFaults(file)) throw new Error(file.map((fault) => fault.message).join('\n'))
  return reportOn(file, OWN, published)
}

/** The faults of the report, each where it stands. */
function faults(text: string, published: Published = unknown): readonly string[] {
  return faultsAt(text, 'senmon.toml', report(text, published).faults).map(({ message }) => message)
}

const expert = (name: string, delegates: readonly string[], lines = 'model = "openai/y"') =>
  `[experts."${name}"]\ninstruction = "x"\ndelegates = ${JSON.stringify(delegates)}\n${lines}\n`
const skill = (of: string, lines: string) =>
  `[experts."${of}".skills."s"]\ntype = "mcpStdioSkill"\npackageName = "@senmon/files@^1"\n${lines}\n`

const unbounded = {
  costUsd: null,
  inputTokens: null,
  cachedInputTokens: null,
  outputTokens: null,
  steps: null,
  toolCalls: null,
  wallSeconds: null,
}

describe('the report on a file', () => {
  it('gathers what an expert and all its delegates need, those of the registry included', () => {
    const text =
      expert('team', ['reader', '@other/x@^2'], 'model = "openai/y"\nmaxSteps = 9') +
      skill('team', 'requiredEnv = ["A"]\nallowedDomains = ["a.example.com"]') +
      expert('reader', []) +
      skill('reader', 'requiredEnv = ["B", "A"]\nargs = ["--read-only"]') +
      '[experts."team".skills."far"]\ntype = "mcpHttpSkill"\nendpoint = "https://a.example.com/mcp"\n' +
      'requiredEnv = ["D"]\nheaders = { Authorization = "Bearer ${D}" }\n'
    const experts = new Map([
      [
        '@other/x@^2',
        {
          keys: ['@other/x@2.1.0'],
          requiredEnv: ['C'],
          allowedDomains: ['*.c.example.com'],
          commands: ['c@1.0.0'],
          endpoints: ['https://c.example.com/mcp'],
          unpinned: [],
        },
      ],
    ])
    expect(report(text, { experts, skills: new Map([['@senmon/files@^1', true]]) })).toEqual({
      faults: [],
      warnings: [],
      experts: [
        {
          name: 'team',
          key: '@acme/team',
          model: 'openai/y',
          reaches: ['@acme/team/reader', '@other/x@2.1.0'],
          unchecked: [],
          requiredEnv: ['A', 'B', 'C', 'D'],
          allowedDomains: ['*.c.example.com', 'a.example.com'],
          commands: [
            '@senmon/files@^1',
            '@senmon/files@^1 --read-only',
            '@senmon/files@latest',
            '@senmon/shell@latest',
            'c@1.0.0',
          ],
          endpoints: ['https://a.example.com/mcp', 'https://c.example.com/mcp'],
          worstCase: { ...unbounded, steps: null },
          compaction: { at: 0.8, keepSteps: 1 },
        },
        expect.objectContaining({ key: '@acme/team/reader', reaches: [], requiredEnv: ['A', 'B'] }),
      ],
    })
  })

  it('says the worst case of a budget over all that is delegated, and which delegate has more than its caller', () => {
    const budget = (name: string, lines: string) => `[experts."${name}".budget]\n${lines}\n`
    const text = [
      `${expert('team', ['reader'])}maxSteps = 3\n`,
      budget('team', 'costUsd = 2\nsteps = 50'),
      `${expert('reader', [])}maxSteps = 5\n`,
      budget('reader', 'costUsd = 3\noutputTokens = 1000\nsteps = 9'),
    ].join('')
    const { experts, warnings } = report(text)
    expect(experts.map(({ worstCase }) => worstCase)).toEqual([
      { ...unbounded, costUsd: 2, steps: 50 },
      { ...unbounded, costUsd: 3, outputTokens: 1000, steps: 5 },
    ])
    expect(warnings).toContain('The budget of "reader" has costUsd 3, but "team", which it works for, 2.')
    expect(warnings.join()).not.toContain('has steps')
  })

  it('says when a conversation is compacted, and warns where that can hardly be', () => {
    const rule = '[experts."team".compaction]\nkeepSteps = 5\n'
    const { experts, warnings } = report(`${expert('team', [])}maxSteps = 6\n${rule}`)
    expect(experts[0]?.compaction).toEqual({ at: 0.8, keepSteps: 5 })
    expect(warnings).toContain(
      '"team" keeps its last 5 steps when it is compacted and may take 6, so that there is nothing to compact before its job is continued.',
    )
    expect(report(`${expert('team', [])}maxSteps = 7\n${rule}`).warnings).toEqual([])
    expect(report(`${expert('team', [])}maxSteps = 1\n`).warnings).toEqual([])
  })

  it('names a cycle, a delegate that is nowhere, and one of another version', () => {
    expect(faults(expert('team', ['a']) + expert('a', ['b']) + expert('b', ['a']))).toEqual([
      'senmon.toml:7:1: delegates in [experts."a"] form a cycle: a -> b -> a; break it.',
    ])
    const nowhere = new Map([['gone', { versions: [] }]])
    expect(faults(expert('team', ['gone']), { ...unknown, experts: nowhere })).toEqual([
      'senmon.toml:3:14: delegates[0] in [experts."team"] names gone, which is neither in the file nor published; publish it first, or correct its name.',
    ])
    const old = new Map([['gone@^2', { versions: ['1.0.0', '1.1.0'] }]])
    expect(faults(expert('team', ['gone@^2']), { ...unknown, experts: old })).toEqual([
      'senmon.toml:3:14: delegates[0] in [experts."team"] names gone@^2, which no version has; there are 1.0.0, 1.1.0.',
    ])
    expect(faults(expert('team', ['a@^2']) + expert('a', []))).toEqual([
      'senmon.toml:3:14: delegates[0] in [experts."team"] names a@^2, but that expert of the same file has version 1.2.0.',
    ])
  })

  it('does not call a delegate dead that nobody has looked up', () => {
    const { faults: none, experts } = report(expert('team', ['gone']))
    expect([none, experts[0]?.unchecked]).toEqual([[], ['gone']])
  })

  it('names a skill that is not published, and does not call one missing that nobody has looked up', () => {
    const text = expert('team', ['reader']) + expert('reader', []) + skill('reader', '')
    expect(faults(text, { ...unknown, skills: new Map([['@senmon/files@^1', false]]) })).toEqual([
      'senmon.toml:9:1: [experts."reader".skills."s"] wants @senmon/files@^1, which is not published as a skill; publish it first (`senmon publish` takes one from npm), or correct its name.',
    ])
    const { faults: none, experts } = report(text)
    expect([none, experts.map(({ unchecked }) => unchecked)]).toEqual([
      [],
      [['@senmon/files@^1'], ['@senmon/files@^1']],
    ])
  })

  it('warns of skills that are unpinned, here and in what it delegates to', () => {
    const far = {
      keys: [],
      requiredEnv: [],
      allowedDomains: [],
      commands: [],
      endpoints: [],
      unpinned: ['far is unpinned'],
    }
    const text = expert('team', ['far']) + skill('team', 'pin = false')
    expect(report(text, { ...unknown, experts: new Map([['far', far]]) }).warnings).toEqual([
      'The skill "s" of "team" is unpinned, because its pin is false: its tools are listed at a job\'s start.',
      'far is unpinned',
    ])
  })

  it('warns of experts and skills that nothing leads to', () => {
    const text = expert('team', []) + expert('alone', []) + skill('alone', 'pick = []')
    expect(report(text).warnings).toEqual([
      'No delegation leads from "team" to "alone", and its skills s with it; it runs only when it is asked for as @acme/team/alone.',
      'The skill "s" of "alone" offers no tool, because its pick is empty.',
    ])
    expect(report(expert('team', [], '')).warnings).toEqual(['"team" names no model: every job of it must.'])
  })

  it('warns of a model whose provider is not known, and says which may be meant', () => {
    const model = (name: string) => report(expert('team', [], `model = "${name}"`)).warnings
    expect(model('openia/gpt-5')).toEqual([
      'The model openia/gpt-5 has a provider that is not known here, openia; did you mean openai?',
    ])
    for (const fine of ['rehearsal/x', 'ollama/llama3', 'openai-compatible/a/b']) expect(model(fine), fine).toEqual([])
  })

  it('warns of a rule over writing files that a command gets around, and of no other', () => {
    const rule = (tool: string, more = '') => `[[experts."team".approvals]]\ntool = "${tool}"\n${more}`
    const model = 'model = "openai/y"\n'
    const warnings = (more: string) => report(`${expert('team', [], model)}${more}`).warnings
    expect(warnings(rule('files/write_*'))).toEqual([
      '"team" asks before files/write_file and may write files with shell/exec unasked; cover it, or leave it out of base.',
    ])
    const some = rule('shell/exec', 'args.command = "rm *"\n')
    expect(warnings(`${rule('files/*')}${some}`)).toHaveLength(1)
    for (const fine of [`${rule('files/*')}${rule('shell/*')}`, rule('*/*'), rule('files/read_file'), some, ''])
      expect(warnings(fine), fine).toEqual([])
    expect(report(`${expert('team', [], `${model}base = ["files/*"]\n`)}${rule('files/*')}`).warnings).toEqual([])
  })

  it('finds a cycle exactly when a walk along delegates comes back', () => {
    const names = ['team', 'b', 'c', 'd', 'e']
    const graph = fc.array(fc.tuple(fc.constantFrom(...names), fc.constantFrom(...names)), { maxLength: 9 })
    fc.assert(
      fc.property(graph, (pairs) => {
        const edges = pairs.filter(([from, to]) => from !== to)
        const next = (name: string) => [...new Set(edges.filter(([from]) => from === name).map(([, to]) => to))]
        const reach = (name: string): Set<string> => {
          const seen = new Set<string>()
          for (
            let rest = next(name);
            rest.length > 0;
            rest = rest.flatMap((one) => next(one)).filter((one) => !seen.has(one))
          )
            for (const one of rest) seen.add(one)
          return seen
        }
        const { faults: found, experts } = report(names.map((name) => expert(name, next(name))).join(''))
        expect(found.length > 0).toBe(names.some((name) => reach(name).has(name)))
        for (const one of experts)
          expect(one.reaches).toEqual(
            [...reach(one.name)].map((name) => (name === 'team' ? '@acme/team' : `@acme/team/${name}`)).toSorted(),
          )
      }),
    )
  })
})
