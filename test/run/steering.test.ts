/** Queries that come while a job is open: between any two events, queued or interrupting, with crashes and ends. */
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Conversations, type PlacedFact } from '../../schema/conversation.ts'
import { replay } from '../../schema/decider.ts'
import { textOf } from '../../schema/message.ts'
import { jobRuns, standing } from '../../runner/run/run.ts'
import type { Turn } from '../fake/scripted-model.ts'
import { inOrder, orders, scriptOf, scripts } from './scripts.ts'
import { jobFact, recomputedHashes, simulate, type Script } from './simulation.ts'
import { JOB, LEAD, team } from './team.ts'

const steers = fc
  .array(
    fc.record({ at: fc.integer({ min: 1, max: 40 }), mode: fc.constantFrom('queue' as const, 'interrupt' as const) }),
    {
      minLength: 1,
      maxLength: 5,
    },
  )
  .map((given) => given.toSorted((a, b) => a.at - b.at))
const kills = fc.option(fc.integer({ min: 2, max: 60 }), { freq: 2 })

/** What the coordinator read, in order: its queries, those that runs began with included. */
function queriesRead(log: readonly PlacedFact[]): readonly string[] {
  const conversations = new Conversations()
  for (const fact of log) conversations.add(fact)
  const last = log.findLast((fact) => fact.type === 'runStarted' && fact.data.parent === null)
  if (last?.runId === null || last === undefined) return []
  return conversations
    .of(last.runId)
    .messages.filter((message) => message.role === 'user')
    .map((message) => textOf(message.content))
}

describe('queries that are put while a job is open', () => {
  it('are read once and in order, whenever they come and whenever the machine dies (R8, J13, A11)', () => {
    let count = 0
    fc.assert(
      fc.property(scripts, orders, steers, kills, (given, order, steers, killAt) => {
        const { log, put, refused, differing, state } = simulate(scriptOf(given), { choose: order(), killAt, steers })
        expect(refused).toEqual([])
        expect(differing).toEqual([])
        expect(standing(state)).toBe('finished')
        expect(queriesRead(log).slice(1)).toEqual(put)
        count += put.length
        for (const [recorded, again] of recomputedHashes(log)) expect(recorded).toBe(again)
      }),
      { numRuns: 400 },
    )
    expect(count).toBeGreaterThan(150)
  })

  it('are part of the state that the log says, at every event', () => {
    fc.assert(
      fc.property(scripts, orders, steers, (given, order, steers) => {
        const script = scriptOf(given)
        const { log, state } = simulate(script, { choose: order(), killAt: null, steers })
        const core = jobRuns(JOB, script.lock)
        expect(replay(core, log)).toEqual({ ...state, events: log.length, runs: replay(core, log).runs })
        for (const fact of log.filter(({ type }) => type === 'steered')) {
          const prefix = log.slice(0, log.indexOf(fact) + 1)
          const once = replay(core, prefix)
          const twice = core.evolve(once, fact)
          expect({ ...twice, events: 0 }).toEqual({ ...once, events: 0 })
        }
      }),
      { numRuns: 100 },
    )
  })

  it('that interrupt leave nothing under way, and nothing is begun before they are read (R9)', () => {
    let interrupted = 0
    fc.assert(
      fc.property(scripts, orders, steers, kills, (given, order, steers, killAt) => {
        const { log, begunInVain } = simulate(scriptOf(given), { choose: order(), killAt, steers })
        expect(begunInVain).toEqual([])
        const open = new Set<string>()
        for (const fact of log) {
          if (fact.type === 'runStarted' && fact.data.parent !== null) open.add(fact.runId ?? '')
          if (fact.type === 'runFinished') open.delete(fact.runId ?? '')
          if (fact.type === 'runFinished' && fact.data.reason === 'interrupted') interrupted += 1
          // The coordinator reads between its steps, when no delegate of it is open.
          if (fact.type === 'steered') expect([...open]).toEqual([])
        }
      }),
      { numRuns: 400 },
    )
    expect(interrupted).toBeGreaterThan(20)
  })

  it('that the end of the job leaves unread come with the next query (J13)', () => {
    fc.assert(
      fc.property(scripts, orders, steers, fc.integer({ min: 2, max: 30 }), (given, order, steers, endAt) => {
        const { log, put, state } = simulate(scriptOf(given), { choose: order(), killAt: null, steers, endAt })
        if (standing(state) !== 'finished') return
        const read = queriesRead(log).join(' ')
        for (const query of put) expect(read.split(query).length - 1, query).toBe(1)
      }),
      { numRuns: 200 },
    )
  })
})

describe('a delegate of a delegate', () => {
  it('ends for a query that interrupts before the coordinator reads it (R9)', () => {
    const script: Script = {
      lock: team(),
      maxSteps: null,
      turnOf: (_run, _step, depth) => ({
        text: 'on',
        calls: [depth < 2 ? { name: 'delegate/again', args: { query: 'look' } } : { name: 'files/read', args: {} }],
      }),
    }
    const { log } = simulate({ ...script, maxSteps: 4 }, { choose: inOrder(), killAt: null })
    const core = jobRuns(JOB, script.lock)
    const returned = log.findIndex((fact) => fact.type === 'toolReturned' && fact.runId !== log[1]?.runId)
    const steered = jobFact({ type: 'jobContinued', data: { query: 'stop', maxSteps: null, mode: 'interrupt' } })
    let state = replay(core, [...log.slice(0, returned + 1), steered])
    // The delegate is at the end of its step; the coordinator's call is what returns first, if it may.
    for (let moves = 0; moves < 20; moves++) {
      const facts = core.pending(state).flatMap((effect) => (effect.type === 'record' ? [effect.fact] : []))
      const next = facts.find((fact) => fact.runId === log[1]?.runId) ?? facts[0]
      if (next === undefined) break
      if (next.type === 'steered') expect(state.active).toHaveLength(1)
      state = core.evolve(state, next)
    }
    expect(core.pending(state)).toMatchObject([{ type: 'generate', runId: log[1]?.runId }])
  })
})

describe('a run', () => {
  const scripted = (turns: Readonly<Record<string, Turn>>): Script => ({
    lock: team(),
    maxSteps: null,
    turnOf: (_run, step, depth) => turns[`${depth}.${step}`] ?? { text: `end of ${depth}.${step}` },
  })
  const put = (log: readonly PlacedFact[], mode: 'queue' | 'interrupt') => [
    ...log,
    jobFact({ type: 'jobContinued', data: { query: 'rather this', maxSteps: null, mode } }),
  ]

  it('at its end goes on with a query instead of ending (R8)', () => {
    const script = scripted({})
    const { log } = simulate(script, { choose: inOrder(), killAt: null })
    const core = jobRuns(JOB, script.lock)
    const ending = log.findIndex((fact) => fact.type === 'runFinished')
    const state = replay(core, put(log.slice(0, ending), 'queue'))
    const [steered] = core.pending(state)
    if (steered?.type !== 'record') throw new Error('nothing is read')
    expect(steered.fact).toMatchObject({ type: 'steered', data: { queries: ['rather this'] }, expertKey: LEAD })
    expect(core.pending(core.evolve(state, steered.fact))).toMatchObject([{ type: 'generate', stepNumber: 2 }])
  })

  it('that a query interrupts tells the model of each call what became of it (R9)', () => {
    const calls = [
      { name: 'files/read', args: { path: 'a' } },
      { name: 'human/approve', args: { change: 'x' } },
      { name: 'delegate/reader', args: { query: 'look' } },
      { name: 'files/hidden', args: {} },
    ]
    const script = scripted({ '0.1': { text: 'on', calls } })
    const { log } = simulate(script, { choose: inOrder(), killAt: null })
    const core = jobRuns(JOB, script.lock)
    const generated = log.findIndex((fact) => fact.type === 'generated')
    let state = replay(core, put(log.slice(0, generated + 1), 'interrupt'))
    const said: unknown[] = []
    for (let effects = core.pending(state); effects[0]?.type === 'record'; effects = core.pending(state)) {
      const { fact } = effects[0]
      if (fact.type === 'toolReturned') said.push([fact.data.result.name, textOf(fact.data.result.content)])
      state = core.evolve(state, fact)
    }
    expect(said).toEqual([
      ['files/read', expect.stringContaining('whether it took effect is unknown')],
      ['human/approve', expect.stringContaining('in place of an answer')],
      ['delegate/reader', expect.stringContaining('was not made')],
      ['files/hidden', 'There is no tool files/hidden.'],
    ])
    expect(core.pending(state)).toMatchObject([{ type: 'generate', stepNumber: 2, messageCount: 4 }])
  })
})
