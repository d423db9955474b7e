import { chmodSync, rmSync } from 'node:fs'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { makeId, type MachineId } from '../../schema/id.ts'
import type { DockerProviderOptions } from '../../src/docker/docker-provider.ts'
import type { MachineNews, MachineProvider } from '../../src/pool/machine-provider.ts'
import type { PooledMachine } from '../../src/pool/machine.ts'
import { dockerEngineContract } from '../contract/docker-engine.ts'
import { machineHostContract } from '../contract/machine-host.ts'
import { openFakeEngine, type FakeEngine, type FakeEngineOptions } from '../fake/docker-engine.ts'
import { openDockerHost, openTestProvider, TEST_IMAGE } from '../support/docker-hosts.ts'
import { lockOf, MachineDrive } from '../support/machine-drive.ts'
import { makeMachineRoot } from '../support/machine-image.ts'
import { realClock, sandboxMissing } from '../support/sandbox.ts'
import { scratchDirectory } from '../support/scratch.ts'

const missing = await sandboxMissing()

describe.skipIf(missing !== undefined)(
  `machines on a Docker engine${missing === undefined ? '' : ` (${missing})`}`,
  () => {
    let root: string
    beforeAll(async () => {
      root = scratchDirectory('image', '/var/tmp')
      chmodSync(root, 0o755)
      await makeMachineRoot(root)
    })
    afterAll(() => rmSync(root, { recursive: true, force: true }))

    const openFake = (more: Partial<FakeEngineOptions> = {}) => openFakeEngine({ root, image: TEST_IMAGE, ...more })
    const addressOf = ({ socketPath }: FakeEngine) => ({ type: 'socket', path: socketPath }) as const

    dockerEngineContract(async () => {
      const engine = await openFake()
      return { address: addressOf(engine), image: TEST_IMAGE, close: () => engine.close() }
    })
    machineHostContract('docker', async () => {
      const engine = await openFake()
      return await openDockerHost(addressOf(engine), () => engine.close())
    })

    describe('a provider of containers', () => {
      let engine: FakeEngine
      const providers: MachineProvider[] = []
      beforeAll(async () => {
        engine = await openFake()
      })
      afterEach(async () => {
        await Promise.all(providers.splice(0).map((provider) => provider.close()))
        expect(engine.containers).toEqual([])
      })
      afterAll(() => engine.close())

      async function open(more: Partial<DockerProviderOptions> = {}): Promise<MachineProvider> {
        const provider = await openTestProvider(addressOf(engine), more)
        providers.push(provider)
        return provider
      }
      /** As the pool has them; what a provider looks at of it is its names. */
      function machineOf(provider: MachineProvider, number: number): PooledMachine {
        const id: MachineId = makeId('mch', 1, new Uint8Array(16).fill(number))
        const { generation } = provider
        return { id, pool: 'docker', place: 'here', generation, providerId: null } as PooledMachine
      }
      async function created(more: Partial<DockerProviderOptions> = {}) {
        const provider = await open(more)
        const news: MachineNews[] = []
        let heard = Promise.withResolvers<void>()
        provider.watch((one) => {
          news.push(one)
          heard.resolve()
        })
        const until = async (type: MachineNews['type']) => {
          for (;;) {
            const found = news.find((one) => one.type === type)
            if (found !== undefined) return found
            heard = Promise.withResolvers()
            await heard.promise
          }
        }
        const machine = machineOf(provider, 1)
        const { providerId } = await provider.create(machine)
        return { provider, machine, providerId, until }
      }
      const lock = lockOf({ probe: { package: 'probe' } })
      const FAR = realClock.now() + 3_600_000

      it('passes its probe where every wall stands', async () => {
        expect(await (await open()).probe()).toEqual({ ok: true })
      })

      it('tells when a machine is up, and is still there after it was suspended', async () => {
        const { provider, machine, until } = await created()
        const up = await until('up')
        await provider.suspend(machine)
        await provider.suspend(machine)
        expect(await provider.look(machine)).toMatchObject({ machineId: machine.id, state: 'suspended' })
        await provider.start(machine)
        await provider.start(machine)
        const drive = new MachineDrive(await provider.connect(machine, lock, async () => true, FAR))
        expect(await drive.untilSaid('ready')).toMatchObject({ bootId: up.type === 'up' ? up.bootId : '' })
        drive.start(lock)
        await drive.open('probe')
        expect(await drive.run('probe', 'return 6 * 7')).toBe(42)
        await drive.destroy()
        expect(await until('ended')).toMatchObject({ machineId: machine.id, reason: 'destroyed' })
        expect(await provider.look(machine)).toMatchObject({ state: 'gone' })
      })

      it('shows the programs of the image to the skills that may have them, and nothing of ours', async () => {
        const { provider, machine } = await created()
        const both = lockOf({ alone: { package: 'probe' }, system: { package: 'probe', programs: 'system' } })
        const drive = new MachineDrive(await provider.connect(machine, both, async () => true, FAR))
        drive.start(both)
        const list = `const { execFileSync } = await load('node:child_process')
        return execFileSync('/bin/ls', ['/']).toString().trim().split('\\n')`
        await drive.open('system')
        expect(await drive.run('system', list)).toEqual([
          'bin',
          'dev',
          'etc',
          'lib',
          'lib64',
          'opt',
          'proc',
          'sbin',
          'skill',
          'tmp',
          'usr',
          'workspace',
        ])
        await drive.open('alone')
        await expect(drive.run('alone', list)).rejects.toThrow('ENOENT')
        await drive.destroy()
      })

      it('gives a machine that is held by nobody nothing', async () => {
        const { provider, machine, until } = await created()
        await until('up')
        await expect(provider.connect(machine, lock, async () => false, FAR)).rejects.toMatchObject({
          code: 'fence_stale',
        })
      })

      it('makes one container for one machine, however often it is asked', async () => {
        const { provider, machine, providerId } = await created()
        expect(await provider.create(machine)).toEqual({ providerId })
        expect(engine.containers).toEqual([providerId])
        expect(await provider.list('here')).toMatchObject([{ machineId: machine.id, providerId }])
      })

      it('finds an order whose answer was lost, and makes it anew', async () => {
        const provider = await open()
        const machine = machineOf(provider, 2)
        engine.trip(/^POST \/containers\/create/, 'cut')
        await expect(provider.create(machine)).rejects.toMatchObject({ fault: 'ambiguous' })
        expect(await provider.find(machine)).toMatchObject({ machineId: machine.id, state: 'creating' })
        const { providerId } = await provider.create(machine)
        expect(engine.containers).toEqual([providerId])
        await provider.destroy(machine)
      })

      it('leaves nothing of a machine that does not start', async () => {
        const provider = await open()
        engine.trip(/\/start$/, { status: 500, message: 'no space left on device' })
        await expect(provider.create(machineOf(provider, 3))).rejects.toMatchObject({ fault: 'capacity' })
        expect(engine.containers).toEqual([])
      })

      it.each([
        ['its first process', 'first'],
        ['another', 'another'],
      ] as const)('says that memory ran out for %s', async (_whose, whom) => {
        const { machine, providerId, until } = await created()
        await until('up')
        engine.starve(providerId, whom)
        expect(await until('ended')).toMatchObject({ machineId: machine.id, reason: 'oom' })
      })

      it('ends a machine whose stream broke off', async () => {
        const { until } = await created()
        await until('up')
        engine.dropStreams()
        expect(await until('ended')).toMatchObject({ reason: 'orphaned' })
      })

      it('removes what dead processes left when it opens, suspended too, and nothing of the living', async () => {
        const dead = await openTestProvider(addressOf(engine), { place: 'dead' })
        const living = await open({ place: 'living' })
        const [lost, kept] = [machineOf(dead, 4), machineOf(living, 5)]
        await dead.create(lost)
        await dead.suspend(lost)
        const { providerId } = await living.create(kept)
        expect(engine.containers).toHaveLength(2)
        await open({ isDead: async (place) => place === 'dead' })
        expect(engine.containers).toEqual([providerId])
      })

      it('destroys what is gone already, and what it never made', async () => {
        const { provider, machine } = await created()
        await provider.destroy(machine)
        await provider.destroy(machine)
        await provider.destroy(machineOf(provider, 6))
        await expect(provider.start(machine)).rejects.toMatchObject({ fault: 'gone' })
        await expect(provider.suspend(machine)).rejects.toMatchObject({ fault: 'gone' })
      })

      it('ends a machine that the engine does not remove at first', async () => {
        const { provider, machine, until } = await created()
        await until('up')
        engine.trip(/^DELETE /, { status: 500, message: 'device or resource busy' })
        await provider.destroy(machine)
        expect(engine.containers).toEqual([])
        engine.trip(/^DELETE /, { status: 500, message: 'device or resource busy' })
        await expect(provider.destroy(machine)).rejects.toMatchObject({ fault: 'ambiguous' })
      })

      it('is of another generation with another image or other limits', async () => {
        const limits = { memoryBytes: 1024 ** 3, tasks: 512, cpus: 1 }
        const generations = [await open(), await open(), await open({ limits })].map(({ generation }) => generation)
        expect(new Set(generations).size).toBe(2)
        expect(generations[0]).toBe(generations[1])
      })
    })

    describe('the probe of an engine', () => {
      async function probeOf(fake: Partial<FakeEngineOptions>, more: Partial<DockerProviderOptions> = {}) {
        const engine = await openFake(fake)
        const provider = await openTestProvider(addressOf(engine), more)
        try {
          const result = await provider.probe()
          const order = provider.create({
            ...({} as PooledMachine),
            id: makeId('mch', 1, new Uint8Array(16)),
            pool: 'p',
          })
          if (!result.ok) await expect(order).rejects.toMatchObject({ fault: 'refused' })
          return result
        } finally {
          await provider.close()
          await engine.close()
        }
      }

      it.each([
        ['is too old', { apiVersion: '1.40' }, {}, /Update Docker/],
        ['runs Windows', { system: 'windows' }, {}, /Linux containers/],
        ['cannot limit memory', { info: { MemoryLimit: false } }, {}, /SENMON_MACHINES=local/],
        ['filters no system calls', { info: { SecurityOptions: [] } }, {}, /SENMON_MACHINES=local/],
        ['lacks the image', {}, { image: 'senmon-machine:absent' }, /docker build --file runner\/image\/Dockerfile/],
        ['lacks the runtime', {}, { runtime: 'runsc' }, /SENMON_DOCKER_RUNTIME/],
      ] as const)('says what to do about one that %s, and makes nothing on it', async (_what, fake, more, fix) => {
        expect(await probeOf(fake, more)).toMatchObject({ ok: false, fix: expect.stringMatching(fix) })
      })

      it('says how to get one where there is none', async () => {
        const provider = await openTestProvider({ type: 'socket', path: '/var/tmp/senmon-no-engine.sock' })
        expect(await provider.probe()).toMatchObject({ ok: false, fix: expect.stringContaining('docs.docker.com') })
        await provider.close()
      })
    })
  },
)
