/**
 * How verdaccio's three plugins reach the registry that started them. Each connects by its name, and only from the
 * hook that verdaccio calls once it has taken the plugin in: a plugin that was loaded and then dropped is absent.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { JsonObject } from '../schema/json.ts'
import type { Publisher } from './ports.ts'

export const PLUGIN_NAMES = ['tokens', 'gate', 'store'] as const
export type PluginName = (typeof PLUGIN_NAMES)[number]

export interface RegistryServices {
  /** Who a request that passed the door is from. */
  publisherOf(req: IncomingMessage): Publisher | undefined
  /** Answers the request, or says false to leave it to verdaccio. */
  pass(req: IncomingMessage & { readonly body?: unknown }, res: ServerResponse): Promise<boolean>
  findPackument(name: string): Promise<JsonObject | undefined>
  /** A tarball by its file name. */
  readTarball(name: string, file: string): Promise<Uint8Array | undefined>
  listPackages(): Promise<readonly string[]>
}

/** Verdaccio's configuration as a plugin sees it: the whole of it, `connect` included. */
export interface PluginConfig {
  readonly connect: (plugin: PluginName) => RegistryServices
}
