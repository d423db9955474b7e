/**
 * The packages that a skill needs, at exact versions: npm's own resolution, run against this registry alone.
 * Arborist reads packuments over HTTP only, so it gets a private server on the loopback, with nothing else in it.
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import Arborist from '@npmcli/arborist'
import { canonical, sha256 } from '../schema/hash.ts'
import { refuse, type Refusal } from '../schema/error.ts'
import type { InstalledPackage, Integrity } from '../schema/lock.ts'
import type { PackageStore } from '../schema/package-store.ts'
import { printPackument } from './packument.ts'

const PACKAGES_MAX = 500

export interface Closures {
  /** The installation of a package with all that it needs, the package itself at `node_modules/<name>`. */
  resolve(name: string, version: string): Promise<readonly InstalledPackage[] | Refusal>
  close(): Promise<void>
}

/** `secret` keeps other processes of the host out; `directory` holds what arborist writes, for as long as it runs. */
export async function openClosures(packages: PackageStore, directory: string, secret: string): Promise<Closures> {
  const server = createServer((req, res) => {
    answer(packages, secret, req, res).catch(() => res.writeHead(500).end())
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(0, '127.0.0.1', resolve)
  })
  server.unref()
  const registry = `http://127.0.0.1:${(server.address() as AddressInfo).port}/${secret}/`
  return {
    resolve: (name, version) => resolveClosure(packages, directory, registry, name, version),
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}

async function answer(
  packages: PackageStore,
  secret: string,
  req: IncomingMessage,
  res: ServerResponse,
): Promise<void> {
  const prefix = `/${secret}/`
  const url = req.url ?? ''
  const found = url.startsWith(prefix) ? await packages.find(decodeURIComponent(url.slice(prefix.length))) : undefined
  if (found === undefined) {
    res.writeHead(404, { 'content-type': 'application/json' }).end('{"error":"not found"}')
    return
  }
  const body = JSON.stringify(printPackument(found, 'http://127.0.0.1:1/'))
  res.writeHead(200, { 'content-type': 'application/json', 'cache-control': 'no-store' }).end(body)
}

async function resolveClosure(
  packages: PackageStore,
  directory: string,
  registry: string,
  name: string,
  version: string,
): Promise<readonly InstalledPackage[] | Refusal> {
  const path = await mkdtemp(join(directory, 'closure-'))
  try {
    const options = {
      path,
      registry,
      cache: join(path, 'cache'),
      ignoreScripts: true,
      packageLock: false,
      preferOnline: true,
    }
    const arborist = new Arborist({ ...options, fetchRetries: 0 } as Arborist.Options)
    const tree = await arborist.buildIdealTree({ add: [`${name}@${version}`] })
    const installed: InstalledPackage[] = []
    for (const node of tree.inventory.values()) {
      if (node.isRoot || isLeftOut(node)) continue
      if (installed.length >= PACKAGES_MAX)
        return refuse('skill_not_found', `The skill ${name}@${version} needs more than ${PACKAGES_MAX} packages.`)
      const found = (await packages.find(node.packageName))?.versions.find((known) => known.version === node.version)
      if (found === undefined || node.integrity !== found.integrity)
        return refuse(
          'skill_not_found',
          `The skill ${name}@${version} needs ${node.packageName}@${node.version}, which is not published here.`,
        )
      installed.push({
        name: node.packageName,
        version: node.version,
        integrity: found.integrity,
        path: node.location,
      })
    }
    const broken = brokenEdge(tree)
    return broken === undefined
      ? sorted(installed)
      : refuse('skill_not_found', `The skill ${name}@${version} needs ${broken}, which is not published here.`)
  } catch (error) {
    return refuse('skill_not_found', `The skill ${name}@${version} cannot be installed: ${printFailure(error)}.`)
  } finally {
    await rm(path, { recursive: true, force: true })
  }
}

/** Arborist leaves what is optional and cannot be had in its tree, marked. */
function isLeftOut(node: Arborist.Node): boolean {
  return 'inert' in node && node.inert === true
}

function brokenEdge(tree: Arborist.Node): string | undefined {
  for (const node of tree.inventory.values())
    for (const edge of node.edgesOut.values())
      if (edge.error !== null && !isLeftOut(node) && !/[oO]ptional/.test(edge.type) && edge.type !== 'dev')
        return `${edge.name}@${edge.spec}`
  return undefined
}

function printFailure(error: unknown): string {
  const code = error instanceof Error && 'code' in error ? String(error.code) : ''
  const uri = error instanceof Error && 'uri' in error ? String(error.uri) : ''
  if (code === 'E404') return `${decodeURIComponent(uri.split('/').at(-1) ?? 'a package')} is not published here`
  return error instanceof Error ? (error.message.split('\n')[0] ?? '').replace(/\.+$/, '') : String(error)
}

function sorted(installed: readonly InstalledPackage[]): readonly InstalledPackage[] {
  return installed.toSorted((a, b) => (a.path < b.path ? -1 : 1))
}

/** The installation of a package that needs no other. */
export function lonePackage(name: string, version: string, integrity: Integrity): readonly InstalledPackage[] {
  return [{ name, version, integrity, path: `node_modules/${name}` }]
}

/** Names an installation on disk: what is in it, and where. */
export function hashInstallation(packages: readonly InstalledPackage[]): string {
  return sha256(canonical(packages))
}
