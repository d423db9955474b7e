/**
 * What machines need of the host, where their uids can reach it and cannot change it: the Node binary, the bundles
 * of runner and supervisor, and installed skills. Files are named by what they hold, so several servers may share them.
 */
import { execFile } from 'node:child_process'
import {
  chmodSync,
  constants,
  copyFileSync,
  cpSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { promisify } from 'node:util'
import type { Clock } from '../../schema/clock.ts'
import { PlatformError } from '../../schema/error.ts'
import { sha256 } from '../../schema/hash.ts'
import { heapOptions, RUNNER_OPTIONS, SUPERVISOR_OPTIONS } from '../../schema/node-options.ts'
import { alone, bundleOf } from './bundles.ts'
import { mainOf, makeCompiled } from './compiled.ts'
import { makeHeap, type HeapMaker } from './heap.ts'
import { openUses } from './uses.ts'

/** JavaScript files that Node can run by themselves. */
export interface Bundles {
  readonly runner: string
  readonly supervisor: string
}

export interface Runtime {
  readonly directory: string
  readonly node: string
  /** What the Node binary loads, as absolute paths. */
  readonly libraries: readonly string[]
  readonly passwd: string
  readonly preload: string
  readonly bundles: Bundles
  /** What a machine of this bundle may begin with instead (runner/heap.ts), once it has been made. */
  heapOf(bundle: string): string | undefined
  /** Makes the heaps that are not there yet: half a second of a processor for each. Rejects when it cannot be done. */
  makeHeaps(stop: AbortSignal): Promise<void>
  /** A directory with the same content that a machine's uid can read. */
  share(directory: string, installHash: string): string
  /** A file with this text beside the bundles; the same text is the same file. */
  write(name: string, text: string): string
}

export interface RuntimeOptions {
  readonly directory: string
  readonly execPath: string
  readonly clock: Clock
  /** Instead of the runner and supervisor of this repository, for tests. */
  readonly bundles?: Partial<Bundles>
}

/** Throws `machine_failed` when the directory is not ours alone to write. */
export async function openRuntime(options: RuntimeOptions): Promise<Runtime> {
  return await alone(() => prepare(options))
}

async function prepare({ directory, execPath, clock, bundles }: RuntimeOptions): Promise<Runtime> {
  mkdirSync(directory, { recursive: true, mode: 0o755 })
  demandOwned(directory)
  const uses = openUses(directory, clock.now())
  const keep = (name: string, make: (path: string) => void) => {
    uses.add(name)
    return keepOnce(directory, name, make)
  }
  const asRoot = process.getuid?.() === 0
  const write = (name: string, text: string) => keep(name, (path) => writeFileSync(path, text))
  const node = asRoot ? copyNode(keep, realpathSync(execPath)) : realpathSync(execPath)
  const own: { readonly bundle: string; readonly entry: string; readonly options: readonly string[] }[] = []
  const bundle = async (given: string | undefined, entry: string, options: readonly string[]) => {
    if (given !== undefined)
      return write(`${sha256(readFileSync(given)).slice(0, 16)}-${basename(given)}`, readFileSync(given, 'utf8'))
    const made = keepCompiled(keep, basename(dirname(entry)), await bundleOf(entry, 'esm'), node, options)
    own.push({ bundle: made, entry, options })
    return made
  }
  const heaps = new Map<string, string>()
  return {
    heapOf: (made) => heaps.get(made),
    async makeHeaps(halt) {
      for (const { bundle: made, entry, options } of own) {
        // Named as the bundle, so made of the same sources by the same Node.
        const name = `heap-${basename(dirname(made))}`
        uses.add(name)
        const path = join(directory, name)
        if (!existsSync(path)) {
          const text = await alone(() => bundleOf(entry, 'cjs'))
          await keepHeap(directory, name, text, { node, options: heapOptions(options), stop: halt })
        }
        heaps.set(made, path)
      }
    },
    directory,
    node,
    libraries: await librariesOf(node),
    passwd: write('passwd', 'senmon:x:1000:1000::/tmp:/usr/sbin/nologin\n'),
    preload: write('preload.cjs', 'delete process.env.PWD\n'),
    bundles: {
      runner: await bundle(bundles?.runner, '../../runner/main.ts', RUNNER_OPTIONS),
      supervisor: await bundle(bundles?.supervisor, '../../runner/supervisor/main.ts', SUPERVISOR_OPTIONS),
    },
    share: (source, installHash) => (asRoot ? shareTree(keep, source, installHash) : source),
    write,
  }
}

/** Whoever else could write here could put code into every machine. */
function demandOwned(directory: string): void {
  const stats = lstatSync(directory)
  const uid = process.getuid?.()
  if (!stats.isDirectory() || (uid !== undefined && stats.uid !== uid) || (stats.mode & 0o022) !== 0)
    throw new PlatformError(
      'machine_failed',
      `${directory} must be a directory that only uid ${uid} can write: remove it or name another.`,
    )
  if (uid !== 0) return
  for (let path = directory; path !== '/'; path = dirname(path)) {
    if ((statSync(path).mode & 0o001) === 0)
      throw new PlatformError('machine_failed', `${path} is closed to the uids of machines: name another directory.`)
  }
}

type Keep = (name: string, make: (path: string) => void) => string

/** Makes `name` whole or not at all, once. */
function keepOnce(directory: string, name: string, make: (path: string) => void): string {
  const path = join(directory, name)
  if (existsSync(path)) return path
  const making = mkdtempSync(join(directory, `making-${process.pid}-`))
  try {
    make(join(making, 'made'))
    allow(join(making, 'made'))
    renameSync(join(making, 'made'), path)
  } catch (error) {
    // Another server was quicker: its content is the same.
    if (!existsSync(path)) throw error
  } finally {
    rmSync(making, { recursive: true, force: true })
  }
  return path
}

/** The same for a heap, which takes its time to make. */
async function keepHeap(directory: string, name: string, text: string, by: HeapMaker): Promise<void> {
  const making = mkdtempSync(join(directory, `making-${process.pid}-`))
  try {
    const made = await makeHeap(making, text, by)
    allow(made)
    renameSync(made, join(directory, name))
  } finally {
    rmSync(making, { recursive: true, force: true })
  }
}

/** Readable for all, writable for the owner; what was executable stays so. */
function allow(path: string): void {
  const stats = lstatSync(path)
  if (stats.isSymbolicLink()) return
  chmodSync(path, stats.isDirectory() || (stats.mode & 0o100) !== 0 ? 0o755 : 0o644)
  if (stats.isDirectory()) for (const name of readdirSync(path)) allow(join(path, name))
}

function copyNode(keep: Keep, execPath: string): string {
  const { size, mtimeMs } = statSync(execPath)
  const key = sha256(JSON.stringify([execPath, size, mtimeMs])).slice(0, 16)
  return keep(`node-${key}`, (path) => copyFileSync(execPath, path, constants.COPYFILE_FICLONE))
}

function shareTree(keep: Keep, source: string, installHash: string): string {
  const name = `skill-${sha256(JSON.stringify([installHash, source])).slice(0, 32)}`
  return keep(name, (path) => cpSync(source, path, { recursive: true, verbatimSymlinks: true }))
}

/** A bundle with what Node compiles of it, named by all that decides about either. */
function keepCompiled(keep: Keep, name: string, text: string, node: string, options: readonly string[]): string {
  const key = sha256(JSON.stringify([process.version, options, text])).slice(0, 16)
  return mainOf(keep(`${name}-${key}`, (path) => makeCompiled(path, text, node, options)))
}

async function librariesOf(node: string): Promise<readonly string[]> {
  if (process.platform !== 'linux') return []
  const script = `process.report.excludeNetwork = true
    process.stdout.write(JSON.stringify(process.report.getReport().sharedObjects))`
  const { stdout } = await promisify(execFile)(node, ['-e', script], { env: {}, timeout: 20_000 })
  const loaded = JSON.parse(stdout) as readonly string[] // Node wrote it
  return loaded.filter((path) => path.startsWith('/') && path !== node && existsSync(path))
}
