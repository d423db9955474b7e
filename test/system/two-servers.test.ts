/**
 * Two servers on one Postgres: one that only answers, and one that only drives machines. What is asked at either is done
 * by the other, and what is told at either is all there is (N1 to N4 between real processes).
 */
import { rm } from 'node:fs/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { databaseUrl, openTestDatabase, type TestDatabase } from '../support/database.ts'
import { expertPackage, npmPublish, startLightly, until, type Platform } from '../support/platform.ts'
import { act, findJob, readEvents, turns, untilRecorded, type SeenEvent } from '../support/platform-job.ts'
import { sandboxMissing } from '../support/sandbox.ts'

const missing = await sandboxMissing()

const toml = `[experts."traveller"]
description = "Goes where its rehearsal says."
instruction = "Go."
model = "rehearsal/ask"
[experts."traveller".skills."human"]
type = "interactiveSkill"
packageName = "@senmon/ask"
`
const rehearsals = {
  'rehearsals/ask.json': turns([[{ tool: 'human/ask', args: { question: 'Where to?' } }]], 'Thank you.'),
  'rehearsals/slow.json': JSON.stringify({
    turns: [
      { when: { userContains: 'home' }, text: 'I turn back.' },
      { when: { userContains: 'Go.' }, text: 'one two three four five six', pauseMs: 10_000 },
    ],
  }),
}

describe.skipIf(missing !== undefined)('two servers of one database', () => {
  let database: TestDatabase
  let door: Platform
  let driver: Platform

  beforeAll(async () => {
    database = await openTestDatabase()
    const env = { DATABASE_URL: databaseUrl(database), SENMON_READY: '0' }
    door = await startLightly({ env: { ...env, SENMON_CONCURRENCY: '0' } })
    driver = await startLightly({ env: { ...env, SENMON_CONCURRENCY: '2' }, directory: door.dataDirectory })
    await npmPublish(door, await expertPackage('traveller', toml, rehearsals))
  })
  afterAll(async () => {
    await Promise.all([door?.stop(), driver?.stop()])
    await database?.close()
    if (door !== undefined) await rm(door.dataDirectory, { recursive: true, force: true })
  })

  const waiting = (platform: Platform, id: string) =>
    until(async () => {
      const job = await findJob(platform, id)
      return job?.status === 'waiting' ? job.questions.find(({ open }) => open) : undefined
    })
  const identities = (events: readonly SeenEvent[]) => events.map(({ seq, hash }) => [seq, hash])

  it('take a job where it was not created, tell all of it at either, and take its answer at either', async () => {
    const { id } = await act(door, 'createJob', { expertKey: 'traveller', query: 'Go.' })
    const streams = [readEvents(door, id), readEvents(driver, id)]
    const question = await waiting(door, id)
    await act(door, 'continueJob', { jobId: id, answer: { questionId: question?.id, value: 'Home' } })
    const [atDoor = [], atDriver = []] = await Promise.all(streams)
    expect(atDoor.map(({ type }) => type)).toEqual(
      expect.arrayContaining(['machineStarted', 'answered', 'jobFinished']),
    )
    expect(atDoor.map(({ seq }) => seq)).toEqual(atDoor.map((_, i) => i + 1))
    expect(identities(atDoor)).toEqual(identities(atDriver))
    expect(await findJob(door, id)).toEqual(await findJob(driver, id))
    expect((await findJob(door, id))?.result).toBe('Thank you.')
  })

  it('bring a query, and a cancel, from the one to the run that the other drives', async () => {
    const input = { expertKey: 'traveller', query: 'Go.', model: 'rehearsal/slow' }
    const [steered, canceled] = [await act(door, 'createJob', input), await act(door, 'createJob', input)]
    await Promise.all([steered, canceled].map(({ id }) => untilRecorded(door, id, 'runStarted')))
    await act(door, 'continueJob', { jobId: steered.id, query: 'Come home.', mode: 'interrupt' })
    await act(door, 'cancelJob', { jobId: canceled.id })
    const [events, ends] = await Promise.all([readEvents(door, steered.id), readEvents(door, canceled.id)])
    expect(events.map(({ type }) => type)).toContain('steered')
    expect(await findJob(driver, steered.id)).toMatchObject({ outcome: 'completed', result: 'I turn back.' })
    expect(ends.at(-1)?.data).toMatchObject({ outcome: 'canceled' })
  })
})
