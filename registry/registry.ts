/**
 * The npm registry of the platform: verdaccio in this process, with three plugins of ours (tokens, gate, store).
 *
 * RG1 Verdaccio skips a plugin that does not load and goes on without it; this does not start then.
 * RG2 A request without a good key reaches nothing, not even a body parser.
 * RG3 No uplink: what was not published here does not exist.
 */
import { mkdir } from 'node:fs/promises'
import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { runServer } from 'verdaccio'
import type { Chance, Clock } from '../schema/clock.ts'
import { isRefusal, PlatformError, refuse } from '../schema/error.ts'
import type { PackageStore } from '../schema/package-store.ts'
import type { ApplicationId } from '../schema/id.ts'
import { openClosures } from './closure.ts'
import { answerWrite, printRefusal, readRequest, sendAnswer, statusOf } from './gate.ts'
import { printPackument, versionOfTarball } from './packument.ts'
import { PLUGIN_NAMES, type PluginName, type RegistryServices } from './plugin.ts'
import { ownLister } from './own-skills.ts'
import type { Content, Publisher, RegistryLog, SkillLister } from './ports.ts'
import type { PublishGround } from './publication.ts'
import { TARBALL_BYTES_MAX } from './tarball.ts'
import { openToolPins } from './tool-pins.ts'

export interface RegistryOptions {
  /** For what npm's resolver and verdaccio write while they run; nothing of value is in it. */
  readonly directory: string
  readonly packages: PackageStore
  readonly content: Content
  /** The application that a key stands for; undefined for anything else. */
  authenticate(token: string): Promise<Publisher | undefined>
  /** Asks skills for their tools. */
  readonly lister: SkillLister
  /** Whose packages are the platform's own skills, which every expert has; left out where there are none. */
  readonly own?: ApplicationId
  /** What callers' URLs begin with, `/npm/` included; the listener cuts it off. */
  readonly prefix: string
  readonly log: RegistryLog
  readonly clock: Clock
  readonly chance: Chance
  /** Where the plugins are; tests break them elsewhere. */
  readonly pluginDirectory?: string
}

export interface Registry {
  /** Answers requests whose URL begins with the prefix. */
  listener(req: IncomingMessage, res: ServerResponse): void
  close(): Promise<void>
}

/** Bad keys from one address before it must wait, and for how long (ms). */
const BAD_TOKENS_MAX = 20
const BAD_TOKENS_WINDOW_MS = 60_000
const ADDRESSES_MAX = 10_000

/** Throws `registry_plugin_failed` unless all plugins are at work (RG1). */
export async function openRegistry(options: RegistryOptions): Promise<Registry> {
  const { directory, packages, content, log, clock } = options
  await mkdir(directory, { recursive: true })
  const secret = Buffer.from(options.chance.bytes(16)).toString('hex')
  const closures = await openClosures(packages, directory, secret)
  try {
    const publishers = new WeakMap<IncomingMessage, Publisher>()
    const { own } = options
    const pins = openToolPins(ownLister({ packages, content, own }, options.lister), clock)
    const ground: PublishGround = { packages, content, closures, pins, own, clock }
    const services = openServices(ground, log, publishers)
    const app = await startVerdaccio(options, services)
    const door = new Door(options, publishers, app)
    return {
      listener: (req, res) => door.answer(req, res),
      close: () => closures.close(),
    }
  } catch (error) {
    await closures.close()
    throw error
  }
}

function openServices(
  ground: PublishGround,
  log: RegistryLog,
  publishers: WeakMap<IncomingMessage, Publisher>,
): RegistryServices {
  const { packages, content } = ground
  return {
    publisherOf: (req) => publishers.get(req),
    async pass(req, res) {
      if (req.method === 'GET' || req.method === 'HEAD') return false
      const request = readRequest(req, publishers.get(req))
      if (isRefusal(request)) {
        sendAnswer(res, { kind: 'refused', refusal: request })
        return true
      }
      try {
        sendAnswer(res, await answerWrite(ground, log, request))
      } catch (error) {
        log.error('the registry failed', { method: request.method, path: request.parts.join('/'), error })
        sendAnswer(res, { kind: 'refused', refusal: refuse('internal', 'The registry failed; nothing was published.') })
      }
      return true
    },
    async findPackument(name) {
      const found = await packages.find(name)
      // Verdaccio puts the caller's own host in front of the tarballs' paths.
      return found === undefined ? undefined : printPackument(found, 'http://localhost/')
    },
    async readTarball(name, file) {
      const found = await packages.find(name)
      const version = found === undefined ? undefined : versionOfTarball(found, file)
      return version === undefined ? undefined : content.get(version.contentHash)
    },
    async listPackages() {
      const names: string[] = []
      for (;;) {
        const page = await packages.listPackages(null, 500, names.at(-1) ?? null)
        names.push(...page)
        if (page.length < 500) return names
      }
    },
  }
}

/** Verdaccio's request listener, once each plugin has connected. */
async function startVerdaccio(options: RegistryOptions, services: RegistryServices): Promise<RequestListener> {
  const { directory, prefix } = options
  const plugins = options.pluginDirectory ?? fileURLToPath(new URL('./plugin', import.meta.url))
  const connected = new Set<PluginName>()
  const config = {
    // Verdaccio copies the whole configuration to each plugin, functions included.
    connect(plugin: PluginName): RegistryServices {
      connected.add(plugin)
      return services
    },
    self_path: directory,
    configPath: join(directory, 'config.yaml'),
    storage: join(directory, 'storage'),
    plugins,
    auth: { tokens: {} },
    middlewares: { gate: { enabled: true } },
    store: { store: {} },
    uplinks: {},
    packages: { '**': { access: '$authenticated', publish: '$authenticated', unpublish: '$authenticated' } },
    security: { api: { legacy: false, jwt: { sign: { expiresIn: '1m' } } } },
    web: { enable: false },
    url_prefix: prefix,
    // A tarball in base64, and its manifest twice.
    max_body_size: `${Math.ceil((TARBALL_BYTES_MAX * 4) / 3) + 2 * 1024 * 1024}b`,
    log: { type: 'stdout', format: 'json', level: 'fatal' },
  }
  let server: Awaited<ReturnType<typeof runServer>>
  try {
    // Verdaccio's type of a configuration is that of its YAML file, which knows no functions.
    server = await runServer(config as unknown as Parameters<typeof runServer>[0])
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error)
    const names = PLUGIN_NAMES.join(', ')
    throw new PlatformError('registry_plugin_failed', `Verdaccio does not start with the plugins ${names}: ${why}.`, {
      cause: error,
    })
  }
  const absent = PLUGIN_NAMES.filter((plugin) => !connected.has(plugin))
  if (absent.length > 0) {
    const causes = await Promise.all(absent.map((plugin) => whyAbsent(plugins, plugin, services)))
    const cause = causes.find((found) => found !== undefined)
    const why = cause instanceof Error ? `: ${cause.message}` : ''
    throw new PlatformError(
      'registry_plugin_failed',
      `The registry's plugin ${absent.join(', ')} did not load${why}.`,
      { cause },
    )
  }
  const [listener] = server.listeners('request')
  if (typeof listener !== 'function')
    throw new PlatformError('registry_plugin_failed', 'Verdaccio gave no listener for requests.')
  // An http.Server's request listeners are of this type; `listeners` only knows functions.
  return listener as RequestListener
}

/** Loads an absent plugin once more, since verdaccio keeps the reason to itself. */
async function whyAbsent(plugins: string, plugin: PluginName, services: RegistryServices): Promise<unknown> {
  try {
    const module: unknown = await import(join(plugins, `verdaccio-${plugin}`, `${plugin}.ts`))
    if (typeof module !== 'object' || module === null || !('default' in module) || typeof module.default !== 'function')
      return new Error(`${plugin}.ts exports no class`)
    Reflect.construct(module.default, [{ connect: () => services }, {}])
    return new Error('verdaccio did not take it, or it lacks a method')
  } catch (error) {
    return error
  }
}

/** RG2: cuts the prefix off, authenticates, and counts bad keys. */
class Door {
  readonly #options: RegistryOptions
  readonly #publishers: WeakMap<IncomingMessage, Publisher>
  readonly #app: RequestListener
  readonly #bad = new Map<string, { count: number; readonly until: number }>()

  constructor(options: RegistryOptions, publishers: WeakMap<IncomingMessage, Publisher>, app: RequestListener) {
    this.#options = options
    this.#publishers = publishers
    this.#app = app
  }

  answer(req: IncomingMessage, res: ServerResponse): void {
    this.#admit(req, res).catch((error: unknown) => {
      this.#options.log.error('the registry cannot tell who is asking', { error })
      this.#refuse(res, 503, { error: 'The registry cannot check keys at the moment; try again.' })
    })
  }

  async #admit(req: IncomingMessage, res: ServerResponse): Promise<void> {
    const { prefix } = this.#options
    const url = req.url ?? '/'
    if (!url.startsWith(prefix)) return this.#refuse(res, 404, { error: `The registry is at ${prefix}.` })
    const address = req.socket.remoteAddress ?? ''
    const now = this.#options.clock.now()
    const bad = this.#bad.get(address)
    if (bad !== undefined && bad.until <= now) this.#bad.delete(address)
    else if (bad !== undefined && bad.count >= BAD_TOKENS_MAX) {
      res.setHeader('retry-after', String(Math.ceil((bad.until - now) / 1000)))
      const refusal = refuse('rate_limited', 'Too many bad keys came from this address.')
      return this.#refuse(res, statusOf('rate_limited'), printRefusal(refusal))
    }
    const token = /^Bearer ([\x21-\x7e]{1,512})$/i.exec(req.headers.authorization ?? '')?.[1]
    const publisher = token === undefined ? undefined : await this.#options.authenticate(token)
    if (publisher === undefined) {
      if (token !== undefined) this.#count(address, now)
      res.setHeader('www-authenticate', 'Bearer')
      const what = token === undefined ? 'A key of the platform is needed' : 'This key is unknown or revoked'
      const refusal = refuse('unauthenticated', `${what}: npm config set //<host>${prefix}:_authToken <key>.`)
      return this.#refuse(res, 401, printRefusal(refusal))
    }
    this.#publishers.set(req, publisher)
    req.url = url.slice(prefix.length - 1)
    this.#app(req, res)
  }

  #count(address: string, now: number): void {
    const bad = this.#bad.get(address)
    if (bad !== undefined) {
      bad.count++
      return
    }
    if (this.#bad.size >= ADDRESSES_MAX) this.#bad.clear()
    this.#bad.set(address, { count: 1, until: now + BAD_TOKENS_WINDOW_MS })
  }

  #refuse(res: ServerResponse, status: number, body: object): void {
    if (res.headersSent) return
    // The body has not been read, and will not be.
    res.writeHead(status, { 'content-type': 'application/json', connection: 'close' }).end(JSON.stringify(body))
  }
}
