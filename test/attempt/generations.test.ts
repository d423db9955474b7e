/** Generations that a machine asks for at once: the prompt is sent with the first, and the others only name it. */
import { describe, expect, it } from 'vitest'
import { lockedExpert, lockOf } from '../fake/fake-expert-source.ts'
import { attemptWorld, type Process } from './attempt-world.ts'

describe('generations of several delegates of one expert', () => {
  it('begin all, however long the prompt that they share takes to be stored', async () => {
    const aide = lockedExpert('aide')
    const top = lockedExpert('top', { delegates: { aide: aide.key } })
    const work = { name: 'delegate/aide', args: { query: 'work' } }
    const world = attemptWorld({
      lock: lockOf(top, aide),
      turnOf: ({ expert, stepNumber }) =>
        expert.name === 'top' && stepNumber === 1 ? { text: 'on', calls: [work, work, work] } : { text: 'done' },
    })
    const put = world.content.put.bind(world.content)
    world.content.put = async (bytes) => {
      for (let turn = 0; turn < 20; turn++) await new Promise((next) => setImmediate(next))
      return put(bytes)
    }
    const process: Process = world.start()
    const jobId = await world.create(process)
    const events = await world.until(jobId, (job) => job.status === 'finished')
    await process.attempts.close()
    expect(events.at(-1)?.data).toMatchObject({ outcome: 'completed' })
    expect(events.filter(({ type }) => type === 'leaseExpired')).toEqual([])
    expect(events.filter(({ type }) => type === 'generated')).toHaveLength(5)
  })
})
