/** What every package store keeps: PK1 to PK4 of schema/package-store.ts. */
import { describe, expect, it } from 'vitest'
import { sha256 } from '../../schema/hash.ts'
import { makeId, type ApplicationId } from '../../schema/id.ts'
import { printExpertKey } from '../../schema/expert-key.ts'
import type { JsonObject } from '../../schema/json.ts'
import type { Integrity, Lock } from '../../schema/lock.ts'
import type { ExpertCard, PackageStore, Publication } from '../../schema/package-store.ts'

function application(number: number): ApplicationId {
  return makeId('app', number, new Uint8Array(16).fill(number))
}

const ours = application(1)
const theirs = application(2)

/** Integrity of made-up bytes: a store does not look inside. */
export function integrityOf(bytes: string): Integrity {
  return `sha512-${Buffer.from(sha256(bytes).repeat(2), 'hex').toString('base64')}`
}

export function lockOf(name: string, version: string, instruction = 'Do it.'): Lock {
  const key = printExpertKey(name, version)
  const expert = {
    key,
    name,
    version,
    package: { name, version, integrity: integrityOf(`${name}@${version}`) },
    description: 'It does "it" \u2014 100%_\\.',
    instruction,
    model: null,
    maxSteps: null,
    delegates: {},
    skills: {},
  }
  return { version: 1, coordinator: key, experts: { [key]: expert } }
}

function cardOf(name: string, description = `The expert ${name}.`): ExpertCard {
  return { name, description, model: 'rehearsal/turns', delegates: ['b@1.0.0'], skills: ['files'], tags: ['review'] }
}

interface Draft {
  readonly owner?: ApplicationId
  readonly bytes?: string
  readonly tags?: readonly string[]
  readonly experts?: readonly ExpertCard[]
  readonly at?: number
  readonly manifest?: JsonObject
}

function publicationOf(name: string, version: string, draft: Draft = {}): Publication {
  const bytes = draft.bytes ?? `${name}@${version}`
  const experts = draft.experts ?? []
  return {
    name,
    owner: draft.owner ?? ours,
    version: {
      version,
      integrity: integrityOf(bytes),
      shasum: sha256(bytes).slice(0, 40),
      contentHash: sha256(bytes),
      sizeBytes: bytes.length,
      unpackedBytes: bytes.length * 3,
      fileCount: 2,
      manifest: draft.manifest ?? {
        name,
        version,
        description: 'quotes " and \u{1f600}',
        zebra: { a: [1, null, true] },
        alpha: 1.5,
      },
      experts,
      publishedAt: draft.at ?? 1_790_000_000_000,
    },
    locks: Object.fromEntries(experts.map((card) => [card.name, lockOf(card.name, version)])),
    tags: draft.tags ?? ['latest'],
  }
}

export function packageStoreContract(open: () => Promise<PackageStore>): void {
  describe('a package store', () => {
    it('PK1 gives a name to whoever publishes first, and to nobody else', async () => {
      const store = await open()
      expect(await store.publish(publicationOf('@acme/a', '1.0.0'))).toBe('published')
      const foreign = publicationOf('@acme/a', '1.0.1', { owner: theirs })
      expect(await store.publish(foreign)).toMatchObject({ refused: 'name_taken' })
      const same = publicationOf('@acme/a', '1.0.0', { owner: theirs })
      expect(await store.publish(same)).toMatchObject({ refused: 'name_taken' })
      expect(await store.setTag('@acme/a', theirs, 'beta', '1.0.0', 1)).toMatchObject({ refused: 'name_taken' })
      expect(await store.deleteTag('@acme/a', theirs, 'beta', 1)).toMatchObject({ refused: 'name_taken' })
      expect(await store.deprecate('@acme/a', theirs, '1.0.0', 'old', 1)).toMatchObject({ refused: 'name_taken' })
      const found = await store.find('@acme/a')
      expect(found?.owner).toBe(ours)
      expect(found?.tags).toEqual({ latest: '1.0.0' })
      expect(found?.versions.map((version) => [version.version, version.deprecated])).toEqual([['1.0.0', null]])
    })

    it('PK1 gives a name to one of two applications that publish it at once', async () => {
      const store = await open()
      const results = await Promise.all(
        [ours, theirs, ours, theirs].map((owner, i) => store.publish(publicationOf('race', `1.0.${i}`, { owner }))),
      )
      const found = await store.find('race')
      const won = found?.owner === ours ? [0, 2] : [1, 3]
      for (const [i, result] of results.entries()) {
        if (won.includes(i)) expect(result).toBe('published')
        else expect(result).toMatchObject({ refused: 'name_taken' })
      }
      expect(found?.versions.length).toBe(2)
    })

    it('PK2 keeps the bytes of a version for ever', async () => {
      const store = await open()
      await store.publish(publicationOf('a', '1.0.0', { bytes: 'first', at: 5 }))
      const before = await store.find('a')
      const other = publicationOf('a', '1.0.0', { bytes: 'second', tags: ['latest', 'evil'], at: 6 })
      expect(await store.publish(other)).toMatchObject({ refused: 'version_frozen' })
      const again = publicationOf('a', '1.0.0', { bytes: 'first', tags: ['again'], at: 7 })
      expect(await store.publish(again)).toBe('same')
      expect(await store.find('a')).toEqual(before)
      expect(await store.findTarball(integrityOf('second'))).toBeUndefined()
    })

    it('PK2 lets one of two different publications of a version win', async () => {
      const store = await open()
      await store.publish(publicationOf('a', '1.0.0'))
      const drafts = ['x', 'y', 'z'].map((bytes) => publicationOf('a', '2.0.0', { bytes }))
      const results = await Promise.all(drafts.map((draft) => store.publish(draft)))
      expect(results.filter((result) => result === 'published').length).toBe(1)
      const found = await store.find('a')
      const winner = drafts[results.indexOf('published')]
      expect(found?.versions.map((version) => version.integrity)).toEqual([
        integrityOf('a@1.0.0'),
        winner?.version.integrity,
      ])
    })

    it('PK3 gives back what was published, to the letter', async () => {
      const store = await open()
      const publication = publicationOf('@acme/a', '1.0.0', { experts: [cardOf('@acme/a'), cardOf('@acme/a/reader')] })
      await store.publish(publication)
      const found = await store.find('@acme/a')
      expect(found?.versions).toEqual([{ ...publication.version, deprecated: null }])
      expect(found?.modifiedAt).toBe(publication.version.publishedAt)
      expect(await store.findLock('@acme/a', '1.0.0', '@acme/a/reader')).toEqual(lockOf('@acme/a/reader', '1.0.0'))
      expect(await store.findLock('@acme/a', '1.0.1', '@acme/a/reader')).toBeUndefined()
      expect(await store.findLock('@acme/a', '1.0.0', '@acme/b')).toBeUndefined()
      expect(await store.findTarball(integrityOf('@acme/a@1.0.0'))).toEqual({
        name: '@acme/a',
        version: '1.0.0',
        contentHash: publication.version.contentHash,
        sizeBytes: publication.version.sizeBytes,
      })
    })

    it('PK3 keeps versions in order of publication', async () => {
      const store = await open()
      for (const version of ['2.0.0', '1.0.0', '10.0.0', '1.5.0']) await store.publish(publicationOf('a', version))
      const found = await store.find('a')
      expect(found?.versions.map((version) => version.version)).toEqual(['2.0.0', '1.0.0', '10.0.0', '1.5.0'])
      expect(found?.tags).toEqual({ latest: '1.5.0' })
    })

    it('PK4 makes the first version latest, whatever its tag', async () => {
      const store = await open()
      await store.publish(publicationOf('a', '1.0.0', { tags: ['beta'] }))
      expect((await store.find('a'))?.tags).toEqual({ latest: '1.0.0', beta: '1.0.0' })
      await store.publish(publicationOf('a', '1.1.0', { tags: ['beta'] }))
      expect((await store.find('a'))?.tags).toEqual({ latest: '1.0.0', beta: '1.1.0' })
    })

    it('PK4 moves tags only to versions that exist and never loses latest', async () => {
      const store = await open()
      expect(await store.setTag('a', ours, 'beta', '1.0.0', 1)).toMatchObject({ refused: 'package_not_found' })
      expect(await store.deleteTag('a', ours, 'beta', 1)).toMatchObject({ refused: 'package_not_found' })
      await store.publish(publicationOf('a', '1.0.0'))
      await store.publish(publicationOf('a', '1.1.0'))
      expect(await store.setTag('a', ours, 'beta', '9.9.9', 1)).toMatchObject({ refused: 'version_not_found' })
      expect(await store.setTag('a', ours, 'latest', '1.0.0', 20)).toBe('tagged')
      expect(await store.setTag('a', ours, 'beta', '1.1.0', 21)).toBe('tagged')
      expect((await store.find('a'))?.tags).toEqual({ latest: '1.0.0', beta: '1.1.0' })
      expect((await store.find('a'))?.modifiedAt).toBe(21)
      expect(await store.deleteTag('a', ours, 'beta', 22)).toBe('deleted')
      expect(await store.deleteTag('a', ours, 'absent', 23)).toBe('deleted')
      expect(await store.deleteTag('a', ours, 'latest', 24)).toMatchObject({ refused: 'package_invalid' })
      expect((await store.find('a'))?.tags).toEqual({ latest: '1.0.0' })
    })

    it('deprecates one version and takes the word back', async () => {
      const store = await open()
      expect(await store.deprecate('a', ours, '1.0.0', 'old', 1)).toMatchObject({ refused: 'package_not_found' })
      await store.publish(publicationOf('a', '1.0.0'))
      await store.publish(publicationOf('a', '1.1.0'))
      expect(await store.deprecate('a', ours, '3.0.0', 'old', 1)).toMatchObject({ refused: 'version_not_found' })
      expect(await store.deprecate('a', ours, '1.0.0', 'use 1.1', 9)).toBe('deprecated')
      const words = async () => (await store.find('a'))?.versions.map((version) => version.deprecated)
      expect(await words()).toEqual(['use 1.1', null])
      expect(await store.deprecate('a', ours, '1.0.0', null, 10)).toBe('deprecated')
      expect(await words()).toEqual([null, null])
    })

    it('lists packages by name, a page at a time', async () => {
      const store = await open()
      for (const name of ['b', '@z/a', 'a-b', 'a', 'a_c']) await store.publish(publicationOf(name, '1.0.0'))
      expect(await store.listPackages(null, 10, null)).toEqual(['@z/a', 'a', 'a-b', 'a_c', 'b'])
      expect(await store.listPackages(null, 2, 'a')).toEqual(['a-b', 'a_c'])
      expect(await store.listPackages('_', 10, null)).toEqual(['a_c'])
      expect(await store.listPackages('%', 10, null)).toEqual([])
      expect(await store.find('none')).toBeUndefined()
    })

    it('lists the experts of latest versions, searched as plain text', async () => {
      const store = await open()
      const experts = (...cards: ExpertCard[]) => ({ experts: cards })
      await store.publish(publicationOf('a', '1.0.0', experts(cardOf('a'), cardOf('a/gone'))))
      await store.publish(publicationOf('a', '2.0.0', experts(cardOf('a'), cardOf('a/reader', 'Reads 100% of LAW.'))))
      await store.publish(publicationOf('b', '1.0.0', experts(cardOf('b', 'Reads 1000 laws.'))))
      await store.publish(publicationOf('plain', '1.0.0'))
      const names = async (...args: Parameters<PackageStore['listExperts']>) =>
        (await store.listExperts(...args)).map((found) => found.name)
      expect(await names(null, 10, null)).toEqual(['a', 'a/reader', 'b'])
      expect(await names('100%', 10, null)).toEqual(['a/reader'])
      expect(await names('law', 10, null)).toEqual(['a/reader', 'b'])
      expect(await names('READER', 10, null)).toEqual(['a/reader'])
      expect(await names(null, 1, 'a')).toEqual(['a/reader'])
      expect(await names('nothing like it', 10, null)).toEqual([])
      expect(await store.listExperts('1000', 10, null)).toEqual([{ name: 'b', packageName: 'b' }])
    })

    it('lists the packages whose latest version says that it is a skill, whatever else its author wrote', async () => {
      const store = await open()
      const publish = (name: string, version: string, manifest: JsonObject) =>
        store.publish(publicationOf(name, version, { manifest: { name, version, ...manifest } }))
      await publish('@acme/pen', '1.0.0', { keywords: ['art', 'senmon-skill'], description: 'Writes 100% of it.' })
      await publish('@acme/was', '1.0.0', { keywords: ['senmon-skill'] })
      await publish('@acme/was', '2.0.0', { keywords: ['art'] })
      await publish('net', '1.0.0', {
        mcpName: 'io.example/net',
        description: 'Reads 1000 pages.',
        keywords: 'senmon-skill',
      })
      await publish('nul', '1.0.0', {
        keywords: ['senmon-skill', 'a\0b'],
        description: 'One\0\\u0000\\\0 PEN \ud800 and \u{1f600}.',
      })
      await publish('odd', '1.0.0', { keywords: ['senmon-skill'], description: { not: 'a text' } })
      await publish('talks-of-it', '1.0.0', { description: '"senmon-skill" and "mcpName"', mcpName: 7, bin: 'main.js' })
      await publish('by-keyword', '1.0.0', { keywords: { 0: 'senmon-skill' } })
      expect(await store.listSkills(null, 10, null)).toEqual(['@acme/pen', 'net', 'nul', 'odd'])
      expect(await store.listSkills(null, 2, '@acme/pen')).toEqual(['net', 'nul'])
      expect(await store.listSkills('pen', 10, null)).toEqual(['@acme/pen', 'nul'])
      expect(await store.listSkills('100%', 10, null)).toEqual(['@acme/pen'])
      expect(await store.listSkills('nothing like it', 10, null)).toEqual([])
    })
  })
}
