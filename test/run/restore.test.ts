/** A tree that is restored over a long way: much is asked for at once, within bounds, and nothing is half done. */
import { readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import * as fc from 'fast-check'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { restoreTree } from '../../runner/workspace/restore.ts'
import { sha256, type Sha256 } from '../../schema/hash.ts'
import { printTree, TREE_LIMITS, type TreeEntry } from '../../schema/tree.ts'
import { scratchDirectory } from '../support/scratch.ts'

let root: string
beforeEach(() => {
  root = scratchDirectory('restore')
})
afterEach(() => rmSync(root, { recursive: true, force: true }))

type Files = { readonly [name: string]: string | Files }

function stored(files: Files) {
  const content = new Map<Sha256, Buffer>()
  const keep = (bytes: Buffer): Sha256 => {
    const hash = sha256(bytes)
    content.set(hash, bytes)
    return hash
  }
  const tree = (of: Files): Sha256 => {
    const { text } = printTree(
      Object.entries(of).map(([name, what]): TreeEntry => {
        if (typeof what !== 'string') return { type: 'directory', name, hash: tree(what) }
        const bytes = Buffer.from(what)
        return { type: 'file', name, hash: keep(bytes), sizeBytes: bytes.length, executable: what.length % 2 === 1 }
      }),
    )
    return keep(Buffer.from(text))
  }
  return { hash: tree(files), content }
}

function read(directory: string): Files {
  const names = readdirSync(directory, { withFileTypes: true })
  return Object.fromEntries(
    names.map((one) => {
      const path = join(directory, one.name)
      if (one.isDirectory()) return [one.name, read(path)]
      const text = readFileSync(path, 'utf8')
      expect((statSync(path).mode & 0o100) !== 0).toBe(text.length % 2 === 1)
      return [one.name, text]
    }),
  )
}

/** Restores over a way on which whole rounds of answers come together; `bad` is answered with something else. */
async function restoredFrom(hash: Sha256, content: ReadonlyMap<Sha256, Buffer>, bad?: Sha256) {
  const waiting: { readonly hash: Sha256; readonly resolve: (bytes: Uint8Array) => void }[] = []
  const seen = { rounds: 0, mostAtOnce: 0, mostBytes: 0 }
  const progress = { isOver: false }
  const restoring = restoreTree(hash, {
    root,
    reserved: new Set(),
    limits: { ...TREE_LIMITS, bytes: 1e9 },
    known: new Set(),
    fetch: (wanted) => new Promise((resolve) => waiting.push({ hash: wanted, resolve })),
  })
    .then(() => undefined)
    .catch((error: unknown) => error)
    .finally(() => (progress.isOver = true))
  while (!progress.isOver) {
    await new Promise((resolve) => setImmediate(resolve))
    const round = waiting.splice(0)
    if (round.length === 0) continue
    const bytes = round.map((one) => content.get(one.hash) ?? Buffer.of())
    seen.rounds += 1
    seen.mostAtOnce = Math.max(seen.mostAtOnce, round.length)
    seen.mostBytes = Math.max(seen.mostBytes, Buffer.concat(bytes).length)
    round.forEach((one, i) => one.resolve(one.hash === bad ? Buffer.from('bad') : (bytes[i] ?? Buffer.of())))
  }
  return { fault: await restoring, ...seen, left: waiting.length }
}

const names = fc.stringMatching(/^[a-z]{1,3}$/)
const { tree: trees } = fc.letrec<{ tree: Files; node: string | Files }>((tie) => ({
  tree: fc.dictionary(names, tie('node'), { maxKeys: 6, noNullPrototype: true }),
  node: fc.oneof({ maxDepth: 4 }, fc.string({ maxLength: 8 }), tie('tree')),
}))

it('is the tree that was kept, whatever its shape', async () => {
  await fc.assert(
    fc.asyncProperty(trees, async (files) => {
      rmSync(root, { recursive: true, force: true })
      root = scratchDirectory('restore')
      const { hash, content } = stored(files)
      expect((await restoredFrom(hash, content)).fault).toBeUndefined()
      expect(read(root)).toEqual(files)
    }),
    { numRuns: 60 },
  )
})

it('takes ten ways there and back for a package of 500 files in 100 directories, and no more than 64 files at once', async () => {
  const packages = Object.fromEntries(
    Array.from({ length: 100 }, (_, i) => [
      `p${i}`,
      Object.fromEntries(Array.from({ length: 5 }, (_, j) => [`f${j}`, `${i} ${j}`])),
    ]),
  )
  const { hash, content } = stored({ node_modules: packages })
  const { fault, rounds, mostAtOnce } = await restoredFrom(hash, content)
  expect([fault, mostAtOnce]).toEqual([undefined, 64])
  expect(rounds).toBeLessThanOrEqual(13)
})

it('holds no more than 64 MiB and one file', async () => {
  const large = Object.fromEntries(Array.from({ length: 6 }, (_, i) => [`f${i}`, `${i}`.padEnd(16 * 1024 * 1024)]))
  const { hash, content } = stored(large)
  const { fault, mostBytes } = await restoredFrom(hash, content)
  expect(fault).toBeUndefined()
  expect(mostBytes).toBeLessThanOrEqual(64 * 1024 * 1024)
})

it('fails when nothing of it is under way any more, and asks for nothing further', async () => {
  const files = Object.fromEntries(Array.from({ length: 200 }, (_, i) => [`f${i}`, `${i}`]))
  const { hash, content } = stored(files)
  const { fault, rounds, left } = await restoredFrom(hash, content, sha256('99'))
  expect(fault).toMatchObject({ code: 'content_missing' })
  expect([rounds, left]).toEqual([2, 0])
})
