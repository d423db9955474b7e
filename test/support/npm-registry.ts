/** A registry on a port of the loopback, with what it stands on in memory, and the real npm client beside it. */
import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { createServer } from 'node:http'
import { chmod, mkdir, rm, writeFile } from 'node:fs/promises'
import type { AddressInfo } from 'node:net'
import { dirname, join } from 'node:path'
import { openRegistry, type Registry, type RegistryOptions } from '../../registry/registry.ts'
import type { Publisher } from '../../registry/ports.ts'
import { makeId, type ApplicationId } from '../../schema/id.ts'
import { memoryContentStore, type MemoryContentStore } from '../fake/memory-content-store.ts'
import { MemoryPackageStore } from '../fake/memory-package-store.ts'
import { COMPILED } from './program.ts'
import { scratchDirectory } from './scratch.ts'

export const acme: ApplicationId = makeId('app', 1, new Uint8Array(16).fill(1))
export const rival: ApplicationId = makeId('app', 2, new Uint8Array(16).fill(2))

const publishers: Readonly<Record<string, Publisher>> = {
  'acme-key': { applicationId: acme, name: 'acme', scopes: ['*'] },
  'rival-key': { applicationId: rival, name: 'rival', scopes: ['publish'] },
  'reader-key': { applicationId: acme, name: 'acme', scopes: ['read'] },
}

export interface NpmResult {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

export interface Answer {
  readonly status: number
  // What a server answers is anything; tests look into it.
  readonly body: { readonly error?: string; readonly code?: string; readonly [key: string]: unknown }
}

export interface Manifest {
  readonly name: string
  readonly version: string
  readonly [field: string]: unknown
}

export interface PublishBody {
  name: string
  versions: Record<string, Record<string, unknown>>
  'dist-tags': Record<string, string>
  _attachments: Record<string, { content_type: string; data: string; length: number }>
  [field: string]: unknown
}

/** What `npm publish` sends for a tarball. */
export function publishBody(url: string, manifest: Manifest, tarball: Uint8Array): PublishBody {
  const { name, version } = manifest
  const file = `${name}-${version}.tgz`
  const integrity = `sha512-${createHash('sha512').update(tarball).digest('base64')}`
  const shasum = createHash('sha1').update(tarball).digest('hex')
  const dist = { integrity, shasum, tarball: `${url}${name}/-/${file}` }
  const data = Buffer.from(tarball).toString('base64')
  return {
    _id: name,
    name,
    'dist-tags': { latest: version },
    versions: { [version]: { ...manifest, _id: `${name}@${version}`, dist } },
    _attachments: { [file]: { content_type: 'application/octet-stream', data, length: tarball.length } },
  }
}

export interface TestRegistry {
  readonly url: string
  readonly directory: string
  readonly registry: Registry
  readonly packages: MemoryPackageStore
  readonly content: MemoryContentStore
  readonly clock: { at: number }
  readonly logged: string[]
  /** Runs npm as the owner of `key` in `cwd`. */
  npm(key: string, cwd: string, ...args: readonly string[]): Promise<NpmResult>
  /** The body that `npm publish` would send for a tarball, changed at will; sent as the owner of `key`. */
  put(key: string, manifest: Manifest, tarball: Uint8Array, change?: (body: PublishBody) => unknown): Promise<Answer>
  /** Writes a package's files into a fresh folder. */
  folder(files: Readonly<Record<string, string>>): Promise<string>
  request(key: string | null, method: string, path: string, body?: unknown): Promise<Answer>
  close(): Promise<void>
}

export async function startRegistry(options: Partial<RegistryOptions> = {}): Promise<TestRegistry> {
  const directory = scratchDirectory('registry')
  const packages = new MemoryPackageStore()
  const content = memoryContentStore()
  const clock = { at: 1_790_000_000_000 }
  const logged: string[] = []
  const log = (message: string, fields?: object) => void logged.push(`${message} ${JSON.stringify(fields)}`)
  const registry = await openRegistry({
    directory: join(directory, 'registry'),
    packages,
    content,
    authenticate: async (token) => publishers[token],
    lister: { list: async () => ({ unlisted: 'this registry asks no skill' }) },
    prefix: '/npm/',
    log: { info: log, warn: log, error: log },
    clock: { now: () => clock.at, sleep: async () => undefined },
    chance: { bytes: (count) => new Uint8Array(count).fill(7) },
    ...options,
  }).catch(async (error: unknown) => {
    await rm(directory, { recursive: true, force: true })
    throw error
  })
  const server = createServer((req, res) => registry.listener(req, res))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  // A server that listens on a port has an address with a port.
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/npm/`
  let folders = 0
  const folder = async (files: Readonly<Record<string, string>>) => {
    const root = join(directory, `package-${folders++}`)
    for (const [path, text] of Object.entries(files)) {
      await mkdir(dirname(join(root, path)), { recursive: true })
      await writeFile(join(root, path), text)
      if (text.startsWith('#!')) await chmod(join(root, path), 0o755)
    }
    return root
  }
  const request: TestRegistry['request'] = async (key, method, path, body) => {
    const response = await fetch(url + path, {
      method,
      headers: { 'content-type': 'application/json', ...(key === null ? {} : { authorization: `Bearer ${key}` }) },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    })
    const text = await response.text()
    return { status: response.status, body: text.startsWith('{') ? JSON.parse(text) : { text } }
  }
  return {
    url,
    directory,
    registry,
    packages,
    content,
    clock,
    logged,
    folder,
    npm: (key, cwd, ...args) => runNpm(url, directory, key, cwd, args),
    request,
    put(key, manifest, tarball, change = (body) => body) {
      const path = manifest.name.replace('/', '%2f')
      return request(key, 'PUT', path, change(publishBody(url, manifest, tarball)))
    },
    async close() {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
      await registry.close()
      await rm(directory, { recursive: true, force: true })
    },
  }
}

async function runNpm(
  url: string,
  home: string,
  key: string,
  cwd: string,
  args: readonly string[],
): Promise<NpmResult> {
  const userconfig = join(home, `npmrc-${key}`)
  await writeFile(userconfig, `registry=${url}\n${url.replace('http:', '')}:_authToken=${key}\n`)
  const env = {
    PATH: process.env['PATH'] ?? '',
    HOME: home,
    ...COMPILED,
    npm_config_userconfig: userconfig,
    npm_config_globalconfig: join(home, 'npmrc-global'),
    npm_config_cache: join(home, 'npm-cache'),
    npm_config_update_notifier: 'false',
    npm_config_fetch_retries: '0',
  }
  return new Promise((resolve) => {
    execFile('npm', [...args], { cwd, env, maxBuffer: 1e8 }, (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : Number(error.code ?? 1), stdout, stderr })
    })
  })
}
