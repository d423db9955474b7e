/**
 * Makes what the image of machines holds of ours, in the directory that is named: the runner and its supervisor as one
 * file each with what Node compiles of them, and what compartments see beside them. Run where the image is built, by
 * the Node that it will have: `node images/machine/main.ts /senmon`.
 */
import { spawnSync } from 'node:child_process'
import { copyFileSync, existsSync, mkdirSync, readdirSync, renameSync, symlinkSync, writeFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { build } from 'esbuild'
import { RUNNER_OPTIONS, SUPERVISOR_OPTIONS } from '../../schema/node-options.ts'

const [directory = '', libraryDirectory] = process.argv.slice(2)
const root = join(import.meta.dirname, '../..')
const COMPILE_MS_MAX = 60_000
/** As in src/sandbox/machine-image.ts. */
const SANDBOX_UID = 1000
const MACHINE_UIDS = Array.from({ length: 64 }, (_, at) => 60_578 + at)

/** Part, its source, the options that it runs under (V8's are part of what Node compares), and whose it is. */
const PARTS = [
  ['runner', 'runner/main.ts', RUNNER_OPTIONS, [SANDBOX_UID]],
  ['supervisor', 'runner/supervisor/main.ts', SUPERVISOR_OPTIONS, MACHINE_UIDS],
] as const

for (const [part, entry, options, uids] of PARTS) {
  const home = join(directory, part)
  mkdirSync(home, { recursive: true })
  await build({
    entryPoints: [join(root, entry)],
    outfile: join(home, 'main.mjs'),
    bundle: true,
    platform: 'node',
    target: 'node24',
    format: 'esm',
    legalComments: 'none',
    // Bundled CommonJS asks for Node's own modules by require.
    banner: { js: "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);" },
  })
  const cache = join(home, 'cache')
  const env = { NODE_COMPILE_CACHE: cache, NODE_COMPILE_CACHE_PORTABLE: '1' }
  spawnSync(process.execPath, [...options, join(home, 'main.mjs')], { env, input: '', timeout: COMPILE_MS_MAX })
  share(cache, uids)
}
writeFileSync(join(directory, 'passwd'), 'senmon:x:1000:1000::/tmp:/usr/sbin/nologin\n')
writeFileSync(join(directory, 'preload.cjs'), 'delete process.env.PWD\n')
copyLibraries(join(directory, 'root'))

/** Node keeps a folder for each uid: the one that it made is given to all who run this part. */
function share(cache: string, uids: readonly number[]): void {
  if (!existsSync(cache)) return
  const [folder = ''] = readdirSync(cache)
  const nameFor = (uid: number): string => folder.replace(/-\d+$/, `-${uid}`)
  const [first = 0, ...others] = uids
  renameSync(join(cache, folder), join(cache, nameFor(first)))
  for (const uid of others) symlinkSync(nameFor(first), join(cache, nameFor(uid)))
}

/** What Node loads, where its loader looks: a compartment that has Node alone sees these and nothing else of the system. */
function copyLibraries(target: string): void {
  for (const name of ['lib', 'lib64']) mkdirSync(join(target, name), { recursive: true })
  process.report.excludeNetwork = true
  const { sharedObjects } = process.report.getReport() as unknown as { sharedObjects: readonly string[] } // Node's own
  const triplet = libraryDirectory ?? (process.arch === 'arm64' ? 'aarch64-linux-gnu' : 'x86_64-linux-gnu')
  for (const path of sharedObjects.filter(
    (one) => one.startsWith('/') && one !== process.execPath && existsSync(one),
  )) {
    const isLoader = basename(path).startsWith('ld-linux')
    const place = isLoader && process.arch === 'x64' ? 'lib64' : isLoader ? 'lib' : `lib/${triplet}`
    const copy = join(target, place, basename(path))
    mkdirSync(dirname(copy), { recursive: true })
    copyFileSync(path, copy)
  }
}
