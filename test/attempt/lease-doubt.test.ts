/** Attempts that cannot know whether the job is still theirs: they spend nothing on it. */
import { afterEach, describe, expect, it } from 'vitest'
import { team } from '../run/team.ts'
import { attemptWorld, type Process } from './attempt-world.ts'

const RENEW_MS = 2_000
const IN_DOUBT_MS = 2 * RENEW_MS
const settle = async (): Promise<void> => {
  for (let turn = 0; turn < 50; turn++) await new Promise((next) => setImmediate(next))
}

describe('an attempt whose lease may be lost', () => {
  let process: Process | undefined
  afterEach(async () => {
    process?.die()
    await process?.attempts.close()
  })

  /** A job whose machine is about to ask for its second generation, when its lease has not been renewed for a while. */
  async function begin(renew: () => Promise<boolean>) {
    const gate = Promise.withResolvers<void>()
    const world = attemptWorld({
      lock: team(),
      limits: { concurrent: 1, renewMs: RENEW_MS },
      turnOf: ({ stepNumber }) =>
        stepNumber === 1 ? { text: 'on', calls: [{ name: 'files/read', args: {} }] } : { text: 'done' },
      call: async () => (await gate.promise, 'read'),
    })
    const own = { renew: world.store.renew.bind(world.store) }
    Object.assign(world.store, { renew })
    process = world.start()
    const { model } = process
    const jobId = await world.create(process)
    await world.until(jobId, (_, events) => events.some(({ type }) => type === 'generated'))
    await world.clock.advance(IN_DOUBT_MS)
    const asked = model.requests.length
    gate.resolve()
    await settle()
    return { world, model, jobId, asked, mend: () => Object.assign(world.store, own) }
  }

  it('asks no model until the store says that it lives (K7)', async () => {
    const { world, model, jobId, asked, mend } = await begin(async () => {
      throw new Error('the store is away')
    })
    expect(model.requests).toHaveLength(asked)
    await world.clock.advance(5_000)
    await settle()
    expect(model.requests).toHaveLength(asked)
    mend()
    const finished = world.until(
      jobId,
      (job) => job.status === 'finished',
      () => world.clock.advance(100),
    )
    expect((await finished).filter(({ type }) => type === 'leaseExpired')).toEqual([])
    expect(model.requests).toHaveLength(asked + 1)
  })

  it('asks no model when the store says that it is lost (K7)', async () => {
    let answers = 0
    const { model, asked } = await begin(async () => {
      answers += 1
      if (answers <= 2) throw new Error('the store is away')
      return false
    })
    expect(answers).toBeGreaterThan(2)
    expect(model.requests).toHaveLength(asked)
  })
})
