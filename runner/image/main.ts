/**
 * Makes what the image of machines holds of ours, in the directory that is named: each program as one file with what Node
 * compiles of it, and what compartments see beside them. Run where the image is built, by the Node that it will have:
 * `node runner/image/main.ts /senmon`.
 */
import { spawnSync } from 'node:child_process'
import { copyFileSync, existsSync, mkdirSync, readdirSync, renameSync, symlinkSync, writeFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { build } from 'esbuild'
import {
  cacheEnvironment,
  CONTAINER_UIDS,
  imagePaths,
  SUPERVISOR_UID,
  type ImageProgram,
} from '../../schema/machine-image.ts'
import { RUNNER_OPTIONS, SUPERVISOR_OPTIONS } from '../../schema/node-options.ts'

const COMPILE_MS_MAX = 60_000
/** As every sandbox has it inside. */
const SANDBOX_UID = 1000
const SUPERVISOR_UIDS = Array.from({ length: CONTAINER_UIDS.count }, (_, at) => CONTAINER_UIDS.first + at)

interface Part {
  readonly program: ImageProgram
  readonly source: string
  /** Options that it runs under (V8's are part of what Node compares), and as whom; null where nothing is compiled. */
  readonly runs: { readonly options: readonly string[]; readonly uids: readonly number[] } | null
}

const PARTS: readonly Part[] = [
  { program: 'runner', source: '../main.ts', runs: { options: RUNNER_OPTIONS, uids: [SANDBOX_UID] } },
  {
    program: 'supervisor',
    source: '../supervisor/main.ts',
    runs: { options: SUPERVISOR_OPTIONS, uids: [...SUPERVISOR_UIDS, SUPERVISOR_UID] },
  },
  { program: 'machine', source: '../machine/main.ts', runs: null },
]

const [directory] = process.argv.slice(2)
if (directory === undefined) {
  process.stderr.write('usage: node runner/image/main.ts <directory>\n')
  process.exit(2)
}
const paths = imagePaths({ files: directory, home: '' })
for (const { program, source, runs } of PARTS) {
  mkdirSync(paths.directory(program), { recursive: true })
  await build({
    entryPoints: [join(import.meta.dirname, source)],
    outfile: paths.bundle(program),
    bundle: true,
    platform: 'node',
    target: 'node24',
    format: 'esm',
    legalComments: 'none',
    logLevel: 'warning',
    // Bundled CommonJS asks for Node's own modules by require.
    banner: { js: "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);" },
  })
  if (runs === null) continue
  const cache = paths.cache(program)
  const env = cacheEnvironment(cache)
  spawnSync(process.execPath, [...runs.options, paths.bundle(program)], { env, input: '', timeout: COMPILE_MS_MAX })
  share(cache, runs.uids)
}
writeFileSync(paths.passwd, 'senmon:x:1000:1000::/tmp:/usr/sbin/nologin\n')
writeFileSync(paths.preload, 'delete process.env.PWD\n')
copyLibraries(paths.libraries)

/** Node keeps a folder for each uid: the one that it made is given to all who run this program. */
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
  // The types do not know it yet.
  Object.assign(process.report, { excludeNetwork: true })
  const report = process.report.getReport() as unknown as Readonly<Record<string, readonly string[]>> // Node's own
  const loaded = report['sharedObjects'] ?? []
  const triplet = process.arch === 'arm64' ? 'aarch64-linux-gnu' : 'x86_64-linux-gnu'
  for (const path of loaded.filter((one) => one.startsWith('/') && one !== process.execPath && existsSync(one))) {
    const isLoader = basename(path).startsWith('ld-linux')
    const place = isLoader && process.arch === 'x64' ? 'lib64' : isLoader ? 'lib' : `lib/${triplet}`
    const copy = join(target, place, basename(path))
    mkdirSync(dirname(copy), { recursive: true })
    copyFileSync(path, copy)
  }
}
