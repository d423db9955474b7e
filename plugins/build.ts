/**
 * Builds every publishable skill that has a `main.ts`: one file, `dist/main.js`, that needs nothing but Node,
 * so that installing the package fetches nothing else and runs no script.
 */
import { existsSync } from 'node:fs'
import { mkdir, readdir, readFile, rename, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Client } from '@modelcontextprotocol/client'
import { StdioClientTransport } from '@modelcontextprotocol/client/stdio'
import { build } from 'esbuild'

const home = dirname(fileURLToPath(import.meta.url))

interface Package {
  readonly name: string
  readonly version: string
  readonly license?: string
  readonly dependencies?: Readonly<Record<string, string>>
}

async function buildPackage(folder: string): Promise<string> {
  const manifest = JSON.parse(await readFile(join(folder, 'package.json'), 'utf8')) as Package
  if (Object.keys(manifest.dependencies ?? {}).length > 0)
    throw new Error(`${manifest.name} has dependencies; a built skill must have none`)
  const { outputFiles, metafile } = await build({
    absWorkingDir: dirname(home),
    entryPoints: [join(folder, 'main.ts')],
    outfile: join(folder, 'dist', 'main.js'),
    bundle: true,
    minify: true,
    keepNames: true,
    platform: 'node',
    format: 'esm',
    target: 'node22',
    legalComments: 'none',
    write: false,
    metafile: true,
    define: { PACKAGE_VERSION: JSON.stringify(manifest.version) },
    banner: { js: "import{createRequire}from'node:module';const require=createRequire(import.meta.url);" },
    logLevel: 'warning',
  })
  const [bundle] = outputFiles
  if (bundle === undefined) throw new Error(`${manifest.name} was built into nothing`)
  await mkdir(join(folder, 'dist'), { recursive: true })
  await put(join(folder, 'dist', 'main.js'), bundle.contents, 0o755)
  const licences = await licencesOf(Object.keys(metafile.inputs))
  await put(join(folder, 'dist', 'LICENSES.txt'), Buffer.from(licences), 0o644)
  await put(join(folder, 'dist', 'tools.json'), Buffer.from(await toolsOf(join(folder, 'dist', 'main.js'))), 0o644)
  return `${manifest.name}@${manifest.version}  dist/main.js  ${Math.round(bundle.contents.length / 1024)} KiB\n`
}

/** What the built program says that it offers, as a lock pins it. */
async function toolsOf(program: string): Promise<string> {
  const client = new Client({ name: 'build', version: '1' })
  await client.connect(new StdioClientTransport({ command: process.execPath, args: [program] }))
  try {
    const { tools } = await client.listTools()
    const pinned = tools.map(({ name, description, inputSchema, annotations }) => ({
      name,
      description,
      inputSchema,
      annotations,
    }))
    return `${JSON.stringify(pinned, undefined, 2)}\n`
  } finally {
    await client.close()
  }
}

/** Replaces a file as a whole, so that whoever runs it meanwhile has the old one or the new one. */
async function put(path: string, bytes: Uint8Array, mode: number): Promise<void> {
  const partial = `${path}.${process.pid}`
  await writeFile(partial, bytes, { mode })
  await rename(partial, path)
}

/** The licences of the packages that are in a bundle, which ask to be passed on with it. */
async function licencesOf(inputs: readonly string[]): Promise<string> {
  const names = inputs.flatMap((input) => /node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(input)?.[1] ?? [])
  const texts = [...new Set(names)].toSorted().map(async (name) => {
    const folder = join(dirname(home), 'node_modules', name)
    const manifest = JSON.parse(await readFile(join(folder, 'package.json'), 'utf8')) as Package
    const file = (await readdir(folder)).find((entry) => /^licen[cs]e/i.test(entry))
    const text = file === undefined ? (manifest.license ?? 'unknown') : await readFile(join(folder, file), 'utf8')
    return `${name}@${manifest.version}\n\n${text.trim()}\n`
  })
  return (await Promise.all(texts)).join(`\n${'-'.repeat(80)}\n\n`)
}

const folders = (await readdir(home, { withFileTypes: true }))
  .filter((entry) => entry.isDirectory() && existsSync(join(home, entry.name, 'main.ts')))
  .map((entry) => join(home, entry.name))
for (const line of await Promise.all(folders.map(buildPackage))) process.stdout.write(line)
