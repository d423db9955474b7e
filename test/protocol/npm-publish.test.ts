/** What an author sees: the real npm client against the registry. */
import { execFileSync } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startRegistry, type NpmResult, type TestRegistry } from '../support/npm-registry.ts'

let registry: TestRegistry
beforeAll(async () => {
  registry = await startRegistry()
  for (const folder of [
    await skillPackage('@acme/files', '1.0.0'),
    await registry.folder({
      'package.json': JSON.stringify({ name: '@acme/ask', version: '1.0.0', keywords: ['senmon-skill'] }),
      'skill.toml': 'type = "interactiveSkill"\n[tools.ask]\nkind = "ask"\n',
    }),
  ])
    expect(await publish(folder)).toMatchObject({ code: 0 })
})
afterAll(() => registry.close())

const publish = (folder: string, key = 'acme-key', ...args: string[]) =>
  registry.npm(key, folder, 'publish', '--access', 'public', ...args)

const expert = (name: string, lines = '') => `[experts."${name}"]\ninstruction = "Do it."\n${lines}\n`
const stdio = (name: string, packageName: string) =>
  `[experts."${name}".skills."files"]\ntype = "mcpStdioSkill"\npackageName = "${packageName}"\n`

function expertPackage(
  name: string,
  version: string,
  toml = expert(name.split('/').at(-1) ?? name),
  more: object = {},
) {
  const manifest = { name, version, keywords: ['senmon-expert'], license: 'MIT', ...more }
  return registry.folder({ 'package.json': JSON.stringify(manifest), 'senmon.toml': toml })
}

function skillPackage(name: string, version: string, more: object = {}) {
  const manifest = { name, version, keywords: ['senmon-skill'], bin: './bin/skill.js', ...more }
  return registry.folder({
    'package.json': JSON.stringify(manifest),
    'bin/skill.js': `#!/usr/bin/env node\nconsole.log("${version}")\n`,
  })
}

function expectRefusal(result: NpmResult, status: number, ...sentences: string[]): void {
  expect(result.code).not.toBe(0)
  expect(result.stderr).toContain(`npm error ${status === 403 ? '403' : status} `)
  for (const sentence of sentences) expect(result.stderr).toContain(sentence)
}

describe('npm, with a key of the platform,', () => {
  it('knows who the key stands for', async () => {
    expect(await registry.npm('acme-key', registry.directory, 'whoami')).toMatchObject({ code: 0, stdout: 'acme\n' })
    expect((await registry.npm('no-key', registry.directory, 'whoami')).stderr).toContain('E401')
    expect(await registry.npm('acme-key', registry.directory, 'ping')).toMatchObject({ code: 0 })
  })

  it('publishes an expert with its delegates and skills, and the lock holds them all', async () => {
    expect(await publish(await expertPackage('analyst', '1.2.0'))).toMatchObject({ code: 0 })
    const toml = `
${expert('reviewer', 'delegates = ["analyst@^1", "writer"]')}
${stdio('reviewer', '@acme/files@^1')}
[experts."reviewer".skills."human"]
type = "interactiveSkill"
packageName = "@acme/ask"
${expert('writer', 'model = "rehearsal/turns"')}`
    expect(await publish(await expertPackage('@acme/reviewer', '2.0.0', toml))).toMatchObject({ code: 0 })
    const lock = await registry.packages.findLock('@acme/reviewer', '2.0.0', '@acme/reviewer')
    expect(lock?.coordinator).toBe('@acme/reviewer@2.0.0')
    expect(Object.keys(lock?.experts ?? {}).toSorted()).toEqual([
      '@acme/reviewer/writer@2.0.0',
      '@acme/reviewer@2.0.0',
      'analyst@1.2.0',
    ])
    const main = lock?.experts[lock.coordinator]
    expect(main?.delegates).toEqual({ analyst: 'analyst@1.2.0', writer: '@acme/reviewer/writer@2.0.0' })
    expect(main?.skills['files']).toMatchObject({
      type: 'mcpStdioSkill',
      entry: 'node_modules/@acme/files/bin/skill.js',
      packages: [{ name: '@acme/files', version: '1.0.0', path: 'node_modules/@acme/files' }],
    })
    expect(main?.skills['human']).toMatchObject({ type: 'interactiveSkill', tools: { ask: { kind: 'ask' } } })
    const record = await registry.packages.find('@acme/reviewer')
    expect(record?.versions[0]?.experts.map((card) => card.name)).toEqual(['@acme/reviewer', '@acme/reviewer/writer'])
    expect(main?.package.integrity).toBe(record?.versions[0]?.integrity)
  })

  it('views, searches and installs what is published', async () => {
    const view = await registry.npm('rival-key', registry.directory, 'view', '@acme/files', '--json')
    expect(JSON.parse(view.stdout)).toMatchObject({ name: '@acme/files', version: '1.0.0' })
    const search = await registry.npm('rival-key', registry.directory, 'search', '@acme/files', '--json')
    expect(JSON.parse(search.stdout)).toMatchObject([{ name: '@acme/files' }])
    const folder = await registry.folder({ 'package.json': '{"name":"x","version":"1.0.0"}' })
    const installed = await registry.npm('rival-key', folder, 'install', '@acme/files@1')
    expect(installed).toMatchObject({ code: 0 })
    expect(installed.stderr).not.toContain('npm warn audit')
    expect(execFileSync(join(folder, 'node_modules/.bin/files'), { encoding: 'utf8' })).toBe('1.0.0\n')
    const none = await registry.npm('rival-key', folder, 'install', 'is-odd')
    expect(none.stderr).toContain('E404')
  })

  it('moves tags and deprecates, as the owner alone', async () => {
    for (const version of ['1.0.0', '1.1.0']) await publish(await skillPackage('tagged', version))
    await publish(await skillPackage('tagged', '2.0.0-rc.1'), 'acme-key', '--tag', 'next')
    const tags = async () => (await registry.packages.find('tagged'))?.tags
    expect(await tags()).toEqual({ latest: '1.1.0', next: '2.0.0-rc.1' })
    const npm = (key: string, ...args: string[]) => registry.npm(key, registry.directory, ...args)
    expect(await npm('acme-key', 'dist-tag', 'add', 'tagged@1.0.0', 'old')).toMatchObject({ code: 0 })
    expect(await npm('acme-key', 'dist-tag', 'add', 'tagged@1.0.0', 'latest')).toMatchObject({ code: 0 })
    expect(await npm('acme-key', 'dist-tag', 'rm', 'tagged', 'next')).toMatchObject({ code: 0 })
    expect(await tags()).toEqual({ latest: '1.0.0', old: '1.0.0' })
    expect((await npm('rival-key', 'dist-tag', 'ls', 'tagged')).stdout).toBe('latest: 1.0.0\nold: 1.0.0\n')
    expectRefusal(
      await npm('rival-key', 'dist-tag', 'add', 'tagged@1.1.0', 'evil'),
      403,
      'belongs to another application',
    )
    expectRefusal(await npm('rival-key', 'dist-tag', 'rm', 'tagged', 'old'), 403, 'belongs to another application')
    expect(await npm('acme-key', 'deprecate', 'tagged@1.0.0', 'use 1.1')).toMatchObject({ code: 0 })
    expect((await npm('acme-key', 'view', 'tagged@1.0.0', 'deprecated')).stdout).toBe('use 1.1\n')
    expectRefusal(
      await npm('rival-key', 'deprecate', 'tagged@1.1.0', 'mine now'),
      403,
      'belongs to another application',
    )
    expect(await npm('acme-key', 'deprecate', 'tagged@1.0.0', '')).toMatchObject({ code: 0 })
    expect((await registry.packages.find('tagged'))?.versions.map((version) => version.deprecated)).toEqual([
      null,
      null,
      null,
    ])
    expect(await tags()).toEqual({ latest: '1.0.0', old: '1.0.0' })
  })

  it('accepts an ordinary package, and a file under its other name', async () => {
    const plain = await registry.folder({ 'package.json': '{"name":"plain","version":"1.0.0"}', 'index.js': '1' })
    expect(await publish(plain)).toMatchObject({ code: 0 })
    const origin = await registry.folder({
      'package.json': '{"name":"origin","version":"1.0.0"}',
      'perstack.toml': expert('origin'),
    })
    expect(await publish(origin)).toMatchObject({ code: 0 })
    expect(await registry.packages.findLock('origin', '1.0.0', 'origin')).toBeDefined()
  })
})

describe('npm publish', () => {
  it.each([
    [
      'without senmon.toml',
      { 'package.json': { keywords: ['senmon-expert'] } },
      422,
      ['senmon.toml is missing from the root'],
    ],
    [
      'with a malformed file, all faults named',
      { 'senmon.toml': '[experts."bad"]\ninstrucion = "x"\nmaxSteps = 0\n' },
      422,
      [
        'senmon.toml:2:1: instrucion in [experts."bad"] is not a key that is known here; did you mean instruction?',
        'senmon.toml:3:1: maxSteps',
      ],
    ],
    [
      'with TOML that is none',
      { 'senmon.toml': '[experts."bad"\n' },
      422,
      ['senmon.toml:1:15: the file is not valid TOML'],
    ],
    [
      'for an expert that the package is not named for',
      { 'senmon.toml': expert('other') },
      422,
      ['has no expert named "bad" for the package bad; it has other.'],
    ],
    [
      'with two versions',
      { 'senmon.toml': expert('bad', 'version = "1.0.1"') },
      422,
      ['is 1.0.1, but package.json says 1.0.0.'],
    ],
    [
      'with an unknown delegate',
      { 'senmon.toml': expert('bad', 'delegates = ["no-such"]') },
      422,
      ['"bad" delegates to no-such, which is not published here.'],
    ],
    [
      'with an unknown version of a delegate',
      { 'senmon.toml': expert('bad', 'delegates = ["analyst@^9"]') },
      422,
      ['"bad" delegates to analyst@^9, which no version has; there are 1.2.0.'],
    ],
    [
      'with a cycle',
      { 'senmon.toml': `${expert('bad', 'delegates = ["b"]')}${expert('b', 'delegates = ["bad"]')}` },
      422,
      ['The delegates form a cycle: bad -> b -> bad.'],
    ],
    [
      'with an unknown skill',
      { 'senmon.toml': expert('bad', stdio('bad', '@acme/nothing')) },
      422,
      ['The skill "files" of "bad" wants @acme/nothing@latest, which is not published here.'],
    ],
    [
      'with an unknown version of a skill',
      { 'senmon.toml': expert('bad', stdio('bad', '@acme/files@7')) },
      422,
      ['wants @acme/files@7, which is not published here; there are 1.0.0.'],
    ],
    [
      'with a skill that cannot be started',
      { 'senmon.toml': expert('bad', stdio('bad', 'plain')) },
      422,
      ['wants plain@1.0.0, which has no bin to start.'],
    ],
    [
      'of a skill with neither bin nor skill.toml',
      { 'package.json': { keywords: ['senmon-skill'] } },
      422,
      ['bad is a skill, but has neither a bin that speaks MCP nor a skill.toml.'],
    ],
    [
      'of a skill with a wrong skill.toml',
      { 'package.json': { keywords: ['senmon-skill'] }, 'skill.toml': 'type = "x"\n' },
      422,
      ['skill.toml:1:1: type'],
    ],
    [
      'of a bin that is not there',
      { 'package.json': { bin: 'no.js', files: ['x'] }, x: '1' },
      422,
      ['bin in package.json of bad names no.js'],
    ],
    [
      'with a dependency from elsewhere',
      { 'package.json': { dependencies: { x: 'git+ssh://git@example.com/x.git' } } },
      422,
      ['only versions and ranges of published packages are allowed'],
    ],
    ['with a native addon', { 'build/x.node': 'x' }, 422, ['x.node may not be published']],
  ] as const)('%s is refused with a sentence', async (_name, files, status, sentences) => {
    const { 'package.json': more = {}, ...rest } = files as {
      'package.json'?: object
      [path: string]: string | object | undefined
    }
    const manifest = JSON.stringify({ name: 'bad', version: '1.0.0', ...more })
    const folder = await registry.folder({ 'package.json': manifest, ...(rest as Record<string, string>) })
    expectRefusal(await publish(folder), status, ...sentences)
    expect(await registry.packages.find('bad')).toBeUndefined()
  })

  it('of another application into a name that is taken is refused', async () => {
    expectRefusal(
      await publish(await skillPackage('@acme/files', '1.0.1'), 'rival-key'),
      403,
      '@acme/files belongs to another application.',
    )
    expect((await registry.packages.find('@acme/files'))?.versions).toHaveLength(1)
  })

  it('with a key that may not publish is refused', async () => {
    expectRefusal(
      await publish(await skillPackage('other', '1.0.0'), 'reader-key'),
      403,
      'does not have the scope "publish"',
    )
  })

  it('finds what a skill needs among published packages, at exact versions', async () => {
    await publish(await registry.folder({ 'package.json': '{"name":"dep-a","version":"1.0.0"}', 'index.js': '1' }))
    await publish(await registry.folder({ 'package.json': '{"name":"dep-a","version":"2.0.0"}', 'index.js': '2' }))
    const between = {
      name: 'dep-b',
      version: '1.0.0',
      dependencies: { 'dep-a': '^1' },
      devDependencies: { nowhere: '1' },
    }
    await publish(await registry.folder({ 'package.json': JSON.stringify(between), 'index.js': '1' }))
    const needs = { dependencies: { 'dep-a': '^2', 'dep-b': '*' }, optionalDependencies: { nowhere: '^1' } }
    expect(await publish(await skillPackage('deep', '1.0.0', needs))).toMatchObject({ code: 0 })
    expect(await publish(await expertPackage('diver', '1.0.0', expert('diver', stdio('diver', 'deep'))))).toMatchObject(
      { code: 0 },
    )
    const lock = await registry.packages.findLock('diver', '1.0.0', 'diver')
    const skill = lock?.experts[lock.coordinator]?.skills['files']
    expect(skill?.type === 'mcpStdioSkill' && skill.packages.map(({ path, version }) => `${path}@${version}`)).toEqual([
      'node_modules/deep@1.0.0',
      'node_modules/dep-a@2.0.0',
      'node_modules/dep-b@1.0.0',
      'node_modules/dep-b/node_modules/dep-a@1.0.0',
    ])
  })

  it('says which dependency of a skill is not published', async () => {
    await publish(await skillPackage('lacking', '1.0.0', { dependencies: { nowhere: '^1' } }))
    const result = await publish(await expertPackage('sad', '1.0.0', expert('sad', stdio('sad', 'lacking'))))
    expectRefusal(result, 422, 'The skill lacking@1.0.0 cannot be installed: nowhere is not published here.')
    await publish(await skillPackage('late', '1.0.0', { dependencies: { 'dep-a': '^9' } }))
    const late = await publish(await expertPackage('sad', '1.0.0', expert('sad', stdio('sad', 'late'))))
    expectRefusal(late, 422, 'cannot be installed: No matching version found for dep-a@^9.')
  })

  it('runs no code of a package on the way', async () => {
    const canary = join(registry.directory, 'canary')
    const run = `node -e "require('fs').writeFileSync('${canary}','')"`
    const scripts = { preinstall: run, install: run, postinstall: run }
    await publish(await skillPackage('hooked', '1.0.0', { scripts }))
    await publish(await expertPackage('user', '1.0.0', expert('user', stdio('user', 'hooked'))))
    expect(await registry.packages.findLock('user', '1.0.0', 'user')).toBeDefined()
    await expect(readFile(canary)).rejects.toThrow('ENOENT')
  })
})
