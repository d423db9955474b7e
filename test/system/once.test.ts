/** A call that is made once, on real parts: the server dies while it runs, and the next one asks instead of calling. */
import { rm } from 'node:fs/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { expertPackage, npmPublish, skillPackage, startLightly, until, type Platform } from '../support/platform.ts'
import { act, findJob, finishJob, probe, turns, untilRecorded } from '../support/platform-job.ts'
import { sandboxMissing } from '../support/sandbox.ts'

const missing = await sandboxMissing()

const toml = `model = "rehearsal/pay"
[experts."payer"]
description = "Pays."
instruction = "Pay."
[experts."payer".skills."probe"]
type = "mcpStdioSkill"
packageName = "once-probe"
[experts."payer".skills."probe".effects]
run = "once"
`
/** It lasts until the server is killed, as far as a test can tell. */
const pay = probe('await new Promise((resume) => setTimeout(resume, 600_000)); return "paid"')

describe.skipIf(missing !== undefined)('a call that is made once', () => {
  let platform: Platform
  beforeAll(async () => {
    platform = await startLightly()
    await npmPublish(platform, await skillPackage('once-probe', 'probe'))
    const rehearsal = { 'rehearsals/pay.json': turns([[pay]], 'Paid.') }
    await npmPublish(platform, await expertPackage('payer', toml, rehearsal))
  })
  afterAll(async () => {
    await platform.stop()
    await rm(platform.dataDirectory, { recursive: true, force: true })
  })

  it('is recorded before it is made, is asked about when the server died in it, and is not made again', async () => {
    const { id } = await act(platform, 'createJob', { expertKey: 'payer', query: 'Pay.' })
    await untilRecorded(platform, id, 'callStarted')
    const { dataDirectory: directory } = platform
    await platform.kill()
    platform = await startLightly({ directory })
    const waiting = await until(async () => {
      const job = await findJob(platform, id)
      return job?.status === 'waiting' ? job : undefined
    })
    const [question] = waiting.questions
    expect(question).toMatchObject({ open: true, args: pay.args })
    await act(platform, 'continueJob', { jobId: id, answer: { questionId: question?.id, value: 'done' } })
    const { job, events, results } = await finishJob(platform, id)
    expect(job).toMatchObject({ outcome: 'completed', result: 'Paid.' })
    expect(events.filter(({ type }) => type === 'callStarted')).toHaveLength(1)
    expect(results).toMatchObject([{ name: 'probe/run', isError: false, text: expect.stringContaining('A human') }])
  })
})
