/** What was published is what jobs get: keys resolve to the frozen lock, and files come from the very tarball. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { openNpmExpertSource } from '../../src/npm/npm-expert-source.ts'
import type { ExpertSource } from '../../src/expert/expert-source.ts'
import { handTgz, packageEntries } from '../support/hand-tar.ts'
import { acme, startRegistry, type TestRegistry } from '../support/npm-registry.ts'

let registry: TestRegistry
let source: ExpertSource
const toml = (lines = '') => `
[experts."reviewer"]
description = "Reviews 100% of the code."
instruction = "Review."
tags = ["code"]
${lines}
[experts."reader"]
instruction = "Read."
model = "rehearsal/turns.json"
`

async function publish(version: string, lines?: string, tag = 'latest') {
  const manifest = { name: '@acme/reviewer', version, keywords: ['senmon-expert'] }
  const tarball = handTgz(
    packageEntries(manifest, { 'senmon.toml': toml(lines), 'turns/a.json': `{"v":"${version}"}` }),
  )
  const answer = await registry.put('acme-key', manifest, tarball, (body) => ({
    ...body,
    'dist-tags': { [tag]: version },
  }))
  expect(answer.status).toBe(201)
}

beforeAll(async () => {
  registry = await startRegistry()
  source = openNpmExpertSource(registry)
  await publish('1.0.0')
  await publish('1.2.0')
  await publish('2.0.0-rc.1', '', 'next')
  await publish('2.0.0', 'delegates = ["reader"]')
})
afterAll(() => registry.close())

describe('an expert source', () => {
  it.each([
    ['@acme/reviewer', '@acme/reviewer@2.0.0'],
    ['@acme/reviewer@latest', '@acme/reviewer@2.0.0'],
    ['@acme/reviewer@next', '@acme/reviewer@2.0.0-rc.1'],
    ['@acme/reviewer@1.0.0', '@acme/reviewer@1.0.0'],
    ['@acme/reviewer@^1', '@acme/reviewer@1.2.0'],
    ['@acme/reviewer@1.0', '@acme/reviewer@1.0.0'],
    ['@acme/reviewer/reader', '@acme/reviewer/reader@2.0.0'],
    ['@acme/reviewer/reader@~1.2.0', '@acme/reviewer/reader@1.2.0'],
  ])('resolves %s to %s', async (key, exact) => {
    expect(await source.resolve(key)).toMatchObject({ coordinator: exact })
    expect(await source.find(key)).toMatchObject({ key: exact })
  })

  it.each([
    ['@acme/none', 'expert_not_found', 'No expert named @acme/none is published here.'],
    ['@acme/reviewer/none', 'expert_not_found', '@acme/reviewer@2.0.0 publishes no expert named @acme/reviewer/none.'],
    [
      '@acme/reviewer@^3',
      'version_not_found',
      '@acme/reviewer has no version ^3; there are 2.0.0, 2.0.0-rc.1, 1.2.0, 1.0.0.',
    ],
    [
      '@acme/reviewer@none',
      'version_not_found',
      '@acme/reviewer has no version none; there are 2.0.0, 2.0.0-rc.1, 1.2.0, 1.0.0.',
    ],
    ['No Such', 'expert_key_invalid', '"No Such" is not an expert key.'],
    ['', 'expert_key_invalid', '"" is not an expert key.'],
    ['__proto__', 'expert_key_invalid', '"__proto__" is not an expert key.'],
  ])('refuses %s with a sentence', async (key, code, message) => {
    expect(await source.resolve(key)).toEqual({ refused: code, message })
    expect(await source.find(key)).toBeUndefined()
  })

  it('describes a published expert', async () => {
    expect(await source.find('@acme/reviewer')).toEqual({
      key: '@acme/reviewer@2.0.0',
      name: '@acme/reviewer',
      version: '2.0.0',
      description: 'Reviews 100% of the code.',
      packageName: '@acme/reviewer',
      integrity: (await registry.packages.find('@acme/reviewer'))?.versions.at(-1)?.integrity,
      owner: acme,
      model: null,
      delegates: ['@acme/reviewer/reader@2.0.0'],
      skills: [],
      tags: ['code'],
      versions: ['2.0.0', '2.0.0-rc.1', '1.2.0', '1.0.0'],
      publishedAt: 1_790_000_000_000,
    })
  })

  it('lists experts, and searches them', async () => {
    const names = async (...args: Parameters<ExpertSource['list']>) =>
      (await source.list(...args)).map(({ name }) => name)
    expect(await names(null, 10, null)).toEqual(['@acme/reviewer', '@acme/reviewer/reader'])
    expect(await names('100%', 10, null)).toEqual(['@acme/reviewer'])
    expect(await names(null, 10, '@acme/reviewer')).toEqual(['@acme/reviewer/reader'])
  })

  it('reads a file of the very package that a lock names', async () => {
    const text = async (key: string, path: string) => {
      const lock = await source.resolve(key)
      if ('refused' in lock) throw new Error(lock.message)
      const integrity = lock.experts[lock.coordinator]?.package.integrity ?? ''
      const bytes = await source.readFile(integrity, path)
      return bytes === undefined ? undefined : new TextDecoder().decode(bytes)
    }
    for (let again = 0; again < 2; again++) {
      expect(await text('@acme/reviewer@1.0.0', 'turns/a.json')).toBe('{"v":"1.0.0"}')
      expect(await text('@acme/reviewer', 'turns/a.json')).toBe('{"v":"2.0.0"}')
    }
    expect(await text('@acme/reviewer', 'turns/none.json')).toBeUndefined()
    expect(await text('@acme/reviewer', '../package.json')).toBeUndefined()
    expect(await source.readFile('sha512-none', 'package.json')).toBeUndefined()
    expect(await source.readFile('', 'package.json')).toBeUndefined()
  })
})
