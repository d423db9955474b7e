import { chmod, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { Secret } from '../../schema/secret.ts'
import { openMasterKey, readDevKey, writeDevKey } from '../../src/disk/key-files.ts'
import { scratchDirectory } from '../support/scratch.ts'

describe('the key files', () => {
  let directory = ''
  beforeEach(async () => {
    directory = scratchDirectory('keys')
  })
  afterEach(() => rm(directory, { recursive: true }))

  const bytes = (fill: number) => new Uint8Array(32).fill(fill)

  it('makes a master key once, for its owner alone, and reads it ever after', async () => {
    const first = await openMasterKey(directory, bytes(1))
    const second = await openMasterKey(directory, bytes(2))
    expect(second.reveal()).toBe(first.reveal())
    expect((await stat(join(directory, 'master-key'))).mode & 0o777).toBe(0o600)
  })

  it('gives processes that start at once the same key', async () => {
    const keys = await Promise.all([1, 2, 3, 4, 5].map((fill) => openMasterKey(directory, bytes(fill))))
    expect(new Set(keys.map((key) => key.reveal())).size).toBe(1)
  })

  it('refuses a damaged master key and leaves it as it is', async () => {
    await writeFile(join(directory, 'master-key'), 'oops')
    await expect(openMasterKey(directory, bytes(1))).rejects.toMatchObject({ code: 'config_invalid' })
    expect(await readFile(join(directory, 'master-key'), 'utf8')).toBe('oops')
  })

  it('closes a dev key that others could read when it writes it again', async () => {
    const path = join(directory, 'dev-key')
    await writeFile(path, 'old')
    await chmod(path, 0o644)
    await writeDevKey(directory, new Secret('snm_new'))
    expect((await stat(path)).mode & 0o777).toBe(0o600)
    expect((await readDevKey(directory))?.reveal()).toBe('snm_new')
  })

  it('reads no dev key where there is none', async () => {
    expect(await readDevKey(directory)).toBeUndefined()
  })
})
