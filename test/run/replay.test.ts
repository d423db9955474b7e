/** Random jobs built and played again from their logs, and what a log that is not true shows. */
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { chain, genesisHash, type JobEvent, type NewEvent } from '../../schema/event.ts'
import type { PlacedFact } from '../../schema/conversation.ts'
import type { ExpertKey } from '../../schema/expert-key.ts'
import { hashOf, sha256, type Sha256 } from '../../schema/hash.ts'
import type { Lock } from '../../schema/lock.ts'
import type { Prompt } from '../../schema/message.ts'
import { replayModel } from '../../runner/replay/model-replay.ts'
import { replayStates } from '../../runner/replay/state-replay.ts'
import { makePrompt } from '../../runner/run/perform.ts'
import { jobRuns } from '../../runner/run/run.ts'
import { forkLog } from '../../src/job/forks.ts'
import { jobIdOf } from '../job/given.ts'
import { inOrder, orders, scriptOf, scripts } from './scripts.ts'
import { simulate, type Outcome } from './simulation.ts'
import { JOB, LEAD } from './team.ts'

const runs = { numRuns: 200 }

/** The log as a job's, each generation with the prompt that a runner sends; and those prompts. */
function recorded(log: readonly PlacedFact[], lock: Lock) {
  const core = jobRuns(JOB, lock)
  const prompts = new Map<Sha256, Prompt>()
  let state = core.initial
  const facts = log.map((fact) => {
    const before = state
    state = core.evolve(state, fact)
    if (fact.type !== 'generated') return fact
    const prompt = makePrompt(lock, fact.expertKey as ExpertKey, before)
    const promptHash = hashOf(prompt)
    prompts.set(promptHash, prompt)
    return { ...fact, data: { ...fact.data, promptHash } }
  })
  const events = chain(
    JOB,
    0,
    genesisHash(JOB),
    1000,
    facts.map((fact) => ({ ...fact, v: 1 }) as NewEvent),
  )
  return { events, promptOf: (hash: Sha256) => prompts.get(hash) }
}

const crashes = fc.record({
  killAt: fc.option(fc.integer({ min: 1, max: 60 })),
  endAt: fc.option(fc.integer({ min: 5, max: 60 })),
  steers: fc.array(
    fc.record({ at: fc.integer({ min: 2, max: 60 }), mode: fc.constantFrom('queue' as const, 'interrupt' as const) }),
    { maxLength: 3 },
  ),
})
type Crash = typeof crashes extends fc.Arbitrary<infer Given> ? Given : never
const worldOf = (order: () => (below: number) => number, { killAt, endAt, steers }: Crash) => ({
  choose: order(),
  killAt,
  steers,
  ...(endAt === null ? {} : { endAt }),
})

describe('a job replayed from its log', () => {
  it('comes to every state that it was in, whatever the order, the crashes and the ends', () => {
    fc.assert(
      fc.property(scripts, orders, crashes, (given, order, crash) => {
        const script = scriptOf(given)
        const { events } = recorded(simulate(script, worldOf(order, crash)).log, script.lock)
        const { steps, mismatches } = replayStates(events, () => script.lock)
        expect(mismatches).toEqual([])
        expect(steps).toBe(events.filter(({ type }) => type === 'stepFinished').length)
      }),
      runs,
    )
  })

  it('names the step whose state is not what the log says', () => {
    const { log, script } = someJob()
    const { events } = recorded(log, script.lock)
    const at = events.findIndex(({ type }) => type === 'stepFinished')
    const wrong = { ...events[at], data: { stateHash: sha256('another') } } as JobEvent
    const { mismatches, steps } = replayStates(events.with(at, wrong), () => script.lock)
    expect(steps).toBeGreaterThan(1)
    expect(mismatches[0]).toMatchObject({ seq: at + 1, recorded: sha256('another'), stepNumber: 1 })
  })

  it('names the step before which a result was exchanged', () => {
    const { log, script } = someJob()
    const { events } = recorded(log, script.lock)
    const at = events.findIndex(({ type }) => type === 'toolReturned')
    const event = events[at]
    if (event?.type !== 'toolReturned') throw new Error('no tool returned')
    const result = { ...event.data.result, content: [{ type: 'text', text: 'forged' }] as const }
    const forged = events.with(at, { ...event, data: { ...event.data, result } })
    const { mismatches } = replayStates(forged, () => script.lock)
    expect(mismatches[0]?.runId).toBe(event.runId)
  })
})

describe('a job played again with what its models and tools said', () => {
  it('does not diverge from its own lock, whatever the order, the crashes and the ends (MR1)', () => {
    fc.assert(
      fc.property(scripts, orders, crashes, (given, order, crash) => {
        const script = scriptOf(given)
        const { events, promptOf } = recorded(simulate(script, worldOf(order, crash)).log, script.lock)
        const played = replayModel(events, () => script.lock, promptOf)
        expect(played.divergence).toBeNull()
        expect(played.generations).toBe(events.filter(({ type }) => type === 'generated').length)
        expect(played.toolResults).toBe(events.filter(({ type }) => type === 'toolReturned').length)
      }),
      runs,
    )
  })

  it('does not diverge where it was forked, either (MR1)', () => {
    const as = { query: null, model: null, maxSteps: null, lockHash: sha256('a lock'), instructed: null }
    fc.assert(
      fc.property(scripts, orders, fc.nat(), fc.boolean(), (given, order, pick, asks) => {
        const script = scriptOf(given)
        const parent = recorded(simulate(script, { choose: order(), killAt: null }).log, script.lock).events
        const ends = parent.filter(({ type }) => type === 'stepFinished')
        const seq = ends[pick % Math.max(1, ends.length)]?.seq
        if (seq === undefined) return
        const from = forkLog(jobIdOf(9), parent, seq, 2, { ...as, query: asks ? 'and this?' : null })
        const fork = recorded(simulate(script, { choose: order(), killAt: null, from }).log, script.lock)
        expect(replayModel(fork.events, () => script.lock, fork.promptOf).divergence).toBeNull()
      }),
      runs,
    )
  })

  it('diverges at the first prompt when its instruction is another, and shows the line (MR2)', () => {
    const { log, script } = someJob()
    const { events, promptOf } = recorded(log, script.lock)
    const lead = script.lock.experts[LEAD]
    if (lead === undefined) throw new Error('no lead')
    const other = { ...script.lock, experts: { ...script.lock.experts, [LEAD]: { ...lead, instruction: 'Do less.' } } }
    const { divergence, generations } = replayModel(events, () => other, promptOf)
    expect(generations).toBe(0)
    expect(divergence).toMatchObject({
      kind: 'prompt',
      expertKey: LEAD,
      stepNumber: 1,
      seq: events.find(({ type }) => type === 'generated')?.seq,
      recorded: 'line 1 of the instruction: Do it.',
      now: 'line 1 of the instruction: Do less.',
    })
  })

  it('diverges where the lock lets a call go elsewhere, and says what would happen (MR2)', () => {
    const { log, script } = someJob()
    const { events, promptOf } = recorded(log, script.lock)
    const reader = 'reader@1.0.0' as ExpertKey
    const { [reader]: gone, ...experts } = script.lock.experts
    expect(gone).toBeDefined()
    const { divergence } = replayModel(events, () => ({ ...script.lock, experts }), promptOf)
    expect(divergence).toMatchObject({ kind: 'prompt' })
    expect(divergence?.recorded).toContain('delegate/reader')
  })

  it('names the first fact that the core would not have proposed there (MR2)', () => {
    fc.assert(
      fc.property(
        scripts,
        orders,
        fc.nat(),
        fc.constantFrom('result', 'end', 'question', 'doubled'),
        (given, order, pick, how) => {
          const script = scriptOf(given)
          const { events, promptOf } = recorded(simulate(script, { choose: order(), killAt: null }).log, script.lock)
          const forged = forge(events, pick, how)
          if (forged === undefined) return
          const { divergence } = replayModel(forged.events, () => script.lock, promptOf)
          expect(divergence).toMatchObject({ kind: 'fact', seq: forged.seq })
        },
      ),
      { numRuns: 300 },
    )
  })
})

function someJob(): Outcome & { readonly script: ReturnType<typeof scriptOf> } {
  for (let seed = 0; seed < 1000; seed++) {
    const script = scriptOf({ seed, maxSteps: null, ownLimit: null, isGuarded: false })
    const outcome = simulate(script, { choose: inOrder(), killAt: null })
    const has = (type: string): boolean => outcome.log.some((fact) => fact.type === type)
    const delegated = outcome.log.some((fact) => fact.expertKey === 'reader@1.0.0')
    if (has('toolReturned') && delegated && outcome.log.filter(({ type }) => type === 'stepFinished').length > 3)
      return { ...outcome, script }
  }
  throw new Error('no job of this kind was found')
}

/** A log in which a machine proposed one fact that it could not; undefined when there is no place for it. */
function forge(
  events: readonly JobEvent[],
  pick: number,
  how: string,
): { readonly events: readonly JobEvent[]; readonly seq: number } | undefined {
  const of = (type: JobEvent['type']) => {
    const all = events.filter((event) => event.type === type)
    return all[pick % Math.max(1, all.length)]
  }
  if (how === 'result') {
    const event = of('toolReturned')
    if (event?.type !== 'toolReturned') return undefined
    const result = { ...event.data.result, callId: `${event.data.result.callId}9` }
    return { events: events.with(event.seq - 1, { ...event, data: { ...event.data, result } }), seq: event.seq }
  }
  if (how === 'end') {
    const event = of('runFinished')
    if (event?.type !== 'runFinished') return undefined
    const data = { ...event.data, result: 'what nobody wrote' }
    return { events: events.with(event.seq - 1, { ...event, data }), seq: event.seq }
  }
  if (how === 'question') {
    const event = of('questionAsked')
    if (event?.type !== 'questionAsked') return undefined
    const question = { ...event.data.question, title: 'Something harmless?' }
    return { events: events.with(event.seq - 1, { ...event, data: { question } }), seq: event.seq }
  }
  const event = of('stepFinished')
  if (event === undefined) return undefined
  const doubled = events.toSpliced(event.seq, 0, { ...event, seq: event.seq + 1 })
  return { events: doubled, seq: event.seq + 1 }
}
