/** Whether Fly will make machines for us: that the probe says what is so, against the simulator. */
import { afterEach, expect, it } from 'vitest'
import { Secret } from '../../schema/secret.ts'
import { machineConfig } from '../../src/fly/fly-provider.ts'
import { probeFly } from '../../src/fly/fly-probe.ts'
import { openMachinesClient } from '../../src/fly/machines-client.ts'
import { openTurns } from '../../src/pool/turns.ts'
import { openFlySim, type FlySim } from '../fake/fly-sim/fly-sim.ts'
import { realClock, silentLog } from '../support/sandbox.ts'

const SIZE = { cpuKind: 'shared', cpus: 1, memoryMb: 1024 } as const
const opened: { close(): Promise<void> }[] = []
afterEach(async () => {
  for (const one of opened.splice(0).toReversed()) await one.close()
})

async function setUp(token?: string) {
  const sim: FlySim = await openFlySim({ seed: 1, profile: 'zero', clock: { type: 'virtual' } })
  opened.push(sim)
  await sim.call('POST', '/v1/apps', { app_name: 'machines', org_slug: 'personal' })
  const given = new Secret(token ?? sim.deployToken('machines'))
  const client = openMachinesClient({
    baseUrl: sim.url,
    token: given,
    turns: openTurns(realClock),
    clock: realClock,
    log: silentLog,
  })
  opened.push(client)
  const probe = (change: Partial<Parameters<typeof probeFly>[0]> = {}) =>
    probeFly({
      client,
      apps: ['machines'],
      regions: ['iad', 'ord', 'eu'],
      config: machineConfig('registry.fly.io/machines@sha256:00', SIZE),
      ...change,
    })
  return { sim, probe }
}

it('passes where a machine can be made, and leaves none', async () => {
  const { sim, probe } = await setUp()
  expect(await probe()).toEqual({ ok: true })
  expect(sim.requests().map(({ action }) => action)).toEqual(['app_create', 'list', 'regions', 'create', 'delete'])
  await sim.runUntilIdle()
  expect(sim.machines()).toEqual([])
  expect(sim.requests().some(({ action }) => action === 'start')).toBe(false)
})

it('makes no machine where it was not asked to', async () => {
  const { sim, probe } = await setUp()
  expect(await probe({ config: null })).toEqual({ ok: true })
  expect(sim.requests().map(({ action }) => action)).toEqual(['app_create', 'list', 'regions'])
})

it.each([
  ['a token that is none', 'nonsense', {}, /401/, /FLY_API_TOKEN/],
  ['a token that may only look', 'sim-read', {}, /403/, /SENMON_FLY_IMAGE/],
  ['an app that is not there', 'sim-org', { apps: ['machines', 'other'] }, /404/, /fly apps create other/],
  ['a region that is none', undefined, { regions: ['iad', 'atlantis'] }, /no region atlantis/, /SENMON_FLY_REGIONS/],
  [
    'a size that Fly does not have',
    undefined,
    { config: machineConfig('image', { ...SIZE, memoryMb: 300 }) },
    /answers 4/,
    /SENMON_FLY_SIZE/,
  ],
] as const)('names %s, and what to do', async (_what, token, change, reason, fix) => {
  const { probe } = await setUp(token)
  const result = await probe(change)
  expect(result).toMatchObject({
    ok: false,
    reason: expect.stringMatching(reason) as string,
    fix: expect.stringMatching(fix) as string,
  })
  expect(result).not.toHaveProperty('mayPass')
})

it('says of what may pass that it may: an API that is away, too many calls, no room', async () => {
  const { sim, probe } = await setUp()
  sim.faults([{ fault: 'F15', as: '503', times: 1 }])
  expect(await probe()).toMatchObject({ ok: false, mayPass: true })
  sim.faults([{ fault: 'F3', match: { action: 'list' }, times: 1 }])
  expect(await probe()).toMatchObject({ ok: false, mayPass: true })
  sim.faults([{ fault: 'F15', as: '500', match: { action: 'regions' }, times: 1 }])
  expect(await probe()).toMatchObject({ ok: false, mayPass: true })
  for (const region of ['iad', 'ord', 'fra', 'nrt']) sim.capacity(region, { hosts: [0] })
  expect(await probe({ regions: ['iad'] })).toMatchObject({ ok: false, mayPass: true })
})
