/** Calls that are made once, over random jobs that die at any event: started at most once unasked, in doubt until a human speaks. */
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { PlacedFact } from '../../schema/conversation.ts'
import { replay } from '../../schema/decider.ts'
import { performer } from '../../runner/run/perform.ts'
import { jobRuns, standing } from '../../runner/run/run.ts'
import { fakeClock } from '../fake/fake-clock.ts'
import { drawn, type ScriptedCall } from '../fake/scripted-model.ts'
import { simulate, type Script, type World } from './simulation.ts'
import { files, human, JOB, LEAD, team } from './team.ts'

const skills = { files: { ...files, effects: { write: 'once', read: 'pure' } }, human } as const

const CALLS: readonly ScriptedCall[] = [
  { name: 'files/write', args: { path: 'a' } },
  { name: 'files/write', args: { path: 'b' } },
  { name: 'files/read', args: { path: 'a' } },
  { name: 'delegate/again', args: { query: 'again' } },
]

/** Several calls at once, the same call twice, delegates that make them too. */
const script = (seed: number, isGuarded: boolean): Script => ({
  lock: team({ skills, approvals: isGuarded ? [{ tool: 'files/write', args: {}, edits: true }] : [] }),
  maxSteps: null,
  turnOf(runId, stepNumber, depth) {
    if (stepNumber > 2 || depth > 1) return { text: `done ${stepNumber}` }
    const count = 1 + drawn(3, seed, runId, stepNumber)
    const call = (i: number) => CALLS[drawn(CALLS.length, seed, runId, stepNumber, i)] ?? CALLS[0]
    return { text: 'on', calls: Array.from({ length: count }, (_, i) => call(i)).flatMap((one) => one ?? []) }
  },
})

const orders = fc.array(fc.nat(1000), { minLength: 1, maxLength: 40 }).map((stream) => (): World['choose'] => {
  let at = 0
  return (below) => (below === 0 ? 0 : (stream[at++ % stream.length] ?? 0) % below)
})

/** The calls that were made once, with how often each was made and how often a human had it made again. */
function ledger(log: readonly PlacedFact[], performed: readonly string[]) {
  const started = log.flatMap((fact) => (fact.type === 'callStarted' ? [`${fact.runId} ${fact.data.callId}`] : []))
  const asked = log.flatMap((fact) =>
    fact.type === 'questionAsked' && fact.data.question.purpose === 'outcome' ? [fact.data.question] : [],
  )
  const answers = new Map(
    log.flatMap((fact) => (fact.type === 'answered' ? [[fact.data.questionId, fact.data.value]] : [])),
  )
  return [...new Set(started)].map((call) => {
    const doubts = asked.filter((question) => `${question.runId} ${question.callId}` === call)
    return {
      call,
      starts: started.filter((one) => one === call).length,
      made: performed.filter((one) => one === call).length,
      retries: doubts.filter((question) => answers.get(question.id) === 'retry').length,
      doubts: doubts.length,
    }
  })
}

describe('a call that is made once', () => {
  it('starts at most once unless its human has it made again, whenever the machine dies (O1)', () => {
    fc.assert(
      fc.property(fc.integer(), fc.boolean(), orders, fc.nat(), (seed, isGuarded, order, at) => {
        const whole = simulate(script(seed, isGuarded), { choose: order(), killAt: null })
        const killAt = 1 + (at % whole.log.length)
        const { log, performed, refused, repeated, unapproved, state } = simulate(script(seed, isGuarded), {
          choose: order(),
          killAt,
        })
        expect(refused).toEqual([])
        expect(repeated).toEqual([])
        expect(unapproved).toEqual([])
        expect(standing(state)).toBe('finished')
        for (const { starts, made, retries } of ledger(log, performed)) {
          expect(starts).toBe(1 + retries)
          expect(made).toBe(1 + retries)
        }
      }),
      { numRuns: 300 },
    )
  })

  it('is asked about when the machine died between its start and its result, and only then (O2)', () => {
    fc.assert(
      fc.property(fc.integer(), orders, fc.nat(), (seed, order, at) => {
        const whole = simulate(script(seed, false), { choose: order(), killAt: null })
        expect(ledger(whole.log, whole.performed).every(({ doubts }) => doubts === 0)).toBe(true)
        const { log, performed } = simulate(script(seed, false), {
          choose: order(),
          killAt: 1 + (at % whole.log.length),
        })
        const death = log.findIndex((fact) => fact.type === 'leaseGranted')
        const before = log.slice(0, death)
        const returned = new Set(
          before.flatMap((fact) => (fact.type === 'toolReturned' ? [`${fact.runId} ${fact.data.result.callId}`] : [])),
        )
        for (const { call, doubts } of ledger(log, performed)) {
          const wasStarted = before.some(
            (fact) => fact.type === 'callStarted' && `${fact.runId} ${fact.data.callId}` === call,
          )
          expect(doubts).toBe(wasStarted && !returned.has(call) ? 1 : 0)
        }
      }),
      { numRuns: 300 },
    )
  })

  it('is asked about when its skill dies, also one without which the run cannot go on (O3)', async () => {
    const lock = team({ skills: { files: { ...files, required: true, effects: { write: 'once' } }, human } })
    const calls = [
      { name: 'files/write', args: { path: 'a' } },
      { name: 'files/read', args: { path: 'a' } },
    ]
    const turnOf = (_run: string, step: number) => (step === 1 ? { text: 'on', calls } : { text: 'done' })
    const whole = simulate({ lock, maxSteps: null, turnOf }, { choose: () => 0, killAt: null }).log
    const core = jobRuns(JOB, lock)
    const begun = replay(core, whole.slice(0, whole.findIndex((fact) => fact.type === 'callStarted') + 1))
    const perform = performer({
      originJobId: JOB,
      lock,
      clock: fakeClock(),
      generate: () => Promise.reject(new Error('nothing is generated')),
      reserve: () => Promise.reject(new Error('nothing is reserved')),
      skills: {
        list: async () => [],
        call: async () => ({ code: 'skill_died', message: 'It is gone.', isNews: false }),
      },
    })
    // Both were under way; whichever is heard first, the run goes on to ask.
    for (const order of [core.pending(begun), core.pending(begun).toReversed()]) {
      let state = begun
      for (const effect of order) {
        if (effect.type !== 'callTool') throw new Error(`${effect.type} is owed`)
        const { proposed } = await perform(effect, state, new AbortController().signal)
        const facts = typeof proposed === 'function' ? proposed(state) : proposed
        expect(facts[0]).toMatchObject({ type: 'skillFailed', data: { code: 'skill_died' } })
        for (const fact of facts) state = core.evolve(state, fact)
      }
      expect(core.pending(state)).toEqual([])
      expect(standing(state)).toBe('rested')
      expect(Object.values(state.asked)).toHaveLength(1)
    }
    // One that had not been started leaves no doubt: the run fails by its skill.
    const early = replay(
      core,
      whole.slice(
        0,
        whole.findIndex((fact) => fact.type === 'callStarted'),
      ),
    )
    const data = { skill: 'files', code: 'skill_died', message: 'It is gone.' }
    const run = Object.values(early.runs)[0]
    const fact = { type: 'skillFailed', data, runId: run?.id ?? null, expertKey: LEAD, stepNumber: 1 } as const
    expect(core.pending(core.evolve(early, fact as PlacedFact))).toMatchObject([
      { fact: { type: 'runFinished', data: { outcome: 'failed', reason: 'skill_died' } } },
    ])
  })

  it('is in doubt in every replay of the log, and owes what is owed after it was answered', () => {
    const once = script(1, false)
    const lock = once.lock
    const core = jobRuns(JOB, lock)
    const one: Script = {
      ...once,
      turnOf: (_run, step) =>
        step === 1 ? { text: 'on', calls: [{ name: 'files/write', args: { path: 'a' } }] } : { text: 'done' },
    }
    const whole = simulate(one, { choose: () => 0, killAt: null })
    const started = whole.log.findIndex((fact) => fact.type === 'callStarted')
    const lost = simulate(one, { choose: () => 0, killAt: started + 1 }).log
    const asked = lost.findIndex((fact) => fact.type === 'questionAsked')
    const upTo = lost.slice(0, asked)
    expect(core.pending(replay(core, upTo))).toMatchObject([
      { type: 'record', fact: { type: 'questionAsked', data: { question: { purpose: 'outcome', kind: 'choose' } } } },
    ])
    const waiting = replay(core, lost.slice(0, asked + 1))
    expect(core.pending(waiting)).toEqual([])
    expect(standing(waiting)).toBe('rested')
    const question = lost[asked]
    if (question?.type !== 'questionAsked') throw new Error('nothing was asked')
    const say = (value: string) => {
      const answered = { questionId: question.data.question.id, value }
      return core.evolve(waiting, { type: 'answered', data: answered, runId: null, expertKey: null, stepNumber: null })
    }
    expect(core.pending(say('retry'))).toMatchObject([{ type: 'callTool', retries: 1 }])
    expect(core.pending(say('done'))).toMatchObject([
      { fact: { type: 'toolReturned', data: { result: { isError: false } } } },
    ])
    expect(core.pending(say('abandon'))).toMatchObject([
      { fact: { type: 'toolReturned', data: { result: { isError: true } } } },
    ])
  })
})
