/** Attempts whose machine is still to come: their lease lives, and nobody waits for longer than is of use. */
import { describe, expect, it } from 'vitest'
import type { JobId } from '../../schema/id.ts'
import { Networks } from '../../schema/network.ts'
import { isRefusal, PlatformError } from '../../schema/error.ts'
import { attemptLimits } from '../../src/attempt/attempts.ts'
import { keep, type KeeperDependencies } from '../../src/attempt/keeper.ts'
import { openLog } from '../../src/log.ts'
import type { Machine, MachineHost } from '../../src/pool/machine-host.ts'
import { fakeMachineHost } from '../fake/fake-machine-host.ts'
import { anApplication } from '../job/given.ts'
import { HELLO, jobsWorld, LIMITS, request } from '../job/jobs-world.ts'

/** One attempt on one job, whose machine is not there for as long as `open` waits. */
async function begin(open: MachineHost['open']) {
  const world = jobsWorld()
  const { jobs, clock, content } = world
  const created = await jobs.create(anApplication, request())
  if (isRefusal(created)) throw new Error(created.message)
  const [attempt] = await jobs.claim('one', 1)
  if (attempt === undefined) throw new Error('there is a job')
  const closing = new AbortController()
  const host: MachineHost = { name: 'fly', probe: async () => ({ ok: true }), close: async () => {}, open }
  const unused = {} as KeeperDependencies['gateway'] & KeeperDependencies['secrets'] // no machine comes to ask
  const log = openLog(
    () => {},
    () => clock.now(),
  )
  const limits = { ...attemptLimits, renewMs: LIMITS.leaseMs / 3 }
  const networks = new Networks([])
  const dependencies = { jobs, host, gateway: unused, secrets: unused, networks, content, clock, log, limits }
  const kept = keep(dependencies, attempt, clock.now(), closing.signal)
  const events = async () => await jobs.events(anApplication, created.id, 0, 100)
  const pass = async (ms: number): Promise<void> => {
    for (let passed = 0; passed < ms; passed += 250) {
      await new Promise((resolve) => setImmediate(resolve))
      await clock.advance(250)
    }
  }
  return { ...world, pass, kept, closing, events, jobId: created.id }
}

describe('an attempt whose machine is still to come', () => {
  it('keeps its lease, however long that takes (HL1)', async () => {
    const { promise, reject } = Promise.withResolvers<never>()
    const { pass, jobs, kept, events } = await begin(() => promise)
    await pass(6 * LIMITS.leaseMs)
    expect(await jobs.claim('another', 1)).toEqual([])
    reject(new PlatformError('machine_provider_failed', 'there was none'))
    await pass(1_000)
    await kept
    expect((await events()).at(-1)).toMatchObject({
      type: 'leaseExpired',
      data: { reason: 'machine_provider_failed' },
    })
    expect(await jobs.claim('another', 1)).toHaveLength(1)
  })

  it('is told from the grant of its lease on how long that took, however often it was renewed by then', async () => {
    const { promise, resolve } = Promise.withResolvers<Machine>()
    const { pass, clock, kept, closing, events } = await begin(() => promise)
    await pass(3 * LIMITS.leaseMs)
    const call = async (): Promise<string> => ''
    resolve(await fakeMachineHost({ clock, tools: [], call }).open({ jobId: 'job_1' as JobId, fence: 1 }, HELLO))
    await pass(1_000)
    closing.abort(new Error('a test'))
    await kept
    const started = (await events()).find(({ type }) => type === 'machineStarted')
    expect(started).toMatchObject({ data: { dispatchMs: 3 * LIMITS.leaseMs } })
  })

  const patient: MachineHost['open'] = async (_attempt, _lock, signal) =>
    await new Promise((_, reject) => {
      signal?.addEventListener('abort', () => reject(new PlatformError('machine_provider_failed', 'nobody waits')))
    })

  it('waits no longer for the machine of a job that was canceled (K8)', async () => {
    const { pass, jobs, kept, events, jobId } = await begin(patient)
    await pass(1_000)
    await jobs.cancel(anApplication, jobId)
    await pass(1_000)
    await kept
    expect((await events()).at(-1)).toMatchObject({ type: 'jobFinished', data: { outcome: 'canceled' } })
  })

  it('gives its job back when the server stops, which says nothing against it', async () => {
    const { pass, kept, closing, events } = await begin(patient)
    closing.abort(new Error('a test'))
    await pass(1_000)
    await kept
    expect((await events()).at(-1)).toMatchObject({ type: 'leaseExpired', data: { reason: 'server_stopped' } })
  })
})
