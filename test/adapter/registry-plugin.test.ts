/** RG1: verdaccio goes on without a plugin that fails; the registry does not. */
import { cp, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { PLUGIN_NAMES } from '../../registry/plugin.ts'
import { startRegistry } from '../support/npm-registry.ts'
import { scratchDirectory } from '../support/scratch.ts'

const real = fileURLToPath(new URL('../../registry/plugin', import.meta.url))

let directory: string
let pluginDirectory: string
beforeEach(async () => {
  directory = scratchDirectory('plugin')
  pluginDirectory = join(directory, 'plugin')
  await cp(real, pluginDirectory, { recursive: true })
})
afterEach(() => rm(directory, { recursive: true, force: true }))

const breaks: readonly (readonly [string, (plugin: string) => Promise<void>])[] = [
  ['is not there', (plugin) => rm(join(pluginDirectory, `verdaccio-${plugin}`), { recursive: true })],
  ['cannot be parsed', (plugin) => writePlugin(plugin, 'export default class {')],
  ['exports no class', (plugin) => writePlugin(plugin, 'export const nothing = 1')],
  [
    'throws when it is made',
    (plugin) => writePlugin(plugin, 'export default class { constructor() { throw new Error("broken on purpose") } }'),
  ],
  ['misses its methods', (plugin) => writePlugin(plugin, 'export default class {}')],
  [
    'does not connect',
    (plugin) =>
      writePlugin(
        plugin,
        'export default class { authenticate() {} register_middlewares() {} getPackageStorage() {} }',
      ),
  ],
]

function writePlugin(plugin: string, text: string): Promise<void> {
  return writeFile(join(pluginDirectory, `verdaccio-${plugin}`, `${plugin}.ts`), text)
}

describe('the registry', () => {
  it('starts with plugins that are whole', async () => {
    const registry = await startRegistry({ pluginDirectory })
    expect((await registry.request('acme-key', 'GET', '-/whoami')).body).toEqual({ username: 'acme' })
    await registry.close()
  })

  for (const plugin of PLUGIN_NAMES) {
    it.each(breaks)(`does not start when its plugin ${plugin} %s (RG1)`, async (_name, spoil) => {
      await spoil(plugin)
      const started = startRegistry({ pluginDirectory })
      await expect(started).rejects.toMatchObject({
        code: 'registry_plugin_failed',
        message: expect.stringContaining(plugin),
      })
    })
  }

  it.each([
    ['tokens', 'authenticate() {} apiJWTmiddleware() { throw new Error("broken on purpose") }'],
    ['gate', 'register_middlewares() { throw new Error("broken on purpose") }'],
    ['store', 'getPackageStorage() {} getSecret() { throw new Error("broken on purpose") }'],
  ])('does not start when its plugin %s fails in its first hook', async (plugin, methods) => {
    await writePlugin(plugin, `export default class { ${methods} }`)
    await expect(startRegistry({ pluginDirectory })).rejects.toMatchObject({
      code: 'registry_plugin_failed',
      cause: { message: 'broken on purpose' },
    })
  })

  it('says why a plugin failed', async () => {
    await writePlugin('gate', 'export default class { constructor() { throw new Error("broken on purpose") } }')
    await expect(startRegistry({ pluginDirectory })).rejects.toThrow(
      "The registry's plugin gate did not load: broken on purpose.",
    )
  })
})
