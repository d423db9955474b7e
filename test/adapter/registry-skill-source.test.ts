/** What an expert's file may name as a skill is what the registry would find for it. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { openNpmSkillSource } from '../../src/npm/npm-skill-source.ts'
import type { SkillSource } from '../../src/expert/skill-source.ts'
import { handTgz, packageEntries } from '../support/hand-tar.ts'
import { acme, startRegistry, type TestRegistry } from '../support/npm-registry.ts'

let registry: TestRegistry
let source: SkillSource

async function publish(manifest: {
  readonly name: string
  readonly version: string
  readonly [more: string]: unknown
}) {
  const tarball = handTgz(packageEntries(manifest, { 'main.js': '' }))
  expect((await registry.put('acme-key', manifest, tarball)).status).toBe(201)
}

beforeAll(async () => {
  registry = await startRegistry()
  source = openNpmSkillSource(registry.packages)
  await publish({ name: '@acme/pen', version: '1.0.0', bin: 'main.js' })
  await publish({ name: '@acme/pen', version: '1.1.0', bin: { pen: 'main.js' }, description: 'Writes.' })
  await publish({
    name: '@acme/ink',
    version: '1.0.0',
    bin: 'main.js',
    keywords: ['senmon-skill'],
    description: 'Draws.',
  })
  await publish({ name: 'net', version: '1.0.0', bin: 'main.js' })
  await publish({ name: 'net', version: '2.0.0', bin: 'main.js', mcpName: 'io.example/net' })
  await publish({ name: 'plain', version: '1.0.0', keywords: ['text'] })
})
afterAll(() => registry.close())

describe('a skill source', () => {
  it.each([
    ['@acme/pen', '@acme/pen@1.1.0'],
    ['@acme/pen@latest', '@acme/pen@1.1.0'],
    ['@acme/pen@1.0.0', '@acme/pen@1.0.0'],
    ['@acme/pen@^1', '@acme/pen@1.1.0'],
  ])('finds for %s %s', async (key, exact) => {
    expect(await source.find(key)).toMatchObject({ key: exact })
  })

  it.each(['@acme/none', '@acme/pen@^2', '@acme/pen@none', '@acme/pen/nib', 'No Such', '', '__proto__'])(
    'finds nothing for %j',
    async (key) => {
      expect(await source.find(key)).toBeUndefined()
    },
  )

  it('takes a package that has nothing to start for none', async () => {
    expect(await source.find('plain')).toBeUndefined()
  })

  it('lists what says of itself that it is one, at its latest version, a page at a time', async () => {
    const names = async (...args: Parameters<SkillSource['list']>) => (await source.list(...args)).map(({ key }) => key)
    expect(await names(null, 10, null)).toEqual(['@acme/ink@1.0.0', 'net@2.0.0'])
    expect(await names(null, 1, '@acme/ink')).toEqual(['net@2.0.0'])
    expect(await names('DRAWS', 10, null)).toEqual(['@acme/ink@1.0.0'])
  })

  it('describes a published skill', async () => {
    expect(await source.find('@acme/pen')).toEqual({
      key: '@acme/pen@1.1.0',
      name: '@acme/pen',
      version: '1.1.0',
      description: 'Writes.',
      integrity: (await registry.packages.find('@acme/pen'))?.versions.at(-1)?.integrity,
      owner: acme,
      versions: ['1.1.0', '1.0.0'],
      deprecated: null,
      publishedAt: 1_790_000_000_000,
    })
  })
})
