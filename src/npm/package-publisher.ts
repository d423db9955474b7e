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

/** `published` is false when the registry already has this version, whose bytes are then left as they are. */
export async function publishDirectory(
  directory: string,
  target: PublishTarget,
  exists: (name: string, version: string) => Promise<boolean>,
): Promise<{ readonly name: string; readonly version: string; readonly published: boolean }> {
  const manifest = JSON.parse(await readFile(join(directory, 'package.json'), 'utf8'))
  const { name, version } = manifest as { name: string; version: string }
  if (await exists(name, version)) return { name, version, published: false }
  const tarball = await pacote.tarball(`file:${directory}`, { Arborist, ignoreScripts: true })
  const { host, pathname } = new URL(target.registryUrl)
  await publish(manifest, tarball, {
    registry: target.registryUrl,
    access: 'public',
    [`//${host}${pathname}:_authToken`]: target.key.reveal(),
  })
  return { name, version, published: true }
}
