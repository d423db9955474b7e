/**
 * Verdaccio's storage plugin, read-only: packuments from the platform's records, tarballs from its content store.
 * It has no way to write, so that no route of verdaccio, known or not, can change a published version.
 */
import { PassThrough } from 'node:stream'
import { callbackify } from 'node:util'
import type { PluginConfig, RegistryServices } from '../../plugin.ts'

type Done<T = void> = (error: Error | null, value?: T) => void

export default class Store {
  readonly #config: PluginConfig
  #services: RegistryServices | undefined

  constructor(config: PluginConfig) {
    this.#config = config
  }

  /** Verdaccio's first call, once it has taken this storage and no other. */
  async getSecret(): Promise<string> {
    this.#services = this.#config.connect('store')
    // Empty: verdaccio makes a fresh one for each start, and signs nothing with it that anybody accepts.
    return ''
  }

  async setSecret(_secret: string): Promise<void> {}

  getPackageStorage(name: string): PackageReader {
    return new PackageReader(this.#connected(), name)
  }

  get(done: Done<readonly string[]>): void {
    callbackify(() => this.#connected().listPackages())(done)
  }

  search(each: (item: { name: string; time: number }, done: Done) => void, end: Done): void {
    const visit = async (): Promise<void> => {
      for (const name of await this.#connected().listPackages()) {
        await new Promise<void>((resolve, reject) => {
          each({ name, time: 1 }, (error) => (error === null ? resolve() : reject(error)))
        })
      }
    }
    callbackify(visit)(end)
  }

  add(_name: string, done: Done): void {
    done(frozen())
  }

  remove(_name: string, done: Done): void {
    done(frozen())
  }

  #connected(): RegistryServices {
    if (this.#services === undefined)
      throw new TypeError('verdaccio uses its storage before it has asked for the secret')
    return this.#services
  }
}

class PackageReader {
  readonly #services: RegistryServices
  readonly #name: string

  constructor(services: RegistryServices, name: string) {
    this.#services = services
    this.#name = name
  }

  readPackage(_name: string, done: Done<unknown>): void {
    const find = async (): Promise<unknown> => {
      const packument = await this.#services.findPackument(this.#name)
      if (packument === undefined) throw missing(this.#name)
      return packument
    }
    callbackify(find)(done)
  }

  readTarball(file: string): PassThrough & { abort(): void } {
    const stream = Object.assign(new PassThrough(), { abort: () => stream.destroy() })
    this.#services.readTarball(this.#name, file).then(
      (bytes) => {
        if (bytes === undefined) {
          stream.emit('error', missing(file))
          return
        }
        stream.emit('content-length', bytes.length)
        stream.emit('open')
        stream.end(bytes)
      },
      (error: Error) => stream.emit('error', error),
    )
    return stream
  }

  hasTarball(file: string): Promise<boolean> {
    return this.#services.readTarball(this.#name, file).then((bytes) => bytes !== undefined)
  }

  createPackage(_name: string, _value: unknown, done: Done): void {
    done(frozen())
  }

  savePackage(_name: string, _value: unknown, done: Done): void {
    done(frozen())
  }

  updatePackage(_name: string, _update: unknown, _write: unknown, _transform: unknown, done: Done): void {
    done(frozen())
  }

  deletePackage(_file: string, done: Done): void {
    done(frozen())
  }

  removePackage(done: Done): void {
    done(frozen())
  }

  writeTarball(_file: string): PassThrough {
    const stream = Object.assign(new PassThrough(), { abort: () => undefined, done: () => undefined })
    process.nextTick(() => stream.emit('error', frozen()))
    return stream
  }
}

function missing(what: string): Error {
  return Object.assign(new Error(`${what} is not published here`), { code: 404, status: 404 })
}

function frozen(): Error {
  return Object.assign(new Error('Published means frozen: this store is read-only.'), { code: 405, status: 405 })
}
