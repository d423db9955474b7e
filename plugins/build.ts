/**
 * Builds every publishable skill that has a `main.ts`: one file, `dist/main.js`, that needs nothing but Node,
 * so that installing the package fetches nothing else and runs no script.
 */
import { existsSync } from 'node:fs'
import { chmod, readdir, readFile, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'

const home = dirname(fileURLToPath(import.meta.url))

interface Package {
  readonly name: string
  readonly version: string
  readonly dependencies?: Readonly<Record<string, string>>
}

async function buildPackage(folder: string): Promise<string> {
  const manifest = JSON.parse(await readFile(join(folder, 'package.json'), 'utf8')) as Package
  if (Object.keys(manifest.dependencies ?? {}).length > 0)
    throw new Error(`${manifest.name} has dependencies; a built skill must have none`)
  const outfile = join(folder, 'dist', 'main.js')
  await rm(join(folder, 'dist'), { recursive: true, force: true })
  const { metafile } = await build({
    entryPoints: [join(folder, 'main.ts')],
    outfile,
    bundle: true,
    minify: true,
    keepNames: true,
    platform: 'node',
    format: 'esm',
    target: 'node22',
    legalComments: 'none',
    metafile: true,
    define: { PACKAGE_VERSION: JSON.stringify(manifest.version) },
    banner: { js: "import{createRequire}from'node:module';const require=createRequire(import.meta.url);" },
    logLevel: 'warning',
  })
  await chmod(outfile, 0o755)
  const bytes = Object.values(metafile.outputs).reduce((sum, output) => sum + output.bytes, 0)
  return `${manifest.name}@${manifest.version}  dist/main.js  ${Math.round(bytes / 1024)} KiB\n`
}

const folders = (await readdir(home, { withFileTypes: true }))
  .filter((entry) => entry.isDirectory() && existsSync(join(home, entry.name, 'main.ts')))
  .map((entry) => join(home, entry.name))
for (const line of await Promise.all(folders.map(buildPackage))) process.stdout.write(line)
