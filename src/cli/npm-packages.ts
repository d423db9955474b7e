/**
 * A package of others with all that it needs, as npm itself finds and fetches them: from the registry, with the keys
 * and through the proxy that npm is configured with. No script of theirs is run.
 */
import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { Parser, type ReadEntry } from 'tar'
import { PlatformError } from '../../schema/error.ts'
import { isJsonObject, type Json, type JsonObject } from '../../schema/json.ts'

export interface NpmPackage {
  readonly name: string
  readonly version: string
  readonly integrity: string
}

export interface FetchedPackage extends NpmPackage {
  readonly tarball: Uint8Array
  /** package.json, as the tarball has it. */
  readonly manifest: JsonObject
}

/** How npm is run: with this environment, in a directory that is its own. */
export interface NpmRun {
  readonly directory: string
  readonly environment: Readonly<Record<string, string | undefined>>
}

/** The package that `spec` names, last, after all that it needs. Throws `package_not_found`. */
export async function resolveWithNpm(spec: string, run: NpmRun): Promise<readonly NpmPackage[]> {
  await npm(run, ['install', '--package-lock-only', '--ignore-scripts', '--no-audit', '--no-fund', '--', spec])
  const lock: unknown = JSON.parse(await readFile(join(run.directory, 'package-lock.json'), 'utf8'))
  const entries = isJsonObject(lock) && isJsonObject(lock['packages']) ? Object.entries(lock['packages']) : []
  const [wanted = ''] = Object.keys(recordOf(entries.find(([path]) => path === '')?.[1])['dependencies'] ?? {})
  const found = new Map<string, NpmPackage>()
  let asked: NpmPackage | undefined
  for (const [path, value] of entries) {
    const entry = recordOf(value)
    if (path === '' || !isForMachines(entry)) continue
    const { name = path.split('node_modules/').at(-1), version, integrity } = entry
    if (typeof name !== 'string' || typeof version !== 'string' || typeof integrity !== 'string')
      throw new PlatformError('package_not_found', `${spec} needs ${path}, which npm has from no registry.`)
    const one = { name, version, integrity }
    if (path === `node_modules/${wanted}`) asked = one
    else found.set(`${name}@${version}`, one)
  }
  if (asked === undefined) throw new PlatformError('package_not_found', `npm did not resolve ${spec}.`)
  found.delete(`${asked.name}@${asked.version}`)
  return [...found.values(), asked]
}

/** Machines are Linux; what is made for others, and is not needed without them, is left out. */
function isForMachines({ optional, os, cpu }: JsonObject): boolean {
  const allows = (list: Json | undefined, one: string) =>
    !Array.isArray(list) || (list as readonly Json[]).includes(one)
  return optional !== true || (allows(os, 'linux') && allows(cpu, process.arch))
}

/** The bytes that npm's registry holds, checked against their integrity, in the order asked for. */
export async function fetchWithNpm(wanted: readonly NpmPackage[], run: NpmRun): Promise<readonly FetchedPackage[]> {
  if (wanted.length === 0) return []
  const keys = wanted.map(({ name, version }) => `${name}@${version}`)
  const listed: unknown = JSON.parse(await npm(run, ['pack', '--json', '--ignore-scripts', '--', ...keys]))
  const packed = typeof listed === 'object' && listed !== null ? Object.values(listed as object) : []
  return await Promise.all(wanted.map((one) => readPacked(one, packed, run.directory)))
}

async function readPacked(wanted: NpmPackage, packed: readonly unknown[], directory: string): Promise<FetchedPackage> {
  const { name, version, integrity } = wanted
  const found = packed.find((one) => isJsonObject(one) && one['name'] === name && one['version'] === version)
  const fileName = isJsonObject(found) ? found['filename'] : undefined
  if (typeof fileName !== 'string')
    throw new PlatformError('package_not_found', `npm did not say where it packed ${name}@${version}.`)
  const tarball = await readFile(join(directory, fileName.replace(/^@/, '').replace('/', '-')))
  const isWhole = integrity.split(/\s+/).some((hash) => hash === digest(hash.split('-')[0] ?? '', tarball))
  if (!isWhole)
    throw new PlatformError('tarball_invalid', `The tarball of ${name}@${version} is not what its registry says.`)
  return { ...wanted, tarball, manifest: await readManifest(tarball, `${name}@${version}`) }
}

function digest(algorithm: string, bytes: Uint8Array): string | undefined {
  return ['sha512', 'sha384', 'sha256', 'sha1'].includes(algorithm)
    ? `${algorithm}-${createHash(algorithm).update(bytes).digest('base64')}`
    : undefined
}

async function readManifest(tarball: Uint8Array, label: string): Promise<JsonObject> {
  const chunks: Buffer[] = []
  await new Promise<void>((resolve, reject) => {
    const parser = new Parser({ strict: true })
    parser.on('entry', (entry: ReadEntry) => {
      if (/^[^/]+\/package\.json$/.test(entry.path)) entry.on('data', (chunk: Buffer) => chunks.push(chunk))
      else entry.resume()
    })
    parser.on('error', reject)
    parser.on('end', () => resolve())
    parser.end(Buffer.from(tarball))
  })
  const manifest: unknown = JSON.parse(Buffer.concat(chunks).toString('utf8') || 'null')
  if (isJsonObject(manifest)) return manifest
  throw new PlatformError('package_invalid', `The tarball of ${label} has no package.json.`)
}

async function npm({ directory, environment }: NpmRun, args: readonly string[]): Promise<string> {
  try {
    const options = { cwd: directory, env: { ...environment }, maxBuffer: 64 * 1024 * 1024 }
    return (await promisify(execFile)('npm', ['--loglevel=error', ...args], options)).stdout
  } catch (cause) {
    const stderr = cause instanceof Error && 'stderr' in cause ? String(cause.stderr).trim() : String(cause)
    const why = stderr
      .split('\n')
      .filter((line) => !/code E|complete log|^npm warn/i.test(line))
      .slice(0, 2)
      .join(' ')
    throw new PlatformError('package_not_found', `npm ${args[0]} failed: ${why}`, { cause })
  }
}

function recordOf(value: Json | undefined): JsonObject {
  return value !== undefined && isJsonObject(value) ? value : {}
}
