/** Proves the tools of the files skill, through the bundle that is published, for every generation of client. */
import { INLINE_BYTES_MAX } from '../../runner/skill/long-answer.ts'
import { copyFile, mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  buildSkills,
  BUNDLE,
  type FilesSkill,
  GENERATIONS,
  openFilesSkill,
  type Returned,
} from '../support/files-skill.ts'
import { scratchDirectory } from '../support/scratch.ts'

const PIXEL = 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=='
let home: string
let workspace: string
let skill: FilesSkill

beforeAll(async () => {
  await buildSkills()
  home = scratchDirectory('files')
  workspace = join(home, 'workspace')
  await mkdir(join(workspace, 'input'), { recursive: true })
  skill = await openFilesSkill({ workspace })
})
afterAll(async () => {
  await skill.close()
  await rm(home, { recursive: true })
})

async function put(path: string, content: string | Uint8Array): Promise<void> {
  await mkdir(join(workspace, path, '..'), { recursive: true })
  await writeFile(join(workspace, path), content)
}

async function on(path: string): Promise<string> {
  return await readFile(join(workspace, path), 'utf8')
}

async function refused(name: string, args: Record<string, unknown>): Promise<string> {
  const returned = await skill.call(name, args)
  expect(returned, `${name} ${JSON.stringify(args)} must be refused`).toMatchObject({ isError: true })
  return returned.text
}

async function fine(name: string, args: Record<string, unknown>): Promise<string> {
  const returned: Returned = await skill.call(name, args)
  expect(returned, returned.text).toMatchObject({ isError: false })
  return returned.text
}

describe.each(GENERATIONS)('a client of generation %s', (generation) => {
  it('lists the tools with their hints, and calls one', async () => {
    const own = await openFilesSkill({ workspace, generation })
    const tools = await own.tools()
    expect(tools.map((tool) => tool.name).toSorted()).toEqual([
      'append_file',
      'delete',
      'edit_file',
      'file_info',
      'find',
      'list_directory',
      'make_directory',
      'move',
      'read_file',
      'read_image',
      'read_pdf',
      'search',
      'write_file',
    ])
    const reading = tools.filter((tool) => tool.annotations.readOnlyHint).map((tool) => tool.name)
    expect(reading.toSorted()).toEqual([
      'file_info',
      'find',
      'list_directory',
      'read_file',
      'read_image',
      'read_pdf',
      'search',
    ])
    const destructive = tools.filter((tool) => tool.annotations.destructiveHint).map((tool) => tool.name)
    expect(destructive.toSorted()).toEqual(['delete', 'edit_file', 'move', 'write_file'])
    await put('hello.txt', 'hello\n')
    expect((await own.call('read_file', { path: 'hello.txt' })).text).toBe('hello')
    await own.close()
  })
})

describe('the bundle', () => {
  it('needs nothing but itself', async () => {
    const alone = await mkdtemp(join(home, 'alone-'))
    await copyFile(BUNDLE, join(alone, 'main.mjs'))
    await put('hello.txt', 'hello\n')
    const reads = ['--permission', `--allow-fs-read=${alone}`, `--allow-fs-read=${workspace}`]
    const nodeArgs = [...reads, `--allow-fs-write=${workspace}`]
    const own = await openFilesSkill({ workspace, bundle: join(alone, 'main.mjs'), nodeArgs })
    expect((await own.call('read_file', { path: 'hello.txt' })).text).toBe('hello')
    expect((await own.call('write_file', { path: 'deep/er/new.txt', content: 'new' })).isError).toBe(false)
    expect(await on('deep/er/new.txt')).toBe('new')
    await own.close()
  })
})

describe('read_file', () => {
  it('reads ranges, numbered or plain, and says how to go on', async () => {
    await put('ten.txt', Array.from({ length: 10 }, (_, i) => `line ${i + 1}`).join('\n') + '\n')
    expect(await fine('read_file', { path: 'ten.txt', offset: 9 })).toBe('line 9\nline 10')
    expect(await fine('read_file', { path: 'ten.txt', offset: 2, limit: 2, numbered: true })).toBe(
      '2\tline 2\n3\tline 3\n[lines 2 to 3 of 10; go on with offset 4]',
    )
    expect(await refused('read_file', { path: 'ten.txt', offset: 11 })).toBe(
      'ten.txt has 10 lines; line 11 is past its end.',
    )
  })

  it('cuts what would flood a context: many lines, and one line without end', async () => {
    await put('long.txt', `${'x'.repeat(99)}\n`.repeat(5000))
    const long = await fine('read_file', { path: 'long.txt' })
    expect(Buffer.byteLength(long)).toBeLessThan(INLINE_BYTES_MAX)
    expect(long).toMatch(/\[lines 1 to 286 of 5000; go on with offset 287\]$/)
    const numbered = await fine('read_file', { path: 'long.txt', numbered: true, offset: 4000 })
    expect(Buffer.byteLength(numbered)).toBeLessThan(INLINE_BYTES_MAX)
    await put('endless.txt', 'é'.repeat(1_000_000))
    const endless = await fine('read_file', { path: 'endless.txt' })
    expect(Buffer.byteLength(endless)).toBeLessThan(INLINE_BYTES_MAX)
    expect(endless).toMatch(/é\n\[line 1 is longer than what is shown; read such a file by byteOffset\]$/)
  })

  it('reads a line without end by bytes, in pieces that together are the file', async () => {
    const text = 'aé€😀'.repeat(9000)
    await put('endless.txt', text)
    let read = ''
    for (let byteOffset = 0; ;) {
      const piece = await fine('read_file', { path: 'endless.txt', byteOffset })
      expect(Buffer.byteLength(piece)).toBeLessThan(INLINE_BYTES_MAX)
      const next = /\n\[bytes \d+ to (\d+) of 90000; go on with byteOffset \1\]$/.exec(piece)
      read += next === null ? piece : piece.slice(0, next.index)
      if (next === null) break
      byteOffset = Number(next[1])
    }
    expect(read).toBe(text)
    expect((await fine('read_file', { path: 'endless.txt', byteOffset: 2 })).startsWith('€😀a')).toBe(true)
    expect(await refused('read_file', { path: 'endless.txt', byteOffset: 90_000 })).toContain('past its end')
  })

  it('shows characters that lie across the pieces in which a file is read', async () => {
    const text = `${'x'.repeat(256 * 1024 - 1)}\n${'é'.repeat(10)}`
    await put('pieces.txt', text)
    expect(await fine('read_file', { path: 'pieces.txt', offset: 2 })).toBe('é'.repeat(10))
  })

  it('says what it does not read: binaries, images, directories, what is missing', async () => {
    await put('b.bin', Uint8Array.of(1, 2, 0, 3))
    await put('latin.txt', Uint8Array.of(0x66, 0xfc, 0x72))
    await put('i.png', Buffer.from(PIXEL, 'base64'))
    await put('empty.txt', '')
    expect(await refused('read_file', { path: 'b.bin' })).toContain('binary')
    expect(await refused('read_file', { path: 'latin.txt' })).toContain('binary')
    expect(await refused('read_file', { path: 'i.png' })).toContain('read_image')
    expect(await refused('read_file', { path: 'input' })).toBe('input is a directory, not a file.')
    expect(await refused('read_file', { path: 'none.txt' })).toBe('There is no file none.txt.')
    expect(await refused('read_file', { path: 'no/ne.txt' })).toBe('There is no directory no.')
    expect(await fine('read_file', { path: 'empty.txt' })).toBe('[empty.txt is empty]')
  })
})

describe('read_image and read_pdf', () => {
  it('give an image as an image, and a PDF by reference', async () => {
    await put('i.png', Buffer.from(PIXEL, 'base64'))
    const { content } = await skill.call('read_image', { path: 'i.png' })
    expect(content[1]).toEqual({ type: 'image', data: PIXEL, mimeType: 'image/png' })
    await put('d.pdf', '%PDF-1.7\n<< /Type /Pages >>\n<< /Type /Page >>\n<< /Type/Page >>\n')
    expect(await fine('read_pdf', { path: 'd.pdf' })).toContain('pdfVersion: 1.7\npages: 2')
  })

  it('refuse what only has the name of an image, and what is too large', async () => {
    await put('fake.png', '<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>')
    expect(await refused('read_image', { path: 'fake.png' })).toContain('is not a PNG')
    await put('large.png', Buffer.concat([Buffer.from(PIXEL, 'base64'), Buffer.alloc(4_000_000)]))
    expect(await refused('read_image', { path: 'large.png' })).toContain('above the 3932160')
    expect(await refused('read_pdf', { path: 'fake.png' })).toContain('is not a PDF')
  })
})

describe('write_file and append_file', () => {
  it('make the directories above, replace a file whole, and keep its mode', async () => {
    expect(await fine('write_file', { path: 'new/deep/a.sh', content: 'a\nb\n' })).toBe(
      'Created new/deep/a.sh: 4 bytes, 2 lines.',
    )
    const { chmod } = await import('node:fs/promises')
    await chmod(join(workspace, 'new/deep/a.sh'), 0o755)
    expect(await fine('write_file', { path: 'new/deep/a.sh', content: 'c' })).toContain('Replaced')
    expect(await on('new/deep/a.sh')).toBe('c')
    expect((await stat(join(workspace, 'new/deep/a.sh'))).mode & 0o777).toBe(0o755)
  })

  it('append at the end, and make what is missing', async () => {
    await fine('append_file', { path: 'log.txt', content: 'one\n' })
    await fine('append_file', { path: 'log.txt', content: 'two\n' })
    expect(await on('log.txt')).toBe('one\ntwo\n')
  })

  it('take an absolute path that lies under the workspace', async () => {
    await fine('write_file', { path: join(workspace, 'abs.txt'), content: 'x' })
    expect(await on('abs.txt')).toBe('x')
  })
})

describe('edit_file', () => {
  it('replaces exact text, without reading patterns into it', async () => {
    await put('e.txt', 'one $1 two\nthree\n')
    await fine('edit_file', { path: 'e.txt', edits: [{ oldText: '$1', newText: "$& $' $$" }] })
    expect(await on('e.txt')).toBe("one $& $' $$ two\nthree\n")
  })

  it('applies several edits in order, all or none', async () => {
    await put('e.txt', 'a b c')
    await fine('edit_file', {
      path: 'e.txt',
      edits: [
        { oldText: 'a', newText: 'x' },
        { oldText: 'x b', newText: 'y' },
      ],
    })
    expect(await on('e.txt')).toBe('y c')
    const edits = [
      { oldText: 'y', newText: 'z' },
      { oldText: 'gone', newText: '' },
    ]
    expect(await refused('edit_file', { path: 'e.txt', edits })).toContain('oldText of edit 2 of 2 does not occur')
    expect(await on('e.txt')).toBe('y c')
  })

  it('wants a text that occurs once, unless it is to replace all', async () => {
    await put('e.txt', 'x\ny\nx\n')
    const why = await refused('edit_file', { path: 'e.txt', edits: [{ oldText: 'x', newText: 'z' }] })
    expect(why).toContain('occurs 2 times in e.txt (lines 1, 3)')
    await fine('edit_file', { path: 'e.txt', edits: [{ oldText: 'x', newText: 'z', replaceAll: true }] })
    expect(await on('e.txt')).toBe('z\ny\nz\n')
  })

  it('keeps the line ends and the byte order mark that a file has', async () => {
    await put('crlf.txt', '\ufeffone\r\ntwo\r\n')
    await fine('edit_file', { path: 'crlf.txt', edits: [{ oldText: 'one\ntwo', newText: 'three\nfour' }] })
    expect(await on('crlf.txt')).toBe('\ufeffthree\r\nfour\r\n')
  })

  it('loses none of many edits of one file at once', async () => {
    const words = Array.from({ length: 20 }, (_, i) => `word${i}.`)
    await put('many.txt', words.join('\n'))
    await Promise.all(
      words.map(
        async (word) => await fine('edit_file', { path: 'many.txt', edits: [{ oldText: word, newText: 'done' }] }),
      ),
    )
    expect(await on('many.txt')).toBe(words.map(() => 'done').join('\n'))
  })

  it('is seen by a read that was called after it, even before it has returned', async () => {
    await put('seen.txt', 'x')
    const edit = skill.call('edit_file', { path: 'seen.txt', edits: [{ oldText: 'x', newText: 'y' }] })
    expect(await fine('read_file', { path: 'seen.txt' })).toBe('y')
    await edit
  })

  it('refuses empty and unchanged texts', async () => {
    await put('e.txt', 'x')
    expect(await refused('edit_file', { path: 'e.txt', edits: [{ oldText: '', newText: 'z' }] })).toContain('is empty')
    expect(await refused('edit_file', { path: 'e.txt', edits: [{ oldText: 'x', newText: 'x' }] })).toContain('equals')
  })
})

describe('list_directory, find and search', () => {
  beforeAll(async () => {
    await put('tree/src/a.ts', 'const alpha = 1\n// TODO beta\n')
    await put('tree/src/deep/b.ts', 'beta\ngamma [x]\nBETA\n')
    await put('tree/node_modules/p/c.ts', 'beta\n')
    await put('tree/d.md', 'gamma\n')
    await put('tree/bin', Uint8Array.of(0, 0x62, 0x65, 0x74, 0x61))
    await put('tree/odd\nname', 'x')
  })

  it('list by levels, with names that cannot forge a line', async () => {
    expect(await fine('list_directory', { path: 'tree' })).toBe(
      'bin  5 bytes\nd.md  6 bytes\nnode_modules/\n"odd\\nname"  1 bytes\nsrc/',
    )
    expect(await fine('list_directory', { path: 'tree', depth: 3 })).toContain('src/deep/b.ts  20 bytes')
  })

  it('find by name or by path, without going into node_modules', async () => {
    expect(await fine('find', { path: 'tree', glob: '*.ts' })).toBe('tree/src/a.ts\ntree/src/deep/b.ts')
    expect(await fine('find', { path: 'tree', glob: 'src/*' })).toBe('tree/src/a.ts\ntree/src/deep/')
    expect(await fine('find', { path: 'tree', glob: '*.{md,ts}' })).toContain('tree/d.md')
    expect(await fine('find', { glob: 'nothing*' })).toBe('Nothing under . matches nothing*.')
  })

  it('search for text as it is, or by expression, with surroundings', async () => {
    expect(await fine('search', { path: 'tree', pattern: 'beta' })).toBe(
      'tree/src/a.ts:2: // TODO beta\ntree/src/deep/b.ts:1: beta',
    )
    expect(await fine('search', { path: 'tree', pattern: '[x]', glob: '*.ts' })).toBe('tree/src/deep/b.ts:2: gamma [x]')
    expect(await fine('search', { path: 'tree', pattern: '^beta$', regex: true, ignoreCase: true, context: 1 })).toBe(
      'tree/src/deep/b.ts:1: beta\ntree/src/deep/b.ts-2- gamma [x]\ntree/src/deep/b.ts:3: BETA',
    )
    expect(await fine('search', { path: 'tree/d.md', pattern: 'gamma' })).toBe('tree/d.md:1: gamma')
    expect(await fine('search', { path: 'tree', pattern: 'beta', maxMatches: 1 })).toContain('stopped at 1 matches')
    expect(await refused('search', { pattern: '(', regex: true })).toContain('is not a regular expression')
  })

  it('stop a pattern that backtracks without end, and go on serving', async () => {
    await put('redos.txt', `${'a'.repeat(60)}!\n`)
    const why = await refused('search', { path: 'redos.txt', pattern: '^(a+)+$', regex: true })
    expect(why).toContain('took longer')
    expect(await fine('read_file', { path: 'redos.txt' })).toContain('aaa')
    expect(await refused('find', { glob: '{a,b}{a,b}{a,b}{a,b}{a,b}' })).toContain('braces')
  })
})

describe('make_directory, move, delete and file_info', () => {
  it('make, move and delete', async () => {
    await fine('make_directory', { path: 'm/one' })
    expect(await fine('make_directory', { path: 'm/one' })).toContain('there already')
    await put('m/one/f.txt', 'f')
    await fine('move', { from: 'm/one', to: 'm/two/three' })
    expect(await on('m/two/three/f.txt')).toBe('f')
    expect(await refused('delete', { path: 'm' })).toContain('not empty')
    await fine('delete', { path: 'm', recursive: true })
    expect(await refused('delete', { path: 'm' })).toBe('There is nothing at m.')
  })

  it('do not overwrite by accident, nor move a directory into itself', async () => {
    await put('m/a', 'a')
    await put('m/b', 'b')
    expect(await refused('move', { from: 'm/a', to: 'm/b' })).toContain('set overwrite')
    await fine('move', { from: 'm/a', to: 'm/b', overwrite: true })
    expect(await on('m/b')).toBe('a')
    expect(await refused('move', { from: 'm', to: 'm/c' })).toContain('within it')
    expect(await refused('make_directory', { path: 'm/b' })).toContain('is a file')
    expect(await refused('make_directory', { path: 'm/b/c' })).toContain('m/b is a file, not a directory')
  })

  it('say what is at a path', async () => {
    await put('input/given.txt', 'x')
    expect(await fine('file_info', { path: 'input/given.txt' })).toMatch(
      /^path: input\/given.txt\ntype: a file\nsizeBytes: 1\nmediaType: text\/plain[^]*readOnly: true$/,
    )
    expect(await fine('file_info', { path: '.' })).toContain('the workspace')
  })
})
