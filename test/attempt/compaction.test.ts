/** Conversations that are compacted through the whole control plane: recorded, counted, shown, forked, crashed. */
import { afterEach, describe, expect, it } from 'vitest'
import { firstBroken } from '../../schema/event.ts'
import { StateHashes } from '../../schema/state-hash.ts'
import { textOf } from '../../schema/message.ts'
import { listCheckpoints } from '../../src/job/checkpoint.ts'
import type { GenerateRequest } from '../../src/gateway/gateway.ts'
import { anApplication } from '../job/given.ts'
import type { Turn } from '../fake/scripted-model.ts'
import { team } from '../run/team.ts'
import { begin, endAll, ofType, type Scenario } from './attempt-world.ts'
import { survivesCrashAtEveryAppend } from './survives-crash.ts'

afterEach(endAll)

const STEPS = 8

/** Each message takes a tenth of the window; the summary as many tokens as it is asked with. */
function growing(summary: (request: GenerateRequest) => Turn): Scenario['turnOf'] {
  return (request) => {
    const { stepNumber, messages, purpose } = request
    const room = { inputTokens: messages.length * 100, contextWindow: 1000 }
    if (purpose === 'compaction') return { ...summary(request), ...room }
    const calls = [{ name: 'files/read', args: { path: `${stepNumber}` } }]
    return stepNumber > STEPS ? { text: 'the end', ...room } : { text: `step ${stepNumber}`, calls, ...room }
  }
}

const short = (): Turn => ({ text: 'They read some files.' })

describe('a conversation that fills the window of its model', () => {
  it('is replaced by a summary that the model wrote, which is recorded, counted and read from then on', async () => {
    const requests: GenerateRequest[] = []
    const turnOf = growing(short)
    const { world, process } = begin({ lock: team(), turnOf: (request) => (requests.push(request), turnOf(request)) })
    const jobId = await world.create(process)
    const deltas: string[] = []
    const watching = (async () => {
      for await (const event of process.jobs.watch(anApplication, jobId, 0, new AbortController().signal))
        if (event.type === 'delta') deltas.push(event.text)
    })()
    const events = await world.until(jobId, (job) => job.status === 'finished')
    await watching
    expect(events.at(-1)).toMatchObject({ data: { outcome: 'completed', result: 'the end' } })
    const compacted = ofType(events, 'compacted')
    expect(compacted.length).toBeGreaterThan(1)
    expect(compacted[0]?.data).toMatchObject({ summary: 'They read some files.', kept: 2 })

    const at = requests.findIndex(({ purpose }) => purpose === 'compaction')
    const [asked, next] = [requests[at], requests[at + 1]]
    expect(textOf(asked?.messages.at(-1)?.content ?? [])).toContain('answer with the summary alone')
    expect(asked?.prompt).toEqual(next?.prompt)
    expect(next?.messages.map(({ role }) => role).join(' ')).toBe('user user expert tool')
    expect(textOf(next?.messages[0]?.content ?? [])).toBe('the query')
    expect(textOf(next?.messages[1]?.content ?? [])).toContain('They read some files.')
    expect(deltas.join('')).not.toContain('They read some files.')

    const job = await process.jobs.find(anApplication, jobId)
    const tokens = [...ofType(events, 'generated'), ...compacted].map((event) => event.data.usage.inputTokens)
    expect(job?.usage.inputTokens).toBe(tokens.reduce((sum, one) => sum + one, 0))
    expect(job?.steps).toBe(STEPS + 1)
  })

  it('is replaced as soon as its expert says, and keeps the steps that it says', async () => {
    const requests: GenerateRequest[] = []
    const turnOf = growing(short)
    const lock = team({ compaction: { at: 0.5, keepSteps: 2 } })
    const { world, process } = begin({ lock, turnOf: (request) => (requests.push(request), turnOf(request)) })
    const jobId = await world.create(process)
    const events = await world.until(jobId, (job) => job.status === 'finished')
    expect(events.at(-1)).toMatchObject({ data: { outcome: 'completed', result: 'the end' } })
    const at = requests.findIndex(({ purpose }) => purpose === 'compaction')
    expect(requests[at]?.messages).toHaveLength(8)
    expect(requests[at + 1]?.messages.map(({ role }) => role).join(' ')).toBe('user user expert tool expert tool')
    expect(ofType(events, 'compacted')[0]?.data.kept).toBe(4)
  })

  it('shows in its checkpoints what it was, how full it is, and that it was compacted', async () => {
    const { world, process } = begin({ lock: team(), turnOf: growing(short) })
    const jobId = await world.create(process)
    const events = await world.until(jobId, (job) => job.status === 'finished')
    const checkpoints = listCheckpoints(jobId, events)
    const first = checkpoints.findIndex(({ compactions }) => compactions === 1)
    const [before, after] = [checkpoints[first - 1], checkpoints[first]]
    expect(before?.messages.length).toBeGreaterThan(4)
    expect(before?.context.window).toBe(1000)
    expect(before?.context.tokens).toBeGreaterThanOrEqual(800)
    expect(after?.messages.length).toBeLessThan(before?.messages.length ?? 0)
    expect(after?.newMessages.map(({ role }) => role)).toEqual(['user', 'expert', 'tool'])
    expect(after?.usage.inputTokens).toBeGreaterThan(before?.usage.inputTokens ?? 0)
    const hashes = new StateHashes()
    for (const event of events) {
      const check = hashes.add(event)
      expect(check?.computed).toBe(check?.recorded)
    }
  })

  it('survives a crash of the server at every append, and is not compacted again for it', async () => {
    const survived = await survivesCrashAtEveryAppend({
      lock: team(),
      turnOf: growing(short),
      tool: (tool, args) => `${tool} ${args}`,
      people: async () => {},
    })
    expect(survived).toBeGreaterThan(20)
  }, 60_000)

  it.each([
    ['fails', (): Turn => ({ code: 'model_overloaded' }), 'model_overloaded'],
    ['says nothing', (): Turn => ({ text: ' ' }), 'model_error'],
  ] as const)(
    'goes on as it is when its model %s, and is not compacted again in the same step',
    async (_, summary, code) => {
      const { world, process } = begin({ lock: team(), turnOf: growing(summary) })
      const jobId = await world.create(process)
      const events = await world.until(jobId, (job) => job.status === 'finished')
      expect(events.at(-1)).toMatchObject({ data: { outcome: 'completed' } })
      const failed = ofType(events, 'compactionFailed')
      expect(new Set(failed.map(({ stepNumber }) => stepNumber)).size).toBe(failed.length)
      expect(failed.length).toBeGreaterThan(1)
      expect(failed.every((event) => event.data.code === code)).toBe(true)
      expect(firstBroken(jobId, events)).toBeUndefined()
    },
  )

  it('is compacted, with its long parts cut, when the model refuses it, and then generated for', async () => {
    const requests: GenerateRequest[] = []
    const { world, process } = begin({
      // What was refused is not kept, whatever its expert says.
      lock: team({ compaction: { keepSteps: 3 } }),
      call: async () => 'x'.repeat(10_000),
      turnOf: (request) => {
        requests.push(request)
        const { stepNumber, messages, purpose } = request
        if (purpose === 'compaction') return short()
        if (messages.length > 7) return { code: 'context_exceeded' }
        return stepNumber > 5 ? { text: 'the end' } : { text: 'on', calls: [{ name: 'files/read', args: {} }] }
      },
    })
    const jobId = await world.create(process)
    const events = await world.until(jobId, (job) => job.status === 'finished')
    expect(events.at(-1)).toMatchObject({ data: { outcome: 'completed', result: 'the end' } })
    const types = events.map(({ type }) => type).join(' ')
    expect(types).toContain('generationFailed compacted generated')
    const asked = requests.find(({ purpose }) => purpose === 'compaction')
    expect(JSON.stringify(asked?.messages).length).toBeLessThan(12_000)
    expect(ofType(events, 'compacted')[0]?.data.kept).toBe(2)
  })

  it('is given up for a query that interrupts, and asked for again behind it', async () => {
    const begun = Promise.withResolvers<void>()
    let asked = 0
    const { world, process } = begin({
      lock: team(),
      turnOf: growing(short),
      pause: async ({ purpose }, signal) => {
        if (purpose !== 'compaction' || (asked += 1) > 1) return
        begun.resolve()
        await new Promise((_, reject) => signal.addEventListener('abort', () => reject(new Error('aborted'))))
      },
    })
    const jobId = await world.create(process)
    await begun.promise
    const input = { jobId, query: 'faster', answer: null, maxSteps: null, idempotencyKey: null }
    await process.jobs.continue(anApplication, { ...input, mode: 'interrupt' })
    const events = await world.until(jobId, (job) => job.status === 'finished')
    const types = events.map(({ type }) => type).join(' ')
    expect(types).toContain('jobContinued generationInterrupted steered compacted generated')
    expect(ofType(events, 'compacted')[0]?.data.kept).toBe(3)
  })
})

describe('a machine', () => {
  it('that asks for a compaction which is not owed gets none', async () => {
    const { world, process } = begin({
      lock: team(),
      turnOf: () => ({ text: 'done' }),
      run: async (lines, say) => {
        const { value } = await lines.next()
        if (value?.type !== 'start') return
        const { hashOf } = await import('../../schema/hash.ts')
        const { rootRunId } = await import('../../schema/question.ts')
        const runId = rootRunId(value.jobId, 0)
        const expertKey = value.lock.coordinator
        const place = { runId, expertKey, stepNumber: 0 }
        const data = { query: 'the query', parent: null, continues: null, depth: 0 }
        say({ type: 'event', event: { type: 'runStarted', data, ...place } })
        const prompt = { instruction: 'x', tools: [] }
        const params = { runId, expertKey, stepNumber: 1, promptHash: hashOf(prompt), prompt, messageCount: 1 }
        say({ type: 'request', id: 1, method: 'generate', params: { ...params, purpose: 'compaction' } })
        for (;;) {
          const next = await lines.next()
          if (next.done === true) return
          if (next.value.type === 'reply') return heard.resolve(next.value)
        }
      },
    })
    const heard = Promise.withResolvers<unknown>()
    await world.create(process)
    expect(await heard.promise).toMatchObject({
      ok: false,
      error: { message: expect.stringContaining('owes no compaction') },
    })
    expect(process.model.requests).toEqual([])
  })
})
