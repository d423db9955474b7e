import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { inspect } from 'node:util'
import { describe, expect, it } from 'vitest'
import { parseConfig, strangeSettings } from '../src/config.ts'
import { ROOT } from './support/source.ts'

const absolute = (path: string) => `/srv/${path}`

describe('the configuration', () => {
  it('needs nothing: a laptop gets loopback, port 4000 and a directory of its own', () => {
    expect(parseConfig({}, absolute)).toMatchObject({
      hostname: '127.0.0.1',
      port: 4000,
      dataDirectory: '/srv/.senmon',
      databaseUrl: null,
      machines: null,
      providerKeys: {},
    })
  })

  it('takes a table of models from where its operator says, and from nowhere else', () => {
    expect(parseConfig({ SENMON_PRICES: 'prices.toml' }, absolute)).toMatchObject({ pricesFile: '/srv/prices.toml' })
    for (const unset of [{}, { SENMON_PRICES: '' }])
      expect(parseConfig(unset, absolute)).toMatchObject({ pricesFile: null })
  })

  it('bounds what one machine may use, and leaves to its host what is not said', () => {
    expect(parseConfig({}, absolute)).toMatchObject({ machineLimits: {} })
    const given = { SENMON_MACHINE_MEMORY_MB: '512', SENMON_MACHINE_TASKS: '256', SENMON_MACHINE_CPUS: '0.5' }
    expect(parseConfig(given, absolute)).toMatchObject({
      machineLimits: { memoryBytes: 512 * 1024 * 1024, tasks: 256, cpus: 0.5 },
    })
    const wrong = { SENMON_MACHINE_MEMORY_MB: '1', SENMON_MACHINE_TASKS: 'many', SENMON_MACHINE_CPUS: '0' }
    expect(parseConfig(wrong, absolute)).toEqual([
      'SENMON_MACHINE_CPUS is "0"; it must be a number from 0.05 on, such as 0.5 or 2.',
      'SENMON_MACHINE_MEMORY_MB is "1"; it must be a whole number from 256 to 1048576.',
      'SENMON_MACHINE_TASKS is "many"; it must be a whole number from 128 to 1000000.',
    ])
  })

  it('counts an empty variable as unset', () => {
    expect(parseConfig({ SENMON_PORT: '', DATABASE_URL: ' ' }, absolute)).toMatchObject({
      port: 4000,
      databaseUrl: null,
    })
  })

  it('names variables that are ours by their name and are read by nobody', () => {
    expect(strangeSettings({ SENMON_MACHINE_MEMRY_MB: '512', HOME: '/', SENMON_PORT: '1' })).toEqual([
      'SENMON_MACHINE_MEMRY_MB is no setting; did you mean SENMON_MACHINE_MEMORY_MB?',
    ])
    const read = readFileSync(join(ROOT, 'src/config.ts'), 'utf8').match(/SENMON_[A-Z]\w*/g) ?? []
    expect(read.length).toBeGreaterThan(20)
    expect(strangeSettings(Object.fromEntries(read.map((name) => [name, ''])))).toEqual([])
  })

  it('names every fault at once', () => {
    const faults = parseConfig(
      { SENMON_PORT: '70000', SENMON_MACHINES: 'vm', DATABASE_URL: 'mysql://x', SENMON_MASTER_KEY: 'short' },
      absolute,
    )
    expect(faults).toEqual([
      'SENMON_MACHINES is "vm"; it must be one of local, docker, fly, unsafe-process.',
      'SENMON_MASTER_KEY must be 64 hex digits (32 bytes); `openssl rand -hex 32` makes one.',
      'DATABASE_URL must be a URL that starts with postgres:// or postgresql://.',
      'SENMON_PORT is "70000"; it must be a whole number from 0 to 65535.',
    ])
  })

  it('refuses a host that is not built yet rather than taking another', () => {
    expect(parseConfig({ SENMON_MACHINES: 'fly' }, absolute)).toEqual([
      'SENMON_MACHINES=fly needs SENMON_FLY_IMAGE: see docs/deploy-fly.md.',
      'SENMON_MACHINES=fly needs FLY_ORG: see docs/deploy-fly.md.',
      'SENMON_MACHINES=fly needs FLY_API_TOKEN: see docs/deploy-fly.md.',
      'SENMON_MACHINES=fly needs SENMON_MACHINE_URL: see docs/deploy-fly.md.',
      'SENMON_MACHINES=fly needs DATABASE_URL: see docs/deploy-fly.md.',
      'SENMON_MACHINES=fly needs SENMON_MASTER_KEY: see docs/deploy-fly.md.',
      'SENMON_MACHINES=fly needs FLY_APP_NAME: see docs/deploy-fly.md.',
    ])
  })

  it('repeats no password of a connection URL and prints no key', () => {
    const faults = parseConfig({ DATABASE_URL: 'mysql://u:canary-password@h/d' }, absolute)
    expect(JSON.stringify(faults)).not.toContain('canary')
    const config = parseConfig({ DATABASE_URL: 'postgres://u:canary@h/d', OPENAI_API_KEY: 'canary' }, absolute)
    expect(JSON.stringify(config)).not.toContain('canary')
    expect(inspect(config)).not.toContain('canary')
  })

  it('refuses to run with certificate checks off', () => {
    expect(parseConfig({ NODE_TLS_REJECT_UNAUTHORIZED: '0' }, absolute)).toHaveLength(1)
  })
})
