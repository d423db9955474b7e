/** What an author sees: the real npm client against the registry. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startRegistry, type TestRegistry } from '../support/npm-registry.ts'

let registry: TestRegistry
beforeAll(async () => {
  registry = await startRegistry()
})
afterAll(() => registry.close())

const senmonToml = (name: string, lines = '') => `[experts."${name}"]\ninstruction = "Do it."\n${lines}`

function expertPackage(name: string, version: string, toml = senmonToml(name), more: object = {}) {
  const manifest = { name, version, keywords: ['senmon-expert'], license: 'MIT', ...more }
  return registry.folder({ 'package.json': JSON.stringify(manifest), 'senmon.toml': toml })
}

describe('npm', () => {
  it('knows who the key stands for', async () => {
    expect(await registry.npm('acme-key', registry.directory, 'whoami')).toMatchObject({ code: 0, stdout: 'acme\n' })
    expect((await registry.npm('no-key', registry.directory, 'whoami')).stderr).toContain(
      'This key is unknown or revoked',
    )
  })

  it('publishes an expert', async () => {
    const result = await registry.npm('acme-key', await expertPackage('hello', '1.0.0'), 'publish')
    expect(result).toMatchObject({ code: 0 })
    const lock = await registry.packages.findLock('hello', '1.0.0', 'hello')
    expect(lock?.coordinator).toBe('hello@1.0.0')
    const view = await registry.npm('rival-key', registry.directory, 'view', 'hello', '--json')
    expect(view.stdout).toContain('"latest": "1.0.0"')
  })
})
