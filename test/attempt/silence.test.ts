/** Machines that live and say nothing: they are stuck, and their jobs go on elsewhere. */
import { describe, expect, it } from 'vitest'
import { ALIVE_MS } from '../../schema/control.ts'
import { attemptLimits } from '../../src/attempt/attempts.ts'
import { watchSilence } from '../../src/attempt/silence.ts'
import { fakeClock } from '../fake/fake-clock.ts'
import { lockedExpert, lockOf } from '../fake/fake-expert-source.ts'
import { attemptWorld } from './attempt-world.ts'

const lock = lockOf(lockedExpert('top'))
const settle = () => new Promise((next) => setImmediate(next))

describe('a machine that lives and says nothing', () => {
  it('is ended with its own reason, and another machine goes on', async () => {
    let machines = 0
    const world = attemptWorld({
      lock,
      turnOf: () => ({ text: 'done' }),
      run: async (lines) => {
        machines += 1
        for (;;) if ((await lines.next()).done === true) return
      },
    })
    const process = world.start()
    const jobId = await world.create(process)
    await world.until(jobId, (_job, events) => events.some(({ type }) => type === 'machineStarted'))
    await world.clock.advance(attemptLimits.silentMs - 1)
    for (let turn = 0; turn < 20; turn++) await settle()
    expect((await world.events(jobId)).filter(({ type }) => type === 'leaseExpired')).toEqual([])
    await world.clock.advance(1)
    const events = await world.until(jobId, () => machines === 2)
    expect(events.find(({ type }) => type === 'leaseExpired')?.data).toMatchObject({ reason: 'machine_silent' })
    await process.attempts.close()
  })

  it('is not one whose runner waits for a model: that says that it lives, for hours', async () => {
    const world = attemptWorld({
      lock,
      turnOf: () => ({ text: 'done at last' }),
      pause: async (_request, signal) => world.clock.sleep(3_600_000, signal),
    })
    const process = world.start()
    const jobId = await world.create(process)
    await world.until(jobId, () => process.model.requests.length === 1)
    for (let passed = 0; passed <= 3_600_000; passed += ALIVE_MS) {
      await world.clock.advance(ALIVE_MS)
      await settle()
    }
    const events = await world.until(jobId, (job) => job.status === 'finished')
    expect(events.filter(({ type }) => type === 'leaseExpired')).toEqual([])
    expect(events.at(-1)?.data).toMatchObject({ result: 'done at last' })
    await process.attempts.close()
  })

  it('is heard at each word, and not held against it while we do not listen', async () => {
    const clock = fakeClock()
    let ended = 0
    const silence = watchSilence(clock, 100, new AbortController().signal, () => (ended += 1))
    await clock.advance(99)
    await silence.broken(Promise.resolve())
    await clock.advance(99)
    expect(ended).toBe(0)
    const taken = Promise.withResolvers<void>()
    const listening = silence.broken(taken.promise)
    await clock.advance(1000)
    expect(ended).toBe(0)
    taken.resolve()
    await listening
    await clock.advance(200)
    expect(ended).toBe(1)
  })
})
