/** The house rules, kept on every run; each is shown to bite on a planted snippet before it judges the sources. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import * as house from './support/house-rule.ts'
import type { Allowance, Rule } from './support/house-rule.ts'
import { listFiles, parseSource, readSources, ROOT } from './support/source.ts'

/** Names that hold a banned word and may. */
const NAMES: readonly Allowance[] = [
  { path: '', name: 'dispatchMs', reason: 'the public API calls it so: Job.machine.dispatchMs' },
  { path: '', name: 'pageInfo', reason: 'every GraphQL client knows the connections of Relay by this word' },
  { path: 'test/support/', name: 'TEMPLATE', reason: 'Postgres calls a database that is cloned a template' },
  { path: 'test/support/', name: 'ensureTemplate', reason: 'Postgres calls a database that is cloned a template' },
]
/** Uses of the environment, the clock, chance and the console outside main.ts that may be. */
const AMBIENT: readonly Allowance[] = [
  { path: 'examples/demo/say.ts', name: 'console', reason: 'the demo is a program that talks to its reader' },
  {
    path: 'test/support/',
    name: 'process.env',
    reason: 'programs that tests start need the PATH of whoever runs them',
  },
  { path: 'plugins/', name: 'performance.now', reason: 'a skill bounds its own work and knows no clock of ours' },
  { path: 'test/support/', name: 'performance.now', reason: 'a real server lives in real time, unlike a fake clock' },
  { path: 'test/campaign/', name: 'Date.now', reason: 'a campaign compares moments of several processes' },
  { path: 'bench/', name: 'performance.now', reason: 'a bench measures time' },
  { path: 'bench/', name: 'Date.now', reason: 'a bench measures time between processes' },
  { path: 'bench/', name: 'randomBytes', reason: 'a bench makes ids for the rows it writes' },
]

const sources = readSources()
const plant = (files: Readonly<Record<string, string>>) =>
  Object.entries(files).map(([path, text]) => parseSource(path, text))

/** One rule: it finds as many breaches as were planted, and none in what we wrote. */
function keeps(title: string, rule: Rule, planted: Readonly<Record<string, string>>, breaches: number): void {
  describe(title, () => {
    it('is caught where it is planted', () => {
      expect(rule(plant(planted))).toHaveLength(breaches)
    })
    it('is nowhere else', () => {
      expect(rule(sources)).toEqual([])
    })
  })
}

keeps(
  'an import against the directions',
  house.importDirections,
  {
    'schema/a.ts': "import type { B } from '../src/job/job.ts'",
    'src/job/a.ts': "import { b } from '../pool/plan.ts'\nimport { c } from '../postgres/database.ts'",
    'src/pool/a.ts': "import { b } from '../job/job.ts'",
    'src/graphql/a.ts': "import { b } from '../postgres/database.ts'\nimport { c } from '../job/jobs.ts'",
    'src/local/a.ts': "import type { B } from '../postgres/database.ts'",
    'src/gateway/a.ts': "import type { B } from '../job/job.ts'",
    'src/http/a.ts': "export { b } from '../main.ts'",
    'src/main.ts': "import { b } from '../registry/registry.ts'\nimport { c } from './job/jobs.ts'",
    'runner/run/a.ts': "type B = import('../../src/job/job.ts').Job",
    'plugins/files/a.ts': "const b = await import('../ask/main.ts')",
    'examples/demo/a.ts': "import { b } from '../../schema/id.ts'",
  },
  10,
)
keeps(
  'a cycle of imports',
  house.importCycles,
  {
    'schema/a.ts': "import { b } from './b.ts'",
    'schema/b.ts': "import type { C } from './c.ts'",
    'schema/c.ts': "import type { A } from './a.ts'",
    'schema/d.ts': "import type { A } from './a.ts'",
  },
  1,
)
keeps('an index.ts or a barrel', house.indexFiles, { 'src/index.ts': '', 'src/a.ts': "export * from './log.ts'" }, 2)
keeps(
  'a default export',
  house.defaultExports,
  { 'src/a.ts': 'export default 1', 'registry/plugin/verdaccio-gate/gate.ts': 'export default 1' },
  1,
)
keeps(
  'a use of the environment, the clock, chance or the console outside main.ts',
  house.ambientWorld(AMBIENT),
  {
    'src/a.ts': [
      'process.env.HOME',
      'Date.now()',
      'new Date()',
      'Math.random()',
      'console.log(1)',
      'crypto.randomUUID()',
      'performance.now()',
      "import { randomBytes } from 'node:crypto'",
      'new Date(0)',
    ].join('\n'),
    'src/main.ts': 'process.env.HOME',
  },
  8,
)
keeps(
  'any',
  house.anyTypes,
  { 'src/a.ts': 'const a: any = 1\nconst b = 1 as any\ntype C = Record<string, any>\nconst any = "any"' },
  3,
)
keeps(
  'letters of invariants that two files have',
  house.invariantLetters,
  {
    'src/a.ts': '/**\n * A.\n *\n * A1 It holds.\n * AB1 It holds.\n */',
    'src/b.ts': '/**\n * B.\n *\n * A2 It holds.\n */',
    'test/a.test.ts': '/**\n * C.\n *\n * AB2 It holds.\n */',
  },
  1,
)
keeps(
  'an invariant that no title cites',
  house.uncitedInvariants,
  {
    'src/a.ts': '/**\n * A thing.\n *\n * Z1 Nothing is lost.\n * Z2 Nothing is doubled.\n */',
    'test/a.test.ts': "it('loses nothing (Z1)', () => {})",
  },
  1,
)
keeps(
  'a file that does not say what it is',
  house.openingSentences,
  { 'src/a.ts': 'export const a = 1', 'src/b.ts': '/** What it is. */\nexport const a = 1' },
  1,
)
keeps(
  'an error that is no sentence',
  house.errorSentences,
  {
    'src/a.ts': "refuse('x', 'there is no job')\nrefuse('x', 'There is no job.')\nrefuse('x', `maxSteps ${a} is it.`)",
    'runner/a.ts': "throw new PlatformError('x', `The line ${b} came`)\nthrow new PlatformError('x', `Said ${c}`)",
    'src/b.ts': 'refuse(code, message)',
  },
  2,
)

describe('a banned word', () => {
  it('is caught in file names, declarations, members and parameters', () => {
    const rule = house.bannedNames([{ path: 'src/job/', name: 'sessionId', reason: 'planted' }])
    const planted = plant({
      'src/job/job-manager.ts': 'export const workerCount = 1',
      'src/job/a.ts':
        'function run(taskId: string) {}\ninterface A { handler(): void; sessionId: string }\nclass BotInfo {}',
      'src/job/b.ts': 'export const canceled = 1\nconst data = 1\nconst taskful = 1\nconst [library] = [1]',
      'src/fly/a.ts': 'export const snapshot = 1',
    })
    expect(rule(planted)).toHaveLength(5)
  })

  it('is nowhere but where a reason allows it', () => {
    expect(house.bannedNames(NAMES)(sources)).toEqual([])
  })
})

describe('an allowance', () => {
  it('is needed, and says why', () => {
    const used = new Set<Allowance>()
    house.bannedNames(NAMES, used)(sources)
    house.ambientWorld(AMBIENT, used)(sources)
    expect([...NAMES, ...AMBIENT].filter((one) => !used.has(one) || one.reason.length < 20)).toEqual([])
  })
})

const documents = listFiles('.', ['.md']).map((path) => [path, readFileSync(join(ROOT, path), 'utf8')] as const)

describe('a document', () => {
  it('has exactly one title', () => {
    expect(
      house.titleless([
        ['a.md', '# A\n```\n# not\n```\n'],
        ['b.md', '# A\n# B\n'],
        ['c.md', 'text\n'],
      ]),
    ).toHaveLength(2)
    expect(house.titleless(documents)).toEqual([])
  })
})

describe('the repository', () => {
  it('mentions no path of a machine it was written on', () => {
    const outside = /\/[w]ork\/|[s]hared\/specs|registry\.[n]pmjs/
    expect(outside.test(['see', 'work', 'main'].join('/'))).toBe(true)
    const texts = [...documents, ...sources.map(({ path, text }) => [path, text] as const)]
    const settings = ['package.json', 'package-lock.json', '.ci/run'].map(
      (path) => [path, readFileSync(join(ROOT, path), 'utf8')] as const,
    )
    expect([...texts, ...settings].filter(([, text]) => outside.test(text)).map(([path]) => path)).toEqual([])
  })
})
