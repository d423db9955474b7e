/** The loop's core over random jobs: parallel calls, delegations, questions, failures, limits and crashes. */
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { replay } from '../../schema/decider.ts'
import type { LockedSkill } from '../../schema/lock.ts'
import { jobRuns, standing } from '../../runner/run/run.ts'
import { drawn, type Turn } from '../fake/scripted-model.ts'
import { inOrder, orders, scriptOf, scripts } from './scripts.ts'
import { answersOf, jobFact, recomputedHashes, simulate, type Script } from './simulation.ts'
import { human, JOB, team } from './team.ts'

/** Steps run out for whoever comes last, so with a limit on the job the order does change the answers. */
const unlimited = scripts.map((given) => ({ ...given, maxSteps: null }))

const runs = { numRuns: 150 }

describe('the runs of a job', () => {
  it('come to an end, whatever the model says, and nothing honest is refused (R7)', () => {
    fc.assert(
      fc.property(scripts, orders, (given, order) => {
        const { state, refused, differing, unapproved } = simulate(scriptOf(given), { choose: order(), killAt: null })
        expect(standing(state)).toBe('finished')
        expect(refused).toEqual([])
        expect(differing).toEqual([])
        expect(unapproved).toEqual([])
      }),
      runs,
    )
  })

  it('are what their log says, at its end and at every event before', () => {
    fc.assert(
      fc.property(scripts, orders, fc.nat(), (given, order, cut) => {
        const script = scriptOf(given)
        const { state, log } = simulate(script, { choose: order(), killAt: null })
        const core = jobRuns(JOB, script.lock)
        expect(replay(core, log)).toEqual(state)
        expect(structuredClone(state)).toEqual(state)
        const prefix = log.slice(0, cut % log.length)
        let live = core.initial
        for (const fact of prefix) live = core.evolve(live, JSON.parse(JSON.stringify(fact)))
        expect(replay(core, prefix)).toEqual(live)
      }),
      runs,
    )
  })

  it('killed at any append end in the same answers and repeat no recorded call (R1)', () => {
    fc.assert(
      fc.property(unlimited, orders, fc.nat(), (given, order, at) => {
        const script = scriptOf(given)
        const whole = simulate(script, { choose: inOrder(), killAt: null })
        const killed = simulate(script, { choose: order(), killAt: 1 + (at % whole.log.length) })
        expect(answersOf(killed)).toEqual(answersOf(whole))
        expect(killed.repeated).toEqual([])
        expect(killed.refused).toEqual([])
        expect(killed.unapproved).toEqual([])
        expect(new Set(killed.performed)).toEqual(new Set(whole.performed))
      }),
      runs,
    )
  })

  it('give the same messages and hashes in whatever order results come (R3)', () => {
    fc.assert(
      fc.property(unlimited, orders, orders, (given, one, other) => {
        const script = scriptOf(given)
        const a = simulate(script, { choose: one(), killAt: null })
        const b = simulate(script, { choose: other(), killAt: null })
        expect(answersOf(a)).toEqual(answersOf(b))
        expect(a.performed.length).toBe(new Set(a.performed).size)
      }),
      runs,
    )
  })

  it('carry the hashes that anybody computes from the log', () => {
    fc.assert(
      fc.property(scripts, orders, (given, order) => {
        const { log } = simulate(scriptOf(given), { choose: order(), killAt: null })
        for (const [recorded, again] of recomputedHashes(log)) expect(recorded).toBe(again)
      }),
      runs,
    )
  })

  it('take every fact of a run once, however often it comes (R2)', () => {
    fc.assert(
      fc.property(scripts, orders, fc.nat(), (given, order, cut) => {
        const script = scriptOf(given)
        const { log } = simulate(script, { choose: order(), killAt: null })
        const core = jobRuns(JOB, script.lock)
        // In the middle of a step, since a step's end forgets what was in it.
        const prefix = log.slice(0, 1 + (cut % log.length))
        const doubled = prefix.flatMap((fact) => (fact.runId === null ? [fact] : [fact, fact]))
        expect(timeless(replay(core, doubled))).toEqual(timeless(replay(core, prefix)))
      }),
      runs,
    )
  })

  it('never have more generations under way than steps are left (R5)', () => {
    // Several delegates at once, each at its own pace, so that they meet where the steps run out.
    const crowd = (seed: number): Script['turnOf'] => {
      const calls = ['a', 'b', 'c'].map((query) => ({ name: 'delegate/reader', args: { query } }))
      const read = { name: 'files/read', args: {} }
      return (runId, stepNumber, depth) =>
        depth === 0
          ? { text: 'on', calls }
          : { text: 'on', calls: drawn(3, seed, runId, stepNumber) === 0 ? [] : [read] }
    }
    fc.assert(
      fc.property(fc.integer(), fc.integer({ min: 1, max: 9 }), orders, fc.nat(), (seed, maxSteps, order, at) => {
        const script = { lock: team(), maxSteps, turnOf: crowd(seed) }
        const { overshoot, state } = simulate(script, { choose: order(), killAt: at % 2 === 0 ? null : 1 + (at % 60) })
        expect(overshoot).toBeLessThanOrEqual(0)
        expect(state.steps).toBe(maxSteps)
      }),
      { numRuns: 300 },
    )
  })

  it('that were cut off are gone on with: counts and hashes fit, and nothing honest is refused', () => {
    fc.assert(
      fc.property(scripts, orders, fc.integer({ min: 2, max: 40 }), (given, order, endAt) => {
        const { log, differing, refused, state } = simulate(scriptOf(given), { choose: order(), killAt: null, endAt })
        expect(differing).toEqual([])
        expect(refused).toEqual([])
        expect(standing(state)).toBe('finished')
        for (const [recorded, again] of recomputedHashes(log)) expect(recorded).toBe(again)
      }),
      runs,
    )
  })

  it('owe nothing once canceled (R6)', () => {
    fc.assert(
      fc.property(scripts, orders, fc.nat(), (given, order, at) => {
        const script = scriptOf(given)
        const { log } = simulate(script, { choose: order(), killAt: null })
        const core = jobRuns(JOB, script.lock)
        const cancel = jobFact({ type: 'cancelRequested', data: { reason: 'canceled_by_user' } })
        const state = replay(core, [...log.slice(0, 1 + (at % log.length)), cancel])
        expect(core.pending(state)).toEqual([])
        expect(standing(state)).toBe('canceled')
      }),
      runs,
    )
  })
})

/** States without the counters of events, which a repeated event does move. */
function timeless(state: object): unknown {
  return JSON.parse(
    JSON.stringify(state, (name, value: unknown) => (name === 'events' || name === 'turnSince' ? 0 : value)),
  )
}

describe('a run', () => {
  const scripted = (turns: Readonly<Record<string, Turn>>, given: Partial<Script> = {}): Script => ({
    lock: team(),
    maxSteps: null,
    turnOf: (_run, step, depth) => turns[`${depth}.${step}`] ?? { text: `end of ${depth}.${step}` },
    ...given,
  })
  const go = (script: Script) => simulate(script, { choose: inOrder(), killAt: null })

  it('of a delegate begins with its query alone, and its caller learns the result alone (R4)', () => {
    const { log } = go(
      scripted({
        '0.1': { text: 'secret', calls: [{ name: 'delegate/reader', args: { query: 'look' } }] },
        '1.1': { text: 'thinking', calls: [{ name: 'files/read', args: { path: 'a' } }] },
        '1.2': { text: 'found it' },
      }),
    )
    const [root, delegate] = answersOf({ log }) as { messages: { content: unknown }[]; end: { result: string } }[]
    const [lead, reader] = root?.end.result === 'found it' ? [delegate, root] : [root, delegate]
    expect(reader?.messages[0]).toEqual({ role: 'user', content: [{ type: 'text', text: 'look' }] })
    expect(JSON.stringify(reader?.messages)).not.toContain('secret')
    expect(JSON.stringify(lead?.messages)).not.toContain('thinking')
    expect(lead?.messages[2]).toMatchObject({
      role: 'tool',
      content: [{ content: [{ text: 'found it' }], isError: false }],
    })
  })

  it('whose delegate fails goes on with an error as the result', () => {
    const { log } = go(
      scripted({
        '0.1': { text: 'on', calls: [{ name: 'delegate/reader', args: { query: 'look' } }] },
        '1.1': { code: 'model_overloaded' },
      }),
    )
    const last = log.findLast((fact) => fact.type === 'runFinished')
    expect(last?.data).toMatchObject({ outcome: 'completed', result: 'end of 0.2' })
    expect(JSON.stringify(log.find((fact) => fact.type === 'toolReturned'))).toContain('model_overloaded')
  })

  it('that delegates to itself without end stops at the depth limit', () => {
    const again = { text: 'on', calls: [{ name: 'delegate/again', args: { query: 'again' } }] }
    const turns = Object.fromEntries(Array.from({ length: 12 }, (_, depth) => [`${depth}.1`, again]))
    const { log, state } = go(scripted(turns))
    expect(Object.keys(state.runs)).toHaveLength(9)
    expect(JSON.stringify(log)).toContain('nest at most 8 deep')
    expect(standing(state)).toBe('finished')
  })

  it('of an expert with two tools of one name, its own and ours, asks no model and says which name it is', () => {
    const ours = { tools: ['todo'], rule: null } as const
    const own = { type: 'interactiveSkill', rule: null, tools: { todo: human.tools['approve'] } } as LockedSkill
    const lock = team({ skills: { base: own }, base: ours })
    const { log } = simulate(
      { lock, maxSteps: null, turnOf: () => ({ text: 'x' }) },
      { choose: inOrder(), killAt: null },
    )
    expect(log.some(({ type }) => type === 'generated')).toBe(false)
    expect(log.at(-1)).toMatchObject({
      data: { reason: 'tool_name_taken', message: 'Expert lead@1.0.0 has two tools named base/todo.' },
    })
  })

  it('at the step limit fails, and goes on where it was when the job is continued with more steps', () => {
    const read = (n: number) => ({ text: 'on', calls: [{ name: 'files/read', args: { path: `${n}` } }] })
    const script = scripted({ '0.1': read(1), '0.2': read(2) }, { maxSteps: 2 })
    const { log, state } = go(script)
    expect(log.at(-1)).toMatchObject({ type: 'runFinished', data: { outcome: 'failed', reason: 'step_limit' } })
    const core = jobRuns(JOB, script.lock)
    const ended = core.evolve(state, jobFact({ type: 'jobFinished', data: log.at(-1)?.data as never }))
    expect(core.pending(ended)).toEqual([])
    const continued = core.evolve(ended, jobFact({ type: 'jobContinued', data: { query: null, maxSteps: 3 } }))
    expect(core.pending(continued)).toMatchObject([{ type: 'generate', stepNumber: 3, messageCount: 5 }])
  })

  it('that is continued with more steps is no longer held by its expert’s own limit', () => {
    const read = { text: 'on', calls: [{ name: 'files/read', args: {} }] }
    const script = scripted({ '0.1': read, '0.2': read }, { lock: team({ maxSteps: 1 }) })
    const { state, log } = go(script)
    expect(log.at(-1)).toMatchObject({ data: { reason: 'step_limit' } })
    const core = jobRuns(JOB, script.lock)
    const continued = core.evolve(state, jobFact({ type: 'jobContinued', data: { query: null, maxSteps: 9 } }))
    expect(core.pending(continued)).toMatchObject([{ type: 'generate', stepNumber: 2 }])
  })

  it('continued with a query goes on with the conversation, its steps and its hash chain', () => {
    const script = scripted({ '0.1': { text: 'first answer' } })
    const { state, log } = go(script)
    const core = jobRuns(JOB, script.lock)
    const continued = core.evolve(state, jobFact({ type: 'jobContinued', data: { query: 'and now?', maxSteps: null } }))
    const [start] = core.pending(continued)
    if (start?.type !== 'record') throw new Error('no run is started')
    expect(start.fact.data).toMatchObject({ query: 'and now?', continues: log[1]?.runId, depth: 0 })
    const started = core.evolve(continued, start.fact)
    expect(core.pending(started)).toMatchObject([{ type: 'generate', stepNumber: 2, messageCount: 3 }])
  })

  it('continued with a query goes on with its list of todos', () => {
    const lock = team({ base: { tools: ['todo'], rule: null } })
    const write = { text: 'on', calls: [{ name: 'base/todo', args: { newTodos: ['check'] } }] }
    const script = scripted({ '0.1': write, '0.2': { text: 'done' } }, { lock })
    const { state } = go(script)
    const core = jobRuns(JOB, script.lock)
    const continued = core.evolve(state, jobFact({ type: 'jobContinued', data: { query: 'and now?', maxSteps: null } }))
    const [start] = core.pending(continued)
    if (start?.type !== 'record') throw new Error('no run is started')
    const { runs } = core.evolve(continued, start.fact)
    expect(Object.values(runs).map(({ todos }) => todos)).toMatchObject([[{ title: 'check' }], [{ title: 'check' }]])
  })

  it('keeps the first result of a call and the first answer to a question, whatever comes later (R2)', () => {
    const calls = [
      { name: 'files/read', args: { path: 'a' } },
      { name: 'human/approve', args: { change: 'x' } },
    ]
    const script = scripted({ '0.1': { text: 'on', calls } })
    const { log } = go(script)
    const core = jobRuns(JOB, script.lock)
    const returned = log.findIndex((fact) => fact.type === 'toolReturned' && fact.data.result.name === 'files/read')
    const result = log[returned]
    const answer = log.find((fact) => fact.type === 'answered')
    if (result?.type !== 'toolReturned' || answer?.type !== 'answered') throw new Error('no such facts')
    const otherResult = { ...result, data: { ...result.data, result: { ...result.data.result, isError: true } } }
    const otherAnswer = { ...answer, data: { ...answer.data, value: answer.data.value !== true } }
    // Each is taken while its step is open: what is not yet there is put before.
    const asked = log.findIndex((fact) => fact.type === 'questionAsked')
    const open = log.slice(0, Math.max(asked, returned) + 1).filter((fact) => fact !== answer)
    const whole = [...open, answer]
    expect(timeless(replay(core, [...open, otherResult, answer, otherAnswer]))).toEqual(timeless(replay(core, whole)))
    expect(timeless(replay(core, [...open, otherAnswer]))).not.toEqual(timeless(replay(core, whole)))
  })

  it('that the job’s end cut off leaves a conversation that can be gone on with', () => {
    const calls = [
      { name: 'files/read', args: { path: 'a' } },
      { name: 'human/approve', args: { change: 'x' } },
    ]
    const script = scripted({ '0.1': { text: 'on', calls } })
    const whole = go(script)
    const asked = whole.log.findIndex((fact) => fact.type === 'questionAsked')
    const end = { outcome: 'failed', reason: 'attempts_exhausted', message: null, result: null } as const
    const log = [
      ...whole.log.slice(0, asked + 1),
      jobFact({ type: 'jobFinished', data: end }),
      jobFact({ type: 'jobContinued', data: { query: 'go on', maxSteps: null } }),
    ]
    const core = jobRuns(JOB, script.lock)
    let state = replay(core, log)
    const [start] = core.pending(state)
    if (start?.type !== 'record') throw new Error('no run is started')
    state = core.evolve(state, start.fact)
    expect(core.pending(state)).toMatchObject([{ type: 'generate', stepNumber: 2, messageCount: 4 }])
  })
})
