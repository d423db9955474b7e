/** Proves that the files skill reads and changes nothing outside the workspace, tried with real links, pipes and races. */
import { execFile } from 'node:child_process'
import { lstat, link, mkdir, readdir, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import * as fc from 'fast-check'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { buildSkills, type FilesSkill, openFilesSkill } from '../support/files-skill.ts'
import { scratchDirectory } from '../support/scratch.ts'

const SECRET = 'canary-of-the-host'
let home: string
let workspace: string
let outside: string
let skill: FilesSkill

beforeAll(async () => {
  await buildSkills()
  home = scratchDirectory('boundary')
  workspace = join(home, 'workspace')
  outside = join(home, 'outside')
  await mkdir(workspace)
  skill = await openFilesSkill({ workspace })
})
beforeEach(async () => {
  for (const name of await readdir(workspace)) await rm(join(workspace, name), { recursive: true })
  await rm(outside, { recursive: true, force: true })
  await mkdir(join(outside, 'inner'), { recursive: true })
  await writeFile(join(outside, 'secret.txt'), SECRET)
  await writeFile(join(outside, 'inner', 'secret.txt'), SECRET)
  await mkdir(join(workspace, 'input'))
  await writeFile(join(workspace, 'input', 'given.txt'), 'given')
  await writeFile(join(workspace, 'own.txt'), 'own')
})
afterAll(async () => {
  await skill.close()
  await rm(home, { recursive: true })
})

const READS = ['read_file', 'read_image', 'read_pdf'] as const

function callsOn(path: string): readonly (readonly [string, Record<string, unknown>])[] {
  return [
    ...READS.map((name) => [name, { path }] as const),
    ['search', { path, pattern: 'a' }],
    ['find', { path, glob: '*' }],
    ['list_directory', { path }],
    ['write_file', { path, content: 'overwritten' }],
    ['append_file', { path, content: 'overwritten' }],
    ['edit_file', { path, edits: [{ oldText: SECRET, newText: 'overwritten' }] }],
    ['make_directory', { path: `${path}/made` }],
    ['write_file', { path: `${path}/new.txt`, content: 'overwritten' }],
    ['read_file', { path: `${path}/secret.txt` }],
    ['delete', { path: `${path}/secret.txt` }],
    ['move', { from: `${path}/secret.txt`, to: 'stolen.txt' }],
    ['move', { from: 'own.txt', to: `${path}/own.txt` }],
  ]
}

/** Every tool on `path` fails with a sentence; the host's files are as they were, and nothing of them was said. */
async function expectRefused(path: string): Promise<void> {
  for (const [name, args] of callsOn(path)) {
    const { text, isError } = await skill.call(name, args)
    expect({ name, path, isError, text }).toMatchObject({ isError: true })
    expect(text).not.toContain(SECRET)
    expect(text.length).toBeGreaterThan(10)
  }
  expect(await readFile(join(outside, 'secret.txt'), 'utf8')).toBe(SECRET)
  expect(await readFile(join(outside, 'inner', 'secret.txt'), 'utf8')).toBe(SECRET)
  expect((await readdir(outside)).toSorted()).toEqual(['inner', 'secret.txt'])
}

describe('paths', () => {
  it.each([
    '../outside',
    '/etc',
    'a/../../outside',
    './../outside',
    '//etc',
    'C:\\Windows',
    'a\\..\\b',
    'a\u0000b',
    '',
  ])('%j is refused by every tool (FR1)', async (path) => await expectRefused(path))

  it('the folder beside the workspace whose name only begins alike is outside (FR1)', async () => {
    await mkdir(`${workspace}-other`)
    await writeFile(join(`${workspace}-other`, 'secret.txt'), SECRET)
    expect((await skill.call('read_file', { path: `${workspace}-other/secret.txt` })).isError).toBe(true)
  })

  it('however put together, none reads the secret (FR1)', async () => {
    await symlink(outside, join(workspace, 'link'))
    const part = fc.constantFrom(
      '..',
      '.',
      '',
      'link',
      'outside',
      'workspace',
      'secret.txt',
      'inner',
      'input',
      '~',
      '%2e%2e',
    )
    const path = fc
      .tuple(
        fc.constantFrom('', '/', workspace, `${workspace}/`, outside),
        fc.array(part, { minLength: 1, maxLength: 6 }),
      )
      .map(([start, parts]) => `${start}${parts.join('/')}`)
    await fc.assert(
      fc.asyncProperty(path, async (path) => {
        expect((await skill.call('read_file', { path })).text).not.toContain(SECRET)
        expect((await skill.call('search', { path, pattern: 'canary' })).text).not.toContain(SECRET)
      }),
      { numRuns: 150 },
    )
  })
})

describe('symbolic links', () => {
  it.each([
    ['to a file outside', async () => await symlink(join(outside, 'secret.txt'), join(workspace, 'link'))],
    ['to a directory outside', async () => await symlink(outside, join(workspace, 'link'))],
    ['with dots', async () => await symlink('../outside', join(workspace, 'link'))],
    ['to /proc/self/root', async () => await symlink(`/proc/self/root${outside}`, join(workspace, 'link'))],
    ['to itself', async () => await symlink('link', join(workspace, 'link'))],
    ['to nothing', async () => await symlink(join(outside, 'not-there'), join(workspace, 'link'))],
    [
      'to a link to a directory outside',
      async () => {
        await symlink(outside, join(workspace, 'second'))
        await symlink('second', join(workspace, 'link'))
      },
    ],
  ])('%s are not followed by any tool (FR1)', async (_, make) => {
    await make()
    await expectRefused('link')
    await expectRefused('link/inner')
    expect(await readdir(outside)).not.toContain('not-there')
  })

  it('are listed as what they are, and neither searched nor found through (FR1)', async () => {
    await symlink(outside, join(workspace, 'link'))
    await symlink(join(outside, 'secret.txt'), join(workspace, 'file-link'))
    const listed = await skill.call('list_directory', { depth: 5 })
    expect(listed.text).toContain('link  (symbolic link)')
    expect((await skill.call('search', { pattern: 'canary' })).text).toBe('Nothing under . matches.')
    expect((await skill.call('find', { glob: 'secret*' })).text).toContain('Nothing')
    expect((await skill.call('file_info', { path: 'link' })).text).toContain('type: a symbolic link')
  })

  it('are deleted and moved themselves, never what they point to (FR1)', async () => {
    await mkdir(join(workspace, 'd'))
    await symlink(outside, join(workspace, 'd', 'link'))
    await skill.call('move', { from: 'd/link', to: 'moved' })
    expect((await lstat(join(workspace, 'moved'))).isSymbolicLink()).toBe(true)
    await skill.call('move', { from: 'moved', to: 'd/link' })
    expect((await skill.call('delete', { path: 'd', recursive: true })).isError).toBe(false)
    expect((await readdir(outside)).toSorted()).toEqual(['inner', 'secret.txt'])
  })

  it('swapped in for a directory while calls are running let nothing out (FR1)', async () => {
    await mkdir(join(workspace, 'd'))
    await writeFile(join(workspace, 'd', 'secret.txt'), 'harmless')
    const count = { swaps: 0, reads: 0 }
    const over = new AbortController()
    const d = join(workspace, 'd')
    // The skill may make the directory anew, and write into it, while it is gone: go on until it is back.
    const clear = async (): Promise<void> => await rm(d, { recursive: true, force: true }).catch(() => undefined)
    const restored = async (): Promise<boolean> =>
      await rename(join(workspace, 'aside'), d).then(
        () => true,
        () => false,
      )
    const swapping = (async () => {
      for (; !over.signal.aborted; count.swaps++) {
        await rename(d, join(workspace, 'aside'))
        await symlink(outside, d).catch(() => undefined)
        await clear()
        while (!(await restored())) await clear()
      }
    })()
    for (let i = 0; i < 400 || count.swaps <= 10 || count.reads === 0; i++) {
      const { text, isError } = await skill.call('read_file', { path: 'd/secret.txt' })
      if (!isError) count.reads += 1
      expect(text).not.toContain(SECRET)
      await skill.call('append_file', { path: 'd/secret.txt', content: '.' })
      await skill.call('write_file', { path: 'd/new.txt', content: 'x' })
    }
    over.abort()
    await swapping
    expect(await readFile(join(outside, 'secret.txt'), 'utf8')).toBe(SECRET)
    expect(await readdir(outside)).not.toContain('new.txt')
  })
})

describe('what is no regular file', () => {
  it('a FIFO is refused at once (FR2)', async () => {
    await promisify(execFile)('mkfifo', [join(workspace, 'pipe')])
    await expectRefused('pipe')
    expect((await skill.call('search', { pattern: 'own' })).text).toBe('own.txt:1: own')
    expect((await skill.call('list_directory')).text).toContain('pipe  (FIFO)')
    expect((await skill.call('delete', { path: 'pipe' })).text).toBe('Deleted pipe, a FIFO.')
  })

  it('a socket and a device are refused (FR2)', async () => {
    const { createServer } = await import('node:net')
    const server = createServer()
    await new Promise<void>((resolve) => server.listen(join(workspace, 'socket'), resolve))
    await expectRefused('socket')
    await new Promise((resolve) => server.close(resolve))
    const made = await promisify(execFile)('mknod', [join(workspace, 'device'), 'c', '1', '5']).then(
      () => true,
      () => false,
    )
    // Making a device takes a privilege that not every place has; /dev/zero read whole would never end.
    if (made) await expectRefused('device')
  })

  it('another name of a file outside keeps what it had when this one is written (FR1)', async () => {
    for (const name of ['a', 'b', 'c']) await link(join(outside, 'secret.txt'), join(workspace, name))
    await skill.call('write_file', { path: 'a', content: 'x' })
    await skill.call('append_file', { path: 'b', content: 'x' })
    await skill.call('edit_file', { path: 'c', edits: [{ oldText: 'canary', newText: 'x' }] })
    expect(await readFile(join(workspace, 'b'), 'utf8')).toBe(`${SECRET}x`)
    expect(await readFile(join(outside, 'secret.txt'), 'utf8')).toBe(SECRET)
  })
})

describe('input/', () => {
  it('is read and never changed (FR3)', async () => {
    expect((await skill.call('read_file', { path: 'input/given.txt' })).text).toBe('given')
    const changes: readonly (readonly [string, Record<string, unknown>])[] = [
      ['write_file', { path: 'input/given.txt', content: 'x' }],
      ['write_file', { path: './input/new.txt', content: 'x' }],
      ['write_file', { path: `${workspace}/input/new.txt`, content: 'x' }],
      ['append_file', { path: 'input/given.txt', content: 'x' }],
      ['edit_file', { path: 'input/given.txt', edits: [{ oldText: 'given', newText: 'x' }] }],
      ['make_directory', { path: 'input/new' }],
      ['delete', { path: 'input/given.txt' }],
      ['delete', { path: 'input', recursive: true }],
      ['delete', { path: '.', recursive: true }],
      ['move', { from: 'input/given.txt', to: 'taken.txt' }],
      ['move', { from: 'input', to: 'taken' }],
      ['move', { from: 'own.txt', to: 'input/own.txt', overwrite: true }],
    ]
    for (const [name, args] of changes) {
      const { text, isError } = await skill.call(name, args)
      expect({ name, args, isError }).toMatchObject({ isError: true })
      expect(text).toMatch(/read-only|workspace itself/)
    }
    expect(await readdir(join(workspace, 'input'))).toEqual(['given.txt'])
    expect(await readFile(join(workspace, 'input', 'given.txt'), 'utf8')).toBe('given')
  })
})

describe('what a change leaves behind', () => {
  it('is the file alone, also after a refusal', async () => {
    await skill.call('write_file', { path: 'w.txt', content: 'x' })
    await skill.call('edit_file', { path: 'w.txt', edits: [{ oldText: 'none', newText: '' }] })
    expect((await readdir(workspace)).toSorted()).toEqual(['input', 'own.txt', 'w.txt'])
  })
})
