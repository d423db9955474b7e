/** Conversations that grow beyond the window of their model, over random jobs with crashes, queries and refusals. */
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Conversations, converse, noConversation, settled, type PlacedFact } from '../../schema/conversation.ts'
import type { CompactionRule } from '../../schema/compaction-rule.ts'
import {
  contextAfterCompaction,
  contextAfterGeneration,
  contextWithoutSummary,
  noContext,
  wantsCompaction,
} from '../../schema/context.ts'
import { replay } from '../../schema/decider.ts'
import type { ExpertKey } from '../../schema/expert-key.ts'
import type { Lock } from '../../schema/lock.ts'
import { textOf, type Message } from '../../schema/message.ts'
import { noUsage } from '../../schema/usage.ts'
import { jobRuns, standing } from '../../runner/run/run.ts'
import { compactionMessages, keptOf } from '../../src/attempt/compaction.ts'
import { drawn } from '../fake/scripted-model.ts'
import { inOrder, orders, scriptOf, scripts } from './scripts.ts'
import { answersOf, recomputedHashes, simulate, type Room, type Script } from './simulation.ts'
import { JOB, team } from './team.ts'

/** Windows that are soon full, models that refuse early, summaries that fail now and then. */
const rooms = fc
  .record({
    seed: fc.integer(),
    perMessage: fc.integer({ min: 50, max: 200 }),
    messagesMax: fc.oneof(fc.constant(1000), fc.integer({ min: 4, max: 12 })),
    failing: fc.constantFrom(0, 0, 1, 3),
  })
  .map(({ seed, perMessage, messagesMax, failing }): Room => ({
    window: 1000,
    tokensOf: (count) => count * perMessage,
    messagesMax,
    summaryOf: (runId, stepNumber) =>
      drawn(4, seed, runId, stepNumber) < failing ? null : `summary of ${runId} before ${stepNumber}`,
  }))
/** Runs of many steps, so that there is something to compact. */
const long = fc.record({
  script: scripts.map((given) => ({ ...given, maxSteps: null, ownLimit: null })),
  room: rooms,
  rule: fc.option(fc.record({ at: fc.constantFrom(0.1, 0.5, 0.95), keepSteps: fc.integer({ min: 1, max: 4 }) })),
})
const chatty = (seed: number): Script['turnOf'] => {
  const read = (path: string) => ({ name: 'files/read', args: { path } })
  return (runId, stepNumber) => {
    if (stepNumber > 4 + drawn(8, seed, runId)) return { text: `done ${runId}` }
    const calls = [read('a'), ...(drawn(3, seed, runId, stepNumber) === 0 ? [read('b')] : [])]
    const delegates = drawn(5, seed, runId, stepNumber, 'd') === 0
    const delegation = { name: 'delegate/reader', args: { query: 'look' } }
    return { text: `on ${stepNumber}`, calls: delegates ? [...calls, delegation] : calls }
  }
}
interface Long {
  readonly script: Parameters<typeof scriptOf>[0]
  readonly room: Room
  readonly rule: CompactionRule | null
}
const scriptWith = ({ script, room, rule }: Long): Script => {
  const { lock, ...rest } = scriptOf(script)
  return { ...rest, lock: rule === null ? lock : ruled(lock, rule), turnOf: chatty(script.seed), room }
}
const ruled = (lock: Lock, compaction: CompactionRule): Lock => ({
  ...lock,
  experts: Object.fromEntries(Object.entries(lock.experts).map(([key, expert]) => [key, { ...expert, compaction }])),
})
const kills = fc.option(fc.integer({ min: 2, max: 80 }), { freq: 2 })
const steers = fc.array(
  fc.record({ at: fc.integer({ min: 1, max: 40 }), mode: fc.constantFrom('queue' as const, 'interrupt' as const) }),
  { maxLength: 2 },
)

describe('a conversation that fills its window', () => {
  it('is compacted as the log says, the same for the runner and the gateway, whenever the machine dies', () => {
    let compacted = 0
    fc.assert(
      fc.property(long, orders, kills, steers, (given, order, killAt, at) => {
        const steers = at.toSorted((a, b) => a.at - b.at)
        const script = scriptWith(given)
        const { log, refused, differing, state, put } = simulate(script, { choose: order(), killAt, steers })
        expect(refused).toEqual([])
        expect(differing).toEqual([])
        expect(standing(state)).toBe('finished')
        for (const [recorded, again] of recomputedHashes(log)) expect(recorded).toBe(again)
        compacted += log.filter(({ type }) => type === 'compacted').length
        expect(put.length).toBeLessThanOrEqual(steers.length)
        const core = jobRuns(JOB, script.lock)
        expect(timeless(replay(core, log).runs)).toBe(timeless(state.runs))
      }),
      { numRuns: 200 },
    )
    expect(compacted).toBeGreaterThan(200)
  })

  it('keeps the first query, the last step, and every call beside its result', () => {
    fc.assert(
      fc.property(long, orders, (given, order) => {
        const script = scriptWith(given)
        const { log } = simulate(script, { choose: order(), killAt: null })
        const conversations = new Conversations()
        for (const fact of log) {
          const before = fact.runId === null ? noConversation : conversations.of(fact.runId)
          conversations.add(fact)
          if (fact.type !== 'compacted' || fact.runId === null) continue
          const { messages, context } = conversations.of(fact.runId)
          expect(messages[0]).toEqual(before.messages[0])
          expect(messages.slice(2)).toEqual(before.messages.slice(-fact.data.kept))
          expect(messages[2]?.role).toBe('expert')
          expect(messages.length).toBeLessThan(before.messages.length)
          expect(textOf(messages[1]?.content ?? [])).toContain(fact.data.summary)
          expect(context.compactions).toBe(before.context.compactions + 1)
          expect(pairsOf(messages)).toEqual([])
          // There is nothing to compact again before there is a further step.
          const { compaction } = script.lock.experts[fact.expertKey as ExpertKey] ?? {}
          expect(wantsCompaction(context, settled(conversations.of(fact.runId)), compaction)).toBe(false)
          // As many steps as its expert keeps stay, where that leaves anything to replace.
          const steps = messages.slice(2).filter(({ role }) => role === 'expert').length
          expect(steps).toBeLessThanOrEqual(compaction?.keepSteps ?? 1)
          if (before.context.exceeded !== null) expect(steps).toBe(1)
          else if (before.messages.length - fact.data.kept > 4) expect(steps).toBe(compaction?.keepSteps ?? 1)
        }
      }),
      { numRuns: 200 },
    )
  })

  it('that was killed at any append ends in the same answers', () => {
    fc.assert(
      fc.property(long, orders, fc.nat(), (given, order, at) => {
        const script = scriptWith(given)
        const whole = simulate(script, { choose: inOrder(), killAt: null })
        const killed = simulate(script, { choose: order(), killAt: 1 + (at % whole.log.length) })
        expect(answersOf(killed)).toEqual(answersOf(whole))
      }),
      { numRuns: 150 },
    )
  })

  it('can be forked from before the compaction, with every message that it replaced', () => {
    const { log } = simulate(
      {
        lock: team(),
        maxSteps: null,
        turnOf: chatty(7),
        room: { window: 1000, tokensOf: (count) => count * 150, messagesMax: 1000, summaryOf: () => 'short' },
      },
      { choose: inOrder(), killAt: null },
    )
    const at = log.findIndex(({ type }) => type === 'compacted')
    expect(at).toBeGreaterThan(0)
    const before = log.slice(0, at)
    const root = log[at]?.runId
    const conversations = new Conversations()
    for (const fact of before) conversations.add(fact)
    if (root === null || root === undefined) throw new Error('it is of no run')
    expect(JSON.stringify(conversations.of(root).messages)).not.toContain('short')
    expect(conversations.of(root).context.compactions).toBe(0)
    expect(replay(jobRuns(JOB, team()), before).runs[root]?.messageCount).toBe(conversations.of(root).messages.length)
  })

  it('is generated for anew when a query and a compaction leave as many messages as before', () => {
    let interrupted = 0
    for (let seed = 0; seed < 80; seed++) {
      let at = 0
      const choose = (below: number): number => (below === 0 ? 0 : drawn(below, seed, at++ % (1 + (seed % 13))))
      const room: Room = { window: 1000, tokensOf: (count) => count * 50, messagesMax: 4, summaryOf: () => 'short' }
      const script: Script = { lock: team(), maxSteps: null, turnOf: chatty(seed), room }
      const steers = [{ at: 5 + (seed % 17), mode: 'queue' as const }]
      const { state, log, differing } = simulate(script, { choose, killAt: null, steers })
      expect(differing).toEqual([])
      expect(standing(state), `seed ${seed}`).toBe('finished')
      interrupted += log.filter(({ type }) => type === 'generationInterrupted').length
    }
    expect(interrupted).toBeGreaterThan(5)
  })

  it('that its model refuses is compacted once, and fails with the reason when that does not help', () => {
    const room: Room = { window: 1e9, tokensOf: () => 1, messagesMax: 6, summaryOf: () => 'short' }
    const script: Script = { lock: team(), maxSteps: null, turnOf: chatty(7), room }
    const helped = simulate(script, { choose: inOrder(), killAt: null }).log
    expect(helped.filter(({ type }) => type === 'compacted').length).toBeGreaterThan(0)
    expect(helped.at(-1)).toMatchObject({ type: 'runFinished', data: { outcome: 'completed' } })
    const failing = { ...script, room: { ...room, summaryOf: () => null } }
    const failed = simulate(failing, { choose: inOrder(), killAt: null }).log
    expect(failed.at(-1)).toMatchObject({
      type: 'runFinished',
      data: {
        outcome: 'failed',
        reason: 'context_exceeded',
        message: expect.stringContaining('could not be compacted'),
      },
    })
    const hopeless = { ...script, room: { ...room, messagesMax: 2 } }
    expect(simulate(hopeless, { choose: inOrder(), killAt: null }).log.at(-1)).toMatchObject({
      data: { reason: 'context_exceeded', message: 'the script says so' },
    })
  })
})

/** Without the counters of events: the runner heard of some later than the log did. */
function timeless(runs: object): string {
  return JSON.stringify(runs, (name, value: unknown) => (name === 'turnSince' ? 0 : value))
}

/** Calls without a result behind them, and results without a call before. */
function pairsOf(messages: readonly Message[]): readonly string[] {
  return messages.flatMap((message, i) => {
    const next = messages[i + 1]
    const calls = message.role === 'expert' ? message.content.filter((part) => part.type === 'toolCall') : []
    const results = next?.role === 'tool' ? next.content : []
    const ids = (parts: readonly { readonly callId: string }[]) => parts.map(({ callId }) => callId).join()
    if (message.role !== 'expert') return next?.role === 'tool' ? [`${i}: results of nothing`] : []
    return ids(calls) === ids(results) ? [] : [`${i}: ${ids(calls)} and ${ids(results)}`]
  })
}

describe('a compaction', () => {
  const user = (text: string): Message => ({ role: 'user', content: [{ type: 'text', text }] })
  const expert = (text: string): Message => ({ role: 'expert', content: [{ type: 'text', text }] })

  it('is owed at the share that its expert names, once there is more than the steps that shall stay', () => {
    const at = (tokens: number) => ({ ...noContext, tokens, window: 1000 })
    expect(wantsCompaction(at(300), 5, { at: 0.3 })).toBe(true)
    expect(wantsCompaction(at(299), 5, { at: 0.3 })).toBe(false)
    expect(wantsCompaction(at(900), 8, { keepSteps: 3 })).toBe(false)
    expect(wantsCompaction(at(900), 9, { keepSteps: 3 })).toBe(true)
    expect(wantsCompaction({ ...at(900), exceeded: 'too long' }, 5, { keepSteps: 3 })).toBe(true)
  })

  it('that was just made, or failed, is not tried again before the next generation', () => {
    const full = { ...noContext, tokens: 900, window: 1000 }
    const long = contextAfterCompaction(full, user('x'.repeat(4000)))
    expect(long.tokens).toBeGreaterThanOrEqual(1000)
    expect(wantsCompaction(long, 99)).toBe(false)
    expect(wantsCompaction(contextWithoutSummary(full), 99)).toBe(false)
    const usage = { ...noUsage, inputTokens: 900 }
    expect(wantsCompaction(contextAfterGeneration(long, { usage, contextWindow: 1000 }), 99)).toBe(true)
  })

  it('is owed at four fifths of a window that is known, when there is something to compact', () => {
    const at = (tokens: number, window: number | null = 1000) => ({ ...noContext, tokens, window })
    expect(wantsCompaction(at(800), 5)).toBe(true)
    expect(wantsCompaction(at(799), 5)).toBe(false)
    expect(wantsCompaction(at(800), 4)).toBe(false)
    expect(wantsCompaction(at(800, null), 5)).toBe(false)
    expect(wantsCompaction({ ...at(800), isTried: true }, 5)).toBe(false)
    expect(wantsCompaction({ ...noContext, exceeded: 'too long' }, 5)).toBe(true)
  })

  it('keeps what came after the last step, too', () => {
    expect(keptOf([user('q'), expert('1'), expert('2'), user('and'), user('this')])).toBe(3)
    expect(keptOf([user('q'), expert('1')])).toBe(1)
    expect(keptOf([expert('1'), user('q')])).toBe(1)
  })

  it('keeps the steps that its expert names, or as many of them as leave something to replace', () => {
    const steps = (count: number) => Array.from({ length: count }, (_, i) => [expert(`${i}`), user('read')]).flat()
    expect(keptOf([user('q'), ...steps(5)], { keepSteps: 3 })).toBe(6)
    expect(keptOf([user('q'), ...steps(5)], { keepSteps: 9 })).toBe(8)
    expect(keptOf([user('q'), ...steps(1)], { keepSteps: 9 })).toBe(2)
    expect(keptOf([user('q'), ...steps(5), user('and')], { keepSteps: 2 })).toBe(5)
  })

  it('asks with the whole conversation, or, once that was refused, with its long parts cut', () => {
    const image = { type: 'image', mediaType: 'image/png', base64: 'A'.repeat(10_000) } as const
    const long = 'x'.repeat(100_000)
    const result = {
      type: 'toolResult',
      callId: 'c',
      name: 'a/b',
      content: [{ type: 'text', text: long }, image],
      isError: false,
    } as const
    const messages: readonly Message[] = [user(long), expert(long), { role: 'tool', content: [result] }]
    expect(compactionMessages(messages, false).slice(0, -1)).toEqual(messages)
    const cut = compactionMessages(messages, true)
    expect(JSON.stringify(cut[0]).length).toBeLessThan(3000)
    expect(cut[1]).toEqual(messages[1])
    expect(JSON.stringify(cut[2]).length).toBeLessThan(3000)
    expect(textOf(cut.at(-1)?.content ?? [])).toContain('summary')
  })

  it('changes nothing in a log of before: no window is known there', () => {
    const usage = { inputTokens: 1e9, cachedInputTokens: 0, outputTokens: 0, reasoningTokens: 0, costUsd: null }
    const data = { parts: [], usage, model: 'm', finishReason: 'stop', promptHash: '' as never, durationMs: 1 }
    const fact = { type: 'generated', data, runId: 'r', expertKey: 'e', stepNumber: 1 } as unknown as PlacedFact
    expect(wantsCompaction(converse(noConversation, fact).context, 99)).toBe(false)
  })
})
