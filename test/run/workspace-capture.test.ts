import { chmodSync, existsSync, mkdirSync, renameSync, rmSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import * as fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { WorkspaceCapture } from '../../runner/workspace/capture.ts'
import { WORKSPACE_LIMITS, type WorkspaceLimits } from '../../runner/workspace/limits.ts'
import { restoreTree } from '../../runner/workspace/restore.ts'
import type { BlobLine } from '../../schema/control.ts'
import { sha256, type Sha256 } from '../../schema/hash.ts'
import { scratchDirectory } from '../support/scratch.ts'

let root: string
const never = Promise.resolve()
/** Far after every file's change: all of them have settled. */
const LATE = 8_000_000_000_000

beforeEach(() => {
  root = scratchDirectory('capture')
})
afterEach(() => {
  rmSync(root, { recursive: true, force: true })
})

function opened(change: { limits?: Partial<WorkspaceLimits>; now?: number; onSend?: (line: BlobLine) => void } = {}) {
  const sent: BlobLine[] = []
  const reports: string[] = []
  const known = new Set<Sha256>()
  const capture = new WorkspaceCapture({
    root,
    reserved: new Set(['input']),
    limits: { ...WORKSPACE_LIMITS, ...change.limits },
    known,
    clock: { now: () => change.now ?? LATE, sleep: () => never },
    send: (line) => {
      sent.push(line)
      change.onSend?.(line)
      return Promise.resolve()
    },
    report: (text) => reports.push(text),
  })
  const content = () => {
    const whole = new Map<string, Buffer>()
    for (const { hash, base64 } of sent)
      whole.set(hash, Buffer.concat([whole.get(hash) ?? Buffer.alloc(0), Buffer.from(base64, 'base64')]))
    return whole
  }
  return { capture, sent, reports, known, content }
}

describe('a capture of a workspace', () => {
  it('is the same tree for the same files, whatever their times', async () => {
    writeFileSync(join(root, 'a.txt'), 'alpha')
    mkdirSync(join(root, 'dir'))
    writeFileSync(join(root, 'dir/b.sh'), 'beta', { mode: 0o755 })
    const first = await opened().capture.capture()
    utimesSync(join(root, 'a.txt'), 1, 1)
    expect(await opened().capture.capture()).toBe(first)
    chmodSync(join(root, 'dir/b.sh'), 0o644)
    expect(await opened().capture.capture()).not.toBe(first)
  })

  it('sends content before what names it, once, and all of it (WC4, P5.3, P5.4)', async () => {
    writeFileSync(join(root, 'a.txt'), 'alpha')
    writeFileSync(join(root, 'same.txt'), 'alpha')
    writeFileSync(join(root, 'empty'), '')
    writeFileSync(join(root, 'big'), 'x'.repeat(2 * 1024 * 1024 + 1))
    const { capture, sent, content } = opened()
    const tree = await capture.capture()
    expect(sent.at(-1)?.hash).toBe(tree)
    expect(sent.filter((line) => line.hash === sha256('alpha'))).toHaveLength(1)
    expect(sent.filter((line) => line.last)).toHaveLength(4)
    for (const [hash, bytes] of content()) expect(sha256(bytes)).toBe(hash)
    const before = sent.length
    expect(await capture.capture()).toBe(tree)
    expect(sent).toHaveLength(before)
  })

  it('does not read a file again whose times and size stay, and reads one that changed (WC3)', async () => {
    const path = join(root, 'a.txt')
    writeFileSync(path, 'alpha')
    const { capture, known } = opened()
    const tree = await capture.capture()
    chmodSync(path, 0o000)
    chmodSync(path, 0o644)
    expect(await capture.capture()).toBe(tree)
    // The same size and the same modification time, as a program may set it: the change time gives it away.
    writeFileSync(path, 'ALPHA')
    utimesSync(path, 1, 1)
    await capture.capture()
    expect(known).toContain(sha256('ALPHA'))
  })

  it('is the tree that a first look would give, whatever changed since the last (WC3)', async () => {
    const names = fc.constantFrom('a', 'b', 'd/a', 'd/b', 'd/e/a', 'e/a')
    const change = fc.oneof(
      fc.record({ verb: fc.constant('write' as const), name: names, text: fc.constantFrom('x', 'y', 'long') }),
      fc.record({ verb: fc.constant('remove' as const), name: fc.constantFrom('a', 'b', 'd/a', 'd', 'd/e', 'e') }),
      fc.record({ verb: fc.constant('swap' as const), name: fc.constant('a') }),
    )
    await fc.assert(
      fc.asyncProperty(fc.array(fc.array(change, { maxLength: 3 }), { minLength: 2, maxLength: 5 }), async (rounds) => {
        rmSync(root, { recursive: true, force: true })
        for (const place of ['d/e', 'e']) mkdirSync(join(root, place), { recursive: true })
        const { capture } = opened()
        for (const changes of rounds) {
          for (const { verb, name, ...rest } of changes) {
            const path = join(root, name)
            if (verb === 'remove') rmSync(path, { recursive: true, force: true })
            else if (verb === 'write') {
              mkdirSync(dirname(path), { recursive: true })
              writeFileSync(path, 'text' in rest ? rest.text : '')
            } else if (existsSync(join(root, 'd')) && existsSync(join(root, 'e'))) {
              renameSync(join(root, 'd'), join(root, 'other'))
              renameSync(join(root, 'e'), join(root, 'd'))
              renameSync(join(root, 'other'), join(root, 'e'))
            }
          }
          expect(await capture.capture()).toBe(await opened().capture.capture())
        }
      }),
      { numRuns: 60 },
    )
  })

  it('reads a file again that changed too recently to tell (WC3)', async () => {
    const path = join(root, 'a.txt')
    writeFileSync(path, 'alpha')
    const { capture, known } = opened({ now: 0 })
    await capture.capture()
    expect(await capture.capture()).toBeDefined()
    expect(known.size).toBe(2)
  })

  it('stays inside when a directory is swapped for a link while it looks (WC1)', async () => {
    const secret = scratchDirectory('secret')
    writeFileSync(join(secret, 'z.txt'), 'secret of the host')
    mkdirSync(join(root, 'dir'))
    writeFileSync(join(root, 'dir/a.txt'), 'alpha')
    writeFileSync(join(root, 'dir/z.txt'), 'omega')
    const { capture, content } = opened({
      onSend: (line) => {
        if (line.hash !== sha256('alpha')) return
        renameSync(join(root, 'dir'), join(root, 'was-dir'))
        symlinkSync(secret, join(root, 'dir'))
      },
    })
    await capture.capture()
    const texts = [...content().values()].map(String)
    expect(texts).toContain('omega')
    expect(texts.join()).not.toContain('secret of the host')
    rmSync(secret, { recursive: true })
  })

  it('sends what it hashed when a file changes meanwhile (WC2)', async () => {
    const path = join(root, 'big')
    writeFileSync(path, 'x'.repeat(3 * 1024 * 1024))
    const { capture, content } = opened({ onSend: () => writeFileSync(path, 'y'.repeat(3 * 1024 * 1024)) })
    await capture.capture()
    for (const [hash, bytes] of content()) expect(sha256(bytes)).toBe(hash)
  })

  it.each([
    ['files', { files: 3 }, /more than 3 files/],
    ['bytes', { bytes: 7 }, /more than 7 bytes/],
    ['a file', { fileBytes: 4 }, /a.txt has 5 bytes/],
    ['depth', { depth: 1 }, /deeper than 1/],
  ] as const)('refuses a workspace with too many or too large: %s', async (_what, limits, sentence) => {
    mkdirSync(join(root, 'dir/dir'), { recursive: true })
    for (const name of ['a.txt', 'dir/b.txt']) writeFileSync(join(root, name), 'alpha')
    await expect(opened({ limits }).capture.capture()).rejects.toThrow(sentence)
  })

  it('leaves the mount point of the input files out, and only that one', async () => {
    mkdirSync(join(root, 'input'))
    writeFileSync(join(root, 'input/spec.md'), 'spec')
    mkdirSync(join(root, 'dir/input'), { recursive: true })
    writeFileSync(join(root, 'dir/input/a.txt'), 'alpha')
    const { capture, content } = opened()
    await capture.capture()
    const texts = [...content().values()].map(String)
    expect(texts).toContain('alpha')
    expect(texts).not.toContain('spec')
  })

  it('names what it left out, ten at most', async () => {
    for (let i = 0; i < 25; i++) symlinkSync('/etc/passwd', join(root, `link-${i}`))
    const { capture, reports } = opened()
    await capture.capture()
    expect(reports).toHaveLength(11)
    expect(reports.at(-1)).toContain('15 more')
  })

  it('is restored to the same tree', async () => {
    mkdirSync(join(root, 'a/b'), { recursive: true })
    writeFileSync(join(root, 'a/b/c.sh'), '#!', { mode: 0o755 })
    writeFileSync(join(root, 'a/größe'), 'ü')
    mkdirSync(join(root, 'leer'))
    const { capture, content } = opened()
    const tree = await capture.capture()
    const target = scratchDirectory('restore')
    const kept = content()
    await restoreTree(tree, {
      root: target,
      reserved: new Set(['input']),
      limits: WORKSPACE_LIMITS,
      known: new Set(),
      fetch: (hash) => Promise.resolve(kept.get(hash) ?? Buffer.alloc(0)),
    })
    rmSync(root, { recursive: true })
    renameSync(target, root)
    expect(await opened().capture.capture()).toBe(tree)
  })
})
