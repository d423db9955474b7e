/** Publishes a directory of this checkout into a registry, packed and sent by npm's own libraries as any author's would be. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import Arborist from '@npmcli/arborist'
import { publish } from 'libnpmpublish'
import pacote from 'pacote'
import type { Secret } from '../../schema/secret.ts'

export interface PublishTarget {
  /** Ends in a slash. */
  readonly registryUrl: string
  readonly key: Secret
}

/** What a directory of this checkout would be published as. */
export async function readManifest(directory: string): Promise<{ readonly name: string; readonly version: string }> {
  // Ours, and the registry's gate reads it again.
  return JSON.parse(await readFile(join(directory, 'package.json'), 'utf8')) as { name: string; version: string }
}

export async function publishDirectory(directory: string, { registryUrl, key }: PublishTarget): Promise<void> {
  const tarball = await pacote.tarball(`file:${directory}`, { Arborist, ignoreScripts: true })
  const { host, pathname } = new URL(registryUrl)
  await publish(await readManifest(directory), tarball, {
    registry: registryUrl,
    access: 'public',
    [`//${host}${pathname}:_authToken`]: key.reveal(),
  })
}
