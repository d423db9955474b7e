/** Event streams: cursors, disconnects, stalled readers, revoked keys; by plain fetch and by the graphql-sse client. */
import { request } from 'node:http'
import { createClient } from 'graphql-sse'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { schema } from '../../src/graphql/schema.ts'
import { openFailures } from '../../src/http/failure.ts'
import { openGraphQLDoor } from '../../src/http/graphql-door.ts'
import { openSingleConnection } from '../../src/http/single-connection.ts'
import { openStreamSlots } from '../../src/http/stream-slots.ts'
import type { Verbs } from '../../src/pool/call.ts'
import { LIVE_CHECK_MS, watchEvents } from '../../src/job/subscription.ts'
import { openLog } from '../../src/log.ts'
import { fakeChance } from '../fake/fake-clock.ts'
import { openDoor, readFrames, type Door, type ReadFrame } from '../support/door.ts'
import { until } from '../support/patience.ts'

let door: Door
beforeEach(async () => {
  door = await openDoor()
})
afterEach(() => door.close())

const CHECKPOINTS = `subscription ($jobId: ID!, $after: Int) {
  checkpoints(jobId: $jobId, after: $after) { id seq stepNumber newMessages } }`
const EVENTS = `subscription ($jobId: ID!, $after: Int) { events(jobId: $jobId, after: $after) { seq type stepNumber data hash } }`

const subscribe = (query: string, variables: object, headers: Record<string, string> = {}, key = door.key) =>
  door.fetch(
    '/graphql',
    {
      method: 'POST',
      headers: { 'content-type': 'application/json', accept: 'text/event-stream', ...headers },
      body: JSON.stringify({ query, variables }),
    },
    key,
  )

interface SubscriptionResult {
  data?: { events?: { seq: number; type: string; data: unknown }; checkpoints?: { seq: number; stepNumber: number } }
  errors?: readonly { message: string; extensions: { code: string } }[]
}
const parse = (frame: ReadFrame): SubscriptionResult => JSON.parse(frame.data) as SubscriptionResult

async function readAll(response: Response): Promise<readonly ReadFrame[]> {
  const frames: ReadFrame[] = []
  for await (const frame of readFrames(response)) frames.push(frame)
  return frames
}

/** Takes `count` frames, then hangs up. */
async function take(response: Response, count: number): Promise<readonly ReadFrame[]> {
  const frames: ReadFrame[] = []
  for await (const frame of readFrames(response)) {
    frames.push(frame)
    if (frames.length === count) break
  }
  return frames
}

describe('checkpoints', () => {
  for (const singleConnection of [false, true])
    it(`all reach the graphql-sse client, singleConnection ${singleConnection}`, async () => {
      const jobId = await door.createJob()
      const attempt = await door.claim()
      await door.takeSteps(attempt, 3)
      const client = createClient({
        url: `${door.url}${singleConnection ? '/graphql/stream' : '/graphql'}`,
        singleConnection,
        headers: { authorization: `Bearer ${door.key}` },
        retryAttempts: 0,
      })
      const seen: number[] = []
      const done = new Promise<void>((resolve, reject) => {
        client.subscribe<{ checkpoints: { stepNumber: number } }>(
          { query: CHECKPOINTS, variables: { jobId } },
          {
            next: ({ data, errors }) => {
              if (errors !== undefined) reject(new Error(JSON.stringify(errors)))
              seen.push(data?.checkpoints.stepNumber ?? -1)
            },
            error: reject,
            complete: resolve,
          },
        )
      })
      await until(() => seen.length === 3)
      await door.takeSteps(attempt, 2)
      await until(() => seen.length === 5)
      await door.finish(attempt)
      await done
      expect(seen).toEqual([1, 2, 3, 4, 5])
      client.dispose()
      await until(() => door.server.streams() === 0 && door.log.listeners() === 0)
    })

  it('reach a subscriber that was killed and comes back with `after`, each exactly once', async () => {
    const jobId = await door.createJob()
    const attempt = await door.claim()
    await door.takeSteps(attempt, 6)
    const first = await take(await subscribe(CHECKPOINTS, { jobId }), 2)
    const after = parse(first.at(-1)!).data?.checkpoints?.seq
    await door.takeSteps(attempt, 2)
    await door.finish(attempt)
    const rest = await readAll(await subscribe(CHECKPOINTS, { jobId, after }))
    expect(rest.at(-1)?.event).toBe('complete')
    const steps = [...first, ...rest.slice(0, -1)].map((frame) => parse(frame).data?.checkpoints?.stepNumber)
    expect(steps).toEqual([1, 2, 3, 4, 5, 6, 7, 8])
  })

  it('carry ids, and Last-Event-ID counts where it is further than `after`', async () => {
    const jobId = await door.createJob()
    const attempt = await door.claim()
    await door.takeSteps(attempt, 3)
    await door.finish(attempt)
    const all = await readAll(await subscribe(CHECKPOINTS, { jobId }))
    const ids = all.slice(0, -1).map(({ id }) => id)
    expect(ids).toEqual(all.slice(0, -1).map((frame) => parse(frame).data?.checkpoints?.seq))
    const resumed = await readAll(await subscribe(CHECKPOINTS, { jobId, after: 1 }, { 'last-event-id': `${ids[1]}` }))
    expect(resumed.slice(0, -1).map(({ id }) => id)).toEqual(ids.slice(2))
    const junk = await readAll(await subscribe(CHECKPOINTS, { jobId }, { 'last-event-id': '-1; drop' }))
    expect(junk).toEqual(all)
  })
})

describe('events', () => {
  it('are the log, and deltas are live only and do not move the cursor', async () => {
    const jobId = await door.createJob()
    const attempt = await door.claim()
    const frames = readFrames(await subscribe(EVENTS, { jobId }))
    const seen: SubscriptionResult[] = []
    const reading = (async () => {
      for await (const frame of frames) if (frame.event === 'next') seen.push(parse(frame))
    })()
    await until(() => seen.length === 3)
    const delta = { type: 'delta', jobId, runId: 'run_x', expertKey: 'greeter@1.0.0', stepNumber: 1 } as const
    door.jobs.show({ ...delta, kind: 'text', text: 'ste' })
    await until(() => seen.length === 4)
    await door.takeSteps(attempt, 1)
    await door.finish(attempt)
    await reading
    const shown = seen.map(({ data }) => data?.events)
    expect(shown[3]).toMatchObject({ type: 'delta', seq: 3, data: { kind: 'text', text: 'ste' } })
    const stored = await door.jobs.events(attempt.applicationId, jobId, 0, 100)
    expect(shown.filter((event) => event?.type !== 'delta').map((event) => event?.seq)).toEqual(
      stored.map(({ seq }) => seq),
    )
    const again = await readAll(await subscribe(EVENTS, { jobId }))
    expect(again.slice(0, -1).map((frame) => parse(frame).data?.events?.type)).toEqual(stored.map(({ type }) => type))
  })

  it('wait for a reader that stalls, 5,000 of them, and all arrive when it goes on', async () => {
    const jobId = await door.createJob()
    const attempt = await door.claim()
    const body = JSON.stringify({ query: EVENTS, variables: { jobId } })
    const sent = request(`${door.url}/graphql`, {
      method: 'POST',
      headers: {
        authorization: `Bearer ${door.key}`,
        'content-type': 'application/json',
        accept: 'text/event-stream',
      },
    })
    const answer = await new Promise<import('node:http').IncomingMessage>((resolve) => {
      sent.once('response', resolve)
      sent.end(body)
    })
    answer.pause()
    for (let batch = 0; batch < 50; batch++) await door.takeSteps(attempt, 50)
    await door.finish(attempt)
    let text = ''
    for await (const chunk of answer.setEncoding('utf8')) text += chunk
    const ids = [...text.matchAll(/^id: (\d+)$/gm)].map(([, id]) => Number(id))
    const stored = (await door.jobs.find(attempt.applicationId, jobId))?.revision ?? 0
    expect(stored).toBeGreaterThan(5000)
    expect(ids).toEqual(Array.from({ length: stored }, (_, i) => i + 1))
    expect(text.endsWith('event: complete\ndata: \n\n')).toBe(true)
  })

  it('leave no watcher behind when 20 readers hang up (SB1)', async () => {
    const jobId = await door.createJob()
    await door.claim()
    const hangUps = Array.from({ length: 20 }, () => new AbortController())
    const responses = await Promise.all(
      hangUps.map(async ({ signal }) =>
        door.fetch('/graphql', {
          method: 'POST',
          signal,
          headers: { 'content-type': 'application/json', accept: 'text/event-stream' },
          body: JSON.stringify({ query: EVENTS, variables: { jobId } }),
        }),
      ),
    )
    await until(() => door.log.listeners() === 20)
    expect(door.server.streams()).toBe(20)
    for (const hangUp of hangUps) hangUp.abort()
    await Promise.allSettled(responses.map((response) => response.text()))
    await until(() => door.log.listeners() === 0 && door.server.streams() === 0 && door.clock.sleepers() === 0)
  })
})

describe('a stream', () => {
  it('returns while it waits for an event that never comes (SB1)', async () => {
    const jobId = await door.createJob()
    const caller = await door.applications.authenticate(door.key)
    const { jobs, applications, clock } = door
    const signal = new AbortController().signal
    const events = watchEvents({ jobs, applications, clock, caller: caller!, signal }, jobId, 0)
    expect(await events.next()).toMatchObject({ value: { type: 'jobCreated' } })
    const pending = events.next()
    await until(() => door.log.listeners() === 1)
    expect(await events.return?.()).toEqual({ done: true, value: undefined })
    expect(await pending).toEqual({ done: true, value: undefined })
    expect(door.log.listeners()).toBe(0)
    await until(() => door.clock.sleepers() === 0)
  })

  it('is refused as the 21st of a key, and admitted once another has ended', async () => {
    const jobId = await door.createJob()
    await door.claim()
    const hangUps = Array.from({ length: 20 }, () => new AbortController())
    const open = (signal?: AbortSignal, key = door.key) =>
      door.fetch(`/expert_jobs/${jobId}/checkpoints/stream`, signal === undefined ? {} : { signal }, key)
    await Promise.all(hangUps.map(({ signal }) => open(signal)))
    const refused = await subscribe(EVENTS, { jobId })
    expect(refused.status).toBe(429)
    expect(await refused.json()).toMatchObject({ errors: [{ extensions: { code: 'rate_limited' } }] })
    expect((await open()).status).toBe(429)
    const reserved = await door.fetch('/graphql/stream', { method: 'PUT' })
    expect(reserved.status).toBe(429)
    hangUps[0]?.abort()
    await until(() => door.server.streams() === 19)
    const admitted = await subscribe(EVENTS, { jobId })
    expect(admitted.status).toBe(200)
    await admitted.body?.cancel()
    for (const hangUp of hangUps) hangUp.abort()
  })

  it('ends when its key is revoked, before the next event and also when there is none (SB2)', async () => {
    const jobId = await door.createJob()
    const attempt = await door.claim()
    const busy = readFrames(await subscribe(CHECKPOINTS, { jobId }))
    const idle = readAll(await subscribe(CHECKPOINTS, { jobId }))
    const rest = readAll(await door.fetch(`/expert_jobs/${jobId}/checkpoints/stream`))
    await door.takeSteps(attempt, 1)
    expect(parse((await busy.next()).value as ReadFrame).data?.checkpoints?.stepNumber).toBe(1)
    const caller = await door.applications.authenticate(door.key)
    await door.applications.revokeKey(caller!.application.id, caller!.keyId)
    await door.takeSteps(attempt, 1)
    const last = parse((await busy.next()).value as ReadFrame)
    expect(last.errors?.[0]?.extensions.code).toBe('unauthenticated')
    expect(last.data ?? null).toBeNull()
    await door.clock.advance(LIVE_CHECK_MS)
    expect(parse((await idle).at(-2)!).errors?.[0]?.extensions.code).toBe('unauthenticated')
    expect(JSON.parse((await rest).at(-1)!.data)).toMatchObject({ type: 'unauthenticated' })
    await until(() => door.log.listeners() === 0)
  })

  it('is noticed to be revoked while nothing at all happens (SB2)', async () => {
    const jobId = await door.createJob()
    await door.claim()
    const idle = readAll(await subscribe(CHECKPOINTS, { jobId }))
    await until(() => door.log.listeners() === 1)
    const caller = await door.applications.authenticate(door.key)
    await door.applications.revokeKey(caller!.application.id, caller!.keyId)
    await door.clock.advance(LIVE_CHECK_MS)
    expect(parse((await idle)[0]!).errors?.[0]?.extensions.code).toBe('unauthenticated')
  })

  it('stays open while the job waits, and pings', async () => {
    const jobId = await door.createJob()
    const response = await subscribe(CHECKPOINTS, { jobId })
    const reader = response.body!.getReader()
    const decoder = new TextDecoder()
    expect(decoder.decode((await reader.read()).value)).toBe(':\n\n')
    await door.clock.advance(12_000)
    expect(decoder.decode((await reader.read()).value)).toBe(':\n\n')
    await reader.cancel()
  })

  it('is cut off without `complete` when the server closes (H4)', async () => {
    const jobId = await door.createJob()
    const response = await subscribe(CHECKPOINTS, { jobId })
    let text = ''
    const reading = (async () => {
      const decoder = new TextDecoder()
      for await (const chunk of response.body!) text += decoder.decode(chunk)
    })()
    await until(() => door.log.listeners() === 1)
    await door.server.close()
    await expect(reading).rejects.toThrow()
    expect(text).not.toContain('complete')
    expect(door.log.listeners()).toBe(0)
    door = await openDoor()
  })

  it('of a job that is foreign, missing or no job at all says the same (SB3)', async () => {
    const foreign = await door.createJob()
    const missing = foreign.replaceAll(/[0-9a-v](?=[0-9a-v]{3}$)/g, (char) => (char === '0' ? '1' : '0'))
    const say = async (jobId: string, key: string) => {
      const frames = await readAll(await subscribe(CHECKPOINTS, { jobId }, {}, key))
      return JSON.stringify(frames).replaceAll(jobId, '<id>')
    }
    const said = await say(foreign, door.otherKey)
    expect(said).toContain('job_not_found')
    expect(await say(missing, door.key)).toBe(said)
    expect(await say('nonsense', door.key)).toBe(said)
  })

  it('is read as an event stream, or not at all', async () => {
    const jobId = await door.createJob()
    const answer = await subscribe(CHECKPOINTS, { jobId }, { accept: 'application/json' })
    expect(answer.status).toBe(406)
    await until(() => door.log.listeners() === 0)
  })

  it('has two fields at most one of which is a subscription', async () => {
    const jobId = await door.createJob()
    const two = `subscription ($jobId: ID!) { checkpoints(jobId: $jobId) { id } events(jobId: $jobId) { seq } }`
    const [frame] = await readAll(await subscribe(two, { jobId }))
    expect(parse(frame!).errors?.[0]?.extensions.code).toBe('input_invalid')
  })
})

describe('a single connection', () => {
  it("is of no use with another key's token (SS1)", async () => {
    const token = await (await door.fetch('/graphql/stream', { method: 'PUT' })).text()
    const headers = { 'x-graphql-event-stream-token': token, accept: 'text/event-stream' }
    expect((await door.fetch('/graphql/stream', { headers }, door.otherKey)).status).toBe(400)
    expect((await door.fetch('/graphql/stream', { headers }, null)).status).toBe(401)
    const opened = await door.fetch('/graphql/stream', { headers })
    expect(opened.status).toBe(200)
    expect((await door.fetch('/graphql/stream', { headers })).status).toBe(400)
    await opened.body?.cancel()
  })

  it('carries several operations, each ended by itself, and all end with it (SS3)', async () => {
    const jobId = await door.createJob()
    const attempt = await door.claim()
    const token = await (await door.fetch('/graphql/stream', { method: 'PUT' })).text()
    const headers = { 'x-graphql-event-stream-token': token }
    const opened = await door.fetch('/graphql/stream', { headers: { ...headers, accept: 'text/event-stream' } })
    const start = (operationId: string) =>
      door.fetch('/graphql/stream', {
        method: 'POST',
        headers: { ...headers, 'content-type': 'application/json' },
        body: JSON.stringify({ query: CHECKPOINTS, variables: { jobId }, extensions: { operationId } }),
      })
    expect((await start('a')).status).toBe(202)
    expect((await start('a')).status).toBe(400)
    expect((await start('b')).status).toBe(202)
    const frames = readFrames(opened)
    await door.takeSteps(attempt, 1)
    const ids = [(await frames.next()).value, (await frames.next()).value].map(
      (frame) => (JSON.parse((frame as ReadFrame).data) as { id: string }).id,
    )
    expect(ids.toSorted()).toEqual(['a', 'b'])
    await until(() => door.log.listeners() === 2)
    expect((await door.fetch('/graphql/stream?operationId=a', { method: 'DELETE', headers })).status).toBe(200)
    await until(() => door.log.listeners() === 1)
    await frames.return(undefined)
    await until(() => door.log.listeners() === 0 && door.server.streams() === 0)
  })

  it('reads no further than its reader has taken (SS2)', async () => {
    const jobId = await door.createJob()
    const attempt = await door.claim()
    await door.takeSteps(attempt, 2500)
    const { jobs, applications, clock, key } = door
    const caller = (await applications.authenticate(key))!
    const failures = openFailures({
      log: openLog(
        () => {},
        () => 0,
      ),
      chance: fakeChance(),
    })
    const slots = openStreamSlots()
    const graphql = openGraphQLDoor({ schema, failures, slots, clock })
    const closing = new AbortController().signal
    const connection = openSingleConnection({ door: graphql, slots, failures, clock, chance: fakeChance(), closing })
    const token = await connection.reserve(caller.keyId).text()
    const opened = connection.open(caller.keyId, token)
    const reads = door.log.calls.get('read') ?? 0
    await connection.start(token, {
      jobs,
      applications,
      clock,
      caller,
      signal: closing,
      lastEventId: 0,
      cursor: { seq: null },
      ...({ secrets: {}, experts: {}, workspaces: {}, forks: {} } as Omit<Verbs, 'jobs' | 'applications'>),
      params: { query: EVENTS, variables: { jobId }, extensions: { operationId: 'a' } },
    })
    for (let turns = 0; turns < 2000; turns++) await new Promise((resolve) => setImmediate(resolve))
    expect((door.log.calls.get('read') ?? 0) - reads).toBeLessThanOrEqual(1)
    const seen: number[] = []
    for await (const { data } of readFrames(opened)) {
      seen.push((JSON.parse(data) as { payload: SubscriptionResult }).payload.data?.events?.seq ?? 0)
      if (seen.length === 5000) break
    }
    expect(seen).toEqual(Array.from({ length: 5000 }, (_, i) => i + 1))
    await until(() => door.log.listeners() === 0 && slots.count() === 0)
  })

  it('is given up when nobody opens it', async () => {
    await door.fetch('/graphql/stream', { method: 'PUT' })
    expect(door.server.streams()).toBe(1)
    await door.clock.advance(30_000)
    await until(() => door.server.streams() === 0)
  })
})
