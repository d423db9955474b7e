/** A registry on a port of the loopback, with what it stands on in memory, and the real npm client beside it. */
import { execFile } from 'node:child_process'
import { createServer } from 'node:http'
import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { openRegistry, type Registry, type RegistryOptions } from '../../registry/registry.ts'
import type { Publisher } from '../../registry/ports.ts'
import { PlatformError } from '../../schema/error.ts'
import { sha256, type Sha256 } from '../../schema/hash.ts'
import { makeId, type ApplicationId } from '../../schema/id.ts'
import { MemoryPackageStore } from '../fake/memory-package-store.ts'

export const acme: ApplicationId = makeId('app', 1, new Uint8Array(16).fill(1))
export const rival: ApplicationId = makeId('app', 2, new Uint8Array(16).fill(2))

const publishers: Readonly<Record<string, Publisher>> = {
  'acme-key': { applicationId: acme, name: 'acme', scopes: ['*'] },
  'rival-key': { applicationId: rival, name: 'rival', scopes: ['publish'] },
  'reader-key': { applicationId: acme, name: 'acme', scopes: ['read'] },
}

export class MemoryContent {
  readonly #bytes = new Map<Sha256, Uint8Array>()
  puts = 0

  async put(bytes: Uint8Array): Promise<Sha256> {
    const hash = sha256(bytes)
    this.#bytes.set(hash, Uint8Array.from(bytes))
    this.puts++
    return hash
  }

  async get(hash: Sha256): Promise<Uint8Array> {
    const bytes = this.#bytes.get(hash)
    if (bytes === undefined) throw new PlatformError('content_missing', `No content ${hash} is stored.`)
    return bytes
  }

  async has(hash: Sha256): Promise<boolean> {
    return this.#bytes.has(hash)
  }
}

export interface NpmResult {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

export interface TestRegistry {
  readonly url: string
  readonly directory: string
  readonly registry: Registry
  readonly packages: MemoryPackageStore
  readonly content: MemoryContent
  readonly clock: { at: number }
  readonly logged: string[]
  /** Runs npm as the owner of `key` in `cwd`. */
  npm(key: string, cwd: string, ...args: readonly string[]): Promise<NpmResult>
  /** Writes a package's files into a fresh folder. */
  folder(files: Readonly<Record<string, string>>): Promise<string>
  request(key: string | null, method: string, path: string, body?: unknown): Promise<{ status: number; body: unknown }>
  close(): Promise<void>
}

export async function startRegistry(options: Partial<RegistryOptions> = {}): Promise<TestRegistry> {
  const directory = await mkdtemp(join(tmpdir(), 'senmon-registry-'))
  const packages = new MemoryPackageStore()
  const content = new MemoryContent()
  const clock = { at: 1_790_000_000_000 }
  const logged: string[] = []
  const log = (message: string, fields?: object) => void logged.push(`${message} ${JSON.stringify(fields)}`)
  const registry = await openRegistry({
    directory: join(directory, 'registry'),
    packages,
    content,
    authenticate: async (token) => publishers[token],
    prefix: '/npm/',
    log: { info: log, warn: log, error: log },
    clock: { now: () => clock.at, sleep: async () => undefined },
    chance: { bytes: (count) => new Uint8Array(count).fill(7) },
    ...options,
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
    async request(key, method, path, body) {
      const response = await fetch(url + path, {
        method,
        headers: { 'content-type': 'application/json', ...(key === null ? {} : { authorization: `Bearer ${key}` }) },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      })
      const text = await response.text()
      return { status: response.status, body: text.startsWith('{') ? JSON.parse(text) : text }
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
