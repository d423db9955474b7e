/** IN1 to IN5: what a lock names is put on disk, whole, by integrity, and nothing else ever is; and it goes again. */
import { createHash } from 'node:crypto'
import { lstat, mkdir, readdir, readFile, rm, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { hashInstallation } from '../../registry/closure.ts'
import { openInstaller, SWEEP_MS, UNUSED_MS } from '../../registry/installer.ts'
import { sha256, type Sha256 } from '../../schema/hash.ts'
import type { InstalledPackage, Integrity, LockedStdioSkill } from '../../schema/lock.ts'
import { handTgz, packageEntries, type HandEntry } from '../support/hand-tar.ts'
import { fakeClock, type FakeClock } from '../fake/fake-clock.ts'
import { lockedExpert, lockOf } from '../fake/fake-expert-source.ts'
import { memoryContentStore } from '../fake/memory-content-store.ts'
import { until } from '../support/patience.ts'
import { scratchDirectory } from '../support/scratch.ts'

let directory: string
const content = memoryContentStore()
const tarballs = new Map<Integrity, Sha256>()
let clock: FakeClock
beforeEach(async () => {
  clock = fakeClock(Date.UTC(2026, 0))
  directory = scratchDirectory('installer')
})
afterEach(() => rm(directory, { recursive: true, force: true }))

const installer = (root = join(directory, 'skills')) =>
  openInstaller({
    directory: root,
    content,
    clock,
    packages: {
      async findTarball(integrity) {
        const contentHash = tarballs.get(integrity)
        return contentHash === undefined ? undefined : { name: 'x', version: '1.0.0', contentHash, sizeBytes: 1 }
      },
    },
  })

async function stored(
  name: string,
  entries: readonly HandEntry[],
  path = `node_modules/${name}`,
): Promise<InstalledPackage> {
  const tarball = handTgz(entries)
  const integrity: Integrity = `sha512-${createHash('sha512').update(tarball).digest('base64')}`
  tarballs.set(integrity, await content.put(tarball))
  return { name, version: '1.0.0', integrity, path }
}

function skillOf(packages: readonly InstalledPackage[], entry = 'node_modules/tool/bin/run.js'): LockedStdioSkill {
  return {
    type: 'mcpStdioSkill',
    installHash: hashInstallation(packages),
    packages,
    entry,
    args: [],
    pick: null,
    omit: [],
    rule: null,
    requiredEnv: [],
    allowedDomains: [],
    lazyInit: true,
  }
}

const tool = () =>
  stored('tool', [
    ...packageEntries({ name: 'tool', version: '1.0.0' }, { 'lib/deep/x.js': 'x' }),
    { path: 'package/bin/run.js', body: '#!/usr/bin/env node\n', mode: 0o755 },
  ])
const files = async (root: string) => {
  const found = await readdir(root, { recursive: true, withFileTypes: true })
  return found
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(root.length + 1))
    .toSorted()
}

describe('an installer', () => {
  it('IN1 puts each package where the lock says, once, and gives the same place again', async () => {
    const nested = await stored(
      'dep',
      packageEntries({ name: 'dep', version: '1.0.0' }),
      'node_modules/tool/node_modules/@a/dep',
    )
    const skill = skillOf([await tool(), nested])
    const root = await installer().install(skill)
    expect(root).toBe(join(directory, 'skills', skill.installHash))
    expect(await files(root)).toEqual([
      'node_modules/tool/bin/run.js',
      'node_modules/tool/lib/deep/x.js',
      'node_modules/tool/node_modules/@a/dep/package.json',
      'node_modules/tool/package.json',
    ])
    const before = await lstat(root)
    expect(await installer().install(skill)).toBe(root)
    expect((await lstat(root)).ino).toBe(before.ino)
  })

  it('IN3 leaves files that everybody may read and nobody may write, and only the programs may run', async () => {
    const previous = process.umask(0o077)
    const root = await installer()
      .install(skillOf([await tool()]))
      .finally(() => process.umask(previous))
    const mode = async (path: string) => ((await lstat(join(root, path))).mode & 0o7777).toString(8)
    expect(await mode('node_modules/tool/bin/run.js')).toBe('555')
    expect(await mode('node_modules/tool/lib/deep/x.js')).toBe('444')
    for (const path of ['', 'node_modules', 'node_modules/tool', 'node_modules/tool/lib/deep'])
      expect(await mode(path)).toBe('755')
  })

  it('IN1 serves many who ask at once, in one process or several, with one installation', async () => {
    const skill = skillOf([await tool()])
    const one = installer()
    const other = installer()
    const roots = await Promise.all([one, one, other, other, one].map((each) => each.install(skill)))
    expect(new Set(roots).size).toBe(1)
    expect(await readdir(join(directory, 'skills'))).toEqual([skill.installHash])
  })

  const wrong: readonly (readonly [string, () => Promise<LockedStdioSkill>, string])[] = [
    [
      'whose hash is another',
      async () => ({ ...skillOf([await tool()]), installHash: sha256('x') }),
      'does not hash to its name',
    ],
    [
      'with a package that is not published',
      async () => skillOf([{ ...(await tool()), integrity: 'sha512-none' }]),
      'is not in the registry',
    ],
    [
      'with bytes that are not those of the lock',
      async () => {
        const one = await tool()
        tarballs.set(one.integrity, await content.put(handTgz(packageEntries({ name: 'tool', version: '1.0.0' }))))
        return skillOf([one])
      },
      'is not the one that the lock names',
    ],
    [
      'with bytes that are lost',
      async () => {
        const one = await stored('tool', [{ path: 'package/lost', body: 'x' }])
        content.contents.clear()
        return skillOf([one])
      },
      'cannot be read',
    ],
    [
      'without its entry',
      async () => skillOf([await tool()], 'node_modules/tool/none.js'),
      'has no node_modules/tool/none.js',
    ],
    [
      'with a link in a tarball',
      async () => skillOf([await stored('tool', [{ path: 'package/l', type: '2', link: '/etc' }])]),
      'a symbolic link',
    ],
    ...[
      '../x',
      'node_modules/../../x',
      '/etc/x',
      'node_modules',
      'node_modules/a/b',
      'x',
      'node_modules/..',
      'node_modules/a/../b',
    ].map((path) => [`at ${path}`, async () => skillOf([{ ...(await tool()), path }]), 'is no place for one'] as const),
  ]
  it.each(wrong)('IN2 refuses an installation %s and leaves nothing', async (_name, make, words) => {
    await expect(installer().install(await make())).rejects.toMatchObject({
      code: 'skill_start_failed',
      message: expect.stringContaining(words),
    })
    const left = await readdir(directory, { recursive: true })
    expect(left.filter((name) => name !== 'skills')).toEqual([])
  })

  it('removes what nobody has asked for in a long time, and gives it anew to who asks then (IN4)', async () => {
    const [old, used] = [
      skillOf([await tool()]),
      skillOf([
        { ...(await tool()), path: 'node_modules/tool' },
        await stored('b', packageEntries({ name: 'b', version: '1.0.0' })),
      ]),
    ]
    const [one, root] = [installer(), join(directory, 'skills')]
    await one.install(old)
    await one.install(used)
    await clock.advance(UNUSED_MS - 1)
    await one.sweep()
    expect(await readdir(root)).toHaveLength(2)
    await installer().install(used)
    await clock.advance(1)
    await one.sweep()
    expect(await readdir(root)).toEqual([used.installHash])
    expect(await files(await one.install(old))).toContain('node_modules/tool/lib/deep/x.js')
  })

  it('removes after a day what a crash left half-done or half-removed, and nothing before (IN4)', async () => {
    const root = join(directory, 'skills')
    const half = [join(root, '.new-crashed'), join(root, `.dead-${'0'.repeat(64)}`)]
    await installer().sweep()
    for (const path of half) {
      await mkdir(join(path, 'node_modules'), { recursive: true })
      await utimes(path, new Date(clock.now()), new Date(clock.now()))
    }
    const sweeping = installer().startSweeping()
    await until(async () => clock.sleepers() === 1)
    expect(await readdir(root)).toHaveLength(2)
    await clock.advance(SWEEP_MS)
    await until(async () => (await readdir(root)).length === 0)
    await sweeping.close()
  })

  it('keeps what a machine was given as long as it lives, for every server of the directory (IN5)', async () => {
    const skill = skillOf([await tool()])
    const [mine, other, root] = [installer(), installer(), join(directory, 'skills')]
    await mine.install(skill)
    const lock = lockOf(lockedExpert('long', { skills: { lazy: skill } }))
    const ended = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
    for (const { promise } of ended) mine.keep(lock, promise)
    const days = async (count: number): Promise<void> => {
      for (let day = 0; day < count; day++) {
        await clock.advance(SWEEP_MS)
        await mine.sweep()
        await other.sweep()
      }
    }
    await days(20)
    expect(await readdir(root)).toEqual([skill.installHash])
    ended[0]?.resolve()
    await days(20)
    expect(await readdir(root)).toEqual([skill.installHash])
    // However it ended.
    ended[1]?.reject(new Error('it died'))
    await days(13)
    expect(await readdir(root)).toEqual([skill.installHash])
    await days(1)
    expect(await readdir(root)).toEqual([])
  })

  it('leaves what a crash left half-done alone, and makes the whole anew', async () => {
    const skill = skillOf([await tool()])
    const root = await installer().install(skill)
    await rm(root, { recursive: true })
    await writeFile(join(directory, 'skills', '.new-crashed'), '')
    await installer().install(skill)
    expect(await readFile(join(root, 'node_modules/tool/lib/deep/x.js'), 'utf8')).toBe('x')
  })
})
