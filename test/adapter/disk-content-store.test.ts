/** The content store on a disk: the contract, then what disks do to bytes. */
import { spawnSync } from 'node:child_process'
import { readdir, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { sha256 } from '../../schema/hash.ts'
import { openDiskContentStore } from '../../src/disk/disk-content-store.ts'
import { contentStoreContract } from '../contract/content-store.ts'
import { memoryContentStore } from '../fake/memory-content-store.ts'
import { scratchDirectory } from '../support/scratch.ts'
import { ROOT } from '../support/source.ts'

/** A computer on which `directory` holds half a megabyte. */
const walls = (directory: string) => ['--ro-bind', '/', '/', '--dev', '/dev', '--size', '524288', '--tmpfs', directory]

const freshDirectory = async () => scratchDirectory('content')

contentStoreContract('disk', async () => {
  const directory = await freshDirectory()
  return {
    store: await openDiskContentStore(directory),
    other: await openDiskContentStore(directory),
    close: async () => rm(directory, { recursive: true }),
  }
})

contentStoreContract('memory', async () => {
  const store = memoryContentStore()
  return { store, other: store, close: async () => {} }
})

describe('a content store on a disk', () => {
  let directory: string
  beforeEach(async () => {
    directory = await freshDirectory()
  })
  afterEach(async () => rm(directory, { recursive: true }))

  it('takes rotten bytes for missing, and heals when they are put again (CS2)', async () => {
    const store = await openDiskContentStore(directory)
    const bytes = Buffer.from('content')
    const hash = await store.put(bytes)
    for (const rot of ['contemt', 'conten', '']) {
      await writeFile(join(directory, hash.slice(0, 2), hash.slice(2)), rot)
      await expect(store.get(hash)).rejects.toMatchObject({ code: 'content_missing' })
      await store.put(bytes)
      expect(Buffer.from(await store.get(hash)).toString()).toBe('content')
    }
  })

  it('ignores what a crash left half written, and leaves nothing beside (CS1)', async () => {
    const store = await openDiskContentStore(directory)
    const hash = sha256('content')
    const place = join(directory, hash.slice(0, 2))
    await store.put(Buffer.from('content'))
    await rm(join(place, hash.slice(2)))
    await writeFile(join(place, `${hash.slice(2)}.${process.pid}-1000.new`), 'cont')
    expect(await store.has(hash)).toBe(false)
    await store.put(Buffer.from('content'))
    expect(Buffer.from(await store.get(hash)).toString()).toBe('content')
    const left = (await readdir(place)).filter((name) => name !== hash.slice(2))
    expect(left).toEqual([`${hash.slice(2)}.${process.pid}-1000.new`])
  })

  const canMount = spawnSync('bwrap', [...walls('/mnt'), '/bin/true']).status === 0
  it.skipIf(!canMount)('says that its disk is full, and leaves nothing beside (CS1)', () => {
    const script = `
      import { readdirSync } from 'node:fs'
      import { openDiskContentStore } from '${join(ROOT, 'src/disk/disk-content-store.ts')}'
      const store = await openDiskContentStore('${directory}/content')
      const { code } = await store.put(Buffer.alloc(1 << 20, 7)).catch((error) => error)
      await store.put(Buffer.from('small'))
      console.log(code, readdirSync('${directory}/content', { recursive: true }).filter((name) => name.endsWith('.new')).length)`
    const node = [process.execPath, '--input-type=module', '-e', script]
    expect(spawnSync('bwrap', [...walls(directory), ...node], { encoding: 'utf8' }).stdout).toBe('storage_full 0\n')
  })

  it('keeps content from other users of the machine', async () => {
    const store = await openDiskContentStore(join(directory, 'content'))
    const hash = await store.put(Buffer.from('content'))
    const place = join(directory, 'content', hash.slice(0, 2))
    expect((await stat(place)).mode & 0o077).toBe(0)
    expect((await stat(join(place, hash.slice(2)))).mode & 0o077).toBe(0)
  })
})
