/** A cancel from end to end on fakes: one path, whatever is under way, and a receipt in the log. */
import { afterEach, describe, expect, it } from 'vitest'
import { isRefusal } from '../../schema/error.ts'
import type { JobEvent } from '../../schema/event.ts'
import { lockedExpert, lockOf } from '../fake/fake-expert-source.ts'
import { anApplication } from '../job/given.ts'
import { files, human } from '../run/team.ts'
import { keepUntilEnd, attemptWorld, endAll, ofType, type Scenario } from './attempt-world.ts'

const skills = { files: { ...files, effects: { write: 'once' } }, human } as const
const never = new Promise<string>(() => {})

afterEach(endAll)

function begin(given: Pick<Scenario, 'turnOf'> & Partial<Scenario>) {
  const aide = lockedExpert('aide', { skills })
  const world = attemptWorld({
    lock: lockOf(lockedExpert('top', { skills, delegates: { aide: aide.key } }), aide),
    ...given,
  })
  const process = world.start()
  keepUntilEnd(process)
  return { world, process }
}

const receiptIn = (events: readonly JobEvent[]) => ofType(events, 'jobFinished').at(-1)?.data.cancellation

describe('a canceled job', () => {
  it('lists runs of delegates, the generation that was cut and the call that hung, each once', async () => {
    const { world, process } = begin({
      turnOf: ({ expert, stepNumber }) =>
        expert.name === 'top' && stepNumber === 1
          ? {
              text: 'on',
              calls: [
                { name: 'files/write', args: { path: 'a' } },
                { name: 'delegate/aide', args: { query: 'go' } },
              ],
            }
          : { text: 'never said' },
      call: () => never,
      pause: async ({ expert }, signal) => {
        if (expert.name !== 'aide') return
        await new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)))
      },
    })
    const jobId = await world.create(process)
    await world.until(
      jobId,
      (_job, all) => ofType(all, 'callStarted').length === 1 && process.model.requests.length === 2,
    )
    await process.jobs.cancel(anApplication, jobId)
    const events = await world.until(jobId, (job) => job.status === 'finished')
    const receipt = receiptIn(events)
    expect(receipt?.stopped.runs.map(({ expertKey }) => expertKey)).toEqual(['top@1.0.0', 'aide@1.0.0'])
    expect(receipt?.stopped.machine).toMatchObject({ host: 'unsafe-process', processes: 1 })
    expect(receipt?.inFlight.generations).toMatchObject([{ expertKey: 'aide@1.0.0' }])
    expect(receipt?.inFlight.calls).toMatchObject([{ toolName: 'files/write', effect: 'once', outcome: 'unknown' }])
    expect(receipt?.unknown.calls).toHaveLength(1)
    expect(process.host.live()).toBe(0)
    const job = await process.jobs.find(anApplication, jobId)
    expect(job?.cancellation).toEqual(receipt)
  })

  it('that waits is ended at once, and its question is withdrawn', async () => {
    const { world, process } = begin({
      turnOf: () => ({ text: 'on', calls: [{ name: 'human/approve', args: { change: 'x' } }] }),
    })
    const jobId = await world.create(process)
    const waiting = await world.until(jobId, (job) => job.status === 'waiting')
    expect(isRefusal(await process.jobs.cancel(anApplication, jobId))).toBe(false)
    const receipt = receiptIn(await world.events(jobId))
    expect(receipt).toMatchObject({
      durationMs: 0,
      stopped: { machine: null },
      inFlight: { generations: [], calls: [] },
    })
    expect(receipt?.stopped.questions).toEqual([ofType(waiting, 'questionAsked')[0]?.data.question.id])
  })

  it('whose server dies before its end has its receipt from the next, with what the dead one left unknown', async () => {
    const { world, process } = begin({
      turnOf: ({ stepNumber }) =>
        stepNumber === 1 ? { text: 'on', calls: [{ name: 'files/read', args: {} }] } : { text: 'done' },
      call: () => never,
    })
    const jobId = await world.create(process)
    await world.until(jobId, (_job, all) => ofType(all, 'generated').length === 1)
    const other = world.start()
    keepUntilEnd(other)
    world.store.after = async (verb) => {
      const last = (await world.events(jobId)).at(-1)
      if (verb === 'append' && last?.type === 'cancelRequested') process.die()
    }
    await other.jobs.cancel(anApplication, jobId)
    process.die()
    const third = world.start()
    keepUntilEnd(third)
    const events = await world.until(jobId, (job) => job.status === 'finished')
    expect(receiptIn(events)).toMatchObject({
      stopped: { machine: null, runs: [{ expertKey: 'top@1.0.0' }] },
      unknown: { calls: [{ toolName: 'files/read', outcome: 'unknown' }] },
    })
  })

  it('starts no call after the wish: one whose start is recorded with it is not let through', async () => {
    const calls: string[] = []
    const { world, process } = begin({
      turnOf: ({ stepNumber }) =>
        stepNumber === 1 ? { text: 'on', calls: [{ name: 'files/write', args: {} }] } : { text: 'done' },
      call: async (tool) => {
        calls.push(tool)
        return 'done'
      },
    })
    const jobId = await world.create(process)
    let isAsked = false
    world.store.before = async (verb) => {
      if (verb !== 'append' || isAsked || !(await world.events(jobId)).some(({ type }) => type === 'generated')) return
      isAsked = true
      await process.jobs.cancel(anApplication, jobId)
    }
    const events = await world.until(jobId, (job) => job.status === 'finished')
    expect(events.at(-1)?.data).toMatchObject({ outcome: 'canceled' })
    expect(calls).toEqual([])
    expect(receiptIn(events)?.unknown.calls).toEqual([])
  })
})
