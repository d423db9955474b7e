/** Packages of this checkout's node_modules as tarballs: what an operator would fetch from npm, without a network. */
import { existsSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import Arborist from '@npmcli/arborist'
import pacote from 'pacote'
import { ROOT } from './source.ts'
import type { Manifest, TestRegistry } from './npm-registry.ts'

interface InstalledManifest extends Manifest {
  readonly dependencies?: Readonly<Record<string, string>>
}

export interface Installed {
  readonly directory: string
  readonly manifest: InstalledManifest
}

/** The named packages with all that they need, each once, those that are needed first. */
export function installedClosure(names: readonly string[]): readonly Installed[] {
  const found = new Map<string, Installed>()
  const visit = (name: string, from: string): void => {
    const directory = directoryOf(name, from)
    if (found.has(directory)) return
    // npm put it there.
    const manifest = JSON.parse(readFileSync(join(directory, 'package.json'), 'utf8')) as InstalledManifest
    found.set(directory, { directory, manifest })
    for (const needed of Object.keys(manifest.dependencies ?? {})) visit(needed, directory)
  }
  for (const name of names) visit(name, ROOT)
  return [...found.values()].toReversed()
}

/** Publishes the named packages with their closure, one by one. */
export async function publishInstalled(registry: TestRegistry, key: string, names: readonly string[]): Promise<void> {
  for (const { directory, manifest } of installedClosure(names)) {
    const tarball = await pacote.tarball(`file:${directory}`, { Arborist, ignoreScripts: true })
    const { status, body } = await registry.put(key, manifest, tarball)
    if (status >= 300) throw new Error(`${manifest.name}@${manifest.version}: ${body.error}`)
  }
}

/** Where Node would find it from there. */
function directoryOf(name: string, from: string): string {
  for (let at = from; ; at = dirname(at)) {
    const directory = join(at, 'node_modules', name)
    if (existsSync(join(directory, 'package.json'))) return directory
    if (at === dirname(at)) throw new Error(`${name} is not installed for ${from}`)
  }
}
