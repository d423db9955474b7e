/** Machines that come over the network, as the control plane judges them. */
import { describe, expect, it } from 'vitest'
import { PlatformError } from '../../schema/error.ts'
import { makeId } from '../../schema/id.ts'
import { IMAGE as PLACES, type ImageFacts } from '../../schema/machine-image.ts'
import { LINK_PROTOCOL, LOST_MS } from '../../schema/machine-link.ts'
import { Secret } from '../../schema/secret.ts'
import { openLinks } from '../../src/pool/links.ts'
import {
  orderMachine,
  stepMachine,
  unfitFault,
  type MachineCommand,
  type Owner,
  type PooledMachine,
} from '../../src/pool/machine.ts'
import { imagePlan } from '../../src/sandbox/machine-image.ts'
import { fakeClock } from '../fake/fake-clock.ts'
import { memoryPoolStore } from '../fake/memory-pool-store.ts'
import { silentLog } from '../support/sandbox.ts'

const ID = makeId('mch', 1, new Uint8Array(16))
const JOB = makeId('job', 1, new Uint8Array(16))
const OWNER: Owner = { jobId: JOB, fence: 3, linesUrl: 'http://keeper' }
const BOOT = 'boot-one-1'
const NAME = { machineId: ID, bootId: BOOT, jobId: JOB, fence: 3 }
const IMAGE: ImageFacts = { ...PLACES, arch: 'x64' }
const PROVISION = { type: 'skills', skills: [] } as const

async function setUp(owner: Owner | null = null) {
  const clock = fakeClock()
  const store = memoryPoolStore()
  const links = openLinks({
    store,
    key: new Secret('42'.repeat(32)),
    prove: async (identity, machine) => {
      if (identity !== `token of ${machine.id}`) throw new PlatformError('unauthenticated', 'It is another machine.')
      return { providerId: 'fly-1' }
    },
    planOf: imagePlan,
    clock,
    log: silentLog,
  })
  const now = clock.now()
  const order = { id: ID, pool: 'p', place: 'app', generation: 'g', now }
  const machine = orderMachine(order, owner === null ? null : { owner, deadline: now + 10_000 })
  await store.add([machine], null)
  const row = async (): Promise<PooledMachine> => {
    const found = await store.find(ID)
    if (found === undefined) throw new Error('there is no row')
    return found
  }
  const move = async (command: MachineCommand): Promise<void> => {
    const step = stepMachine(await row(), command)
    expect(step && (await store.change([step], null))).toEqual([true])
  }
  const enrol = (identity = `token of ${ID}`) =>
    links.enrol({ protocol: LINK_PROTOCOL, machineId: ID, bootId: BOOT, identity, image: IMAGE })
  const poll = (verb: 'park' | 'wake', secret: string, bootId = BOOT) =>
    verb === 'park'
      ? links.park(secret, { machineId: ID, bootId }, AbortSignal.abort())
      : links.wake(secret, { machineId: ID, bootId })
  const expectIt = async (
    hold = async (bootId: string) => (await store.hold(ID, OWNER, bootId, clock.now())) !== undefined,
  ) => {
    const opening = links.expect(await row(), async () => PROVISION, hold, clock.now() + 10_000)
    opening.catch(() => {})
    return { opening }
  }
  return { clock, store, links, row, move, enrol, poll, expectIt }
}

const unauthenticated = { code: 'unauthenticated' }
const stale = { code: 'fence_stale' }

describe('a machine that says who it is', () => {
  it('is believed with the provider’s word for it alone (LK1)', async () => {
    const { enrol, row } = await setUp()
    await expect(enrol('token of another')).rejects.toMatchObject(unauthenticated)
    expect((await enrol()).plan.runner.file).toBe('/usr/bin/bwrap')
    // Its order may have been answered to nobody.
    expect(await row()).toMatchObject({ state: 'booting', providerId: 'fly-1' })
  })

  it('is nobody when there is no such row, or it is gone (LK1)', async () => {
    const { links, enrol, move, clock } = await setUp()
    const other = makeId('mch', 2, new Uint8Array(16))
    await expect(
      links.enrol({
        protocol: LINK_PROTOCOL,
        machineId: other,
        bootId: BOOT,
        identity: `token of ${other}`,
        image: IMAGE,
      }),
    ).rejects.toMatchObject(unauthenticated)
    await move({ type: 'gone', now: clock.now() })
    await expect(enrol()).rejects.toMatchObject(unauthenticated)
  })

  it('has a secret for this boot, which a stop makes worthless (LK2)', async () => {
    const { enrol, poll, move, clock } = await setUp()
    const { secret } = await enrol()
    await poll('park', secret)
    await expect(poll('park', secret, 'boot-two-2')).rejects.toMatchObject(unauthenticated)
    await expect(poll('wake', `${secret}x`)).rejects.toMatchObject(unauthenticated)
    await expect(poll('wake', '')).rejects.toMatchObject(unauthenticated)
    const now = clock.now()
    await move({ type: 'stop', now })
    expect(await poll('park', secret)).toMatchObject({ type: 'end' })
    await move({ type: 'stopped', now })
    await expect(poll('park', secret)).rejects.toMatchObject(unauthenticated)
  })
})

describe('a machine without a job', () => {
  it('is up when it parks, is told to suspend itself, and waits from then on', async () => {
    const { enrol, poll, move, row, clock } = await setUp()
    const { secret } = await enrol()
    expect(await poll('park', secret)).toEqual({ type: 'wait' })
    expect(await row()).toMatchObject({ state: 'hot', bootId: BOOT })
    await move({ type: 'suspend', now: clock.now() })
    expect(await poll('park', secret)).toEqual({ type: 'suspend' })
    expect(await poll('wake', secret)).toEqual({ type: 'wait' })
    await move({ type: 'suspended', now: clock.now() })
    expect(await poll('wake', secret)).toEqual({ type: 'wait' })
  })

  it('hears of a job while its row says that it is to have it, and of nothing of the job (LK3)', async () => {
    const { enrol, poll, move, clock } = await setUp()
    const { secret } = await enrol()
    await poll('park', secret)
    await move({ type: 'claim', now: clock.now(), owner: OWNER, deadline: clock.now() + 10_000 })
    const assigned = { type: 'assigned', assignment: { linesUrl: 'http://keeper', jobId: JOB, fence: 3 } }
    expect([await poll('park', secret), await poll('wake', secret)]).toEqual([assigned, assigned])
    await move({ type: 'release', now: clock.now(), cleansByStop: true })
    expect(await poll('wake', secret)).toMatchObject({ type: 'end' })
  })
})

describe('a machine that can do no job', () => {
  it('is given none and ended, and its row says why (LK6)', async () => {
    const { links, enrol, poll, row } = await setUp()
    const { secret } = await enrol()
    const request = { machineId: ID, bootId: BOOT, reason: 'The image has no /tmp.' }
    await expect(links.unfit(`${secret}x`, request)).rejects.toMatchObject(unauthenticated)
    expect((await row()).state).toBe('booting')
    await links.unfit(secret, request)
    expect(await row()).toMatchObject({ state: 'retiring', fault: unfitFault('The image has no /tmp.') })
    expect(await poll('park', secret)).toMatchObject({ type: 'end' })
  })

  it('is what whoever waits for it hears at once (LK6)', async () => {
    const { links, enrol, expectIt, row } = await setUp(OWNER)
    const { secret } = await enrol()
    const { opening } = await expectIt()
    await links.unfit(secret, { machineId: ID, bootId: BOOT, reason: 'No compartment comes up.' })
    await expect(opening).rejects.toMatchObject({
      code: 'machine_failed',
      message: expect.stringMatching(/No compartment comes up/),
    })
    expect(await row()).toMatchObject({ state: 'retiring', owner: null })
  })

  it('is not believed once it has a job: its lines say how that ends (LK6)', async () => {
    const { links, enrol, expectIt, row } = await setUp(OWNER)
    const { secret } = await enrol()
    const { opening } = await expectIt()
    await links.come(secret, NAME, IMAGE)
    await opening
    await links.unfit(secret, { machineId: ID, bootId: BOOT, reason: 'x' })
    expect(await row()).toMatchObject({ state: 'busy', fault: null })
  })
})

describe('a machine with a job', () => {
  async function connected() {
    const all = await setUp(OWNER)
    const { secret } = await all.enrol()
    const { opening } = await all.expectIt()
    const link = await all.links.come(secret, NAME, IMAGE)
    return { ...all, secret, link, machine: await opening }
  }

  it('holds its row before it is given a line (LK3)', async () => {
    const { row, link } = await connected()
    expect(await row()).toMatchObject({ state: 'busy', bootId: BOOT, tainted: 1 })
    const { signal } = new AbortController()
    expect(JSON.parse((await link.next(0, signal)) ?? '')).toEqual(PROVISION)
  })

  it('is given nothing when another holds the row (LK3)', async () => {
    const { links, enrol, expectIt } = await setUp(OWNER)
    const { secret } = await enrol()
    const { opening } = await expectIt(async () => false)
    await expect(links.come(secret, NAME, IMAGE)).rejects.toMatchObject(stale)
    await expect(opening).rejects.toMatchObject(stale)
  })

  it('says and hears under its boot, job and fence alone, and after it has come (LK4)', async () => {
    const { links, enrol, expectIt } = await setUp(OWNER)
    const { secret } = await enrol()
    expect(() => links.link(secret, NAME)).toThrow(expect.objectContaining(stale))
    const { opening } = await expectIt()
    expect(() => links.link(secret, NAME)).toThrow(expect.objectContaining(stale))
    await links.come(secret, NAME, IMAGE)
    await opening
    const refusalOf = (given: string, change: object): unknown => {
      try {
        return links.link(given, { ...NAME, ...change }).isClosed
      } catch (error) {
        return (error as PlatformError).code
      }
    }
    const otherJob = makeId('job', 2, new Uint8Array(16))
    expect([
      refusalOf(secret, {}),
      refusalOf(secret, { fence: 2 }),
      refusalOf(secret, { fence: 4 }),
      refusalOf(secret, { jobId: otherJob }),
      refusalOf(secret, { bootId: 'boot-two-2' }),
      refusalOf('x', {}),
    ]).toEqual([false, 'fence_stale', 'fence_stale', 'fence_stale', 'unauthenticated', 'unauthenticated'])
  })

  it('hears nothing more once it is let go (LK4)', async () => {
    const { links, machine, secret, link } = await connected()
    await machine.destroy()
    expect(await machine.ended).toMatchObject({ reason: 'destroyed' })
    expect(link.isClosed).toBe(true)
    expect(() => links.link(secret, NAME)).toThrow(expect.objectContaining(stale))
    await expect(links.come(secret, NAME, IMAGE)).rejects.toMatchObject(stale)
  })

  it('ends here when its row is another’s (LK4)', async () => {
    const { machine, move, clock } = await connected()
    await move({ type: 'release', now: clock.now(), cleansByStop: true })
    await clock.advance(5_000)
    expect(await machine.ended).toMatchObject({ reason: 'fenced' })
  })

  it('is lost when it is not heard for long (LK5)', async () => {
    const { machine, links, secret, clock } = await connected()
    let end: string | undefined
    void machine.ended.then(({ reason }) => (end = reason))
    await clock.advance(LOST_MS - 1_000)
    links.link(secret, NAME)
    await clock.advance(LOST_MS - 1_000)
    expect(end).toBeUndefined()
    await clock.advance(10_000)
    expect(end).toBe('lost')
  })

  it('that does not come in time is not waited for', async () => {
    const { links, enrol, expectIt, clock } = await setUp(OWNER)
    const { secret } = await enrol()
    const { opening } = await expectIt()
    await clock.advance(10_000)
    await expect(opening).rejects.toMatchObject({ code: 'machine_failed' })
    await expect(links.come(secret, NAME, IMAGE)).rejects.toMatchObject(stale)
  })
})
