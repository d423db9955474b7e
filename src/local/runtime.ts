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
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { build, stop, type Plugin } from 'esbuild'
import type { Clock } from '../../schema/clock.ts'
import { PlatformError } from '../../schema/error.ts'
import { sha256 } from '../../schema/hash.ts'
import { RUNNER_OPTIONS, SUPERVISOR_OPTIONS } from '../../schema/node-options.ts'
import { mainOf, makeCompiled } from './compiled.ts'
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
  const opening = builds.then(async () => {
    try {
      return await prepare(options)
    } finally {
      await stop()
    }
  })
  builds = opening.then(ignore, ignore)
  return await opening
}

/** esbuild leaves a process behind that waits for more, and stopping it breaks what it builds: one after the other. */
let builds: Promise<void> = Promise.resolve()
function ignore(): void {}

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
  const bundle = async (given: string | undefined, entry: string, options: readonly string[]) =>
    given === undefined
      ? keepCompiled(keep, basename(dirname(entry)), await bundleOf(entry), node, options)
      : write(`${sha256(readFileSync(given)).slice(0, 16)}-${basename(given)}`, readFileSync(given, 'utf8'))
  return {
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

/** zod brings its messages in fifty languages; ours are read by one of them. */
const onlyEnglish: Plugin = {
  name: 'only-english',
  setup(build) {
    const contents = "export { default as en } from './en.js'"
    build.onLoad({ filter: /[/\\]zod[/\\]v4[/\\]locales[/\\]index\.js$/ }, () => ({ contents, loader: 'js' }))
  },
}

async function bundleOf(entry: string): Promise<string> {
  const { outputFiles } = await build({
    entryPoints: [fileURLToPath(new URL(entry, import.meta.url))],
    bundle: true,
    write: false,
    platform: 'node',
    target: 'node24',
    format: 'esm',
    legalComments: 'none',
    logLevel: 'silent',
    // A waiting machine keeps its source in memory, too.
    minify: true,
    keepNames: true,
    plugins: [onlyEnglish],
    // Bundled CommonJS asks for Node's own modules by require.
    banner: { js: "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);" },
  })
  return outputFiles[0]?.text ?? ''
}

async function librariesOf(node: string): Promise<readonly string[]> {
  if (process.platform !== 'linux') return []
  const script = `process.report.excludeNetwork = true
    process.stdout.write(JSON.stringify(process.report.getReport().sharedObjects))`
  const { stdout } = await promisify(execFile)(node, ['-e', script], { env: {}, timeout: 20_000 })
  const loaded = JSON.parse(stdout) as readonly string[] // Node wrote it
  return loaded.filter((path) => path.startsWith('/') && path !== node && existsSync(path))
}
