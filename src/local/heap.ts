/**
 * Heaps of runner and supervisor (runner/heap.ts), for machines whose job waits already: a process that begins with one is
 * there in less than half the time. A machine that waits in the pool begins with the bundle, which holds less memory.
 */
import { spawn } from 'node:child_process'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Mount } from '../sandbox/sandbox.ts'
import { withoutCodeCache } from './heap-file.ts'

export interface HeapMaker {
  readonly node: string
  /** V8 compares them with those that a heap is begun with. */
  readonly options: readonly string[]
  readonly stop: AbortSignal
}

const NOTHING = { file: '/bin/false', args: [], cwd: '/', feeds: [], environment: {}, ownGroup: true }

/** Makes a heap of `text`, CommonJS, in `directory`; gives its path. Throws when Node does not, or it does not begin. */
export async function makeHeap(directory: string, text: string, { node, options, stop }: HeapMaker): Promise<string> {
  const source = join(directory, 'main.cjs')
  const heap = join(directory, 'main.heap')
  writeFileSync(source, text)
  /** What it says; it ends with its input. */
  const run = async (args: readonly string[]): Promise<string> => {
    const child = spawn(node, [...options, ...args], {
      cwd: directory,
      env: {},
      stdio: ['pipe', 'pipe', 'ignore'],
      signal: stop,
    })
    let said = ''
    child.stdout.setEncoding('utf8').on('data', (part: string) => (said += part))
    child.stdin.on('error', () => {}).end()
    await new Promise((resolve, reject) => child.once('error', reject).once('close', resolve))
    return said
  }
  await run(['--snapshot-blob', heap, '--build-snapshot', source])
  const plan = JSON.stringify({ workspace: directory, input: directory, runner: NOTHING, primes: false })
  const whole = existsSync(heap) ? readFileSync(heap) : Buffer.of()
  let said = ''
  for (const made of [withoutCodeCache(whole), whole]) {
    if (made === undefined) continue
    writeFileSync(heap, made)
    said = await run([...begunWith(heap), plan, '--unprimed'])
    if (/"type":"(alive|ready)"/.test(said)) return heap
  }
  throw new Error(`A heap of ${directory} does not begin: ${said}`)
}

/** What stands in the place of a program's path. */
export function begunWith(heap: string): readonly string[] {
  return ['--snapshot-blob', heap, 'main']
}

/**
 * Node reads a heap into memory twice before it is one: large pages for that, where glibc (mallopt(3), from 2.35) and the
 * kernel offer them, are five thousand faults fewer, a sixth of a start.
 */
export const HEAP_ENVIRONMENT: Readonly<Record<string, string>> = { GLIBC_TUNABLES: 'glibc.malloc.hugetlb=1' }

/** Where glibc asks the kernel whether there are, and how large. */
const LARGE_PAGES = ['enabled', 'hpage_pmd_size'].map((name) => `/sys/kernel/mm/transparent_hugepage/${name}`)

/** What a sandbox needs, and what Node runs in it. */
export function heapInside(heap: string): {
  readonly mounts: readonly Mount[]
  readonly command: readonly string[]
  readonly environment: Readonly<Record<string, string>>
} {
  const target = '/runner/main.heap'
  const asked = LARGE_PAGES.filter((path) => existsSync(path))
  const mounts = [
    { source: heap, target, writable: false },
    ...asked.map((path) => ({ source: path, target: path, writable: false })),
  ]
  return { mounts, command: begunWith(target), environment: HEAP_ENVIRONMENT }
}
