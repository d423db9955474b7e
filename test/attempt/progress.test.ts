/** Words of progress: shown to whoever watches, of calls that are open, and never recorded. */
import { describe, expect, it, onTestFinished } from 'vitest'
import { makeId, type RunId } from '../../schema/id.ts'
import { rootRunId } from '../../schema/question.ts'
import type { Delta } from '../../src/job/watch.ts'
import { anApplication } from '../job/given.ts'
import { team } from '../run/team.ts'
import { attemptWorld } from './attempt-world.ts'

describe('progress', () => {
  it('of an open call is shown, of any other is not, and too much of it is left out', async () => {
    const shown: Delta[] = []
    const seen = Promise.withResolvers<void>()
    const world = attemptWorld({
      lock: team(),
      turnOf: ({ stepNumber }) =>
        stepNumber === 1 ? { text: 'on', calls: [{ name: 'files/read', args: {} }] } : { text: 'the end' },
      call: async (_tool, _args, call, say) => {
        const [runId = '', callId = ''] = call.split(' ')
        const word = (of: string, text: string, run = runId): void =>
          say({ type: 'progress', runId: run as RunId, callId: of, text })
        word('call_9_9', 'of no call')
        word(callId, 'of no run', rootRunId(makeId('job', 7, new Uint8Array(16)), 7))
        word(callId, '3/10 files')
        await seen.promise
        for (let i = 0; i < 500; i++) word(callId, `${i}`)
        return 'read'
      },
    })
    const process = world.start()
    onTestFinished(() => process.attempts.close())
    const jobId = await world.create(process)
    const watching = (async () => {
      for await (const event of process.jobs.watch(anApplication, jobId, 0, new AbortController().signal))
        if (event.type === 'delta' && event.kind === 'progress') {
          shown.push(event)
          seen.resolve()
        }
    })()
    const events = await world.until(jobId, (job) => job.status === 'finished')
    await watching
    expect(shown[0]).toMatchObject({ runId: rootRunId(jobId, 0), stepNumber: 1, text: 'files/read 3/10 files' })
    expect(shown.length).toBeLessThan(100)
    expect(JSON.stringify(shown)).not.toContain('of no')
    expect(JSON.stringify(events)).not.toContain('3/10')
  })
})
