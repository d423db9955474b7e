/** What goes into the image of a machine elsewhere: the bundles, and a file that says where everything is. */
import { execFileSync } from 'node:child_process'
import { existsSync, lstatSync, mkdirSync, readlinkSync, realpathSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build, stop } from 'esbuild'
import type { MachineImage } from '../../schema/machine-link.ts'

const BWRAP_PATHS = ['/usr/bin/bwrap', '/usr/local/bin/bwrap', '/bin/bwrap']
const ROOTS = ['/usr', '/bin', '/sbin', '/lib', '/lib32', '/lib64', '/libx32']
const SETTINGS = ['/etc/alternatives', '/etc/ld.so.cache']
const ENTRIES = { machine: '../machine/main.ts', supervisor: '../supervisor/main.ts', runner: '../main.ts' }

export interface ImageOptions {
  /** Where the files are made. */
  readonly directory: string
  /** Where they will be in the machine; `directory` by default. */
  readonly target?: string
  /** Directories of the machine alone are made below this, in the machine. */
  readonly state: string
  readonly node: string
  readonly uid: number
  /** Instead of the runner of this repository, for tests. */
  readonly runner?: string
}

/** Throws when bubblewrap is missing: an image without it could run nothing. */
export async function makeImage(options: ImageOptions): Promise<MachineImage> {
  const { directory, target = directory, state, uid } = options
  const bwrap = BWRAP_PATHS.find((path) => existsSync(path))
  if (bwrap === undefined) throw new Error('bubblewrap is not installed in the image.')
  mkdirSync(directory, { recursive: true, mode: 0o755 })
  const node = realpathSync(options.node)
  for (const [name, entry] of Object.entries(ENTRIES)) {
    await build({
      entryPoints: [
        name === 'runner' && options.runner !== undefined
          ? options.runner
          : fileURLToPath(new URL(entry, import.meta.url)),
      ],
      outfile: join(directory, `${name}.mjs`),
      bundle: true,
      platform: 'node',
      target: 'node24',
      format: 'esm',
      legalComments: 'none',
      logLevel: 'silent',
      // Bundled CommonJS asks for Node's own modules by require.
      banner: { js: "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);" },
    })
  }
  await stop()
  writeFileSync(join(directory, 'passwd'), 'senmon:x:1000:1000::/tmp:/usr/sbin/nologin\n', { mode: 0o644 })
  writeFileSync(join(directory, 'preload.cjs'), 'delete process.env.PWD\n', { mode: 0o644 })
  const image: MachineImage = {
    facts: {
      arch: process.arch === 'arm64' ? 'arm64' : 'x64',
      bwrap,
      node,
      libraries: librariesOf(node),
      passwd: join(target, 'passwd'),
      preload: join(target, 'preload.cjs'),
      runner: join(target, 'runner.mjs'),
      roots: ROOTS.filter((path) => existsSync(path)).map((path) => ({
        path,
        link: lstatSync(path).isSymbolicLink() ? readlinkSync(path) : null,
      })),
      settings: SETTINGS.filter((path) => existsSync(path)),
      place: state,
      workspace: join(state, 'own/workspace'),
      input: join(state, 'own/input'),
      packages: join(state, 'packages'),
    },
    supervisor: join(target, 'supervisor.mjs'),
    uid,
  }
  writeFileSync(join(directory, 'image.json'), JSON.stringify(image), { mode: 0o644 })
  return image
}

function librariesOf(node: string): readonly string[] {
  const script = `process.report.excludeNetwork = true
    process.stdout.write(JSON.stringify(process.report.getReport().sharedObjects))`
  const loaded = JSON.parse(execFileSync(node, ['-e', script], { env: {}, encoding: 'utf8' })) as readonly string[] // Node wrote it
  return loaded.filter((path) => path.startsWith('/') && path !== node && existsSync(path))
}
