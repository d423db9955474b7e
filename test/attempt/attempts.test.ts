/** Machines kept while they drive jobs: recording, answering, canceling, dying, and being lied to. */
import { afterEach, describe, expect, it } from 'vitest'
import { isRefusal } from '../../schema/error.ts'
import { firstBroken, type JobEvent } from '../../schema/event.ts'
import { sha256 } from '../../schema/hash.ts'
import type { JobId } from '../../schema/id.ts'
import type { MachineLine, RunnerLine } from '../../schema/control.ts'
import { rootRunId } from '../../schema/question.ts'
import { runJob } from '../../runner/run/runner.ts'
import { anApplication } from '../job/given.ts'
import { sayWorkspace } from '../fake/fake-machine-host.ts'
import { JOB, LEAD, team } from '../run/team.ts'
import {
  attemptWorld,
  keepUntilEnd,
  begin,
  endAll,
  ofType,
  type Process,
  type Scenario,
  turns,
} from './attempt-world.ts'
import { survivesCrashAtEveryAppend } from './survives-crash.ts'

afterEach(endAll)

async function answerAll({ jobs }: Process, events: readonly JobEvent[], value: (kind: string) => boolean | string) {
  const answered = new Set(ofType(events, 'answered').map((event) => event.data.questionId))
  for (const { jobId, data } of ofType(events, 'questionAsked')) {
    const { id, kind, argsHash } = data.question
    if (answered.has(id)) continue
    const answer = { questionId: id, value: value(kind), argsHash }
    const told = await jobs.continue(anApplication, {
      jobId,
      query: null,
      answer,
      maxSteps: null,
      idempotencyKey: null,
    })
    expect(isRefusal(told) ? told.refused : 'job').toBe('job')
  }
}

const teamwork: Scenario = {
  lock: team(),
  turnOf: turns({
    'lead 1': {
      text: 'I look and ask.',
      calls: [
        { name: 'files/read', args: { path: 'a' } },
        { name: 'files/read', args: { path: 'b' } },
        { name: 'delegate/reader', args: { query: 'read c' } },
        { name: 'human/approve', args: { change: 'c' } },
      ],
    },
    'lead 2': { text: 'I write.', calls: [{ name: 'files/write', args: { path: 'report' } }] },
    'reader 1': { text: 'I read.', calls: [{ name: 'files/read', args: { path: 'c' } }] },
  }),
}

describe('an attempt', () => {
  it('drives a job through tools, a delegate and a question to its end', async () => {
    const { world, process } = begin(teamwork)
    const jobId = await world.create(process)
    const asked = await world.until(jobId, (job) => job.status === 'waiting')
    expect(ofType(asked, 'jobRested')).toHaveLength(1)
    await answerAll(process, asked, () => true)
    const events = await world.until(jobId, (job) => job.status === 'finished')
    expect(events.at(-1)).toMatchObject({ type: 'jobFinished', data: { outcome: 'completed', result: 'lead is done' } })
    expect(ofType(events, 'runFinished').map((event) => event.data.result)).toEqual(['reader is done', 'lead is done'])
    expect(ofType(events, 'toolsListed')).toHaveLength(2)
    expect(firstBroken(jobId, events)).toBeUndefined()
    expect(process.host.started()).toBe(2)
  })

  it('costs two commits a step', async () => {
    const read = { text: 'on', calls: [{ name: 'files/read', args: {} }] }
    const script = Object.fromEntries(Array.from({ length: 20 }, (_, i) => [`lead ${i + 1}`, read]))
    const { world, process } = begin({ lock: team(), turnOf: turns(script) })
    const jobId = await world.create(process)
    await world.until(jobId, (job) => job.status === 'finished')
    // 21 steps, and beside them: grant, machine, start with listing.
    expect(world.store.calls.get('append')).toBeLessThanOrEqual(2 * 21 + 4)
  })

  it('hands an answer to a machine that is still at work', async () => {
    const gate = Promise.withResolvers<void>()
    const calls = [
      { name: 'human/approve', args: { change: 'x' } },
      { name: 'files/read', args: {} },
    ]
    const { world, process } = begin({
      lock: team(),
      turnOf: turns({ 'lead 1': { text: 'on', calls } }),
      call: async () => (await gate.promise, 'read'),
    })
    const jobId = await world.create(process)
    const asked = await world.until(jobId, (_, events) => ofType(events, 'questionAsked').length === 1)
    await answerAll(process, asked, () => false)
    await world.until(jobId, (_, events) => ofType(events, 'toolReturned').length === 1)
    gate.resolve()
    const events = await world.until(jobId, (job) => job.status === 'finished')
    expect(ofType(events, 'toolReturned')[0]?.data.result).toMatchObject({ structured: false, isError: false })
    expect(process.host.started()).toBe(1)
  })

  it('records what the workspace became before the result of the call that changed it', async () => {
    const { world, process } = begin({
      lock: team(),
      turnOf: turns({ 'lead 1': { text: 'on', calls: [{ name: 'files/write', args: {} }] } }),
      call: async (_tool, _args, _call, say) => {
        sayWorkspace(say, 'a.txt', 'hello')
        return 'written'
      },
    })
    const jobId = await world.create(process)
    const events = await world.until(jobId, (job) => job.status === 'finished')
    const types = events.map((event) => event.type)
    expect(types.indexOf('workspaceChanged')).toBe(types.indexOf('toolReturned') - 1)
    expect(await world.content.has(sha256('hello'))).toBe(true)
  })

  it('fails the job with the code of a generation that failed', async () => {
    const { world, process } = begin({ lock: team(), turnOf: () => ({ code: 'model_key_missing' }) })
    const jobId = await world.create(process)
    const events = await world.until(jobId, (job) => job.status === 'finished')
    expect(events.at(-1)).toMatchObject({ data: { outcome: 'failed', reason: 'model_key_missing' } })
  })

  it('ends a canceled job at once when its machine obeys (K4)', async () => {
    const { world, process } = begin({
      lock: team(),
      turnOf: turns({}),
      pause: async (_request, signal) =>
        new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason))),
    })
    const jobId = await world.create(process)
    await world.until(jobId, () => process.model.requests.length === 1)
    await process.jobs.cancel(anApplication, jobId)
    const events = await world.until(jobId, (job) => job.status === 'finished')
    expect(events.at(-1)).toMatchObject({ type: 'jobFinished', data: { outcome: 'canceled' } })
    expect(ofType(events, 'generated')).toEqual([])
  })

  it('ends a canceled job after the grace when its machine does not obey (K4)', async () => {
    const { world, process } = begin({
      lock: team(),
      turnOf: turns({}),
      run: async (lines) => {
        for (;;) if ((await lines.next()).done === true) return
      },
    })
    const jobId = await world.create(process)
    await world.until(jobId, (_, events) => ofType(events, 'machineStarted').length === 1)
    let liveAtTheEnd = -1
    world.store.after = async (verb) => {
      const last = (await world.events(jobId)).at(-1)
      if (verb === 'append' && last?.type === 'jobFinished') liveAtTheEnd = process.host.live()
    }
    await process.jobs.cancel(anApplication, jobId)
    await world.until(jobId, (_, events) => ofType(events, 'cancelRequested').length === 1)
    for (let turn = 0; turn < 50; turn++) await new Promise((next) => setImmediate(next))
    await world.clock.advance(2000)
    const events = await world.until(jobId, (job) => job.status === 'finished')
    expect(events.at(-1)).toMatchObject({ data: { outcome: 'canceled' } })
    expect(liveAtTheEnd).toBe(0)
  })

  it('that is over ends its machine, though it never says done', async () => {
    const { world, process } = begin({
      lock: team({ skills: {}, delegates: {} }),
      turnOf: turns({}),
      run: async (lines, say) => {
        const skills = { receive() {}, list: async () => [], call: async () => Promise.reject(new Error('none')) }
        const send = (line: RunnerLine): void => {
          if (line.type === 'event' || line.type === 'request') say(line)
        }
        await runJob(lines, { send, clock: world.clock, openSkills: () => skills })
        for (;;) if ((await lines.next()).done === true) return
      },
    })
    const jobId = await world.create(process)
    await world.until(jobId, (job) => job.status === 'finished')
    await world.until(jobId, () => process.host.live() === 0 && process.attempts.count() === 0)
  })

  it('whose machine dies is resumed by another, with nothing finished done again (K3)', async () => {
    const seen: string[] = []
    const read = (path: string) => ({ text: 'on', calls: [{ name: 'files/read', args: { path } }] })
    let isFirst = true
    const { world, process } = begin({
      lock: team(),
      turnOf: turns({ 'lead 1': read('a'), 'lead 2': read('b') }),
      call: async (_tool, args) => {
        seen.push(JSON.stringify(args))
        if (isFirst && seen.length === 2) {
          isFirst = false
          process.host.kill('signal SIGKILL')
        }
        return 'read'
      },
    })
    const jobId = await world.create(process)
    const events = await world.until(jobId, (job) => job.status === 'finished')
    expect(seen).toEqual(['{"path":"a"}', '{"path":"b"}', '{"path":"b"}'])
    expect(ofType(events, 'leaseExpired')[0]?.data.reason).toBe('signal SIGKILL')
    expect(ofType(events, 'toolsListed')).toHaveLength(1)
  })

  it('whose machines all die fails the job in the end, and says what they said last, without a secret (J9, K5)', async () => {
    const stdio = { ...team().experts[LEAD]?.skills['files'], requiredEnv: ['TOKEN'] } as never
    const { world, process } = begin({
      lock: team({ skills: { files: stdio } }),
      secrets: { TOKEN: 'hunter-22' },
      turnOf: turns({}),
      run: async () =>
        process.host.kill('exit 1', 'file:///srv/a/main.js:3\n  ^\nError: no hunter-22 here\n    at a.ts:1'),
    })
    const jobId = await world.create(process)
    const events = await world.until(jobId, (job) => job.status === 'finished')
    const detail = 'main.js:3 Error: no *** here'
    expect(ofType(events, 'leaseExpired').map(({ data }) => data)).toContainEqual({
      fence: 1,
      reason: 'exit 1',
      detail,
    })
    const message = expect.stringContaining(`each of the last 3 ended with exit 1 (${detail})`)
    expect(events.at(-1)).toMatchObject({ data: { outcome: 'failed', reason: 'attempts_exhausted', message } })
  })

  it('is given back when the server stops, and goes on with the next (K3)', async () => {
    const gate = Promise.withResolvers<void>()
    const scenario = {
      lock: team(),
      turnOf: turns({ 'lead 1': { text: 'on', calls: [{ name: 'files/read', args: {} }] } }),
      call: async () => (await gate.promise, 'read'),
    }
    const { world, process } = begin(scenario)
    const jobId = await world.create(process)
    await world.until(jobId, (_, events) => ofType(events, 'generated').length === 1)
    await process.attempts.close()
    expect(process.host.live()).toBe(0)
    gate.resolve()
    keepUntilEnd(world.start())
    const events = await world.until(jobId, (job) => job.status === 'finished')
    expect(ofType(events, 'generated')).toHaveLength(2)
    expect(ofType(events, 'leaseExpired')[0]?.data.reason).toBe('server_stopped')
  })

  it('of a server that died goes on with the next one at once: nobody acts, and no time has to pass', async () => {
    const { world, process } = begin(teamwork)
    const jobId = await world.create(process)
    await world.until(jobId, (_, events) => ofType(events, 'generated').length === 1)
    process.die()
    const before = (await world.events(jobId)).length
    await world.clock.advance(1)
    const startedAt = world.clock.now()
    keepUntilEnd(world.start())
    const events = await world.until(jobId, (_, all) => ofType(all.slice(before), 'machineStarted').length === 1)
    const next = events.slice(before, before + 3)
    expect(next.map(({ type }) => type)).toEqual(['leaseExpired', 'leaseGranted', 'machineStarted'])
    expect(new Set(next.map(({ at }) => at))).toEqual(new Set([startedAt]))
  })

  it('begins a job with its creation, without a look at what waits, and takes no more than its places', async () => {
    const gate = Promise.withResolvers<void>()
    const { world, process } = begin({
      lock: team(),
      turnOf: turns({}),
      pause: async () => gate.promise,
      limits: { concurrent: 2 },
    })
    await world.until(await world.create(process), () => process.model.requests.length === 1)
    const looks = world.store.calls.get('claimable')
    const all = [await world.create(process), await world.create(process), await world.create(process)]
    const typesOf = async (jobId: JobId) => (await world.events(jobId)).map(({ type }) => type).slice(0, 2)
    await world.until(all[0] as JobId, (job) => job.status === 'running')
    expect(await Promise.all(all.map(typesOf))).toEqual([
      ['jobCreated', 'leaseGranted'],
      ['jobCreated'],
      ['jobCreated'],
    ])
    expect(world.store.calls.get('claimable')).toBe(looks)
    expect(process.attempts.count()).toBe(2)
    gate.resolve()
    for (const jobId of all) await world.until(jobId, (job) => job.status === 'finished')
  })

  it('goes on with the next server, where the one that began it with its creation died of it', async () => {
    const world = attemptWorld({ lock: team(), turnOf: turns({}) })
    const first = world.start()
    world.store.after = async (verb) => {
      if (verb === 'create') first.die()
    }
    void world.create(first)
    while (!first.isDead()) await new Promise((next) => setImmediate(next))
    keepUntilEnd(world.start())
    const [stored] = await world.store.list(anApplication, {}, 2, null)
    if (stored === undefined) throw new Error('the store has it')
    const events = await world.until(stored.job.id, (job) => job.status === 'finished')
    expect(ofType(events, 'leaseGranted').map(({ data }) => data.fence)).toEqual([1, 2])
    expect(ofType(events, 'jobFinished')[0]?.data.outcome).toBe('completed')
  })

  it('survives a crash of the server at every append, with parallel calls, a delegate and a question', async () => {
    const survived = await survivesCrashAtEveryAppend({
      ...teamwork,
      tool: (tool, args) => `${tool} ${args}`,
      people: (process, events) => answerAll(process, events, () => true),
    })
    expect(survived).toBeGreaterThan(20)
  }, 60_000)
})

describe('a hostile machine', () => {
  const root = rootRunId(JOB, 0)
  /** Says lines in place of a runner, then hears what it is told until it is ended. */
  const saying =
    (linesFor: (jobId: string) => readonly MachineLine[]): NonNullable<Scenario['run']> =>
    async (lines, say) => {
      const first = await lines.next()
      const jobId = first.done !== true && first.value.type === 'start' ? first.value.jobId : ''
      for (const line of linesFor(jobId)) say(line)
      for (;;) if ((await lines.next()).done === true) return
    }
  const place = { runId: root, expertKey: LEAD, stepNumber: 0 }

  it('cannot start runs, finish them, or return calls that the log does not ask for (A1, A2, A4)', async () => {
    const result = { type: 'toolResult', callId: 'call_1_0', name: 'files/read', content: [], isError: false } as const
    const { world, process } = begin({
      lock: team(),
      turnOf: turns({}),
      run: saying(() => [
        { type: 'event', event: { type: 'toolReturned', data: { result, durationMs: 0 }, ...place } },
        {
          type: 'event',
          event: {
            type: 'runStarted',
            data: { query: 'another query', parent: null, continues: null, depth: 0 },
            ...place,
          },
        },
        {
          type: 'event',
          event: {
            type: 'runFinished',
            data: { outcome: 'completed', reason: 'completed', message: null, result: 'mine' },
            ...place,
          },
        },
        { type: 'done', reason: 'finished' },
      ]),
    })
    const jobId = await world.create(process)
    const events = await world.until(jobId, (job) => job.status === 'finished')
    expect(events.at(-1)).toMatchObject({ data: { outcome: 'failed', reason: 'attempts_exhausted' } })
    expect(new Set(events.map((event) => event.type))).toEqual(
      new Set(['jobCreated', 'leaseGranted', 'machineStarted', 'leaseExpired', 'jobFinished']),
    )
  })

  it('cannot read content that its job does not hold, nor claim it as its workspace', async () => {
    const foreign = Buffer.from('another application wrote this')
    const hash = sha256(foreign)
    const tree = JSON.stringify({ entries: [{ type: 'file', name: 'x', hash, sizeBytes: 1, executable: false }] })
    const heard: unknown[] = []
    const { world, process } = begin({
      lock: team(),
      turnOf: turns({}),
      run: async (lines, say) => {
        await lines.next()
        say({ type: 'request', id: 1, method: 'blob', params: { hash, offset: 0 } })
        for (;;) {
          const next = await lines.next()
          if (next.done === true) return
          if (next.value.type !== 'reply') continue
          heard.push(next.value)
          const base64 = Buffer.from(tree).toString('base64')
          say({ type: 'blob', hash: sha256(tree), offset: 0, last: true, base64 })
          say({ type: 'workspace', treeHash: sha256(tree) })
        }
      },
    })
    await world.content.put(foreign)
    const jobId = await world.create(process)
    const events = await world.until(jobId, (job) => job.status === 'finished')
    expect(heard[0]).toMatchObject({ ok: false, error: { code: 'content_missing' } })
    expect(ofType(events, 'workspaceChanged')).toEqual([])
    expect(ofType(events, 'leaseExpired')[0]?.data.reason).toBe('protocol_breach')
  })

  it('gets exactly the secrets that the skill names, and none for a skill that is not in the lock (K5)', async () => {
    const replies: unknown[] = []
    const stdio = { ...team().experts[LEAD]?.skills['files'], requiredEnv: ['TOKEN'] } as never
    const { world, process } = begin({
      lock: team({ skills: { files: stdio, greedy: { ...(stdio as object), requiredEnv: ['NONE'] } as never } }),
      turnOf: turns({}),
      secrets: { TOKEN: 'the token', OTHER: 'another' },
      run: async (lines, say) => {
        await lines.next()
        for (const [id, skill] of ['files', 'greedy', 'constructor', 'absent'].entries())
          say({ type: 'request', id, method: 'secrets', params: { expertKey: LEAD, skill } })
        for (;;) {
          const next = await lines.next()
          if (next.done === true) return
          if (next.value.type === 'reply') replies.push(next.value)
          if (replies.length === 4) return
        }
      },
    })
    const jobId = await world.create(process)
    await world.until(jobId, () => replies.length >= 4)
    const byId = (replies as { id: number }[]).slice(0, 4).toSorted((a, b) => a.id - b.id)
    expect(byId).toMatchObject([
      { ok: true, value: { TOKEN: 'the token' } },
      { ok: false, error: { code: 'secret_missing' } },
      { ok: false, error: { code: 'skill_not_found' } },
      { ok: false, error: { code: 'skill_not_found' } },
    ])
    expect(JSON.stringify(await world.events(jobId))).not.toContain('the token')
    expect(world.lines.join('')).not.toContain('the token')
  })

  it('that lost its lease records nothing more and is gone (K2)', async () => {
    const gate = Promise.withResolvers<void>()
    const { world, process } = begin({
      lock: team(),
      turnOf: turns({ 'lead 1': { text: 'on', calls: [{ name: 'files/read', args: {} }] } }),
      call: async () => (await gate.promise, 'read'),
      limits: { concurrent: 1 },
    })
    const jobId = await world.create(process)
    await world.until(jobId, (_, events) => ofType(events, 'generated').length === 1)
    const stored = await world.store.find(jobId)
    await world.store.renew(jobId, stored?.lease?.fence ?? 0, world.clock.now())
    const next = world.start()
    keepUntilEnd(next)
    await world.until(jobId, (_, events) => ofType(events, 'leaseGranted').length === 2)
    gate.resolve()
    const events = await world.until(jobId, (job) => job.status === 'finished')
    expect(ofType(events, 'toolReturned')).toHaveLength(1)
    expect(firstBroken(jobId, events)).toBeUndefined()
  })
})
