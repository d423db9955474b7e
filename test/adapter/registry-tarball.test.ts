/** Tarballs that mean harm, built by hand, are refused before anything is made of them: TB1 to TB3. */
import { gzipSync } from 'node:zlib'
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { openTarball } from '../../registry/tarball.ts'
import { handTar, handTgz, pax, packageEntries, type HandEntry } from '../support/hand-tar.ts'

const plain = packageEntries({ name: 'a', version: '1.0.0' }, { 'lib/x.js': 'x' })
const file = (path: string, more: Partial<HandEntry> = {}): HandEntry => ({ path, body: 'x', ...more })
const and = (...entries: HandEntry[]) => handTgz([...plain, ...entries])
const zeros = (count: number) => Buffer.alloc(count)
/** A tenth of it does not compress, so that neither its ratio nor its packed size is what is wrong with it. */
const filler = (count: number) => {
  const bytes = Buffer.alloc(count)
  let state = 1
  for (let at = 0; at < count / 10; at++) {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0
    bytes[at] = state >>> 16
  }
  return bytes
}

/** What is wrong, the archive, the code, and a part of the sentence. */
const hostile: readonly (readonly [string, () => Uint8Array, string, string])[] = [
  ['nothing', () => new Uint8Array(), 'tarball_invalid', 'not gzip'],
  ['junk', () => Buffer.from('junk!'), 'tarball_invalid', 'not gzip'],
  ['a tar that is not zipped', () => handTar(plain), 'tarball_invalid', 'not gzip'],
  ['a truncated gzip', () => handTgz(plain).subarray(0, -20), 'tarball_invalid', 'damaged'],
  [
    'a wrong length at its end',
    () => Buffer.concat([handTgz(plain).subarray(0, -1), Buffer.from([9])]),
    'tarball_invalid',
    'length',
  ],
  [
    'bytes behind the gzip',
    () => Buffer.concat([handTgz(plain), Buffer.from('more')]),
    'tarball_invalid',
    'behind the end',
  ],
  [
    'two gzip members',
    () => Buffer.concat([gzipSync(handTar(plain, zeros(0))), gzipSync(handTar(plain))]),
    'tarball_invalid',
    'behind the end',
  ],
  ['no entry', () => gzipSync(zeros(1024)), 'tarball_invalid', 'empty'],
  ['no end', () => gzipSync(handTar(plain).subarray(0, 700)), 'tarball_invalid', 'truncated'],
  [
    'bytes behind its end',
    () => handTgz(plain, Buffer.concat([zeros(1024), Buffer.from('x'.repeat(512))])),
    'tarball_invalid',
    'behind its end',
  ],
  [
    'a second archive behind its end',
    () => gzipSync(Buffer.concat([handTar(plain), handTar(plain)])),
    'tarball_invalid',
    'behind its end',
  ],
  ['a wrong checksum', () => and(file('package/y', { badChecksum: true })), 'tarball_invalid', 'damaged'],
  ['an absolute path', () => and(file('/etc/passwd')), 'tarball_invalid', 'not a relative path'],
  ['a path that climbs', () => and(file('../evil')), 'tarball_invalid', 'not a relative path'],
  [
    'a path that climbs out of the package',
    () => and(file('package/../../evil')),
    'tarball_invalid',
    'not a relative path',
  ],
  ['a drive letter', () => and(file('C:../x')), 'tarball_invalid', 'not a relative path'],
  [
    'a symbolic link',
    () => and(file('package/l', { type: '2', link: '/etc', body: '' })),
    'tarball_invalid',
    'a symbolic link',
  ],
  [
    'a relative symbolic link',
    () => and(file('package/l', { type: '2', link: 'lib', body: '' })),
    'tarball_invalid',
    'a symbolic link',
  ],
  [
    'a hard link',
    () => and(file('package/l', { type: '1', link: '/etc/hostname', body: '' })),
    'tarball_invalid',
    'a hard link',
  ],
  ['a FIFO', () => and(file('package/l', { type: '6', body: '' })), 'tarball_invalid', 'a FIFO'],
  [
    'a character device',
    () => and(file('package/l', { type: '3', body: '' })),
    'tarball_invalid',
    'a character device',
  ],
  ['a block device', () => and(file('package/l', { type: '4', body: '' })), 'tarball_invalid', 'a block device'],
  ['a contiguous file', () => and(file('package/l', { type: '7' })), 'tarball_invalid', 'a contiguous file'],
  ['a sparse file', () => and(file('package/l', { type: 'S' })), 'tarball_invalid', 'a sparse file'],
  ['a setuid file', () => and(file('package/s', { mode: 0o4755 })), 'tarball_invalid', 'setuid'],
  ['a setgid file', () => and(file('package/s', { mode: 0o2755 })), 'tarball_invalid', 'setuid'],
  [
    'a sticky directory',
    () => and(file('package/s/', { mode: 0o1777, type: '5', body: '' })),
    'tarball_invalid',
    'setuid',
  ],
  [
    'NUL in an extended path',
    () => and(file('x', { type: 'x', body: pax({ path: 'package/a\0b' }) }), file('package/z')),
    'tarball_invalid',
    'NUL',
  ],
  [
    'an extended path that climbs',
    () => and(file('x', { type: 'x', body: pax({ path: '../x' }) }), file('package/z')),
    'tarball_invalid',
    'not a relative path',
  ],
  [
    'a long name that climbs',
    () => and(file('x', { type: 'L', body: '../x\0' }), file('package/z')),
    'tarball_invalid',
    'not a relative path',
  ],
  [
    'a size in an extended header',
    () => and(file('x', { type: 'x', body: pax({ size: '99999999999' }) }), file('package/z')),
    'tarball_invalid',
    'says a size',
  ],
  [
    'a link in an extended header',
    () => and(file('x', { type: 'x', body: pax({ linkpath: '/etc' }) }), file('package/z')),
    'tarball_invalid',
    'says a size or a link',
  ],
  [
    'a negative size',
    () => and(file('package/z', { sizeField: Buffer.alloc(12, 0xff) })),
    'tarball_invalid',
    'not an octal number',
  ],
  [
    'a size above 8 GiB',
    () => and(file('package/z', { sizeField: Buffer.from([0x80, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0]) })),
    'tarball_invalid',
    'not an octal number',
  ],
  [
    'a size that runs over the end',
    () => and(file('package/z', { sizeField: '77777777' })),
    'tarball_invalid',
    'truncated',
  ],
  ['package.json twice', () => and(file('package/package.json')), 'tarball_invalid', 'one path'],
  ['case twins', () => and(file('package/README'), file('package/Readme')), 'tarball_invalid', 'one path'],
  ['directory case twins', () => and(file('package/Lib/y.js')), 'tarball_invalid', 'one path'],
  ['sharp s and ss', () => and(file('package/stra\u00dfe'), file('package/strasse')), 'tarball_invalid', 'one path'],
  [
    'composed and decomposed twins',
    () => and(file('package/\u00e9'), file('package/e\u0301')),
    'tarball_invalid',
    'one path',
  ],
  ['a file that is a directory elsewhere', () => and(file('package/lib')), 'tarball_invalid', 'one path'],
  ['a name with a newline', () => and(file('package/a\nb')), 'tarball_invalid', 'not a relative path'],
  ['a name with a direction character', () => and(file('package/a\u202eb')), 'tarball_invalid', 'not a relative path'],
  ['a name with a backslash', () => and(file('package/a\\..\\b')), 'tarball_invalid', 'a'],
  ['a name with a colon', () => and(file('package/a:b')), 'tarball_invalid', 'not every system'],
  ['a name with a trailing dot', () => and(file('package/a.')), 'tarball_invalid', 'not every system'],
  [
    'a name that is too long',
    () => and(file('x', { type: 'x', body: pax({ path: `package/${'y'.repeat(256)}` }) }), file('package/z')),
    'tarball_invalid',
    'not a relative path',
  ],
  [
    'a path that is too long',
    () => and(file('x', { type: 'x', body: pax({ path: `package/${'y/'.repeat(2500)}z` }) }), file('package/z')),
    'tarball_invalid',
    'not a relative path',
  ],
  [
    'a path that is too deep',
    () => and(file('x', { type: 'x', body: pax({ path: `package/${'y/'.repeat(32)}z` }) }), file('package/z')),
    'tarball_invalid',
    'not a relative path',
  ],
  ['.npmrc', () => and(file('package/.npmrc')), 'tarball_invalid', 'may not be published'],
  ['.git', () => and(file('package/.git/config')), 'tarball_invalid', 'may not be published'],
  ['node_modules', () => and(file('package/node_modules/b/index.js')), 'tarball_invalid', 'may not be published'],
  [
    'nested node_modules',
    () => and(file('package/lib/Node_Modules/b/index.js')),
    'tarball_invalid',
    'may not be published',
  ],
  ['binding.gyp', () => and(file('package/binding.gyp')), 'tarball_invalid', 'may not be published'],
  ['a shrinkwrap', () => and(file('package/npm-shrinkwrap.json')), 'tarball_invalid', 'may not be published'],
  ['a native addon', () => and(file('package/build/x.node')), 'tarball_invalid', 'may not be published'],
  ['another top directory', () => handTgz([file('other/package.json')]), 'tarball_invalid', 'under package/'],
  ['two top directories', () => and(file('other/x')), 'tarball_invalid', 'under package/'],
  ['no top directory', () => and(file('index.js')), 'tarball_invalid', 'under package/'],
  [
    'zeros that unzip to a thousand times',
    () => and(file('package/z', { body: zeros(30_000_000) })),
    'tarball_too_large',
    'times its size',
  ],
  [
    '50 MB and one byte',
    () => and(file('package/z', { body: filler(50 * 1024 * 1024) })),
    'tarball_too_large',
    'more than 52428800 bytes',
  ],
  [
    'a bomb of 100 MB',
    () => and(file('package/z', { body: zeros(100_000_000) })),
    'tarball_too_large',
    'unpacks to more than',
  ],
  [
    '5001 files',
    () => handTgz(Array.from({ length: 5001 }, (_, i) => file(`package/${i}`))),
    'tarball_too_large',
    '5000 files',
  ],
  ['more than 16 MiB packed', () => Buffer.alloc(16 * 1024 * 1024 + 1), 'tarball_too_large', 'the limit is'],
]

describe('a tarball', () => {
  it.each(hostile)('with %s is refused (TB1, TB2, TB3)', async (_name, make, code, words) => {
    const opened = await openTarball(make())
    expect(opened).toMatchObject({ refused: code })
    if ('refused' in opened) {
      expect(opened.message).toContain(words)
      expect(opened.message).not.toMatch(/[\u0000-\u001f\u202e]/)
    }
  })

  it('opens with its files, whoever packed them, owner and times left aside', async () => {
    const opened = await openTarball(
      handTgz([
        { path: 'package/', type: '5', mode: 0o755 },
        file('package/bin/run.js', { mode: 0o755, uid: 0, uname: '\u001b[31mroot' }),
        file('PaxHeader', { type: 'g', body: pax({ comment: 'a commit' }) }),
        file('x', { type: 'x', body: pax({ path: `package/${'long/'.repeat(25)}name`, mtime: '-1' }) }),
        file('package/short'),
        file('package/.hidden', { body: '' }),
      ]),
    )
    if ('refused' in opened) throw new Error(opened.message)
    expect([...opened.files].map(([path, { bytes, executable }]) => [path, bytes.length, executable])).toEqual([
      ['bin/run.js', 1, true],
      [`${'long/'.repeat(25)}name`, 1, false],
      ['.hidden', 0, false],
    ])
    expect(opened.unpackedBytes).toBe(2)
  })

  it('is opened or refused, whatever bytes are changed in it, and never lets a path out', async () => {
    const good = handTar([...plain, file('package/lib/y.js', { body: 'y'.repeat(600) })])
    const change = fc.record({ at: fc.nat(good.length - 1), byte: fc.integer({ min: 0, max: 255 }) })
    await fc.assert(
      fc.asyncProperty(fc.array(change, { minLength: 1, maxLength: 4 }), fc.boolean(), async (changes, mend) => {
        const bytes = Buffer.from(good)
        for (const { at, byte } of changes) bytes[at] = byte
        // A changed header mostly fails its checksum; mended, the change is believed.
        if (mend) for (let at = 0; at + 512 <= bytes.length; at += 512) mendChecksum(bytes.subarray(at, at + 512))
        const opened = await openTarball(gzipSync(bytes))
        if ('refused' in opened) expect(opened.refused).toMatch(/^tarball_/)
        for (const path of 'refused' in opened ? [] : opened.files.keys())
          expect(path).not.toMatch(/^\/|(?:^|\/)\.\.(?:\/|$)|[\u0000-\u001f\\]/)
      }),
      { numRuns: 400 },
    )
  })
})

function mendChecksum(block: Buffer): void {
  if (block.toString('latin1', 257, 262) !== 'ustar') return
  block.write('        ', 148)
  const sum = block.reduce((total, byte) => total + byte, 0)
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148)
}
