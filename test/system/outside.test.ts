/** What a stranger does with a registry setting and a key: publish, create, watch, come back, answer, cancel, go on. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { rm } from 'node:fs/promises'
import { createClient } from 'graphql-sse'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { openApplications } from '../../src/application/applications.ts'
import { postgresApplicationStore } from '../../src/postgres/postgres-application-store.ts'
import { fakeChance, fakeClock } from '../fake/fake-clock.ts'
import { databaseUrl, openTestDatabase, type TestDatabase } from '../support/database.ts'
import {
  descendantsOf,
  expertPackage,
  npm,
  npmPublish,
  startLightly,
  until,
  type Platform,
} from '../support/platform.ts'
import { act, findJob, finishJob, framesOf, mutate, readEvents, runJob, turns } from '../support/platform-job.ts'
import { runProgram } from '../support/program.ts'
import { sandboxMissing } from '../support/sandbox.ts'

const missing = await sandboxMissing()

const STEPS = 10
const CHECKPOINTS = 'subscription ($id: ID!, $after: Int) { checkpoints(jobId: $id, after: $after) { seq stepNumber } }'

const toml = `[experts."traveller"]
description = "Goes where its rehearsal says."
instruction = "Go."
model = "rehearsal/walk"
[experts."traveller".skills."files"]
type = "mcpStdioSkill"
packageName = "@senmon/files"
[experts."traveller".skills."human"]
type = "interactiveSkill"
packageName = "@senmon/ask"
`
const append = (line: string) => ({ tool: 'files/append_file', args: { path: 'log.txt', content: `${line}\n` } })
const walk = Array.from({ length: STEPS }, (_, i) => [append(`${i + 1}`)])
const asking = [[{ tool: 'human/ask', args: { question: 'Where to?' } }], [append('asked')]]
const rehearsals = {
  'rehearsals/walk.json': turns(walk, 'Arrived.', 60),
  // Half of the way, and the rest when the question is answered.
  'rehearsals/stroll.json': turns([...walk.slice(0, STEPS / 2), ...asking, ...walk.slice(STEPS / 2)], 'Arrived.'),
  'rehearsals/ask.json': turns(asking, 'Thank you.'),
  'rehearsals/slow.json': JSON.stringify({ turns: [{ text: 'one two three four five six', pauseMs: 10_000 }] }),
  'rehearsals/talk.json': JSON.stringify({
    turns: [
      { when: { userContains: 'again' }, text: 'Hello again.' },
      { when: { userContains: 'hello' }, text: 'Hello.' },
    ],
  }),
}

describe.skipIf(missing !== undefined)('a stranger', () => {
  let database: TestDatabase
  let platform: Platform
  let strangerKey: string
  let walked: Awaited<ReturnType<typeof runJob>>
  const start = (directory?: string) =>
    // No machine waits, so that every one that is seen is a job's.
    startLightly({
      env: { DATABASE_URL: databaseUrl(database), SENMON_READY: '0' },
      ...(directory === undefined ? {} : { directory }),
    })

  beforeAll(async () => {
    database = await openTestDatabase()
    platform = await start()
    // The API makes keys for the caller's own application alone, so another one comes from where the server looks.
    const clock = fakeClock()
    const store = postgresApplicationStore(database, clock)
    const applications = openApplications({ store, clock, chance: fakeChance() })
    strangerKey = (await applications.createKey((await applications.ensure('stranger')).id)).reveal()
  })
  afterAll(async () => {
    await platform?.stop()
    await database?.close()
    if (platform !== undefined) await rm(platform.dataDirectory, { recursive: true, force: true })
  })

  const create = async (rehearsal: string, more: object = {}) =>
    (
      await act(platform, 'createJob', {
        expertKey: 'traveller',
        query: 'Go.',
        model: `rehearsal/${rehearsal}`,
        ...more,
      })
    ).id
  const stepsOf = async (id: string) => {
    const query = 'query ($id: ID!) { job(id: $id) { checkpoints(first: 100) { nodes { seq } } } }'
    const { job } = await platform.graphql<{ job: { checkpoints: { nodes: readonly { seq: number }[] } } }>(query, {
      id,
    })
    return job.checkpoints.nodes.map(({ seq }) => seq)
  }
  const waitingFor = (id: string) =>
    until(async () => {
      const job = await findJob(platform, id)
      return job?.status === 'waiting' ? job.questions.find(({ open }) => open) : undefined
    })

  it('publishes with npm, finds what is published, and creates a job with curl alone', async () => {
    const directory = await expertPackage('traveller', toml, rehearsals)
    expect(await npmPublish(platform, directory)).toContain('+ traveller@1.0.0')
    expect((await npm(platform, ['view', 'traveller', 'version'])).stdout.trim()).toBe('1.0.0')
    const { stdout } = await runProgram('curl', [
      '--silent',
      `${platform.url}/graphql`,
      '-H',
      `Authorization: Bearer ${platform.key}`,
      '-H',
      'Content-Type: application/json',
      '-d',
      '{"query":"mutation { createJob(input: {expertKey: \\"traveller\\", query: \\"Go.\\"}) { ... on Job { id expertKey } ... on Refusal { code message } } }"}',
    ])
    const { data } = JSON.parse(stdout) as { data: { createJob: { id: string; expertKey: string } } }
    expect(data.createJob.expertKey).toBe('traveller@1.0.0')
    walked = await finishJob(platform, data.createJob.id)
    expect(walked.job).toMatchObject({ outcome: 'completed', result: 'Arrived.', steps: STEPS + 1 })
    expect(walked.results.map(({ isError }) => isError)).toEqual(walk.map(() => false))
  })

  it('creates a job with plain fetch, which a retry with the same idempotency key does not double', async () => {
    const input = { expertKey: 'traveller@^1', query: 'hello', model: 'rehearsal/talk', idempotencyKey: 'once' }
    const [first, second] = [await act(platform, 'createJob', input), await act(platform, 'createJob', input)]
    expect(second.id).toBe(first.id)
    expect((await finishJob(platform, first.id)).job.result).toBe('Hello.')
  })

  it.each([false, true])(
    'receives every checkpoint by the graphql-sse client, single connection %s',
    async (single) => {
      const id = await create('walk')
      const client = createClient({
        url: `${platform.url}/graphql${single ? '/stream' : ''}`,
        singleConnection: single,
        headers: { authorization: `Bearer ${platform.key}` },
        retryAttempts: 0,
      })
      const seen: { seq: number; stepNumber: number }[] = []
      const subscription = client.iterate<{ checkpoints: { seq: number; stepNumber: number } }>({
        query: CHECKPOINTS,
        variables: { id },
      })
      for await (const { data, errors } of subscription) {
        expect(errors).toBeUndefined()
        if (data) seen.push(data.checkpoints)
      }
      client.dispose()
      expect(seen.map(({ stepNumber }) => stepNumber)).toEqual(Array.from({ length: STEPS + 1 }, (_, i) => i + 1))
      expect(seen.map(({ seq }) => seq)).toEqual(await stepsOf(id))
    },
  )

  it('is killed while it watches, comes back with `after`, and has seen everything exactly once', async () => {
    const id = await create('stroll')
    const watcher = (after: number) =>
      spawn('curl', [
        '--silent',
        '--no-buffer',
        `${platform.url}/graphql`,
        ...[
          'authorization: Bearer ' + platform.key,
          'content-type: application/json',
          'accept: text/event-stream',
        ].flatMap((header) => ['-H', header]),
        '-d',
        JSON.stringify({ query: CHECKPOINTS, variables: { id, after } }),
      ])
    const seqsIn = (text: string) =>
      framesOf(text)
        .filter(({ event }) => event === 'next')
        .map(({ data }) => (data as { data: { checkpoints: { seq: number } } }).data.checkpoints.seq)
    const first = watcher(0)
    let text = ''
    for await (const chunk of first.stdout.setEncoding('utf8')) {
      text += String(chunk)
      if (seqsIn(text).length >= 3) break
    }
    first.kill('SIGKILL')
    if (first.exitCode === null && first.signalCode === null) await once(first, 'close')
    const seen = seqsIn(text)
    // Killed in the middle: there is more to come.
    const question = await waitingFor(id)
    let rest = ''
    const second = watcher(seen.at(-1) ?? 0)
    await act(platform, 'continueJob', { jobId: id, answer: { questionId: question.id, value: 'On.' } })
    for await (const chunk of second.stdout.setEncoding('utf8')) rest += String(chunk)
    expect(framesOf(`${rest}\n\n`).length).toBeGreaterThan(0)
    expect([...seen, ...seqsIn(rest)]).toEqual(await stepsOf(id))
  })

  it('comes back with Last-Event-ID, over GraphQL and over REST, and gets exactly the rest', async () => {
    const { id } = walked.job
    const all = await stepsOf(id)
    for (const seen of [1, 4, all.length - 1]) {
      const headers = { 'last-event-id': `${all[seen - 1]}` }
      const graphql = await platform.fetch('/graphql', {
        method: 'POST',
        headers: { ...headers, 'content-type': 'application/json', accept: 'text/event-stream' },
        body: JSON.stringify({ query: CHECKPOINTS, variables: { id } }),
      })
      const rest = await platform.fetch(`/expert_jobs/${id}/checkpoints/stream`, { headers })
      const byId = (text: string, event: string) =>
        framesOf(text)
          .filter((frame) => frame.event === event)
          .map((frame) => Number(frame.id))
      expect(byId(await graphql.text(), 'next')).toEqual(all.slice(seen))
      expect(byId(await rest.text(), 'message')).toEqual(all.slice(seen))
    }
    // The events too: what is read in two parts is what is read at once.
    expect([...walked.events.slice(0, 7), ...(await readEvents(platform, id, 7))]).toEqual(walked.events)
  })

  it('goes the whole way over the four routes of REST', async () => {
    const post = async (path: string, body: object) => {
      const headers = { 'content-type': 'application/json' }
      const answer = await platform.fetch(path, { method: 'POST', headers, body: JSON.stringify(body) })
      return (await answer.json()) as {
        data: { expertJob: { id: string; status: string; questions: { id: string }[] } }
      }
    }
    const body = { expertKey: 'traveller', query: 'Go.', provider: 'rehearsal', model: 'ask' }
    const { data } = await post('/expert_jobs', { ...body, files: [{ path: 'map.txt', text: 'here be dragons' }] })
    const at = `/expert_jobs/${data.expertJob.id}`
    await waitingFor(data.expertJob.id)
    const streamed = platform.fetch(`${at}/checkpoints/stream`)
    const answered = await post(`${at}/continue`, { interactiveToolCallResult: true, query: 'Kyoto' })
    expect(answered.data.expertJob.status).toMatch(/^(queued|processing)$/)
    const frames = framesOf(await (await streamed).text())
    expect(frames.map(({ event }) => event)).toEqual(['message', 'message', 'message', 'complete'])
    expect(frames.at(-1)?.data).toEqual({ status: 'completed', expertJobId: data.expertJob.id })
    expect(JSON.stringify(frames[0]?.data)).toContain('Kyoto')
    const get = async (path: string) =>
      (await (await platform.fetch(`${at}/workspace_instance${path}`)).json()) as never
    expect(await get('')).toMatchObject({ data: { workspaceInstance: { countItems: 3 } } })
    const { data: listed } = (await get('/items')) as { data: { workspaceItems: { id: string; path: string }[] } }
    expect(listed.workspaceItems.map(({ path }) => path)).toEqual(['input', 'input/map.txt', 'log.txt'])
    const contents = listed.workspaceItems.slice(1).map(async (item) => {
      const answer = await platform.fetch(`${at}/workspace_instance/items/${item.id}/download`)
      return answer.text()
    })
    expect(await Promise.all(contents)).toEqual(['here be dragons', 'asked\n'])
  })

  it('sees nothing of a job of another application, by any route', async () => {
    const { id } = walked.job
    expect(await findJob(platform, id, strangerKey)).toBeNull()
    const query = `query ($id: ID!) { jobs { nodes { id } } workspace(jobId: $id) { treeHash } secrets { name } }`
    expect(await platform.graphql(query, { id }, strangerKey)).toEqual({
      jobs: { nodes: [] },
      workspace: null,
      secrets: [],
    })
    for (const verb of ['cancelJob', 'continueJob'] as const) {
      const input = verb === 'cancelJob' ? { jobId: id } : { jobId: id, query: 'Go.' }
      expect(await mutate(platform, verb, input, strangerKey)).toMatchObject({ code: 'job_not_found' })
    }
    const item = Buffer.from('log.txt').toString('base64url')
    for (const path of [
      '',
      '/checkpoints/stream',
      '/workspace_instance',
      `/workspace_instance/items/${item}/download`,
    ]) {
      const as = async (key: string) => {
        const answer = await fetch(`${platform.url}/expert_jobs/${id}${path}`, {
          headers: { authorization: `Bearer ${key}` },
        })
        return { status: answer.status, text: await answer.text() }
      }
      expect((await as(platform.key)).status).toBe(200)
      expect(await as(strangerKey)).toEqual({
        status: 404,
        text: JSON.stringify({ code: 404, error: 'job_not_found', reason: `There is no job ${id}.` }),
      })
    }
    const stream = await fetch(`${platform.url}/graphql`, {
      method: 'POST',
      headers: {
        authorization: `Bearer ${strangerKey}`,
        'content-type': 'application/json',
        accept: 'text/event-stream',
      },
      body: JSON.stringify({ query: CHECKPOINTS, variables: { id } }),
    })
    const text = await stream.text()
    expect(text).toContain('job_not_found')
    expect(text).not.toContain('stepNumber')
    // Who owns the name publishes it; anyone runs what is published.
    const taken = await expertPackage('traveller', toml, rehearsals, '1.0.1')
    await expect(npmPublish(platform, taken, strangerKey)).rejects.toThrow('belongs to another application')
  })

  it('cancels a running job: machine and job end within seconds, and the log says so', async () => {
    const id = await create('slow')
    const { pid = 0 } = platform.child
    const machines = async () => (await descendantsOf(pid)).filter(({ command }) => /bwrap|supervisor/.test(command))
    await until(async () => ((await machines()).length > 0 ? true : undefined))
    await until(async () => ((await findJob(platform, id))?.status === 'running' ? true : undefined))
    await act(platform, 'cancelJob', { jobId: id })
    const { job, events } = await finishJob(platform, id)
    await until(async () => ((await machines()).length === 0 ? true : undefined))
    expect(job).toMatchObject({ status: 'finished', outcome: 'canceled', reason: 'canceled_by_user' })
    const types = events.map(({ type }) => type)
    expect(types.indexOf('cancelRequested')).toBeGreaterThan(types.indexOf('leaseGranted'))
    expect(types.at(-1)).toBe('jobFinished')
  })

  it('goes on with the conversation of a finished job', async () => {
    const id = await create('talk', { query: 'hello' })
    await finishJob(platform, id)
    await act(platform, 'continueJob', { jobId: id, query: 'again' })
    const { job } = await finishJob(platform, id)
    expect(job).toMatchObject({ outcome: 'completed', result: 'Hello again.', steps: 2 })
    const query = 'query ($id: ID!) { job(id: $id) { checkpoints { nodes { stepNumber messages } } } }'
    const { job: seen } = await platform.graphql<{
      job: { checkpoints: { nodes: { stepNumber: number; messages: { content: { text: string }[] }[] }[] } }
    }>(query, { id })
    const last = seen.checkpoints.nodes.at(-1)
    expect(last?.stepNumber).toBe(2)
    const said = last?.messages.map(({ content }) => content[0]?.text)
    expect(said).toEqual(['hello', 'Hello.', 'again', 'Hello again.'])
  })

  it('goes on after the step limit with more steps, and nothing is done twice', async () => {
    const id = await create('walk', { maxSteps: 3 })
    const { job } = await finishJob(platform, id)
    expect(job).toMatchObject({ status: 'finished', outcome: 'failed', reason: 'step_limit', steps: 3 })
    await act(platform, 'continueJob', { jobId: id, maxSteps: 50 })
    const { job: whole, results } = await finishJob(platform, id)
    expect(whole).toMatchObject({ outcome: 'completed', result: 'Arrived.', steps: STEPS + 1 })
    expect(results).toHaveLength(STEPS)
    const item = Buffer.from('log.txt').toString('base64url')
    const file = await platform.fetch(`/expert_jobs/${id}/workspace_instance/items/${item}/download`)
    expect(await file.text()).toBe(walk.map((_, i) => `${i + 1}\n`).join(''))
  })

  it('answers a question after the server has died and another has come up', async () => {
    const id = await create('ask')
    const question = await waitingFor(id)
    await platform.kill()
    platform = await start(platform.dataDirectory)
    const { argsHash, id: questionId } = question
    expect((await findJob(platform, id))?.status).toBe('waiting')
    await act(platform, 'continueJob', { jobId: id, answer: { questionId, value: 'Nara', argsHash } })
    const { job, results } = await finishJob(platform, id)
    expect(job).toMatchObject({ outcome: 'completed', result: 'Thank you.' })
    expect(results[0]).toEqual({ name: 'human/ask', text: 'Nara', isError: false })
  })
})
